"""Who does not reach a target is told where it was looked for, and what to do about it."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from foredraft import DeadlineExceededError, UnavailableError
from foredraft._unreached import unreached
from foredraft.cli import main

Connect = Callable[..., Any]


@contextmanager
def _nobody() -> Iterator[str]:
    """Yields an address at which nothing listens, since its port is taken and not listened to."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@contextmanager
def _web_server() -> Iterator[str]:
    """Yields the address of a server of another protocol, as that of metrics is."""
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@contextmanager
def _no_host() -> Iterator[str]:
    yield "nowhere.invalid:50052"


UNREACHED = [
    (_nobody, r"nothing listens at {address}; start a target service there"),
    (_web_server, r"what answers at {address} is not gRPC; give the address .* as --listen"),
    (_no_host, r"there is no host nowhere\.invalid, .*; check the address"),
]
GRPC_WORDS = ("all backends", "all addresses", "last error", "field:", "UNKNOWN", "ipv4:")


@pytest.mark.parametrize(
    ("place", "told"), UNREACHED, ids=lambda case: getattr(case, "__name__", "")
)
def test_every_call_says_what_to_do(connect: Connect, place: Any, told: str) -> None:
    with place() as address:
        sentence = told.format(address=address)
        client = connect(address, max_retries=0)
        for call in (lambda: client.generate("a"), client.info, lambda: client.tokenize("a")):
            with pytest.raises(UnavailableError, match=sentence) as raised:
                call()
            assert not any(words in str(raised.value) for words in GRPC_WORDS)
        with pytest.raises(DeadlineExceededError, match=f"within 3 s: {sentence}"):
            client.wait_until_ready(3)


def test_the_command_line_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with _nobody() as address:
        assert main(["info", "--address", address]) == 1
    told = f"nothing listens at {address}; start a target service there, or give another address"
    assert capsys.readouterr().err == f"foredraft: {told}\n"


@pytest.mark.parametrize(
    ("details", "told"),
    [
        (
            "failed to connect to all addresses; last error: UNKNOWN: ipv6:%5B::1%5D:5: Failed to "
            "connect to remote host: No route to host",
            "[::1]:5 cannot be reached (No route to host); check the address and the network",
        ),
        ("Socket closed", "the connection to the service was lost (Socket closed)"),
        ("the service stops; try another", "the service stops; try another"),
    ],
)
def test_what_grpc_says_of_networks_that_tests_do_not_have(details: str, told: str) -> None:
    assert unreached(details) == told
