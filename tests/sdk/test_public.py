"""What the package shows: all of it named, none of it protobuf, nothing heavy loaded with it."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import foredraft

CLIENT = Path(__file__).resolve().parent.parent.parent / "client"


def test_all_is_what_is_public() -> None:
    public = {
        name
        for name, value in vars(foredraft).items()
        if not name.startswith("_") and (not isinstance(value, ModuleType) or name == "metrics")
    }
    assert set(foredraft.__all__) == public
    assert list(foredraft.__all__) == sorted(foredraft.__all__)
    assert foredraft.__version__ == "0.2.0"
    assert (CLIENT / "foredraft" / "py.typed").exists()


def test_every_error_is_public() -> None:
    from foredraft import _errors

    kinds = {
        n for n, v in vars(_errors).items() if inspect.isclass(v) and issubclass(v, BaseException)
    }
    assert kinds <= set(foredraft.__all__)


@pytest.mark.parametrize(
    "kind", ["Chunk", "GenerationConfig", "Logprobs", "ModelInfo", "Result", "Stats"]
)
def test_values_are_frozen(kind: str) -> None:
    value: Any = getattr(foredraft, kind)
    assert vars(value)["__dataclass_params__"].frozen
    assert "__slots__" in vars(value)


def test_nothing_heavy_is_loaded() -> None:
    code = "import foredraft, foredraft._cli, sys; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(CLIENT)},
    )
    assert not {"torch", "transformers", "numpy", "tokenizers"} & set(done.stdout.split())


def test_the_clients_are_twins() -> None:
    for one, other in (
        (foredraft.Client, foredraft.AsyncClient),
        (foredraft.Stream, foredraft.AsyncStream),
    ):
        names = [n for n in vars(one) if not n.startswith("_")]
        assert names == [n for n in vars(other) if not n.startswith("_")]
        for name in names:
            mine, theirs = vars(one)[name], vars(other)[name]
            if callable(mine):
                assert list(inspect.signature(mine).parameters) == list(
                    inspect.signature(theirs).parameters
                )


def test_nothing_third_party_but_what_the_wheel_depends_on() -> None:
    # torch and transformers where the caller hands in their objects, or asks for one; spans where
    # they are installed.
    theirs = {"torch", "transformers", "opentelemetry"}
    allowed = (
        {"foredraft", "google", "grpc", "prometheus_client"} | theirs | set(sys.stdlib_module_names)
    )
    for file in (CLIENT / "foredraft").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert {n.split(".")[0] for n in names} <= allowed, file.name
