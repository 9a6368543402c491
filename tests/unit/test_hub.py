"""A hub id is told in one line if the hub does not answer, and taken from an earlier download."""

import json
import shutil
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from foredraft_engine.errors import ModelError
from foredraft_engine.model.adapter import find_adapter
from foredraft_engine.model.checkpoint import find_checkpoint
from foredraft_engine.model.loading import load
from tests.models import MODELS

COMMIT = "0" * 40


class _Failing(BaseHTTPRequestHandler):
    """A hub that is down, and counts how often it is asked."""

    asked = 0

    def do_HEAD(self) -> None:
        type(self).asked += 1
        self.send_error(503)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture(params=["refuses", "fails"])
def hub(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A hub that does not answer."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def place(port: int) -> None:
        address = f"http://127.0.0.1:{port}"
        _, path = constants.HUGGINGFACE_CO_URL_TEMPLATE.split(constants.ENDPOINT)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + path)
        monkeypatch.setattr(constants, "ENDPOINT", address)

    if request.param == "refuses":
        with socket.create_server(("127.0.0.1", 0)) as closed:
            place(closed.getsockname()[1])
        yield "does not answer"
        return
    _Failing.asked = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), _Failing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place(server.server_port)
        yield "says 503"
        server.shutdown()
    assert _Failing.asked <= 1


@pytest.mark.parametrize("find", [find_checkpoint, find_adapter])
def test_a_hub_that_does_not_answer_is_asked_once(
    find: object, hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=f"'a/model': the model hub .*{hub}.*no earlier") as told:
        find("a/model")  # type: ignore[operator]
    assert "\n" not in str(told.value)


def test_an_earlier_download_needs_no_hub(
    hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    kept = tmp_path / "models--a--model"
    shutil.copytree(MODELS / "draft", kept / "snapshots" / COMMIT)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(COMMIT)
    model = load("a/model")
    config = json.loads((MODELS / "draft" / "config.json").read_text())
    assert (model.name, model.text_config.num_hidden_layers) == (
        "a/model",
        config["num_hidden_layers"],
    )
