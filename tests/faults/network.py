"""A network of its own for a draft: a namespace of the kernel behind a link that can be cut."""

import os
import subprocess
import sys
from pathlib import Path

from foredraft_serving.probe import is_serving
from foredraft_serving.server import READINESS
from tests.integration.processes import MODELS, PATIENCE_S, environment, free_port, until

_HOST, _DRAFT = "10.203.77.1", "10.203.77.2"


class NetworkError(Exception):
    """This machine lets nobody make networks, or lacks a part that it takes."""


class Network:
    """A namespace, and the link from this host to it. Packets on a link that is down are lost
    without a word, as they are when a cable is pulled.
    """

    def __init__(self) -> None:
        self._name, self._link = f"foredraft{os.getpid()}", f"fd{os.getpid()}"
        _ip("netns", "add", self._name)
        try:
            far = f"{self._link}f"
            _ip("link", "add", self._link, "type", "veth", "peer", far, "netns", self._name)
            _ip("address", "add", f"{_HOST}/30", "dev", self._link)
            _ip("-n", self._name, "address", "add", f"{_DRAFT}/30", "dev", far)
            for device in ("lo", far):
                _ip("-n", self._name, "link", "set", device, "up")
            self.join()
        except NetworkError:
            self.close()
            raise

    def cut(self) -> None:
        """Takes the link down."""
        _ip("link", "set", self._link, "down")

    def join(self) -> None:
        """Takes the link up."""
        _ip("link", "set", self._link, "up")

    def impair(self, *how: str) -> None:
        """Makes the link slow or lossy, in the words of netem: "delay", "100ms"."""
        _run("tc", "qdisc", "replace", "dev", self._link, "root", "netem", *how)

    def mend(self) -> None:
        """Takes every impairment away."""
        _run("tc", "qdisc", "del", "dev", self._link, "root")

    def close(self) -> None:
        """Ends the namespace, and with it the link."""
        _ip("netns", "del", self._name)

    def start_draft(self, log: Path) -> tuple["subprocess.Popen[bytes]", str]:
        """Starts a draft inside and waits until it is ready; returns its process and address."""
        address = f"{_DRAFT}:{free_port()}"
        command = ["ip", "netns", "exec", self._name, sys.executable, "-m", "draft_service"]
        command += ["--listen", address, "--metrics-listen", f"{_DRAFT}:{free_port()}"]
        command += ["--model", str(MODELS / "draft"), "--threads", "1", "--insecure"]
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, env=environment())
        until(lambda: is_serving(address, READINESS), PATIENCE_S, 0.1, log.read_text)
        return process, address


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=10)
    except FileNotFoundError as error:
        raise NetworkError(f"{command[0]} is not installed") from error
    except subprocess.CalledProcessError as error:
        raise NetworkError(f"{' '.join(command)}: {error.stderr.strip()}") from error
