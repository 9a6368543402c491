"""Prompts from the forms that callers have: text, token ids, conversations, tensors, batches of
these.

This module knows nothing of tokenizers: text and conversations travel as they are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from foredraft._errors import InvalidRequestError
from foredraft.v1 import generation_pb2
from foredraft.wire.numbers import whole_ids

_FORMS = "a prompt is text, token ids, or messages with role and content"


def prompt_messages(
    inputs: Any, generated_ids: Any = None
) -> tuple[list[generation_pb2.Prompt], bool]:
    """Returns prompts, and whether they are a batch.

    Args:
        generated_ids: one list of tokens, or one for each prompt of a batch.

    Raises:
        InvalidRequestError: the inputs are no prompts.
    """
    inputs = _untensored(inputs)
    is_batch = isinstance(inputs, list | tuple) and bool(inputs) and _is_prompt(inputs[0])
    prompts = [_prompt(value) for value in (inputs if is_batch else [inputs])]
    if generated_ids is not None:
        _go_on(prompts, _untensored(generated_ids), is_batch)
    return prompts, is_batch


def prompt_message(inputs: Any) -> generation_pb2.Prompt:
    """Returns one prompt.

    Raises:
        InvalidRequestError: the input is no prompt, or a batch.
    """
    prompts, is_batch = prompt_messages(inputs)
    if is_batch:
        raise InvalidRequestError("inputs: takes one prompt, not a batch", field="inputs")
    return prompts[0]


def _untensored(value: Any) -> Any:
    """Returns lists in place of tensors and arrays, also where a list holds them."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, list | tuple) and value and hasattr(value[0], "tolist"):
        return [_untensored(v) for v in value]
    return value


def _is_prompt(value: Any) -> bool:
    """Returns whether an item of a list is a prompt of its own, and not an id or a message."""
    return isinstance(value, Sequence) and not isinstance(value, bytes | Mapping)


def _prompt(value: Any) -> generation_pb2.Prompt:
    try:
        if isinstance(value, str):
            return generation_pb2.Prompt(text=value)
        if not isinstance(value, Sequence) or isinstance(value, bytes | bytearray):
            raise TypeError(f"{_FORMS}, not {type(value).__name__}")
        if not value:
            raise ValueError("the prompt is empty")
        if isinstance(value[0], Mapping):
            return generation_pb2.Prompt(
                chat=generation_pb2.Chat(messages=[_chat_message(m) for m in value])
            )
        return generation_pb2.Prompt(token_ids=generation_pb2.TokenIds(ids=whole_ids(value)))
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"inputs: {error}", field="inputs") from error


def _chat_message(message: Any) -> generation_pb2.ChatMessage:
    # Anything more that a template could read would be lost on the way.
    if not isinstance(message, Mapping) or set(message) != {"role", "content"}:
        raise ValueError(f"a message has just role and content: {message!r}")
    if not isinstance(message["role"], str) or not isinstance(message["content"], str):
        raise TypeError(f"role and content of a message are text: {message!r}")
    return generation_pb2.ChatMessage(role=message["role"], content=message["content"])


def _go_on(prompts: Sequence[generation_pb2.Prompt], generated_ids: Any, is_batch: bool) -> None:
    try:
        given = list(generated_ids) if is_batch else [generated_ids]
        if len(given) != len(prompts):
            raise ValueError(f"{len(given)} lists for {len(prompts)} prompts")
        for prompt, ids in zip(prompts, given, strict=True):
            if isinstance(ids, int):
                raise TypeError("a batch takes one list for each prompt")
            prompt.generated_ids.extend(whole_ids(ids))
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"generated_ids: {error}", field="generated_ids") from error
