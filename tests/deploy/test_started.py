"""The services, started with just the arguments and the environment of the rendered manifests."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from foredraft import Client
from tests.deploy.rendered import SERVICES, container, environment_of, pods, render
from tests.integration.processes import MODELS, ROOT, environment, until

# What Kubernetes would add, were it not told to leave it.
_LINKS = {"FOREDRAFT_HOME": "x", "TARGET_SERVICE_HOST": "10.0.0.1", "DRAFT_PORT_50051_TCP": "tcp://10.0.0.1:50051"}
_UNITS = {"Mi": 1 << 20, "Gi": 1 << 30}
_SERVING = health_pb2.HealthCheckResponse.SERVING


@contextmanager
def _started(service: str, log: Path) -> Iterator[psutil.Process]:
    manifests = render("cpu-demo")
    given = environment_of(manifests, service)
    # The models of the images, and the cluster's name for the draft, are elsewhere here.
    told = {
        k: v.replace("/models/", f"{MODELS}/").replace("dns:///draft:", "dns:///127.0.0.1:") for k, v in given.items()
    }
    command = [sys.executable, "-m", f"{service}_service", *container(manifests, service).get("args", [])]
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, env={**environment(), **_LINKS, **told})
    try:
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


def _probe(service: str, probe: str) -> bool:
    """As the kubelet does it."""
    asked = container(render("cpu-demo"), service)[probe]["grpc"]
    with grpc.insecure_channel(f"127.0.0.1:{asked['port']}") as channel:
        try:
            request = health_pb2.HealthCheckRequest(service=asked["service"])
            return bool(health_pb2_grpc.HealthStub(channel).Check(request, timeout=3).status == _SERVING)
        except grpc.RpcError:
            return False


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, psutil.Process]]:
    logs = tmp_path_factory.mktemp("logs")
    with _started("draft", logs / "draft.log") as draft, _started("target", logs / "target.log") as target:
        for service in SERVICES:
            until(lambda s=service: _probe(s, "livenessProbe"), 60)  # type: ignore[misc]
            until(lambda s=service: _probe(s, "startupProbe"), 120)  # type: ignore[misc]
        yield {"draft": draft, "target": target}


def _traffic() -> None:
    with Client("127.0.0.1:50052") as client:
        client.generate(["def main(", "import os"] * 8, max_new_tokens=64, do_sample=True, num_assistant_tokens=5)


def test_they_serve_together(processes: dict[str, psutil.Process]) -> None:
    assert all(_probe(service, "readinessProbe") for service in SERVICES)
    with Client("127.0.0.1:50052") as client:
        result = client.generate("def main(", max_new_tokens=48, num_assistant_tokens=5, eos_token_id=[])
    assert result.stats.accepted > 0


def test_no_links_but_those_that_are_allowed(processes: dict[str, psutil.Process]) -> None:
    _traffic()
    ours = {
        f"{service}": {c["containerPort"] for c in container(render("cpu-demo"), service)["ports"]}
        for service in SERVICES
    }
    draft_port = min(ours["draft"], key=lambda port: port != 50051)
    for service, process in processes.items():
        for link in process.net_connections(kind="inet"):
            if link.status == psutil.CONN_LISTEN:
                assert link.laddr.port in ours[service]
            elif link.status == psutil.CONN_ESTABLISHED:
                opened = link.laddr.port not in ours[service]  # by this side
                assert not opened or (service, link.raddr.port) == ("target", draft_port)


def test_requests_of_memory_fit_what_is_used(processes: dict[str, psutil.Process]) -> None:
    _traffic()
    manifests = dict(pods(render("cpu-demo")))
    for service, process in processes.items():
        used = int(re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())[1]) << 10  # type: ignore[index]
        (asked,) = (c["resources"] for c in manifests[service]["spec"]["containers"])
        requested, limit = (
            int(q[:-2]) * _UNITS[q[-2:]] for q in (asked["requests"]["memory"], asked["limits"]["memory"])
        )
        assert used <= requested <= 3 * used, f"{service} uses {used >> 20} MiB at most"
        assert requested < limit
