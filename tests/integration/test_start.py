"""A service that cannot start says why and what to do in one line, and ends with an exit code."""

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaForCausalLM

from draft_service import serve as draft
from draft_service.settings import DraftSettings
from foredraft_engine.errors import ModelError
from foredraft_serving.server import AddressError
from foredraft_serving.settings import SettingsError
from target_service import serve as target
from target_service.settings import TargetSettings
from tests.integration.processes import MODELS, ROOT, environment


def _lines(kind: str, *flags: str) -> list[str]:
    """Returns the lines on stderr of a service that does not start."""
    command = [sys.executable, "-m", f"{kind}_service"]
    for name in ("--listen", "--metrics-listen"):
        if name not in flags:
            command += [name, "127.0.0.1:0"]
    result = subprocess.run(
        [*command, *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
        timeout=120,
    )
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr.strip().splitlines()


def _start(kind: str, *flags: str) -> str:
    """Returns the line on stderr that says why a service does not start."""
    # The phases that went well have lines of their own.
    *earlier, line = _lines(kind, *flags)
    assert all(f"INFO {kind} " in one or f"WARNING {kind} " in one for one in earlier)
    assert line.startswith(f"{kind} service: ")
    return line


@pytest.mark.parametrize("kind", ["draft", "target"])
def test_logs_of_machines_are_json_from_the_first_line_and_tell_the_phases(kind: str) -> None:
    """No progress bar of whatever loads weights is among them."""
    command = [sys.executable, "-m", f"{kind}_service", "--model", str(MODELS / kind)]
    command += ["--log-format", "json", "--listen", "127.0.0.1:0", "--metrics-listen"]
    with subprocess.Popen(
        [*command, "127.0.0.1:0"], cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        records: list[dict[str, Any]] = []
        try:
            while not records or records[-1].get("phase") != "ready":
                records.append(json.loads(process.stderr.readline()))
        finally:
            process.kill()
    took = {record["phase"]: record["seconds"] for record in records if "phase" in record}
    assert list(took) == ["import", "load", "weights", "rows", "tracing", "timing", "ready"]
    assert sum(took.values()) - took["ready"] <= took["ready"]


@pytest.fixture
def taken() -> Iterator[str]:
    """An address on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_model_that_is_missing() -> None:
    assert "'/no/such/model': there is no such directory" in _start(
        "target", "--model", "/no/such/model"
    )
    assert "--model is required" in _start("target")
    assert "rows: -1 is not a number from 0 on" in _start("draft", "--rows", "-1")


def test_rows_that_do_not_fit() -> None:
    line = _start("target", "--model", str(MODELS / "target"), "--rows", "100000000")
    assert "rows: 100000000 rows of 64 tokens take" in line
    assert "use --rows " in line


def test_named_configs_without_a_place() -> None:
    assert "there is no directory '/no/such'; make it" in _start(
        "target", "--model", "/no/such/model", "--generation-configs", "/no/such"
    )
    assert "give --generation-configs DIR" in _start(
        "target", "--model", "a/hub-id", "--save-generation-configs"
    )


def test_a_model_without_a_tokenizer(tmp_path: Path) -> None:
    shutil.copytree(MODELS / "draft", tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").unlink()
    assert "put the model's tokenizer.json next to config.json" in _start(
        "draft", "--model", str(tmp_path / "model")
    )


def test_an_address_in_use_is_told_before_the_model_is_loaded(taken: str) -> None:
    told = _start("target", "--model", "/no/such/model", "--listen", taken)
    assert taken in told
    assert "Address already in use; give another address" in told


@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        ("target", ["--rows", "2"]),
        ("target", ["--model", "a/model", "--draft", "10.0.0.5"]),
        ("target", ["--model", "a/model", "--dtype", "half"]),
        ("draft", ["--ngram", "off"]),
        ("draft", ["--memory-share", "0.5", "--memory", "1GiB"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_wrong_flags_are_told_before_torch_is_imported(kind: str, flags: list[str]) -> None:
    line, *earlier = reversed(_lines(kind, *flags))
    assert flags[-2] in line or "--model is required" in line
    assert not earlier  # such as the line that tells how long imports took


async def test_the_same_for_metrics(taken: str) -> None:
    with pytest.raises(AddressError, match=f"{taken}: Address already in use"):
        await draft.serve(DraftSettings(listen="127.0.0.1:0", metrics_listen=taken))


@pytest.mark.parametrize(
    "address", ["50051", "host:port", ":50051", "127.0.0.1:99999", "no.such.host.invalid:50051"]
)
async def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(AddressError, match=re.escape(address)):
        await draft.serve(DraftSettings(listen=address, insecure=True))


@pytest.mark.parametrize("address", ["10.0.0.5", "http://10.0.0.5:50051", "10.0.0.5:port"])
async def test_drafts_whose_addresses_are_none(address: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(f"--draft: {address!r}")):
        await target.serve(TargetSettings(model="a/model", draft=f"10.0.0.4:50051,{address}"))


def test_flags_of_other_servers() -> None:
    told = _start("target", "--model", "a/model", "--tensor-parallel-size", "2")
    assert "no --tensor-parallel-size: a service runs on one device; start a target" in told
    assert "it is --max-length here" in _start("draft", "--max_model_len=4096")
    assert "cuda:0,cuda:1" in _start("target", "--model", "a/model", "--device", "cuda:0,cuda:1")


async def test_a_draft_with_nothing_to_draft_with_or_too_much() -> None:
    with pytest.raises(SettingsError, match="--ngram off without --model"):
        await draft.serve(DraftSettings(ngram="off"))
    with pytest.raises(SettingsError, match="--ngram only would load --model"):
        await draft.serve(DraftSettings(ngram="only", model=str(MODELS / "draft")))


@pytest.mark.parametrize("service", ["draft", "target"])
async def test_a_model_whose_own_forward_fails_ends_a_service_in_one_line(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise LookupError("no experts\nat all")

    monkeypatch.setattr(LlamaForCausalLM, "forward", fail)
    settings: dict[str, Any] = {
        "model": str(MODELS / "draft"),
        "listen": "127.0.0.1:0",
        "metrics_listen": "127.0.0.1:0",
    }
    if service == "draft":
        serving = draft.serve(DraftSettings(**settings))
    else:
        serving = target.serve(TargetSettings(**settings))
    with pytest.raises(ModelError, match="own forward pass fails: LookupError: no exp") as caught:
        await serving
    assert "\n" not in str(caught.value)
