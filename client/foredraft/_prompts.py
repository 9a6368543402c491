"""Prompts from the forms that callers have: text, token ids, conversations, tensors, batches of
these.

This module knows nothing of tokenizers: text and conversations travel as they are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from foredraft._encodings import is_encoding, unpadded, untensored
from foredraft._errors import InvalidRequestError
from foredraft.v1 import generation_pb2
from foredraft.wire.chat import CHAT_OPTIONS, chat_message
from foredraft.wire.numbers import whole_ids

_FORMS = "a prompt is text, token ids, or messages with role and content"


def prompt_messages(
    inputs: Any,
    generated_ids: Any = None,
    chat_options: Mapping[str, Any] | None = None,
    needs_conversation: bool = True,
) -> tuple[list[generation_pb2.Prompt], bool]:
    """Returns prompts, and whether they are a batch.

    Args:
        inputs: one prompt or a batch; an encoding of a tokenizer is one or the other.
        generated_ids: one list of tokens, or one for each prompt of a batch.
        chat_options: the arguments of the call, of which CHAT_OPTIONS concern conversations.
        needs_conversation: whether options are refused that have no conversation to concern.

    Raises:
        InvalidRequestError: an argument cannot be sent; it is named.
    """
    inputs = untensored(unpadded(inputs) if is_encoding(inputs) else inputs)
    is_batch = isinstance(inputs, list | tuple) and bool(inputs) and _is_prompt(inputs[0])
    given = {k: v for k, v in (chat_options or {}).items() if k in CHAT_OPTIONS and v is not None}
    prompts = [_prompt(value, given) for value in (inputs if is_batch else [inputs])]
    if given and needs_conversation and not all(p.HasField("chat") for p in prompts):
        name = next(iter(given))
        reason = f"{name}: concerns conversations, and a prompt is none; pass messages"
        raise InvalidRequestError(reason, field=name)
    if generated_ids is not None:
        _go_on(prompts, untensored(generated_ids), is_batch)
    return prompts, is_batch


def token_ids_messages(token_ids: Any) -> tuple[list[generation_pb2.TokenIds], bool]:
    """Returns token ids, and whether they are a batch.

    Raises:
        InvalidRequestError: what is given is no token ids.
    """
    ids = untensored(token_ids)
    is_batch = isinstance(ids, list | tuple) and bool(ids) and isinstance(ids[0], list | tuple)
    try:
        return [_ids(row) for row in (ids if is_batch else [ids])], is_batch
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"token_ids: {error}", field="token_ids") from error


def _is_prompt(value: Any) -> bool:
    """Returns whether an item of a list is a prompt of its own, and not an id or a message."""
    return isinstance(value, Sequence) and not isinstance(value, bytes | Mapping)


def _prompt(value: Any, chat_options: Mapping[str, Any]) -> generation_pb2.Prompt:
    try:
        if isinstance(value, str):
            return generation_pb2.Prompt(text=value)
        if not isinstance(value, Sequence) or isinstance(value, bytes | bytearray):
            hint = "; put the message in a list" if isinstance(value, Mapping) else ""
            raise TypeError(f"{_FORMS}, not {type(value).__name__}{hint}")
        if not value:
            raise ValueError("the prompt is empty")
        if isinstance(value[0], Mapping):
            return generation_pb2.Prompt(chat=chat_message(value, chat_options))
        return generation_pb2.Prompt(token_ids=_ids(value))
    except InvalidRequestError:
        raise
    except UnicodeEncodeError as error:  # bytes that were decoded with errors="surrogateescape"
        reason = f"inputs: no UTF-8 text has its character {error.object[error.start]!a}"
        raise InvalidRequestError(reason, field="inputs") from error
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"inputs: {error}", field="inputs") from error


def _ids(values: Any) -> generation_pb2.TokenIds:
    return generation_pb2.TokenIds(ids=whole_ids(values))


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
