"""A real Prometheus that scrapes what a test serves."""

import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.integration.processes import free_port, until


class Prometheus:
    """One Prometheus server, and its answers."""

    def __init__(self, address: str) -> None:
        self.address = address

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Returns the samples of an expression now."""
        result: list[dict[str, Any]] = self._get(f"query?query={urllib.parse.quote(expression)}")[
            "result"
        ]
        return result

    def value(self, expression: str) -> float:
        """Returns the sum of an expression; NaN if it has no samples."""
        found = self.query(f"sum({expression})")
        return float(found[0]["value"][1]) if found else float("nan")

    def firing(self) -> set[str]:
        """Returns the names of the alerts that fire."""
        return {
            a["labels"]["alertname"]
            for a in self._get("alerts")["alerts"]
            if a["state"] == "firing"
        }

    def rules(self) -> list[dict[str, Any]]:
        """Returns all rules, and how their last evaluation went."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def wait_up(self, count: int, log: Path) -> None:
        """Waits until a number of targets is scraped."""
        until(lambda: self._up() == count, 60, 0.2, log.read_text)

    def _up(self) -> int:
        try:
            return len([s for s in self.query("up") if s["value"][1] == "1"])
        except OSError:  # it does not listen yet
            return 0

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://{self.address}/api/v1/{path}") as answer:
            return json.load(answer)["data"]


@contextmanager
def prometheus(
    tool: str, folder: Path, addresses: Mapping[str, str], rules: Sequence[Path] = ()
) -> Iterator[Prometheus]:
    """Runs a server that scrapes and evaluates rules every half second.

    Args:
        addresses: the addresses to scrape, by the name of their job.
    """
    jobs = [
        {"job_name": job, "static_configs": [{"targets": [address]}]}
        for job, address in addresses.items()
    ]
    every = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    config = folder / "prometheus.yml"
    config.write_text(
        json.dumps({"global": every, "scrape_configs": jobs, "rule_files": [str(r) for r in rules]})
    )
    listen, log = f"127.0.0.1:{free_port()}", folder / "log"
    command = [tool, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    with log.open("w") as out:
        process = subprocess.Popen(
            [*command, f"--web.listen-address={listen}"], stdout=out, stderr=out
        )
    server = Prometheus(listen)
    try:
        server.wait_up(len(addresses), log)
        yield server
    finally:
        process.terminate()
        process.wait(20)
