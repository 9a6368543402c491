"""A conversation travels with all that a template may read, in the caller's order."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from foredraft import InvalidRequestError
from tests.parameter_ids import parameter_id
from tests.sdk.fake_target import FakeTarget

Target = Callable[..., FakeTarget]
Connect = Callable[..., Any]
USER = {"role": "user", "content": "hello"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"b": 1, "a": 2.5}}}
CALL = {"function": {"name": "f", "arguments": {"place": "Łódź"}}, "id": "1"}


def _chat(fake: FakeTarget, index: int = 0) -> Any:
    return fake.requests[-1].prompts[index].chat


def test_messages(target: Target, connect: Connect) -> None:
    fake = target()
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    talk = [
        {"role": "user", "content": parts, "name": "Ada"},
        {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]},
        {"role": "tool", "content": "", "tool_call_id": "1", "name": None},
        {"role": "assistant", "reasoning_content": "Hm."},
    ]
    connect(fake.address).generate(talk)
    user, call, told, thought = _chat(fake).messages
    assert (list(user.content_parts), user.name, user.content) == (["a", "b"], "Ada", "")
    assert list(call.tool_calls) == [json.dumps(CALL, ensure_ascii=False)] * 2
    assert (call.without_content, call.more) == (True, "")
    assert (told.content, told.without_content) == ("", False)
    assert (json.loads(told.more), told.HasField("name")) == ({"tool_call_id": "1"}, False)
    assert (thought.without_content, thought.more) == (True, '{"reasoning_content": "Hm."}')


def test_options(target: Target, connect: Connect) -> None:
    fake = target()
    client = connect(fake.address)
    client.generate(
        [USER],
        tools=[TOOL],
        chat_template_kwargs={"enable_thinking": False},
        continue_final_message=True,
        sanitize_control_tokens=True,
    )
    chat = _chat(fake)
    assert list(chat.tools) == [json.dumps(TOOL)]
    assert chat.chat_template_kwargs == '{"enable_thinking": false}'
    assert chat.continue_final_message
    assert chat.sanitize_control_tokens
    client.generate([USER])
    assert (list(_chat(fake).tools), _chat(fake).chat_template_kwargs) == ([], "")


def test_options_concern_every_conversation_of_a_call(target: Target, connect: Connect) -> None:
    fake = target()
    client = connect(fake.address)
    client.generate([[USER], [USER]], tools=[TOOL])
    assert [len(_chat(fake, i).tools) for i in range(2)] == [1, 1]
    client.generate([USER], tools=[TOOL], guidance_scale=1.5, negative_prompt=[USER])
    assert len(fake.requests[-1].negative_prompts[0].chat.tools) == 1
    client.generate([USER], tools=[TOOL], guidance_scale=1.5, negative_prompt="text")
    assert fake.requests[-1].negative_prompts[0].text == "text"


def test_a_function_is_a_tool(target: Target, connect: Connect) -> None:
    def weather(place: str, days: int = 1) -> str:
        """
        Tells the weather.

        Args:
            place: Where.
            days: How many days.
        """
        return place * days

    fake = target()
    connect(fake.address).generate([USER], tools=[weather])
    schema = json.loads(_chat(fake).tools[0])["function"]
    assert (schema["name"], schema["parameters"]["required"]) == ("weather", ["place"])


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"tools": {}}, "tools"),
        ({"tools": ["f"]}, "tools"),
        ({"tools": [lambda x: x]}, "tools"),
        ({"tools": [{"a": object()}]}, "tools"),
        ({"chat_template_kwargs": [1]}, "chat_template_kwargs"),
        ({"chat_template_kwargs": {"a": float("nan")}}, "chat_template_kwargs"),
        ({"continue_final_message": "content"}, "continue_final_message"),
        ({"continue_final_message": 2}, "continue_final_message"),
        ({"sanitize_control_tokens": "yes"}, "sanitize_control_tokens"),
    ],
    ids=parameter_id,
)
def test_what_is_no_option(
    target: Target, connect: Connect, options: dict[str, Any], field: str
) -> None:
    fake = target()
    with pytest.raises(InvalidRequestError) as raised:
        connect(fake.address).generate([USER], **options)
    assert raised.value.field == field
    assert not fake.requests


@pytest.mark.parametrize("option", ["tools", "chat_template_kwargs"])
def test_what_is_too_deep(target: Target, connect: Connect, option: str) -> None:
    deep: dict[str, Any] = {}
    for _ in range(20_000):
        deep = {"items": deep}
    with pytest.raises(InvalidRequestError, match="too deep") as raised:
        connect(target().address).generate(
            [USER], **{option: [deep] if option == "tools" else deep}
        )
    assert raised.value.field == option


@pytest.mark.parametrize("inputs", ["text", [1, 2], ["a", "b"]], ids=repr)
@pytest.mark.parametrize(
    "option", [{"tools": [TOOL]}, {"chat_template_kwargs": {}}, {"continue_final_message": True}]
)
def test_other_prompts_have_no_such_options(
    target: Target, connect: Connect, inputs: Any, option: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequestError, match="pass messages") as raised:
        connect(target().address).generate(inputs, **option)
    assert raised.value.field == next(iter(option))
