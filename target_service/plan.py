"""From a request to what is to be done: every field checked, every default filled in, before admission.

Knows nothing of engines or streams.
"""

import hashlib
import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from decoding.errors import InvalidFieldError
from decoding.loading import LoadedModel
from decoding.sampling import Rule, Sampling
from foredraft.v1 import generation_pb2, target_pb2
from serving.messages import rule_from, sampling_from
from target_service.defaults import DEFAULT_NEW_TOKENS, Config, fill

_MAX_SEQUENCES = 256
_MAX_STOP_STRINGS = 64
_MAX_LOGPROBS = 100
# Fields that mean something under sampling only, and the values by which they are off.
_SAMPLING_ONLY = {
    "temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "top_h": None,
    "typical_p": 1.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0,
}  # fmt: skip

_Check = Callable[[float], bool]
_RANGES: dict[str, tuple[_Check, str]] = {
    "max_length": (lambda x: x > 0, "must be at least 1"),
    "max_new_tokens": (lambda x: x > 0, "must be at least 1"),
    "max_time": (lambda x: x > 0, "must be a positive number of seconds"),
    "num_return_sequences": (lambda x: 1 <= x <= _MAX_SEQUENCES, f"must be between 1 and {_MAX_SEQUENCES}"),
    "temperature": (lambda x: x > 0, "must be positive; for the most likely token set do_sample=False"),
    "top_p": (lambda x: 0 < x <= 1, "must be in (0, 1]"),
    "min_p": (lambda x: 0 <= x <= 1, "must be in [0, 1]"),
    "top_h": (lambda x: 0 < x <= 1, "must be in (0, 1]"),
    "typical_p": (lambda x: 0 < x <= 1, "must be in (0, 1]"),
    "epsilon_cutoff": (lambda x: 0 <= x < 1, "must be in [0, 1)"),
    "eta_cutoff": (lambda x: 0 <= x < 1, "must be in [0, 1)"),
    "repetition_penalty": (lambda x: x > 0, "must be positive"),
    "assistant_confidence_threshold": (lambda x: 0 <= x <= 1, "must be in [0, 1]"),
    "num_assistant_tokens": (lambda x: x <= 256, "must be at most 256"),
    "prompt_lookup_num_tokens": (
        lambda x: 1 <= x <= 256,
        "must be between 1 and 256; leave it out for no lookup",
    ),
    "max_matching_ngram_size": (lambda x: 1 <= x <= 1024, "must be between 1 and 1024"),
}
_SCHEDULES = ("constant", "heuristic_transient")


@dataclass(frozen=True, slots=True)
class Plan:
    """One sequence that is to be generated."""

    index: int
    tokens: tuple[int, ...]  # prompt and generated_ids
    sampling: Sampling
    config: Config  # every default filled in; what the draft is told
    owner: str
    logprobs: int | None

    @property
    def max_length(self) -> int:
        """Prompt and generated tokens together."""
        return self.sampling.max_length


@dataclass(frozen=True, slots=True)
class Request:
    """A whole call."""

    seed: int
    rule: Rule
    prompts: tuple[tuple[int, ...], ...]
    plans: tuple[Plan, ...]


class Planner:
    """Turns requests into plans, for one model."""

    def __init__(self, model: LoadedModel, defaults: Config, capacity: int) -> None:
        self._model, self._defaults, self._capacity = model, defaults, capacity

    def request(self, message: target_pb2.GenerateRequest, credential: str) -> Request:
        """Checks and resolves a call.

        Raises:
            InvalidFieldError: a field cannot be honoured; it is named.
        """
        if not message.prompts:
            raise InvalidFieldError("prompts", "there is none")
        if message.HasField("logprobs") and message.logprobs > _MAX_LOGPROBS:
            raise InvalidFieldError("logprobs", f"must be at most {_MAX_LOGPROBS}")
        config = fill(message.config, self._defaults)
        self._check(message.config, config)
        if len(message.prompts) * config.num_return_sequences > _MAX_SEQUENCES:
            raise InvalidFieldError("num_return_sequences", f"more than {_MAX_SEQUENCES} sequences in one request")
        rule = _rule(message, config.do_sample)
        seed = message.seed if message.HasField("seed") else secrets.randbits(63)
        owner = hashlib.sha256(credential.encode()).hexdigest()[:32] if credential else ""
        prompts = tuple(self.prompt_ids(p) for p in message.prompts)
        plans: list[Plan] = []
        for prompt, given in zip(prompts, message.prompts, strict=True):
            tokens = (*prompt, *self._ids("generated_ids", given.generated_ids))
            full = self._with_lengths(config, message.config, len(prompt), len(tokens))
            for _ in range(config.num_return_sequences):
                sampling = sampling_from(
                    full, rule=rule, seed=seed, sequence_index=len(plans), prompt_length=len(prompt)
                )
                logprobs = message.logprobs if message.HasField("logprobs") else None
                plans.append(Plan(len(plans), tokens, sampling, full, owner, logprobs))
        return Request(seed, rule, prompts, tuple(plans))

    def prompt_ids(self, prompt: generation_pb2.Prompt) -> tuple[int, ...]:
        """Token ids of a prompt.

        Raises:
            InvalidFieldError: it is empty, or has ids that are none.
        """
        tokenizer = self._model.tokenizer
        form = prompt.WhichOneof("content")
        ids: Sequence[int]
        if form == "text":
            ids = tokenizer(prompt.text)["input_ids"]
        elif form == "token_ids":
            ids = prompt.token_ids.ids
        elif form == "chat":
            if not tokenizer.chat_template:
                raise InvalidFieldError("chat", "the model has no chat template; send text or token ids")
            messages = [{"role": m.role, "content": m.content} for m in prompt.chat.messages]
            try:
                ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
            except Exception as error:  # templates raise what they like, jinja's errors among them
                raise InvalidFieldError("chat", f"the model's chat template refuses it: {error}") from error
        else:
            raise InvalidFieldError("prompts", "a prompt is text, token ids or a conversation")
        if not ids:
            raise InvalidFieldError("prompts", "a prompt is empty; it takes at least one token")
        return self._ids("prompts", ids)

    def _ids(self, field: str, ids: Sequence[int]) -> tuple[int, ...]:
        if ids and max(ids) >= self._model.vocabulary.size:
            raise InvalidFieldError(
                field, f"id {max(ids)} is outside the vocabulary of {self._model.vocabulary.size} tokens"
            )
        return tuple(ids)

    def _check(self, asked: Config, config: Config) -> None:
        for descriptor, value in config.ListFields():
            name = descriptor.name
            if isinstance(value, float) and not math.isfinite(value):
                raise InvalidFieldError(name, f"is {value}")
            if name in _RANGES and not _RANGES[name][0](value):
                raise InvalidFieldError(name, f"is {value:g}; it {_RANGES[name][1]}")
        if config.num_assistant_tokens_schedule not in _SCHEDULES:
            raise InvalidFieldError("num_assistant_tokens_schedule", f"is not one of {', '.join(_SCHEDULES)}")
        if not config.do_sample:
            for name, off in _SAMPLING_ONLY.items():
                if asked.HasField(name) and getattr(asked, name) != off:
                    raise InvalidFieldError(
                        name, "has no effect with do_sample=False; set do_sample=True or leave it out"
                    )
            if config.num_return_sequences > 1:
                raise InvalidFieldError("num_return_sequences", "more than 1 with do_sample=False would all be equal")
        if asked.prompt_lookup_num_tokens and asked.HasField("num_assistant_tokens") and not asked.num_assistant_tokens:
            raise InvalidFieldError("prompt_lookup_num_tokens", "contradicts num_assistant_tokens=0")
        if len(config.stop_strings.values) > _MAX_STOP_STRINGS or "" in config.stop_strings.values:
            raise InvalidFieldError("stop_strings", f"takes up to {_MAX_STOP_STRINGS} strings, none of them empty")
        for name in ("eos_token_id", "suppress_tokens", "begin_suppress_tokens", "forced_eos_token_id"):
            self._ids(name, getattr(config, name).ids)
        for name in ("bad_words_ids", "sequence_bias"):
            for entry in getattr(config, name).values:
                if not self._ids(name, entry.ids):
                    raise InvalidFieldError(name, "has an empty sequence")

    def _with_lengths(self, config: Config, asked: Config, prompt: int, tokens: int) -> Config:
        """Lengths as transformers counts them: total, prompt included; 20 new tokens by default."""
        model, limit = self._defaults, self._capacity
        if asked.HasField("max_new_tokens"):
            field, total = "max_new_tokens", prompt + asked.max_new_tokens
        elif asked.HasField("max_length"):
            field, total = "max_length", asked.max_length
        elif model.HasField("max_new_tokens"):
            field, total = "max_new_tokens", min(prompt + model.max_new_tokens, limit)
        elif model.HasField("max_length"):
            field, total = "max_length", min(model.max_length, limit)
        else:
            field, total = "prompts", min(prompt + DEFAULT_NEW_TOKENS, limit)
        if total > limit:
            raise InvalidFieldError(field, f"prompt ({prompt}) and new tokens make {total}, the limit is {limit}")
        if total <= tokens:
            raise InvalidFieldError(field, f"leaves no room: the sequence has {tokens} tokens, the limit is {total}")
        full = Config()
        full.CopyFrom(config)
        full.max_length = total
        full.ClearField("max_new_tokens")
        if not asked.HasField("min_new_tokens") and not asked.HasField("min_length"):
            full.min_new_tokens, full.min_length = model.min_new_tokens, model.min_length
        if max(full.min_length, prompt + full.min_new_tokens if full.min_new_tokens else 0) > total:
            raise InvalidFieldError(
                "min_new_tokens" if full.min_new_tokens else "min_length", "is more than the maximum"
            )
        return full


def _rule(message: target_pb2.GenerateRequest, do_sample: bool) -> Rule:
    try:
        asked = rule_from(message.sampling_rule)
    except ValueError as error:
        raise InvalidFieldError("sampling_rule", str(error)) from error
    if not do_sample:
        if asked is not Rule.GREEDY:
            raise InvalidFieldError("sampling_rule", "has no effect with do_sample=False")
        return Rule.GREEDY
    if asked is not Rule.GREEDY:
        return asked
    return Rule.COUPLED if message.HasField("seed") else Rule.REJECTION


def credential(metadata: Any) -> str:
    """What the caller shows in the `authorization` header; it scopes the reuse of rows."""
    values = [str(value) for name, value in metadata or () if name == "authorization"]
    return values[0] if values else ""
