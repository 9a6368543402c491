"""A conversation becomes what transformers' `apply_chat_template` makes of it, or is refused by
name.

The conversations go over the wire as the SDK sends them.
"""

import copy
from typing import Any

import pytest

from foredraft.v1 import generation_pb2
from foredraft.wire.chat import chat_message
from foredraft_engine.errors import InvalidFieldError
from target_service.request.chat_template import ChatTemplate
from tests.chat_templates import TEMPLATES
from tests.models import bundled

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather — or guesses.",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string"}, "days": {"type": "integer", "maximum": 3}},
            "required": ["place"],
        },
    },
}
USER, SYSTEM = (
    {"role": "user", "content": "Hello, world"},
    {"role": "system", "content": "be brief"},
)
ANSWER = {"role": "assistant", "content": "Well, "}
CALL: dict[str, Any] = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {
            "id": "123456789",
            "type": "function",
            "function": {"name": "weather", "arguments": {"place": "Łódź", "days": 2}},
        }
    ],
}
TOLD = {"role": "tool", "tool_call_id": "123456789", "name": "weather", "content": "21.5"}
SAID = {
    "role": "user",
    "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}],
}
NARRATOR = {"role": "narrator", "content": "Night."}
GOES_ON = {"continue_final_message": True}

# Conversations with the templates that take them.
EVERY = tuple(TEMPLATES)
CALLS = ("Qwen3", "Llama 3", "Mistral")
TALKS: dict[str, tuple[list[dict[str, Any]], dict[str, Any], tuple[str, ...]]] = {
    "one message": ([USER], {}, EVERY),
    "a system message": ([SYSTEM, USER], {}, EVERY),
    "turns": ([USER, ANSWER, USER], {}, EVERY),
    "an empty content": ([{"role": "user", "content": ""}], {}, EVERY),
    "line ends and other scripts": ([{"role": "user", "content": " a\n\n b Łódź\t"}], {}, EVERY),
    "tools": ([USER], {"tools": [TOOL]}, CALLS),
    "tools after a system message": ([SYSTEM, USER], {"tools": [TOOL, TOOL]}, CALLS),
    "a call and its result": ([USER, CALL, TOLD], {"tools": [TOOL]}, CALLS),
    "a call without a content": (
        [USER, {k: v for k, v in CALL.items() if k != "content"}, TOLD],
        {},
        CALLS,
    ),
    "a call beside a content": ([USER, {**CALL, "content": "I ask."}, TOLD], {}, CALLS),
    "thinking": ([USER], {"chat_template_kwargs": {"enable_thinking": True}}, ("Qwen3",)),
    "no thinking": ([USER], {"chat_template_kwargs": {"enable_thinking": False}}, ("Qwen3",)),
    "reasoning": ([USER, {**ANSWER, "reasoning_content": "Hm."}], {}, ("Qwen3",)),
    "going on": ([USER, ANSWER], GOES_ON, EVERY),
    "going on after a system message": ([SYSTEM, USER, ANSWER], GOES_ON, EVERY),
    "parts": ([SAID], {}, ("parts",)),
    "parts to go on with": ([USER, {**SAID, "role": "assistant"}], GOES_ON, ("parts",)),
    "a name": ([{**USER, "name": "Ada"}, ANSWER], {}, ("parts",)),
    "a role of one's own": ([USER, NARRATOR], {}, ("ChatML", "Llama 3", "parts")),
}


@pytest.fixture
def tokenizer() -> Any:
    return copy.deepcopy(bundled("target").tokenizer)


def _ids(tokenizer: Any, template: str, talk: list[dict[str, Any]], **options: Any) -> list[int]:
    tokenizer.chat_template = template
    return list(ChatTemplate(tokenizer).ids(chat_message(talk, options)))


def _theirs(
    tokenizer: Any,
    template: str,
    talk: list[dict[str, Any]],
    chat_template_kwargs: Any = (),
    continue_final_message: bool = False,
    **options: Any,
) -> Any:
    return tokenizer.apply_chat_template(
        talk,
        chat_template=template,
        add_generation_prompt=not continue_final_message,
        continue_final_message=continue_final_message,
        return_dict=False,
        **options,
        **dict(chat_template_kwargs),
    )


@pytest.mark.parametrize(
    ("talk", "options", "name"),
    [(t, options, name) for t, options, names in TALKS.values() for name in names],
    ids=[f"{talk}, {name}" for talk, (_, _, names) in TALKS.items() for name in names],
)
def test_ids_are_those_of_transformers(
    tokenizer: Any, talk: list[dict[str, Any]], options: dict[str, Any], name: str
) -> None:
    ids = _ids(tokenizer, TEMPLATES[name], talk, **options)
    assert ids == _theirs(tokenizer, TEMPLATES[name], talk, **options)
    assert len(ids) > 1


@pytest.mark.parametrize("name", [name for name in EVERY if name not in ("parts", "Llama 3")])
def test_parts_are_joined_for_a_template_of_text(tokenizer: Any, name: str) -> None:
    joined: list[dict[str, Any]] = [{"role": "user", "content": "Hello"}]
    assert _ids(tokenizer, TEMPLATES[name], [SAID]) == _ids(tokenizer, TEMPLATES[name], joined)
    talk: list[dict[str, Any]] = [USER, ANSWER, SAID]
    whole: list[dict[str, Any]] = [USER, ANSWER, *joined]
    assert _ids(tokenizer, TEMPLATES[name], talk) == _ids(tokenizer, TEMPLATES[name], whole)


def test_parts_are_joined_where_a_template_would_print_the_list(tokenizer: Any) -> None:
    joined = [{"role": "user", "content": "Hello"}]
    for template in (TEMPLATES["Llama 3"], "{{ messages[0].content }}", "{{ messages | tojson }}"):
        assert _ids(tokenizer, template, [SAID]) == _ids(tokenizer, template, joined)


NO_ID = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
TWICE = {"role": "assistant", "tool_calls": [*CALL["tool_calls"], *CALL["tool_calls"]]}
THOUGHT = {"role": "assistant", "reasoning_content": "Hm."}


def _variable(name: str) -> dict[str, Any]:
    return {"chat_template_kwargs": {name: False}}


# A template, a conversation and options; the field that is named, and a part of the reason.
REFUSED: dict[str, tuple[str, list[dict[str, Any]], dict[str, Any], str, str]] = {
    "a role that is dropped": ("Qwen3", [USER, NARRATOR], {}, "role", "'narrator'"),
    "a role that raises": ("Mistral", [USER, ANSWER, NARRATOR], {}, "chat", "Only user"),
    "roles that do not alternate": ("Mistral", [USER, USER], {}, "chat", "must alternate"),
    "tools": ("ChatML", [USER], {"tools": [TOOL]}, "tools", "no place"),
    "calls": ("ChatML", [USER, {**CALL, "content": ""}], {}, "tool_calls", "no place"),
    "two calls": ("Llama 3", [USER, TWICE], {}, "chat", "single tool-calls"),
    "a call without an id": ("Mistral", [USER, NO_ID], {}, "chat", "length 9"),
    "no such variable": ("ChatML", [USER], _variable("x"), "chat_template_kwargs", "'x'"),
    "a template": ("ChatML", [USER], _variable("chat_template"), "chat_template_kwargs", "no var"),
    "an argument": ("ChatML", [USER], _variable("tokenize"), "chat_template_kwargs", "no variable"),
    "other messages": ("ChatML", [USER], _variable("messages"), "chat_template_kwargs", "no var"),
    "nothing to go on from": ("Qwen3", [USER, CALL], GOES_ON, "continue_final_message", "no"),
    "a content that is missed": ("ChatML", [USER, THOUGHT], {}, "chat", "content"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_place_is_refused_by_name(tokenizer: Any, case: str) -> None:
    name, talk, options, field, reason = REFUSED[case]
    with pytest.raises(InvalidFieldError, match=reason) as caught:
        _ids(tokenizer, TEMPLATES[name], talk, **options)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no: ' + messages[0].content * 10000) }}",
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{% for i in range(10 ** 9) %}x{% endfor %}",
        "{{ 1 / 0 }}",
        "{% if %}",
        "{{ messages[5].content.nothing }}",
    ],
)
def test_whatever_a_template_raises_is_a_refusal(tokenizer: Any, template: str) -> None:
    with pytest.raises(InvalidFieldError) as caught:
        _ids(tokenizer, template, [USER])
    assert caught.value.field == "chat"
    assert len(str(caught.value)) < 1000, "a status has room for this much"


def test_a_tool_may_be_a_function(tokenizer: Any) -> None:
    def weather(place: str) -> str:
        """
        Tells the weather.

        Args:
            place: Where.
        """
        return place

    ids = _ids(tokenizer, TEMPLATES["Qwen3"], [USER], tools=[weather])
    assert ids == _theirs(tokenizer, TEMPLATES["Qwen3"], [USER], tools=[weather])


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"more": "["}, "more"),
        ({"more": "[" * 10**5}, "more"),
        ({"more": "[1]"}, "more"),
        ({"more": '{"content": [1]}'}, "more"),
        ({"tool_calls": ["1"]}, "tool_calls"),
        ({"tool_calls": [""]}, "tool_calls"),
    ],
)
def test_json_that_is_none_is_refused_by_name(
    tokenizer: Any, message: dict[str, Any], field: str
) -> None:
    tokenizer.chat_template = TEMPLATES["Qwen3"]
    talk = generation_pb2.Chat(messages=[generation_pb2.ChatMessage(role="user", **message)])
    with pytest.raises(InvalidFieldError) as caught:
        ChatTemplate(tokenizer).ids(talk)
    assert caught.value.field == field


@pytest.mark.parametrize("field", ["tools", "chat_template_kwargs"])
def test_so_are_options(tokenizer: Any, field: str) -> None:
    tokenizer.chat_template = TEMPLATES["Qwen3"]
    value: Any = ["nonsense"] if field == "tools" else "nonsense"
    talk = generation_pb2.Chat(messages=[{"role": "user", "content": "a"}], **{field: value})
    with pytest.raises(InvalidFieldError, match="JSON") as caught:
        ChatTemplate(tokenizer).ids(talk)
    assert caught.value.field == field
