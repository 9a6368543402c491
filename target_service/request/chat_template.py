"""Conversations as token ids, by the model's chat template.

What reaches the template is what transformers' `apply_chat_template` would give it, and templates
run in transformers' sandbox. This module knows nothing of other prompts.
"""

import inspect
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from foredraft.v1 import generation_pb2
from foredraft_engine.errors import InvalidFieldError
from foredraft_serving.worker_pool import breathe
from target_service.request.special_tokens import SpecialTokens

Message = dict[str, Any]

# Every template has a place for these.
_COMMON_ROLES = frozenset(["user", "assistant"])
_OWN_FIELDS = frozenset(["role", "content", "name", "tool_calls"])
# How a list of parts looks where a template prints it in place of reading it.
_PRINTED_PARTS = ("'type': 'text', 'text': ", '"type": "text", "text": ')
_MAX_REASON = 300  # characters of what a template says, since it may repeat the conversation
_MARK = "<foredraft {}>"
_CONTINUES, _SANITIZES = "continue_final_message", "sanitize_control_tokens"


@dataclass(frozen=True, slots=True)
class _Conversation:
    messages: list[Message]
    tools: list[dict[str, Any]] | None
    variables: dict[str, Any]
    continues: bool
    sanitizes: bool


class ChatTemplate:
    """The chat template of one tokenizer."""

    def __init__(self, tokenizer: Any, sanitizes: bool = False) -> None:
        """
        Args:
            sanitizes: whether control tokens that conversations spell out are always plain text.
        """
        self._tokenizer, self._sanitizes = tokenizer, sanitizes
        self._words: dict[str, frozenset[str]] = {}
        apply = getattr(tokenizer, "apply_chat_template", None)
        parameters = set(inspect.signature(apply).parameters) if apply else set()
        # These are not the caller's to choose, or have a field of their own.
        self._reserved = parameters - {"documents", "kwargs"} | {"self", "messages"}

    def ids(self, chat: generation_pb2.Chat) -> Sequence[int]:
        """Returns the token ids of a conversation.

        Raises:
            InvalidFieldError: there is no template, it refuses the conversation, or it has no place
                for a part of it; the part is named.
        """
        if not self._tokenizer.chat_template:
            raise InvalidFieldError(
                "chat",
                "the model has no chat template, so it holds no conversations; send text or token "
                "ids, as foredraft generate does",
            )
        talk = _Conversation(
            messages=[_message(m) for m in chat.messages],
            tools=[_json_object("tools", tool) for tool in chat.tools] or None,
            variables=_json_object("chat_template_kwargs", chat.chat_template_kwargs or "{}"),
            continues=chat.continue_final_message,
            sanitizes=chat.sanitize_control_tokens or self._sanitizes,
        )
        self._check_places(talk)
        talk = self._readable(talk)
        ids: Sequence[int] = self._apply(talk, tokenize=True)
        if talk.sanitizes:
            self._check_joined(talk, ids)
        self._check_roles(talk)
        return ids

    def _apply(self, talk: _Conversation, tokenize: bool = False) -> Any:
        breathe()
        sanitizing = {_SANITIZES: True} if talk.sanitizes and tokenize else {}
        try:
            return self._tokenizer.apply_chat_template(
                talk.messages,
                tools=talk.tools,
                add_generation_prompt=not talk.continues,
                continue_final_message=talk.continues,
                tokenize=tokenize,
                return_dict=False,
                **sanitizing,
                **talk.variables,
            )
        except Exception as error:  # templates raise what they like, jinja's errors among them
            reason = str(error)[:_MAX_REASON] or type(error).__name__
            # transformers itself names these where they are at fault.
            field = _CONTINUES if talk.continues and _CONTINUES in reason else "chat"
            field = _SANITIZES if sanitizing and "sanitize" in reason else field
            reason = f"the model's chat template refuses it: {reason}"
            raise InvalidFieldError(field, reason) from error

    def _check_joined(self, talk: _Conversation, ids: Sequence[int]) -> None:
        """Refuses a conversation whose pieces the template joins into a special token, since only
        whole ones are found in the pieces.
        """
        special = SpecialTokens(self._tokenizer)
        hidden = replace(
            talk,
            messages=special.hidden(talk.messages),
            tools=special.hidden(talk.tools),
            variables=special.hidden(talk.variables),
            sanitizes=False,
        )
        if special.among(ids) != special.among(self._apply(hidden, tokenize=True)):
            reason = "the model's chat template makes a special token of pieces of the conversation"
            raise InvalidFieldError(_SANITIZES, reason)

    def _check_places(self, talk: _Conversation) -> None:
        """Refuses what the template never reads, since that would be lost without a word."""
        words = self._words_read(talk.tools)
        has_calls = any("tool_calls" in message for message in talk.messages)
        for field, is_given in (("tools", talk.tools), ("tool_calls", has_calls)):
            if is_given and field not in words:
                raise InvalidFieldError(field, "the model's chat template has no place for them")
        for name in talk.variables:
            if name in self._reserved or name not in words:
                reason = f"the model's chat template has no variable {name[:60]!r}; leave it out"
                raise InvalidFieldError("chat_template_kwargs", reason)

    def _words_read(self, tools: Any) -> frozenset[str]:
        try:
            source: str = self._tokenizer.get_chat_template(None, tools)
        except ValueError as error:  # several templates, and none of them for this conversation
            raise InvalidFieldError("chat", str(error)[:_MAX_REASON]) from error
        if source not in self._words:
            self._words[source] = frozenset(re.findall(r"\w+", source))
        return self._words[source]

    def _readable(self, talk: _Conversation) -> _Conversation:
        """Joins the parts of contents for a template that fails on them, drops them or prints the
        list.
        """
        with_parts = [n for n, m in enumerate(talk.messages) if isinstance(m.get("content"), list)]
        if not with_parts:
            return talk
        try:
            text, marks = self._marked(talk, with_parts)
        except InvalidFieldError:
            text, marks = "", [_MARK]
        if all(m in text for m in marks) and not any(form in text for form in _PRINTED_PARTS):
            return talk
        return replace(talk, messages=[_joined(message) for message in talk.messages])

    def _check_roles(self, talk: _Conversation) -> None:
        """Refuses a role that the template does not know and leaves out."""
        known = _COMMON_ROLES | self._words_read(talk.tools)
        # A template may show calls of tools in place of a content.
        judged = [
            number
            for number, message in enumerate(talk.messages)
            if message["role"] not in known and message.get("content")
            if "tool_calls" not in message
        ]
        if not judged:
            return
        text, marks = self._marked(talk, judged)
        for number, mark in zip(judged, marks, strict=True):
            if mark not in text:
                role = talk.messages[number]["role"][:60]
                reason = f"the model's chat template has no place for the role {role!r}"
                raise InvalidFieldError("role", reason)

    def _marked(self, talk: _Conversation, numbers: Sequence[int]) -> tuple[str, list[str]]:
        """Returns what the template makes of a conversation with a mark at the end of some
        messages, and the marks.
        """
        messages, marks = list(talk.messages), [_MARK.format(number) for number in numbers]
        for number, mark in zip(numbers, marks, strict=True):
            messages[number] = _ending(messages[number], mark)
        text: str = self._apply(replace(talk, messages=messages))
        return text, marks


def characters(chat: generation_pb2.Chat) -> int:
    """Returns the number of characters that a template can make a prompt of."""
    own = sum(map(len, (*chat.tools, chat.chat_template_kwargs)))
    return own + sum(
        len(piece)
        for m in chat.messages
        for piece in (m.content, *m.content_parts, *m.tool_calls, m.name, m.more)
    )


def _message(message: generation_pb2.ChatMessage) -> Message:
    values = _json_object("more", message.more or "{}")
    if taken := _OWN_FIELDS & values.keys():
        raise InvalidFieldError("more", f"has {', '.join(sorted(taken))}, which has its own field")
    values["role"] = message.role
    if message.content_parts:
        values["content"] = [{"type": "text", "text": text} for text in message.content_parts]
    elif not message.without_content:
        values["content"] = message.content
    if message.HasField("name"):
        values["name"] = message.name
    if message.tool_calls:
        values["tool_calls"] = [_json_object("tool_calls", call) for call in message.tool_calls]
    return values


def _json_object(field: str, text: str) -> dict[str, Any]:
    """Returns a JSON object.

    Raises:
        InvalidFieldError: the text is no JSON object.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidFieldError(field, f"is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidFieldError(field, "is no JSON object")
    return value


def _joined(message: Message) -> Message:
    content = message.get("content")
    if not isinstance(content, list):
        return message
    return {**message, "content": "".join(part["text"] for part in content)}


def _ending(message: Message, mark: str) -> Message:
    content = message["content"]
    if isinstance(content, str):
        return {**message, "content": content + mark}
    *others, last = content
    return {**message, "content": [*others, {**last, "text": last["text"] + mark}]}
