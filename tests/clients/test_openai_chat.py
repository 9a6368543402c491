"""Conversations through a real gateway: rendered as transformers does it, with tools, held to a
schema, refused where they are too long.
"""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("smg", reason="`make test-clients` runs these tests")

from openai import BadRequestError, OpenAI
from transformers import AutoTokenizer

from tests.chat_templates import TEMPLATES
from tests.clients.conftest import Served
from tests.clients.services import MODEL, gateway

CITY: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Köln"]}},
    "required": ["city"],
    "additionalProperties": False,
}
FUNCTION = {"name": "weather", "description": "The weather — now", "parameters": CITY}
TOOLS: Any = [{"type": "function", "function": FUNCTION}]
SYSTEM: Any = {"role": "system", "content": "Be brief."}
QUESTION: Any = {"role": "user", "content": "How is the weather in Köln?"}
ARGUMENTS = '{"city": "Köln"}'
CALLED: Any = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {
            "id": "abcdefghi",
            "type": "function",
            "function": {"name": "weather", "arguments": ARGUMENTS},
        }
    ],
}
ANSWERED: Any = {"role": "tool", "tool_call_id": "abcdefghi", "content": "rain <b>"}
TALKS: dict[str, tuple[list[Any], Any]] = {
    "question": ([QUESTION], None),
    "system": ([SYSTEM, QUESTION], None),
    "turns": ([SYSTEM, QUESTION, {"role": "assistant", "content": "Rain."}, QUESTION], None),
    "tools": ([SYSTEM, QUESTION], TOOLS),
    "call": ([QUESTION, CALLED, ANSWERED], TOOLS),
}


def _client(url: str) -> Any:
    return OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, timeout=240)


def _read(message: Any, in_parts: bool) -> Any:
    """Returns a message as templates read it: arguments are an object, and a template that takes
    parts gets them from the gateway, except for the answer of a tool.
    """
    if in_parts and message["role"] != "tool" and message["content"]:
        message = {**message, "content": [{"type": "text", "text": message["content"]}]}
    if not message.get("tool_calls"):
        return message
    function = {"name": "weather", "arguments": json.loads(ARGUMENTS)}
    return {**message, "tool_calls": [{**message["tool_calls"][0], "function": function}]}


@pytest.mark.parametrize("name", TEMPLATES)
def test_rendering_is_that_of_transformers(served: Served, name: str, tmp_path: Path) -> None:
    """The log-probabilities tell which tokens the gateway has sent."""
    template = tmp_path / "template.jinja"
    template.write_text(TEMPLATES[name])
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    flags = f"--chat-template {template}"
    with gateway(tmp_path / "log", served.targets[0].address, flags=flags) as url:
        client, compared = _client(url), 0
        for talk, tools in TALKS.values():
            try:
                text = tokenizer.apply_chat_template(
                    [_read(message, name == "parts") for message in talk],
                    tools=tools,
                    chat_template=TEMPLATES[name],
                    tokenize=False,
                    add_generation_prompt=True,
                )
            except Exception:  # the template refuses it, as tests of the target's chats show
                continue
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            want = served.sdk.generate(ids, max_new_tokens=4, logprobs=0)
            given = {"tools": tools} if tools else {}
            asked = served.call(messages=talk, max_tokens=4, logprobs=True, **given)
            told = client.chat.completions.create(**asked)
            assert told.usage.prompt_tokens == len(ids)
            found = [entry.logprob for entry in told.choices[0].logprobs.content]
            known = [entry.logprob for entry in want.logprobs]
            assert found == pytest.approx(known, abs=1e-4)
            compared += 1
        assert compared >= 2


def test_variables_of_the_template_and_a_message_that_goes_on(served: Served) -> None:
    client, tokenizer = _client(served.url), AutoTokenizer.from_pretrained(served.model)
    begun = [QUESTION, {"role": "assistant", "content": "It is"}]
    cases: list[tuple[list[Any], dict[str, Any], dict[str, Any]]] = [
        (
            [QUESTION],
            {"chat_template_kwargs": {"enable_thinking": False}},
            {"enable_thinking": False, "add_generation_prompt": True},
        ),
        (
            begun,
            {"continue_final_message": True, "add_generation_prompt": False},
            {"continue_final_message": True},
        ),
    ]
    for talk, body, options in cases:
        text = tokenizer.apply_chat_template(talk, tokenize=False, **options)
        want = served.sdk.generate(text, max_new_tokens=12)
        asked = served.call(messages=talk, extra_body=body)
        (choice,) = client.chat.completions.create(**asked).choices
        assert choice.message.content == want.text


def test_a_named_tool_is_called(served: Served) -> None:
    client = _client(served.url)
    chosen = {"type": "function", "function": {"name": "weather"}}
    asked = served.call(messages=[QUESTION], tools=TOOLS, tool_choice=chosen, max_tokens=60)
    (choice,) = client.chat.completions.create(**asked).choices
    (call,) = choice.message.tool_calls
    assert (call.function.name, choice.finish_reason) == ("weather", "tool_calls")
    whole = json.loads(call.function.arguments)
    assert whole["city"] in ("Paris", "Köln")
    pieces = ""
    for event in client.chat.completions.create(stream=True, **asked):
        for delta in (choice.delta for choice in event.choices):
            pieces += "".join(c.function.arguments or "" for c in delta.tool_calls or ())
    assert json.loads(pieces) == whole


@pytest.mark.parametrize("parser", ["mistral", "inkling"])
def test_a_demanded_call_has_the_form_of_the_parser(
    served: Served, parser: str, tmp_path: Path
) -> None:
    """The gateway holds it to a tree of structural tags, and reads what comes of it."""
    flags, addresses = f"--tool-call-parser {parser}", [one.address for one in served.targets]
    with gateway(tmp_path / "log", *addresses, flags=flags) as url:
        client = _client(url)
        asked = served.call(messages=[QUESTION], tools=TOOLS, tool_choice="required")
        (choice,) = client.chat.completions.create(**{**asked, "max_tokens": 80}).choices
        call = choice.message.tool_calls[0].function
        assert call.name == "weather"
        assert json.loads(call.arguments)["city"] in ("Paris", "Köln")


def test_texts_are_held_to_a_schema(served: Served) -> None:
    client = _client(served.url)
    held: Any = {"type": "json_schema", "json_schema": {"name": "place", "schema": CITY}}
    asked = served.call(messages=[QUESTION], max_tokens=40)
    (choice,) = client.chat.completions.create(response_format=held, **asked).choices
    assert json.loads(choice.message.content)["city"] in ("Paris", "Köln")
    want = served.sdk.generate([QUESTION], max_new_tokens=40, response_format=held)
    assert choice.message.content == want.text
    held["json_schema"]["schema"] = {"type": "string", "pattern": "(?<=a)b"}
    with pytest.raises(BadRequestError, match="response_format"):
        client.chat.completions.create(response_format=held, **asked)


def test_what_is_too_long_is_refused_with_its_count(served: Served) -> None:
    client = _client(served.url)
    long = [{"role": "user", "content": "a b " * 2000}]
    tokenizer = AutoTokenizer.from_pretrained(served.model)
    text = tokenizer.apply_chat_template(long, tokenize=False, add_generation_prompt=True)
    count = len(tokenizer(text)["input_ids"])
    with pytest.raises(BadRequestError, match=rf"2048 tokens.* {count} input tokens"):
        client.chat.completions.create(**served.call(messages=long))
    with pytest.raises(BadRequestError, match=r"max_tokens.* the limit is 2048"):
        client.chat.completions.create(**served.call(messages=[QUESTION], max_tokens=2048))


def test_a_conversation_is_kept(served: Served) -> None:
    client = _client(served.url)
    asked = {"model": served.model, "max_output_tokens": 8, "temperature": 0}
    first = client.responses.create(input="def main(", **asked)
    told = [{"role": "user", "content": "def main("}]
    want = served.sdk.generate(told, max_new_tokens=8)
    assert first.output_text == want.text
    second = client.responses.create(input="And?", previous_response_id=first.id, **asked)
    told += [{"role": "assistant", "content": want.text}, {"role": "user", "content": "And?"}]
    assert second.output_text == served.sdk.generate(told, max_new_tokens=8).text
    events = [e.type for e in client.responses.create(input="def main(", stream=True, **asked)]
    assert "response.output_text.delta" in events
