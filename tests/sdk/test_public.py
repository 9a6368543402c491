"""The public names: all of them typed, none of them protobuf, nothing heavy loaded with them."""

import ast
import inspect
import subprocess
import sys
import typing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import transformers

import foredraft
from foredraft import metrics, tracing, wire

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
    code = (
        "import foredraft, foredraft.cli, sys; print(*sorted({m.split('.')[0] for m in "
        "sys.modules}))"
    )
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
        names = [n for n in dir(one) if not n.startswith("_")]
        assert names == [n for n in dir(other) if not n.startswith("_")]
        for name in names:
            mine, theirs = getattr(one, name), getattr(other, name)
            if callable(mine):
                assert list(inspect.signature(mine).parameters) == list(
                    inspect.signature(theirs).parameters
                )


def test_nothing_third_party_but_what_the_wheel_depends_on() -> None:
    # torch and transformers come in where the caller hands in their objects, or asks for one; spans
    # where they are installed.
    theirs = {"torch", "transformers", "opentelemetry", "rich"}
    allowed = (
        {"foredraft", "google", "grpc", "prometheus_client"} | theirs | set(sys.stdlib_module_names)
    )
    for file in (CLIENT / "foredraft").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert {n.split(".")[0] for n in names} <= allowed, file.name


def _public_callables() -> list[tuple[str, Any]]:
    """Returns all functions and methods that a user can reach, and all overloads of them."""
    found: list[tuple[str, Any]] = []
    modules = [foredraft, metrics, tracing, wire]
    for value in [getattr(m, n) for m in modules for n in getattr(m, "__all__", vars(m))]:
        if getattr(value, "__module__", "").split(".")[0] != "foredraft":
            continue
        if inspect.isfunction(value) and not value.__name__.startswith("_"):
            found.append((value.__qualname__, value))
        elif inspect.isclass(value):
            members = [m for k in value.__mro__ for n, m in vars(k).items() if _is_shown(n)]
            members = [m.fget if isinstance(m, property) else m for m in members]
            functions = [m for m in members if inspect.isfunction(m)]
            ours = [f for f in functions if f.__module__.startswith("foredraft")]
            found += [(f.__qualname__, g) for f in ours for g in (f, *typing.get_overloads(f))]
            found.append((value.__qualname__, value))
    return found


def _is_shown(name: str) -> bool:
    return not name.startswith("_") or name == "__init__"


@pytest.mark.parametrize("name", sorted({name for name, _ in _public_callables()}))
def test_nothing_public_is_any(name: str) -> None:
    for value in [value for n, value in _public_callables() if n == name]:
        hints = typing.get_type_hints(value, localns={"transformers": transformers})
        for parameter, hint in hints.items():
            if not parameter.startswith("_"):
                assert "typing.Any" not in str(hint), f"{name}: {parameter} is {hint}"
