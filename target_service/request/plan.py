"""From a request to what is to be done: every field checked, every default filled in, before
admission.

Knows nothing of engines or streams.
"""

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from foredraft.v1 import target_pb2
from foredraft_engine.cache_spec import CacheSpec
from foredraft_engine.errors import InvalidFieldError
from foredraft_engine.model.loading import LoadedModel
from foredraft_engine.sampling import Rule, Sampling
from foredraft_serving.messages import rule_from, sampling_from
from foredraft_serving.ranges import MAX_SEQUENCES
from target_service.request.cache_spec import cache_spec
from target_service.request.checks import check_config
from target_service.request.defaults import Config, fill
from target_service.request.lengths import with_lengths
from target_service.request.mode import Mode, check_call
from target_service.request.prompts import Prompts

_MAX_LOGPROBS = 100
_MAX_REQUEST_ID = 128


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be generated from one prompt: a sequence, or the several that one search finds."""

    index: int  # of the first sequence
    tokens: tuple[int, ...]  # prompt and generated_ids
    sampling: Sampling
    config: Config  # every default filled in; what the draft is told
    owner: str
    logprobs: int | None
    cache: CacheSpec | None = None  # how its row is quantized, if it is
    mode: Mode = Mode.ASSISTED
    sequences: int = 1
    negative: tuple[int, ...] = ()
    """What guidance goes away from, with the tokens generated so far; empty without guidance."""

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
    heals: bool = False
    """Whether the prompts are to be healed first."""


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """What there is for sequences."""

    capacity: int  # tokens of the longest one
    rows: int = 16
    quantizes: bool = True  # whether rows can be quantized
    fits: Callable[[int, int, int, bool], bool] = lambda prompt, texts, new, quantized: True
    """Whether so many prompt tokens, and texts of so many new ones each, quantized or not, have
    limits.
    """


class Planner:
    """Turns requests into plans, for one model."""

    def __init__(self, model: LoadedModel, defaults: Config, limits: ServiceLimits) -> None:
        self._defaults, self._limits = defaults, limits
        self._vocabulary_size = model.vocabulary.size
        self.prompts = Prompts(model, limits.capacity)
        self.marked_ids = model.scored_ids
        """Ids that green lists are drawn from:

        the model's padding is among them, as in transformers.
        """

    def request(
        self,
        message: target_pb2.GenerateRequest,
        credential: str,
        asked: Config | None = None,
        healed: Sequence[tuple[int, ...]] = (),
    ) -> Request:
        """Checks and resolves a call.

        Args:
            asked: its config over a named one, in place of the message's.
            healed: what its prompts are to be read as.

        Raises:
            InvalidFieldError: a field cannot be honoured; it is named.
        """
        _check_message(message)
        asked = message.config if asked is None else asked
        config, mode, cache = self._resolved(asked)
        check_call(message, config, mode)
        if len(message.prompts) * config.num_return_sequences > MAX_SEQUENCES:
            raise InvalidFieldError(
                "num_return_sequences", f"more than {MAX_SEQUENCES} sequences in all", "prompts"
            )
        rule = _rule(message, config.do_sample, mode)
        each = config.num_return_sequences if mode.has_beams else 1
        seed = message.seed if message.HasField("seed") else secrets.randbits(63)
        owner = hashlib.sha256(credential.encode()).hexdigest()[:32] if credential else ""
        prompts = tuple(healed) or tuple(self.prompts.ids(p) for p in message.prompts)
        negatives = self._negatives(message, config, prompts)
        if config.watermarking_config.HasField("greenlist"):
            config.watermarking_config.greenlist.vocabulary_size = self.marked_ids
        plans: list[Plan] = []
        for prompt, given, away in zip(prompts, message.prompts, negatives, strict=True):
            tokens = (*prompt, *self.prompts.checked("generated_ids", given.generated_ids))
            full = self._with_lengths(config, asked, len(prompt), len(tokens))
            self._check_room(full, mode, len(tokens), len(away), cache is not None)
            negative = (*away, *given.generated_ids) if away else ()
            logprobs = message.logprobs if message.HasField("logprobs") else None
            for _ in range(config.num_return_sequences // each):
                index = len(plans) * each
                sampling = sampling_from(
                    full, rule=rule, seed=seed, sequence_index=index, prompt_length=len(prompt)
                )
                plans.append(
                    Plan(
                        index, tokens, sampling, full, owner, logprobs, cache, mode, each, negative
                    )
                )
        return Request(seed, rule, prompts, tuple(plans), config.token_healing and not healed)

    def _negatives(
        self,
        message: target_pb2.GenerateRequest,
        config: Config,
        prompts: Sequence[tuple[int, ...]],
    ) -> list[tuple[int, ...]]:
        """What guidance goes away from, for each prompt:

        by transformers' default from the prompt's last token.
        """
        given = [self.prompts.ids(prompt, "negative_prompt") for prompt in message.negative_prompts]
        if config.guidance_scale == 1.0 or not config.HasField("guidance_scale"):
            if given:
                raise InvalidFieldError(
                    "negative_prompt", "has no effect without guidance_scale", "guidance_scale"
                )
            return [()] * len(prompts)
        if given and len(given) != len(prompts):
            reason = f"has {len(given)} prompts, for {len(prompts)}; give one for each, or none"
            raise InvalidFieldError("negative_prompt", reason, "prompts")
        return given or [prompt[-1:] for prompt in prompts]

    def _check_room(
        self, config: Config, mode: Mode, tokens: int, negative: int, quantized: bool
    ) -> None:
        new, beams = config.max_length - tokens, config.num_beams
        if negative + new > self._limits.capacity:
            reason = f"is so long that with {new} new tokens it exceeds the limit of {self._limits.capacity}"
            raise InvalidFieldError("negative_prompt", reason, "max_new_tokens")
        if negative and self._limits.rows < 2:
            reason = "takes two rows, and this service has one; its operator can set --rows"
            raise InvalidFieldError("guidance_scale", reason)
        if mode.has_beams and not self._limits.fits(tokens, beams, new, quantized):
            reason = f"{tokens} tokens of the prompt and {beams} times {new} new ones do not fit the service's rows"
            raise InvalidFieldError("num_beams", reason, "max_new_tokens")

    def check(self, asked: Config) -> None:
        """Checks a config without a prompt, as if the shortest one came.

        Raises:
            InvalidFieldError: no call could be made with it; what is wrong is named.
        """
        config, _, _ = self._resolved(asked)
        self._with_lengths(config, asked, 1, 1)

    def _resolved(self, asked: Config) -> tuple[Config, Mode, CacheSpec | None]:
        """Every default filled in and every field checked, as far as there is no prompt to it."""
        config = fill(asked, self._defaults)
        mode = check_config(asked, config, self._vocabulary_size)
        return config, mode, cache_spec(asked, config, self._limits.quantizes)

    def _with_lengths(self, config: Config, asked: Config, prompt: int, tokens: int) -> Config:
        if asked.HasField("forced_bos_token_id") and tokens > 1:
            reason = f"is forced after a prompt of one token, and this one has {tokens}"
            raise InvalidFieldError("forced_bos_token_id", reason, "prompts")
        return with_lengths(
            config, asked, self._defaults, limit=self._limits.capacity, prompt=prompt, tokens=tokens
        )


def _check_message(message: target_pb2.GenerateRequest) -> None:
    if len(message.request_id) > _MAX_REQUEST_ID:
        raise InvalidFieldError("request_id", f"is longer than {_MAX_REQUEST_ID} characters")
    if not message.prompts:
        raise InvalidFieldError("prompts", "there is none")
    if message.HasField("logprobs") and message.logprobs > _MAX_LOGPROBS:
        raise InvalidFieldError("logprobs", f"must be at most {_MAX_LOGPROBS}")


def _rule(message: target_pb2.GenerateRequest, do_sample: bool, mode: Mode) -> Rule:
    if mode is not Mode.ASSISTED:
        return (
            Rule.COUPLED if do_sample else Rule.GREEDY
        )  # the noise of a search depends on its seed alone
    asked = rule_from(message.sampling_rule)
    if not do_sample:
        if asked is not Rule.GREEDY:
            raise InvalidFieldError(
                "sampling_rule", "has no effect with do_sample=False", "do_sample"
            )
        return Rule.GREEDY
    if asked is not Rule.GREEDY:
        return asked
    return Rule.COUPLED if message.HasField("seed") else Rule.REJECTION


def credential(metadata: Any) -> str:
    """What the caller shows in the `authorization` header; it scopes the reuse of rows."""
    values = [str(value) for name, value in metadata or () if name == "authorization"]
    return values[0] if values else ""
