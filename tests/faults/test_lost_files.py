"""Disks that are full, and directories that are gone after the start."""

import errno
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from foredraft import (
    AsyncClient,
    Client,
    ForedraftError,
    InvalidRequestError,
    OverloadedError,
    UnsupportedError,
)
from target_service.request.config_files import clear_leftovers
from target_service.request.named_configs import NamedConfigs
from tests.fakes import TableRows, random_table, table_model
from tests.integration.processes import MODELS, service
from tests.loopback import target_service

VOCAB, PROMPT = 20, [1, 2, 3]


def _target(place: Path) -> Any:
    rows, model = TableRows(random_table(VOCAB, 4)), table_model(VOCAB)
    kept: dict[str, Any] = {"generation_configs": str(place), "save_generation_configs": True}
    return target_service(rows, model, **kept)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
async def test_a_full_disk_is_told_and_leaves_nothing(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    async with _target(tmp_path) as target, AsyncClient(target.address) as client:
        await client.save_generation_config("kept", max_new_tokens=2)
        monkeypatch.setattr(os, "fsync", full)
        for name in ("kept", "new"):
            with pytest.raises(OverloadedError, match=os.strerror(number)) as raised:
                await client.save_generation_config(name, max_new_tokens=3)
            assert str(tmp_path) not in str(raised.value)
        assert os.listdir(tmp_path) == ["kept.json"]
        assert (await client.generation_config("kept")).max_new_tokens == 2
    assert "Traceback" not in caplog.text


Use = Callable[[AsyncClient], Any]
USES: dict[str, Use] = {
    "list": lambda client: client.generation_configs(),
    "get": lambda client: client.generation_config("kept"),
    "save": lambda client: client.save_generation_config("new", max_new_tokens=3),
    "generate": lambda client: client.generate(PROMPT, "kept"),
}


@pytest.mark.parametrize("use", USES)
async def test_a_directory_that_is_gone_is_told(
    use: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "configs"
    place.mkdir()
    async with _target(place) as target, AsyncClient(target.address) as client:
        await client.save_generation_config("kept", max_new_tokens=2)
        shutil.rmtree(place)
        with pytest.raises(UnsupportedError, match="No such file or directory") as raised:
            await USES[use](client)
        assert str(place) not in str(raised.value)
        assert (await client.generate(PROMPT, max_new_tokens=2)).finish_reason == "length"
        place.mkdir()
        await client.save_generation_config("kept", max_new_tokens=2)
        assert len((await client.generate(PROMPT, "kept")).token_ids) == 2
    assert "Traceback" not in caplog.text


def test_a_directory_that_is_gone_hides_its_own_configs_only(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for place in (first, second):
        place.mkdir()
        (place / f"{place.name}.json").write_text('{"max_new_tokens": 3}')
    named = NamedConfigs([first, second], lambda config: None)
    shutil.rmtree(second)
    assert named.names() == ["first"]
    assert named.get("first").max_new_tokens == 3
    with pytest.raises(ValueError, match="there is no config named 'second'"):
        named.get("second")


def test_what_killed_saves_left_is_cleared_and_nothing_else(tmp_path: Path) -> None:
    long_ago = time.time() - 3600
    left, kept = (
        ".kept.json.abcd_123.tmp",
        [
            "kept.json",
            ".kept.json.tmp",  # of another program
            ".kept.json.ABCD1234.tmp",
            "kept.json.abcd_123.tmp",
            ".kept.yaml.abcd_123.tmp",
            ".a b.json.abcd_123.tmp",
        ],
    )
    for name in (left, *kept):
        (tmp_path / name).write_text("{")
        os.utime(tmp_path / name, (long_ago, long_ago))
    (tmp_path / ".now.json.abcd_123.tmp").write_text("{")  # another service is writing it
    (tmp_path / ".link.json.abcd_123.tmp").symlink_to(tmp_path / "kept.json")
    os.utime(tmp_path / ".link.json.abcd_123.tmp", (long_ago, long_ago), follow_symlinks=False)
    (tmp_path / ".folder.json.abcd_123.tmp").mkdir()
    before = set(os.listdir(tmp_path))
    NamedConfigs([tmp_path], lambda config: None)
    assert set(os.listdir(tmp_path)) == before, "a service that does not save clears nothing"
    NamedConfigs([tmp_path], lambda config: None, saving=True)
    assert before - set(os.listdir(tmp_path)) == {left}
    assert clear_leftovers(tmp_path) == []


def test_services_outlive_the_directories_of_their_models(tmp_path: Path) -> None:
    for kind in ("draft", "target"):
        shutil.copytree(MODELS / kind, tmp_path / kind)
    draft_flags = ("--model", str(tmp_path / "draft"))
    with service("draft", tmp_path / "draft.log", *draft_flags) as draft:
        flags = ("--model", str(tmp_path / "target"), "--draft", draft.address)
        saving = "--save-generation-configs"
        with (
            service("target", tmp_path / "target.log", *flags, saving) as target,
            Client(target.address, registry=CollectorRegistry()) as client,
        ):
            _outlive(client, tmp_path)
    for kind in ("draft", "target"):
        assert "Traceback" not in (tmp_path / f"{kind}.log").read_text()


def _outlive(client: Client, models: Path) -> None:
    fields: dict[str, Any] = {"max_new_tokens": 32, "num_assistant_tokens": 4}
    whole = client.generate("def main(", **fields)
    for kind in ("draft", "target"):
        shutil.rmtree(models / kind)
    after = client.generate("def main(", **fields)
    assert (after.text, after.finish_reason) == (whole.text, whole.finish_reason)
    assert "model" in after.stats.drafter
    for search in (
        {"num_beams": 2},
        {"token_healing": True},
        {"cache_implementation": "quantized"},
    ):
        assert client.generate("def main(arg", max_new_tokens=8, **search).text
    assert client.tokenize("def main(")
    assert client.info().drafts
    for use in (client.generation_configs, lambda: client.generation_config("any")):
        with pytest.raises(UnsupportedError, match="No such file or directory"):
            use()
    with pytest.raises(ForedraftError) as raised:
        client.save_generation_config("new", max_new_tokens=3)
    assert not isinstance(raised.value, InvalidRequestError)
