"""The request of a call, from what the caller says; the same for both clients.

This module knows nothing of channels, threads or event loops.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from foredraft._criteria import criteria_of
from foredraft._encodings import ENCODING, is_encoding
from foredraft._errors import InvalidRequestError
from foredraft._inputs import Criterion
from foredraft._prompts import prompt_messages
from foredraft.v1 import generation_pb2, target_pb2
from foredraft.wire.chat import CHAT_OPTIONS
from foredraft.wire.config import config_message
from foredraft.wire.limits import MAX_MESSAGE_BYTES
from foredraft.wire.numbers import UINT32_MAX, UINT64_MAX, whole
from foredraft.wire.shown import shown

MET = "stopping_criteria"
"""The finish reason that only the client knows."""
_RULES = {
    None: generation_pb2.SAMPLING_RULE_UNSPECIFIED,
    "rejection": generation_pb2.SAMPLING_RULE_REJECTION,
    "coupled": generation_pb2.SAMPLING_RULE_COUPLED,
}
# The keyword arguments of a call that are no generation fields; `timeout` concerns the client.
_OPTIONS = (
    "seed",
    "sampling_rule",
    "logprobs",
    "prompt_logprobs",
    "generated_ids",
    "negative_prompt",
    "negative_prompt_ids",
    "stopping_criteria",
    "resume",
    "return_rounds",
    *CHAT_OPTIONS,
    *ENCODING,
)


@dataclass(frozen=True, slots=True)
class Call:
    """A request, and how its answer is read."""

    request: target_pb2.GenerateRequest
    is_list: bool
    """Whether the answer is a list of results."""
    stopping_criteria: tuple[Criterion, ...] = ()
    resume: bool = False
    """Whether the call goes on at another service if the connection is lost in the middle."""


def build_call(
    inputs: Any,
    generation_config: Any,
    arguments: Mapping[str, Any],
    return_prompt_ids: bool = False,
) -> Call:
    """Builds the request of a call.

    Args:
        inputs: one prompt or a batch; None if the arguments have `input_ids`.
        generation_config: a config, the name of one, or None.
        arguments: the keyword arguments of the call; fields go over those of the config.
        return_prompt_ids: whether the service is to return the prompts as token ids.

    Raises:
        InvalidRequestError: an argument cannot be sent; it is named.
    """
    options = {name: arguments.get(name) for name in _OPTIONS}
    fields = {k: v for k, v in arguments.items() if k not in _OPTIONS and k != "timeout"}
    name = generation_config if isinstance(generation_config, str) else ""
    config = config_message(None if name else generation_config, fields)
    inputs = _inputs(inputs, options)
    prompts, is_batch = prompt_messages(inputs, options["generated_ids"], options)
    criteria = criteria_of(options["stopping_criteria"])
    resume = _flag("resume", options["resume"])
    if criteria and config.num_beams > 1:
        reason = "a beam search is not ended by the client; use stop_strings or max_time"
        raise _contradiction(reason, "stopping_criteria", "num_beams")
    if resume and options["prompt_logprobs"] is not None:
        reason = "do not go together; leave one of them out"
        raise _contradiction(reason, "prompt_logprobs", "resume")
    request = target_pb2.GenerateRequest(
        request_id=secrets.token_hex(8),  # drawn here: a call that never got through has a name too
        prompts=prompts,
        config=config,
        seed=_number("seed", options["seed"], UINT64_MAX),
        sampling_rule=_rule(options["sampling_rule"]),
        logprobs=_number("logprobs", options["logprobs"], UINT32_MAX),
        prompt_logprobs=_number("prompt_logprobs", options["prompt_logprobs"], UINT32_MAX),
        negative_prompts=_negative_prompts(options),
        return_prompt_ids=return_prompt_ids or bool(criteria) or resume,
        config_name=name,
        return_rounds=_flag("return_rounds", options["return_rounds"]),
    )
    if (size := request.ByteSize()) > MAX_MESSAGE_BYTES:
        reason = f"make a request of {size} bytes; the service's limit is {MAX_MESSAGE_BYTES}"
        raise InvalidRequestError(f"inputs: {reason}", field="inputs")
    return Call(request, is_batch or config.num_return_sequences > 1, criteria, resume)


def _contradiction(reason: str, *names: str) -> InvalidRequestError:
    return InvalidRequestError(f"{' and '.join(names)}: {reason}", fields=names)


def _inputs(inputs: Any, options: Mapping[str, Any]) -> Any:
    """Returns the prompts, which a call with the arguments of a tokenizer's encoding has there."""
    encoding = {name: options[name] for name in ENCODING if options[name] is not None}
    if inputs is None and "input_ids" not in encoding:
        raise InvalidRequestError("inputs: there is no prompt", field="inputs")
    if inputs is None:
        return encoding
    if "input_ids" in encoding or (encoding and is_encoding(inputs)):
        name = next(iter(encoding))
        reason = f"{name}: the prompt is given twice; leave out one of the two"
        raise InvalidRequestError(reason, field=name)
    return {"input_ids": inputs, **encoding} if encoding else inputs


def _negative_prompts(options: Mapping[str, Any]) -> list[generation_pb2.Prompt]:
    """Returns the negative prompts, which transformers calls `negative_prompt_ids`."""
    prompt, ids = options["negative_prompt"], options["negative_prompt_ids"]
    if prompt is not None and ids is not None:
        reason = "are the same; leave one of them out"
        raise _contradiction(reason, "negative_prompt", "negative_prompt_ids")
    negative = ids if prompt is None else prompt
    if negative is None:
        return []
    return prompt_messages(negative, chat_options=options, needs_conversation=False)[0]


def _rule(value: Any) -> generation_pb2.SamplingRule:
    if value not in (None, "rejection", "coupled"):
        reason = f"sampling_rule={shown(value)} is neither 'rejection' nor 'coupled'"
        raise InvalidRequestError(reason, field="sampling_rule")
    return _RULES[value]


def _flag(name: str, value: Any) -> bool:
    if value not in (None, True, False):
        raise InvalidRequestError(f"{name}={shown(value)}: takes a bool", field=name)
    return bool(value)


def _number(name: str, value: Any, limit: int) -> int | None:
    try:
        return None if value is None else whole(value, limit)
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"{name}={shown(value)}: {error}", field=name) from error
