"""The Dockerfile's one script, without a container engine.

A user without rights runs it on a read-only tree. The service that comes of it then runs as that
user, on a read-only root.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path

import pytest

from foredraft import Client
from foredraft_serving.probe import is_serving
from tests.integration.processes import MODELS, PATIENCE_S, ROOT, free_port, until

_USER = 10001
# Reading anything is allowed, so that an interpreter in somebody's home can be used. Writing is
# not.
_CAPABILITY = "+dac_read_search"


def _as_user(*command: str) -> list[str]:
    who = [f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups"]
    return ["setpriv", *who, f"--inh-caps={_CAPABILITY}", f"--ambient-caps={_CAPABILITY}", *command]


def _environment(temporary: Path, **more: str) -> Mapping[str, str]:
    pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    path = f"{Path(sys._base_executable).parent}{os.pathsep}{os.environ['PATH']}"  # type: ignore[attr-defined]
    return {
        **pip,
        "PATH": path,
        "HOME": str(temporary),
        "TMPDIR": str(temporary),
        "EXTRAS": "tracing",
        **more,
    }


def test_another_service_is_refused(tmp_path: Path) -> None:
    told = subprocess.run(
        [ROOT / "deploy" / "install", "proxy", ROOT, tmp_path / "x"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.returncode, told.stderr) == (
        2,
        "SERVICE is 'proxy': it has to be draft or target\n",
    )
    assert not (tmp_path / "x").exists()


def _source(folder: Path) -> Path:
    """Returns a read-only copy of the files that the Dockerfile copies."""
    source = folder / "source"
    kept = [
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "NOTICE",
        "constraints.txt",
        "client",
        "foredraft_engine",
        "foredraft_serving",
        "draft_service",
        "target_service",
        "deploy/install",
        "deploy/sbom",
    ]
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *kept],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    for name in listed:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    _read_only(source)
    return source


def _read_only(tree: Path) -> None:
    subprocess.run(["chmod", "-R", "a-w,a+rX", tree], check=True)


@contextmanager
def _running(prefix: Path, service: str, temporary: Path, *flags: str) -> Iterator[str]:
    port, log = free_port(), temporary.parent / f"{service}.log"
    name = f"FOREDRAFT_{service.upper()}"
    given = {
        f"{name}_LISTEN": f"127.0.0.1:{port}",
        f"{name}_METRICS_LISTEN": f"127.0.0.1:{free_port()}",
    }
    given |= {
        f"{name}_MODEL": str(MODELS / service),
        f"{name}_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with log.open("w") as out:
        environment = _environment(temporary, **given, HF_HUB_OFFLINE="1")
        command = _as_user(str(prefix / "serve"), *flags)
        process = subprocess.Popen(command, cwd="/", env=environment, stdout=out, stderr=out)
    try:
        until(
            lambda: process.poll() is not None or is_serving(f"127.0.0.1:{port}", "readiness"),
            PATIENCE_S,
        )
        assert process.poll() is None, log.read_text()
        yield f"127.0.0.1:{port}"
        process.terminate()  # the signal reaches the service: there is no shell between
        assert process.wait(PATIENCE_S) == 0, log.read_text()
    finally:
        process.kill()


@pytest.mark.long
@pytest.mark.timeout(1500)  # two environments are installed
@pytest.mark.skipif(
    os.geteuid() != 0, reason="ONLY ROOT CAN BECOME ANOTHER USER: this test did not run"
)
def test_both_services_installed_and_run_by_a_user_without_rights(tmp_path: Path) -> None:
    source, temporary = _source(tmp_path), tmp_path / "tmp"
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    temporary.mkdir()
    os.chown(temporary, _USER, _USER)
    prefixes = {}
    for service in ("target", "draft"):
        prefix = prefixes[service] = tmp_path / service
        prefix.mkdir()
        os.chown(prefix, _USER, _USER)
        command = _as_user(str(source / "deploy" / "install"), service, str(source), str(prefix))
        subprocess.run(command, check=True, env=_environment(temporary), cwd="/", timeout=500)
        _read_only(prefix)
        _only_what_runs(prefix)
        stubs = list(prefix.glob("venv/lib/python*/site-packages/smg_grpc_proto"))
        assert bool(stubs) == (service == "target"), "the worker of gateways"
        _all_is_listed(prefix)
    installed = time.time()
    with _running(prefixes["draft"], "draft", temporary) as draft:
        flags = ("--draft", draft)
        with (
            _running(prefixes["target"], "target", temporary, *flags) as target,
            Client(target) as client,
        ):
            result = client.generate(
                "def main(", max_new_tokens=24, num_assistant_tokens=5, eos_token_id=[]
            )
    assert result.stats.accepted > 0
    assert not [path for path in source.rglob("*") if path.owner() != "root"]
    assert not [
        path
        for prefix in prefixes.values()
        for path in prefix.rglob("*")
        if path.lstat().st_mtime > installed
    ]


def _only_what_runs(prefix: Path) -> None:
    (site,) = (prefix / "venv").glob("lib/python*/site-packages")
    names = {path.name for path in site.iterdir()}
    assert {"foredraft_engine", "foredraft_serving", "draft_service", "target_service"} <= names
    assert not names & {"tests", "benchmarks", "demo", "deploy", "client"}
    packages = {
        path.name.split("-")[0].lower()
        for path in (prefix / "venv").glob("lib/python*/site-packages/*.dist-info")
    }
    assert {"torch", "transformers", "foredraft", "grpcio", "opentelemetry_sdk"} <= packages
    assert (prefix / "venv" / "bin" / "hf").exists(), "which downloads models"
    assert not packages & {
        "pytest",
        "mypy",
        "ruff",
        "hatchling",
        "scipy",
        "hypothesis",
        "hqq",
        "pip",
    }


def _all_is_listed(prefix: Path) -> None:
    listed = json.loads((prefix / "sbom.cdx.json").read_text())
    assert listed["bomFormat"] == "CycloneDX"
    every = [listed["metadata"]["component"], *listed["components"]]
    versions = {_normal(part["name"]): part["version"] for part in every}
    site = next((prefix / "venv").glob("lib/python*/site-packages"))
    installed = {_normal(its.name): its.version for its in distributions(path=[str(site)])}
    assert versions == installed
    assert "cyclonedx-bom" not in installed, "what writes the list is not in it"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
