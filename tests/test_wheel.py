"""One wheel, two uses: the SDK alone, and with the extra `server` the services too.

Both are installed into environments of their own, away from the checkout.
"""

import importlib.metadata
import os
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from foredraft_serving.probe import is_serving
from tests.integration.processes import MODELS, free_port, until

ROOT = Path(__file__).resolve().parent.parent
OURS = {"foredraft", "foredraft_engine", "foredraft_serving", "draft_service", "target_service"}
SDK_NEEDS = {"grpcio", "protobuf", "prometheus-client"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    command = [*build, "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


class Environment:
    """A virtual environment that holds the wheel and knows nothing of the checkout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.create(folder, with_pip=True)
        (self.site,) = folder.glob("lib/python*/site-packages")

    def command(self, name: str) -> str:
        return str(self.folder / "bin" / name)

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [self.command(command[0]), *command[1:]],
            cwd=self.folder,
            env=self.variables(),
            capture_output=True,
            text=True,
            check=False,
        )

    def install(self, *arguments: str) -> None:
        flags = ["--quiet", "--disable-pip-version-check", "--no-compile"]
        done = self.run("python", "-m", "pip", "install", *flags, *arguments)
        assert done.returncode == 0, done.stderr

    def variables(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return kept | {"HF_HUB_OFFLINE": "1", "PIP_CONSTRAINT": str(ROOT / "constraints.txt")}


@pytest.fixture(scope="module")
def sdk(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    environment = Environment(tmp_path_factory.mktemp("sdk") / "venv")
    environment.install(str(wheel))
    return environment


@pytest.fixture(scope="module")
def server(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel and the packages that run these tests: torch is not fetched
    twice.
    """
    environment = Environment(tmp_path_factory.mktemp("server") / "venv")
    here = Path(str(importlib.metadata.distribution("torch").locate_file("")))
    (environment.site / "packages.pth").write_text(f"{here}\n")
    environment.install("--no-deps", "--force-reinstall", str(wheel))
    return environment


def test_the_wheel_holds_what_is_ours_and_asks_for_little(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = next(archive.read(n).decode() for n in names if n.endswith("METADATA"))
    roots = {name.split("/")[0] for name in names}
    assert {root for root in roots if not root.endswith(".dist-info")} == OURS
    stubs = {"foredraft/v1/target_pb2.py", "foredraft/v1/target_pb2.pyi"}
    assert {"foredraft/py.typed", *stubs} <= set(names)
    required = [Requirement(line) for line in _values(metadata, "Requires-Dist")]
    assert {r.name for r in required if not r.marker} == SDK_NEEDS
    server = [r for r in required if r.marker and r.marker.evaluate({"extra": "server"})]
    assert {"torch", "transformers"} <= {r.name for r in server}
    for requirement in server:
        assert importlib.metadata.version(requirement.name) in requirement.specifier


def test_without_the_extra_it_is_the_sdk(sdk: Environment) -> None:
    assert sdk.run("python", "-c", "import foredraft; foredraft.Client").returncode == 0
    assert sdk.run("foredraft", "--help").returncode == 0
    installed = sdk.run("python", "-m", "pip", "list", "--format", "freeze").stdout.lower()
    assert "torch" not in installed


@pytest.mark.parametrize("service", ["draft", "target"])
def test_without_the_extra_a_service_says_what_to_install(sdk: Environment, service: str) -> None:
    for command in ([f"foredraft-{service}"], ["python", "-m", f"{service}_service"]):
        done = sdk.run(*command, "--model", "a-model")
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"{service} service: ")
        assert line.endswith('is not installed; pip install "foredraft[server]"')


def test_with_the_extra_it_serves(server: Environment, tmp_path: Path) -> None:
    where = server.run("python", "-c", "import target_service; print(target_service.__file__)")
    assert Path(where.stdout.strip()).is_relative_to(server.site)
    draft_port, target_port = free_port(), free_port()
    with (
        _serving(server, "draft", draft_port, tmp_path),
        _serving(server, "target", target_port, tmp_path, "--draft", f"127.0.0.1:{draft_port}"),
    ):
        flags = ["--address", f"127.0.0.1:{target_port}", "--max-new-tokens", "24", "--stats"]
        done = server.run(
            "foredraft", "generate", "def main(", "--num-assistant-tokens", "5", *flags
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("self") or done.stdout.strip()
        assert '"drafter": "model' in done.stderr


@contextmanager
def _serving(
    environment: Environment, service: str, port: int, folder: Path, *flags: str
) -> Iterator[None]:
    log = folder / f"{service}.log"
    command = [environment.command(f"foredraft-{service}"), "--model", str(MODELS / service)]
    command += ["--listen", f"127.0.0.1:{port}", "--metrics-listen", f"127.0.0.1:{free_port()}"]
    with log.open("w") as out:
        process = subprocess.Popen(
            [*command, "--threads", "1", *flags],
            cwd=folder,
            env=environment.variables(),
            stdout=out,
            stderr=out,
        )
    try:
        until(lambda: is_serving(f"127.0.0.1:{port}", "readiness"), 60, 0.1, log.read_text)
        yield
    finally:
        process.kill()
        process.wait()


def _values(metadata: str, name: str) -> list[str]:
    prefix = f"{name}: "
    return [line.removeprefix(prefix) for line in metadata.splitlines() if line.startswith(prefix)]
