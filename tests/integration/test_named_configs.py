"""Named configs over the wire: saved, listed, used by name, and refused with the reason."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import grpc
import pytest
import transformers

from foredraft import AsyncClient, GenerationConfig, InvalidRequestError, PermissionDeniedError
from foredraft.v1 import target_pb2, target_pb2_grpc
from target_service.request.model_config import model_config
from tests.fakes import TableRows, random_table, table_model
from tests.loopback import named_fields, target_service

VOCAB, PROMPT = 20, [1, 2, 3]


def _target(place: Path, **settings: Any) -> Any:
    defaults = model_config("table", {"eos_token_id": 5, "repetition_penalty": 1.25})
    settings = {"generation_configs": str(place), "save_generation_configs": True, **settings}
    return target_service(
        TableRows(random_table(VOCAB, 4)), table_model(VOCAB), defaults=defaults, **settings
    )


async def test_saved_and_used(tmp_path: Path) -> None:
    async with _target(tmp_path) as target, AsyncClient(target.address) as client:
        assert await client.generation_configs() == []
        config = GenerationConfig(max_new_tokens=6, eos_token_id=(), do_sample=True, top_k=4)
        await client.save_generation_config("translation", config)
        await client.save_generation_config(
            "short", transformers.GenerationConfig(max_new_tokens=2)
        )
        assert await client.generation_configs() == ["short", "translation"]
        assert await client.generation_config("translation") == config
        assert (await client.generation_config()).eos_token_id == (5,)
        named = await client.generate(PROMPT, "translation", seed=3)
        assert named.token_ids == (await client.generate(PROMPT, config, seed=3)).token_ids
        assert len(named.token_ids) == 6
        over = await client.generate(PROMPT, "translation", seed=3, max_new_tokens=4)
        assert over.token_ids == named.token_ids[:4]
        assert len((await client.generate(PROMPT, "short")).token_ids) <= 2
        await client.save_generation_config("short", max_new_tokens=1)
        assert len((await client.generate(PROMPT, "short")).token_ids) == 1
    upstream = transformers.GenerationConfig.from_pretrained(tmp_path, "translation.json")
    assert (upstream.max_new_tokens, upstream.top_k) == (6, 4)


async def test_several_sequences_by_name(tmp_path: Path) -> None:
    """The client does not know how many there will be."""
    async with _target(tmp_path) as target, AsyncClient(target.address) as client:
        await client.save_generation_config(
            "three", do_sample=True, num_return_sequences=3, max_new_tokens=9
        )
        met: dict[str, Any] = {"stopping_criteria": lambda ids, _: ids.shape[1] == 5}
        results = await client.generate([PROMPT, [4]], "three", eos_token_id=[], seed=1, **met)
        assert [len(r.token_ids) for r in results] == [2, 2, 2, 4, 4, 4]
        assert {r.finish_reason for r in results} == {"stopping_criteria"}


async def test_saving_has_to_be_allowed(tmp_path: Path) -> None:
    async with (
        _target(tmp_path, save_generation_configs=False) as target,
        AsyncClient(target.address) as client,
    ):
        with pytest.raises(PermissionDeniedError, match="--save-generation-configs"):
            await client.save_generation_config("a", max_new_tokens=3)
    assert not os.listdir(tmp_path)


async def test_what_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "elsewhere.json").write_text(json.dumps({"dola_layers": "high"}))
    (tmp_path / "unserved.json").write_text(json.dumps({"top_p": 3.0, "do_sample": True}))
    async with _target(tmp_path) as target, AsyncClient(target.address) as client:
        assert await client.generation_configs() == ["broken", "elsewhere", "unserved"]
        for name, field, reason in [
            ("brokn", "generation_config", "did you mean 'broken'"),
            ("../target", "generation_config", "there is no config named"),
            ("broken", "generation_config", "cannot be used"),
            ("elsewhere", "generation_config", "dola_layers='high' is not supported"),
            ("unserved", "top_p", "is 3; it must be in .* generation_config='unserved'"),
        ]:
            with pytest.raises(InvalidRequestError, match=reason) as raised:
                await client.generate(PROMPT, name)
            assert raised.value.field == field
        for name, field in {"a b": "name", "ok": "top_p"}.items():
            with pytest.raises(InvalidRequestError) as raised:
                await client.save_generation_config(name, do_sample=True, top_p=3.0)
            assert raised.value.field == field


async def test_the_bare_wire(tmp_path: Path) -> None:
    async with _target(tmp_path) as target, grpc.aio.insecure_channel(target.address) as channel:
        stub: Any = target_pb2_grpc.TargetServiceStub(channel)
        for request in (
            target_pb2.GetGenerationConfigRequest(),
            target_pb2.GetGenerationConfigRequest(name="x/../y"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await stub.GetGenerationConfig(request)
            assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert named_fields(raised.value) == {"generation_config"}


async def test_many_at_once(tmp_path: Path) -> None:
    async with _target(tmp_path) as target, AsyncClient(target.address) as client:
        saves = [
            client.save_generation_config(f"c{i % 5}", max_new_tokens=1 + i % 3) for i in range(40)
        ]
        uses = [client.generate(PROMPT, max_new_tokens=3) for _ in range(8)]
        await asyncio.gather(*saves, *uses)
        assert await client.generation_configs() == [f"c{i}" for i in range(5)]
        await asyncio.gather(*(client.generate(PROMPT, f"c{i}") for i in range(5)))
    assert sorted(os.listdir(tmp_path)) == [f"c{i}.json" for i in range(5)]
