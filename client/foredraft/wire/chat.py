"""Conversations onto the wire, with all that a chat template may read.

This module knows nothing of templates: the service has them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from foredraft._errors import InvalidRequestError
from foredraft.v1 import generation_pb2
from foredraft.wire.json_text import json_object
from foredraft.wire.shown import shown

_FLAGS = ("continue_final_message", "sanitize_control_tokens")
CHAT_OPTIONS = ("tools", "chat_template_kwargs", *_FLAGS)
"""The arguments of a call that concern its conversations."""
_PART = '{"type": "text", "text": "..."}'


def chat_message(messages: Sequence[Any], options: Mapping[str, Any]) -> generation_pb2.Chat:
    """Returns a conversation.

    Args:
        messages: mappings as `apply_chat_template` takes them, oldest first.
        options: those of CHAT_OPTIONS that the call has.

    Raises:
        TypeError, ValueError: a message cannot be sent.
        InvalidRequestError: an option cannot be sent; it is named.
    """
    chat = generation_pb2.Chat(messages=[_message(message) for message in messages])
    for name, write in (("tools", _write_tools), ("chat_template_kwargs", _write_variables)):
        if (value := options.get(name)) is not None:
            try:
                write(chat, value)
            except (TypeError, ValueError, RecursionError) as error:
                raise InvalidRequestError(f"{name}: {error}", field=name) from error
    for name in _FLAGS:
        if (flag := options.get(name)) not in (None, True, False):
            raise InvalidRequestError(f"{name}={flag!r}: takes a bool", field=name)
        setattr(chat, name, bool(flag))
    return chat


def _message(given: Any) -> generation_pb2.ChatMessage:
    if not isinstance(given, Mapping):
        raise TypeError(f"a message is a mapping with role and content, not {shown(given)}")
    # As in transformers, a key whose value is None is no key.
    values = {key: value for key, value in given.items() if value is not None}
    role, content, name = (values.pop(key, None) for key in ("role", "content", "name"))
    calls = values.pop("tool_calls", ())
    if not isinstance(role, str) or not isinstance(name, str | None):
        raise TypeError(f"role and name of a message are text: {shown(given)}")
    if content is None and not calls and not values:
        raise ValueError(f"a message has role and content: {shown(given)}")
    message = generation_pb2.ChatMessage(role=role, name=name, without_content=content is None)
    if isinstance(content, str):
        message.content = content
    elif content is not None:
        message.content_parts.extend(_parts(content))
    message.tool_calls.extend(map(json_object, calls))
    message.more = json_object(values) if values else ""
    return message


def _parts(content: Any) -> list[str]:
    if not isinstance(content, list | tuple) or not content:
        raise TypeError(f"the content of a message is text, or a list of {_PART}: {shown(content)}")
    for part in content:
        is_text = isinstance(part, Mapping) and part.keys() == {"type", "text"}
        if not is_text or part["type"] != "text" or not isinstance(part["text"], str):
            raise TypeError(
                f"a part of a content is {_PART}, since models read text here: {shown(part)}"
            )
    return [part["text"] for part in content]


def _write_tools(chat: generation_pb2.Chat, tools: Any) -> None:
    if not isinstance(tools, list | tuple):
        raise TypeError("takes a list of functions or of their JSON schemas")
    chat.tools.extend(json_object(_schema(tool) if callable(tool) else tool) for tool in tools)


def _write_variables(chat: generation_pb2.Chat, variables: Any) -> None:
    chat.chat_template_kwargs = json_object(variables)


def _schema(function: Any) -> Any:
    """Returns the JSON schema of a function, as transformers makes it."""
    try:
        from transformers.utils import get_json_schema
    except ImportError as error:
        raise TypeError(
            "a function becomes a JSON schema by transformers, which is not installed; "
            "pip install transformers, or pass the schema"
        ) from error
    try:
        return get_json_schema(function)
    except Exception as error:  # its own exceptions, and whatever inspection raises
        raise ValueError(f"{function!r} makes no JSON schema: {error}") from error
