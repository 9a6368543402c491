"""A request of `vllm.grpc.engine` as one of `foredraft.v1`, with the meaning that vLLM gives it.

What cannot be honoured is refused by the name that the caller knows. This module knows nothing of
engines or streams.
"""

import json
from dataclasses import dataclass

from smg_grpc_proto.generated import vllm_engine_pb2 as pb

from foredraft.v1 import generation_pb2, target_pb2
from foredraft.wire import write
from foredraft_engine.errors import InvalidFieldError

_PARAMS = "sampling_params"
_GREEDY_BELOW = 1e-5  # vLLM takes the most likely token at a lower temperature
_LOWEST_TEMPERATURE = 0.01  # and samples at no lower one
_LARGEST_BIAS = 100.0
_SEEDS = 1 << 64
_WHOLE_MODEL = _WHOLE_VOCABULARY = -1
# What this service has another name for.
_NAMES = {
    "prompts": "input",
    "max_new_tokens": "max_tokens",
    "min_new_tokens": "min_tokens",
    "stop_strings": "stop",
    "eos_token_id": "stop_token_ids",
    "num_return_sequences": "n",
    "do_sample": "temperature",
}
_NOT_SERVED = {
    "kv_transfer_params": "keys and values are not taken from other workers",
    "kv_transfer_params_json": "keys and values are not taken from other workers",
    "mm_inputs": "the model reads text alone",
    "extra_mm_inputs": "the model reads text alone",
    "media_refs": "the model reads text alone",
}


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What bounds a request that names no length."""

    capacity: int
    """The length of the longest sequence, in tokens."""
    max_new_tokens: int
    """The longest answer that the caller's token allows, in tokens."""
    eos_token_id: tuple[int, ...]
    """The tokens that end a text by the model's own config."""
    vocabulary: int
    """The number of ids that the model scores."""


def check_served(request: pb.GenerateRequest) -> None:
    """Refuses what this service does not do.

    Raises:
        InvalidFieldError: the request asks for it; the field is named.
    """
    for name, reason in _NOT_SERVED.items():
        value = getattr(request, name)
        is_set = len(value) if name == "extra_mm_inputs" else request.HasField(name)
        if is_set:
            raise InvalidFieldError(name, f"{reason}; leave it out")
    if request.data_parallel_rank:
        raise InvalidFieldError("data_parallel_rank", "there is one rank here, which is 0")
    if request.WhichOneof("input") is None:
        raise InvalidFieldError("input", "there is no prompt: neither `tokenized` nor `text`")
    params = request.sampling_params
    for name in ("logprobs", "prompt_logprobs"):
        if (asked := getattr(params, name)) < _WHOLE_VOCABULARY:
            reason = f"is {asked}; it takes a number of tokens, or -1 for all"
            raise InvalidFieldError(f"{_PARAMS}.{name}", reason)


def truncated(
    request: pb.GenerateRequest, ids: tuple[int, ...], limits: WorkerLimits
) -> tuple[int, ...]:
    """Returns the last tokens of a prompt, as many as the request wants to keep.

    Raises:
        InvalidFieldError: the number makes no sense.
    """
    params = request.sampling_params
    if not params.HasField("truncate_prompt_tokens"):
        return ids
    most = params.truncate_prompt_tokens
    if most == _WHOLE_MODEL:
        most = max(1, limits.capacity - max(1, params.max_tokens))
    if most < 1:
        name = f"{_PARAMS}.truncate_prompt_tokens"
        raise InvalidFieldError(name, f"is {most}; it takes a number of tokens, or -1")
    return ids[-most:]


def translated(
    request: pb.GenerateRequest, ids: tuple[int, ...], limits: WorkerLimits
) -> target_pb2.GenerateRequest:
    """Returns the request as this service's own clients would send it.

    Args:
        ids: the prompt.

    Raises:
        InvalidFieldError: a field makes no sense.
    """
    params = request.sampling_params
    return target_pb2.GenerateRequest(
        request_id=request.request_id,
        prompts=[generation_pb2.Prompt(token_ids=generation_pb2.TokenIds(ids=ids))],
        config=_config(params, len(ids), limits),
        seed=params.seed % _SEEDS if _is_seeded(params) else None,
        logprobs=_told(params, "logprobs", limits.vocabulary),
        prompt_logprobs=_told(params, "prompt_logprobs", limits.vocabulary),
    )


def _told(params: pb.SamplingParams, name: str, vocabulary: int) -> int | None:
    """Returns of how many tokens the log-probability is told; None if of none at all."""
    if not params.HasField(name):
        return None
    asked: int = getattr(params, name)
    return vocabulary if asked == _WHOLE_VOCABULARY else asked


def in_their_words(error: InvalidFieldError) -> InvalidFieldError:
    """Returns a refusal with the names that callers of a gateway know."""
    names = [_NAMES.get(name, name) for name in error.fields]
    fields = [
        f"{_PARAMS}.{name}" if name in pb.SamplingParams.DESCRIPTOR.fields_by_name else name
        for name in names
    ]
    return InvalidFieldError(fields[0], error.reason, *fields[1:])


def _is_seeded(params: pb.SamplingParams) -> bool:
    return bool(params.HasField("seed") and params.seed != -1)  # which is none, for vLLM


def _config(
    params: pb.SamplingParams, prompt: int, limits: WorkerLimits
) -> generation_pb2.GenerationConfig:
    # A field of this message that has no value of its own stands for vLLM's default, and not for
    # the model's own: the gateway fills in what it wants of that.
    temperature = params.temperature if params.HasField("temperature") else 1.0
    config = generation_pb2.GenerationConfig(
        do_sample=not 0 <= temperature < _GREEDY_BELOW,
        num_return_sequences=max(1, params.n),
        max_new_tokens=_most_new(params, prompt, limits),
        min_new_tokens=params.min_tokens,
        repetition_penalty=params.repetition_penalty or 1.0,
        frequency_penalty=params.frequency_penalty,
        presence_penalty=params.presence_penalty,
    )
    if config.do_sample:
        is_low = 0 < temperature < _LOWEST_TEMPERATURE
        config.temperature = _LOWEST_TEMPERATURE if is_low else temperature
        config.top_p = params.top_p or 1.0
        config.top_k, config.min_p = params.top_k, params.min_p
    if params.stop:
        config.stop_strings.values.extend(params.stop)
    if params.ignore_eos or params.stop_token_ids:
        own = () if params.ignore_eos else limits.eos_token_id
        config.eos_token_id.ids.extend(dict.fromkeys([*own, *params.stop_token_ids]))
        config.eos_token_id.SetInParent()
    _constrain(config.response_format, params)
    for token, bias in params.logit_bias.items():
        if token < 0:
            raise InvalidFieldError(f"{_PARAMS}.logit_bias", f"has the token id {token}")
        config.logit_bias.values[token] = min(max(bias, -_LARGEST_BIAS), _LARGEST_BIAS)
    return config


def _constrain(form: generation_pb2.ResponseFormat, params: pb.SamplingParams) -> None:
    """Sets what holds the text, if the request asks for it.

    Raises:
        InvalidFieldError: a structural tag is not of the form that is known here.
    """
    kind = params.WhichOneof("constraint")
    if kind == "json_object":
        if params.json_object:
            form.json_object.SetInParent()
    elif kind == "choice":
        form.choice.values.extend(params.choice.choices)
        form.choice.SetInParent()
    elif kind == "structural_tag":
        _tag(form, params.structural_tag)
    elif kind:
        setattr(form, kind, getattr(params, kind))


def _tag(form: generation_pb2.ResponseFormat, text: str) -> None:
    config = generation_pb2.GenerationConfig()
    try:
        tag = json.loads(text)
        # Of either form, the whole may have a type; that of structures is not part of them.
        old = {"structural_tag": {key: tag[key] for key in tag if key != "type"}}
        given = tag if "format" in tag else old
        write(config, "response_format", {"type": "structural_tag", **given})
    except (TypeError, ValueError, KeyError, OverflowError, RecursionError) as error:
        reason = "takes a `format`, or `structures` of `begin`, `schema` and `end`, and `triggers`"
        raise InvalidFieldError(f"{_PARAMS}.structural_tag", reason) from error
    form.CopyFrom(config.response_format)


def _most_new(params: pb.SamplingParams, prompt: int, limits: WorkerLimits) -> int:
    """Returns the longest answer, in tokens; without a number it is all that fits."""
    if params.HasField("max_tokens"):
        if params.max_tokens < 1:
            raise InvalidFieldError(f"{_PARAMS}.max_tokens", "must be at least 1")
        return int(params.max_tokens)
    return max(1, min(limits.capacity - prompt, limits.max_new_tokens))
