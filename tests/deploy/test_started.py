"""The services, started with just the arguments and the environment of the rendered manifests."""

import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from foredraft import Client
from foredraft_serving.probe import is_serving
from tests.deploy.rendered import (
    SERVICES,
    container,
    environment_of,
    of_kind,
    pods,
    render,
    service_links,
)
from tests.integration.processes import MODELS, PATIENCE_S, ROOT, environment, until

_UNITS = {"Mi": 1 << 20, "Gi": 1 << 30}


@contextmanager
def _started(service: str, log: Path) -> Iterator[psutil.Process]:
    manifests = render("cpu-demo")
    given = environment_of(manifests, service)
    # The models of the images and the cluster's name for the draft are elsewhere here.
    told = {
        k: v.replace("/models/", f"{MODELS}/").replace("dns:///draft:", "dns:///127.0.0.1:")
        for k, v in given.items()
    }
    command = [
        sys.executable,
        "-m",
        f"{service}_service",
        *container(manifests, service).get("args", []),
    ]
    # The variables that Kubernetes would add, were it not told to leave them out, do no harm.
    surroundings = {**environment(), **service_links(of_kind(manifests, "Service")), **told}
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, env=surroundings)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


def _probe(service: str, probe: str) -> bool:
    """Probes a service as the kubelet does."""
    asked = container(render("cpu-demo"), service)[probe]["grpc"]
    return is_serving(f"127.0.0.1:{asked['port']}", asked["service"])


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, psutil.Process]]:
    logs = tmp_path_factory.mktemp("logs")
    with (
        _started("draft", logs / "draft.log") as draft,
        _started("target", logs / "target.log") as target,
    ):
        for service in SERVICES:
            for probe in ("livenessProbe", "startupProbe"):
                until(
                    lambda s=service, p=probe: _probe(s, p),  # type: ignore[misc]
                    PATIENCE_S,
                    otherwise=(logs / f"{service}.log").read_text,
                )
        yield {"draft": draft, "target": target}


def _traffic() -> None:
    with Client("127.0.0.1:50052") as client:
        client.generate(
            ["def main(", "import os"] * 8,
            max_new_tokens=64,
            do_sample=True,
            num_assistant_tokens=5,
        )


def test_they_serve_together(processes: dict[str, psutil.Process]) -> None:
    assert all(_probe(service, "readinessProbe") for service in SERVICES)
    with Client("127.0.0.1:50052") as client:
        result = client.generate(
            "def main(", max_new_tokens=48, num_assistant_tokens=5, eos_token_id=[]
        )
    assert result.stats.accepted > 0


def _links(processes: dict[str, psutil.Process]) -> set[tuple[str, str, int]]:
    """Returns who has called whom at which port, of all that is open now."""
    ends = {name: process.net_connections(kind="inet") for name, process in processes.items()}
    open_ = {psutil.CONN_ESTABLISHED, psutil.CONN_NONE}
    whose = {link.laddr.port: name for name, links in ends.items() for link in links}
    served = {
        link.laddr.port
        for links in ends.values()
        for link in links
        if link.status == psutil.CONN_LISTEN
    }
    found = set()
    for name, links in ends.items():
        for link in links:
            if link.raddr and link.status in open_ and link.laddr.port not in served:
                found.add((name, whose.get(link.raddr.port, link.raddr.ip), link.raddr.port))
    return found


def test_no_links_but_those_that_are_allowed(processes: dict[str, psutil.Process]) -> None:
    everybody = {**processes, "client": psutil.Process()}
    seen: set[tuple[str, str, int]] = set()
    with (
        Client("127.0.0.1:50052") as client,
        client.stream(
            "def main(", max_new_tokens=64, num_assistant_tokens=5, eos_token_id=[]
        ) as stream,
    ):
        for _ in stream:
            seen |= _links(everybody)
    ours = {
        edge for edge in seen if edge[0] in SERVICES or edge[1] in SERVICES
    }  # this process may have others
    assert ours == {("client", "target", 50052), ("target", "draft", 50051)}
    for service, process in processes.items():
        ports = [port["containerPort"] for port in container(render("cpu-demo"), service)["ports"]]
        listening = [
            c for c in process.net_connections(kind="inet") if c.status == psutil.CONN_LISTEN
        ]
        assert sorted(c.laddr.port for c in listening) == sorted(ports)
        with urllib.request.urlopen(f"http://127.0.0.1:{ports[1]}/metrics") as scraped:
            assert b"foredraft_rows " in scraped.read()


def test_requests_of_memory_fit_what_is_used(processes: dict[str, psutil.Process]) -> None:
    _traffic()
    manifests = dict(pods(render("cpu-demo")))
    for service, process in processes.items():
        status = Path(f"/proc/{process.pid}/status").read_text()
        (peak_kb,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
        used = int(peak_kb) << 10
        (asked,) = (c["resources"] for c in manifests[service]["spec"]["containers"])
        requested, limit = (
            int(q[:-2]) * _UNITS[q[-2:]]
            for q in (asked["requests"]["memory"], asked["limits"]["memory"])
        )
        assert used <= requested <= 3 * used, f"{service} uses {used >> 20} MiB at most"
        assert requested < limit
