"""Conversations against a real target: its text is that of transformers' own token ids, and what
its template has no place for is refused by name.
"""

import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from foredraft import AsyncClient, InvalidRequestError
from tests.chat_templates import TEMPLATES
from tests.loopback import target_service
from tests.models import bundled, rows_of

USER, SYSTEM = {"role": "user", "content": "def main("}, {"role": "system", "content": "Be brief."}
ANSWER = {"role": "assistant", "content": "import os"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@asynccontextmanager
async def _talking(template: str, **settings: Any) -> AsyncIterator[tuple[AsyncClient, Any]]:
    """Yields a client of a target with this chat template, and the target's tokenizer."""
    model = bundled("target")
    tokenizer = copy.deepcopy(model.tokenizer)
    tokenizer.chat_template = template
    rows = rows_of(copy.deepcopy(model.module), 4, 512)
    async with (
        target_service(rows, replace(model, tokenizer=tokenizer), **settings) as target,
        AsyncClient(target.address) as client,
    ):
        yield client, tokenizer


@pytest.mark.parametrize("name", TEMPLATES)
async def test_the_text_is_that_of_the_rendered_prompt(name: str) -> None:
    async with _talking(TEMPLATES[name]) as (client, tokenizer):
        for talk, goes_on in (([SYSTEM, USER], False), ([USER, ANSWER], True)):
            ids = tokenizer.apply_chat_template(
                talk,
                add_generation_prompt=not goes_on,
                continue_final_message=goes_on,
                return_dict=False,
            )
            options: Any = {"continue_final_message": True} if goes_on else {}
            assert await client.tokenize(talk, **options) == ids
            mine = await client.generate(talk, max_new_tokens=8, **options)
            assert mine.token_ids == (await client.generate(ids, max_new_tokens=8)).token_ids
            assert mine.prompt_tokens == len(ids)


async def test_what_a_template_reads_changes_the_prompt() -> None:
    async with _talking(TEMPLATES["Qwen3"]) as (client, _):
        plain = await client.tokenize([USER])
        options: Any = {"chat_template_kwargs": {"enable_thinking": False}}
        thoughtless = await client.tokenize([USER], **options)
        equipped = await client.tokenize([USER], tools=[TOOL])
        assert thoughtless[: len(plain)] == plain
        assert "<think>\n\n</think>" in await client.decode(thoughtless)
        assert '"name": "f"' in await client.decode(equipped)


REFUSED: dict[str, tuple[str, list[dict[str, Any]], dict[str, Any], str]] = {
    "tools": ("ChatML", [USER], {"tools": [TOOL]}, "tools"),
    "a variable": ("ChatML", [USER], {"chat_template_kwargs": {"x": 1}}, "chat_template_kwargs"),
    "a role": ("Qwen3", [USER, {"role": "narrator", "content": "Night."}], {}, "role"),
    "turns": ("Mistral", [USER, USER], {}, "chat"),
    "calls": ("ChatML", [{**USER, "tool_calls": [{"name": "f"}]}], {}, "tool_calls"),
    "nothing said": (
        "Qwen3",
        [USER, {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {}}]}],
        {"continue_final_message": True},
        "continue_final_message",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_has_no_place_is_refused_by_name(case: str) -> None:
    name, talk, options, field = REFUSED[case]
    async with _talking(TEMPLATES[name]) as (client, _):
        for call in (client.generate, client.tokenize):
            with pytest.raises(InvalidRequestError) as raised:
                await call(talk, **options)
            assert raised.value.field == field


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ 1 / 0 }}",
        "{% endif %}",
        "{{ raise_exception('x' * 10**6) }}",
    ],
)
async def test_a_template_that_fails_is_no_failure_of_the_service(template: str) -> None:
    async with _talking(template) as (client, _):
        with pytest.raises(InvalidRequestError) as raised:
            await client.generate([USER])
        assert raised.value.field == "chat"


async def test_texts_of_ids() -> None:
    async with _talking(TEMPLATES["ChatML"]) as (client, tokenizer):
        result = await client.generate("def main(", max_new_tokens=16)
        assert await client.decode(result.token_ids, skip_special_tokens=True) == result.text
        eos = tokenizer.eos_token_id
        assert await client.decode([eos]) == tokenizer.eos_token
        assert await client.decode([eos], skip_special_tokens=True) == ""
        texts = ["import os", "x = 1\n"]
        assert await client.decode(await client.tokenize(texts)) == texts
        for ids in ([10**6], [1] * 513):
            with pytest.raises(InvalidRequestError) as raised:
                await client.decode(ids)
            assert raised.value.field == "token_ids"


async def test_texts_that_are_too_long_together_are_refused() -> None:
    async with _talking(TEMPLATES["ChatML"]) as (client, tokenizer):
        widest = max(tokenizer.get_vocab().items(), key=lambda pair: len(pair[0]))[1]
        assert len(await client.decode([[widest] * 512] * 100)) == 100
        with pytest.raises(InvalidRequestError, match="fewer at once") as raised:
            await client.decode([[widest] * 512] * 6000, timeout=60)
        assert raised.value.field == "token_ids"


async def test_control_tokens_in_messages_are_tokens_as_in_transformers() -> None:
    async with _talking(TEMPLATES["ChatML"]) as (client, tokenizer):
        talk = [{"role": "user", "content": f"a{tokenizer.eos_token}b"}]
        ids = await client.tokenize(talk)
        assert tokenizer.eos_token_id in ids
        assert ids == tokenizer.apply_chat_template(
            talk, add_generation_prompt=True, return_dict=False
        )


@pytest.mark.parametrize("always", [False, True])
async def test_a_message_forges_no_turn_if_the_caller_or_the_operator_says_so(always: bool) -> None:
    template = "{% for m in messages %}{{ m.content + eos_token }}{% endfor %}"
    talk = [{"role": "user", "content": "a<|endoftext|>b"}]
    async with _talking(template, sanitize_control_tokens=always) as (client, tokenizer):
        for asked in (False, True):
            ids = await client.tokenize(talk, sanitize_control_tokens=asked)
            assert ids.count(tokenizer.eos_token_id) == (1 if asked or always else 2)
            assert await client.decode(ids) == "a<|endoftext|>b<|endoftext|>"
            result = await client.generate(talk, sanitize_control_tokens=asked, max_new_tokens=4)
            assert result.prompt_tokens == len(ids)
