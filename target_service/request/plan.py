"""The last stage of a request: plans what is generated from each prompt, if it fits.

This module knows nothing of engines or streams.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from foredraft.v1 import target_pb2
from foredraft_engine.cache_spec import CacheSpec
from foredraft_engine.errors import InvalidFieldError
from foredraft_engine.logits.grammar import FIELD, Grammar, GrammarText
from foredraft_engine.sampling import Rule, Sampling
from foredraft_serving.access.api_tokens import UNLIMITED
from foredraft_serving.messages import sampling_from
from target_service.request.checks import CheckedConfig, CheckedRequest, is_guided
from target_service.request.defaults import Config
from target_service.request.identity import Identity
from target_service.request.lengths import Room, with_lengths
from target_service.request.maxima import DEFAULT_MAXIMA, Maxima
from target_service.request.mode import Mode
from target_service.request.told_logprobs import check_logprobs

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan for one prompt: one sequence, or the several that one search finds."""

    index: int
    """The index of the first sequence."""
    tokens: Ids
    """The prompt and the tokens that an earlier call generated after it."""
    sampling: Sampling
    config: Config
    """The config with every default filled in, as the draft is told."""
    identity: Identity
    logprobs: int | None
    cache: CacheSpec | None = None
    """The quantization of the row; None if it is not quantized."""
    mode: Mode = Mode.ASSISTED
    sequences: int = 1
    negative: Ids = ()
    """The negative prompt and the tokens generated so far; empty without guidance."""
    rule_is_open: bool = False
    """Whether the call leaves the sampling rule to the service."""
    returns_rounds: bool = False
    """Whether each round is told with its tokens."""
    prompt_logprobs: int | None = None
    """The number of most likely log-probabilities at each token of the prompt; None for none at
    all. The first sequence of a prompt tells them.
    """
    grammar: Grammar | None = None
    """The grammar of its response format; None if the text may be anything."""

    @property
    def max_length(self) -> int:
        """The largest number of prompt and generated tokens together."""
        return self.sampling.max_length


@dataclass(frozen=True, slots=True)
class Request:
    """The plans of a whole call."""

    seed: int
    rule: Rule
    prompts: tuple[Ids, ...]
    plans: tuple[Plan, ...]

    @property
    def sequences(self) -> int:
        """The number of texts that are generated."""
        return sum(plan.sequences for plan in self.plans)

    def under(self, rule: Rule) -> "Request":
        """Returns the request with another sampling rule."""
        plans = [replace(one, sampling=replace(one.sampling, rule=rule)) for one in self.plans]
        return replace(self, rule=rule, plans=tuple(plans))

    def held_to(self, grammar: Grammar) -> "Request":
        """Returns the request whose texts are held to a grammar.

        Raises:
            InvalidFieldError: what an earlier call generated is not what the grammar allows.
        """
        for one in self.plans:
            generated = one.tokens[one.sampling.prompt_length :]
            if not GrammarText(grammar, one.sampling.eos_token_id).holds(generated):
                reason = "are not what the format allows, or are whole; go on without one of them"
                raise InvalidFieldError("generated_ids", reason, FIELD)
        return replace(self, plans=tuple(replace(one, grammar=grammar) for one in self.plans))


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """The sizes that bound what a service can plan."""

    capacity: int
    """The length of the longest sequence, in tokens."""
    rows: int = 16
    quantizes: bool = True
    """Whether rows can be quantized."""
    fits: Callable[[int, int, int, bool], bool] = lambda prompt, texts, new, quantized: True
    """Whether a prompt of `prompt` tokens and `texts` texts of `new` tokens fit the rows."""
    maxima: Maxima = DEFAULT_MAXIMA
    """What one call may ask for."""
    model_ids: int = 0
    """The number of ids that the model scores, padding included, as green lists need it."""


def plan(
    request: CheckedRequest, prompts: Sequence[Ids], model: Config, limits: ServiceLimits
) -> Request:
    """Plans a checked request.

    Args:
        prompts: the prompts as token ids, after token healing.
        model: what the model's own config sets; lengths come from it where the call sets none.

    Raises:
        InvalidFieldError: a text does not fit; the fields that say how long it is are named.
    """
    parsed, checked, message = request.parsed, request.checked, request.parsed.message
    mode, several = checked.mode, checked.config.num_return_sequences
    seed = message.seed if message.HasField("seed") else secrets.randbits(63)
    each, most_new = several if mode.has_beams else 1, parsed.identity.limits.max_new_tokens
    indices = _indices(message.sequence_indices, len(prompts) * several)
    plans: list[Plan] = []
    negatives = _negatives(request, prompts)
    for prompt, generated, away in zip(prompts, parsed.generated, negatives, strict=True):
        tokens, negative = (*prompt, *generated), (*away, *generated) if away else ()
        full = planned_config(checked, model, limits, len(prompt), len(tokens), most_new)
        _check_limits(full, mode, limits, len(tokens), len(away), checked.cache is not None)
        # Its lists of ids are large, and all sequences of a prompt share them.
        shared = sampling_from(
            full, rule=request.rule, seed=seed, sequence_index=0, prompt_length=len(prompt)
        )
        for number in range(several // each):
            index = indices[len(plans) * each]
            plans.append(
                Plan(
                    index=index,
                    tokens=tokens,
                    sampling=replace(shared, sequence_index=index),
                    config=full,
                    identity=parsed.identity,
                    logprobs=_set(message, "logprobs"),
                    cache=checked.cache,
                    mode=mode,
                    sequences=each,
                    negative=negative,
                    rule_is_open=request.rule_is_open,
                    returns_rounds=message.return_rounds,
                    prompt_logprobs=_set(message, "prompt_logprobs") if number == 0 else None,
                )
            )
    check_logprobs(message, sum(map(len, prompts)), _new_tokens(plans), limits.model_ids)
    return Request(seed, request.rule, tuple(prompts), tuple(plans))


def _new_tokens(plans: Sequence[Plan]) -> int:
    """Returns the longest that all texts together can become."""
    return sum((one.max_length - len(one.tokens)) * one.sequences for one in plans)


def _set(message: target_pb2.GenerateRequest, name: str) -> int | None:
    """Returns a number of a request; None if it is not set."""
    return getattr(message, name) if message.HasField(name) else None


def _indices(asked: Sequence[int], sequences: int) -> Sequence[int]:
    """Returns the index of each sequence, which a call that goes on with some of another says."""
    if not asked:
        return range(sequences)
    if len(asked) != sequences or len(set(asked)) != sequences:
        reason = f"takes one number for each of the {sequences} sequences, and each one once"
        raise InvalidFieldError("sequence_indices", reason)
    return asked


def planned_config(
    checked: CheckedConfig,
    model: Config,
    limits: ServiceLimits,
    prompt: int,
    tokens: int,
    most_new: int = UNLIMITED,
) -> Config:
    """Returns the config of a prompt with its lengths filled in, and what the draft has to know of
    the model.

    Args:
        prompt: the number of tokens of the prompt.
        tokens: the number of tokens of the prompt and of what was generated after it.
        most_new: the longest answer that the caller's token allows, in tokens.

    Raises:
        InvalidFieldError: the text does not fit, or a field does not apply to this prompt.
        LimitError: the call asks for a longer answer than its token allows.
    """
    asked = checked.asked
    if asked.HasField("forced_bos_token_id") and prompt > 1:
        reason = f"is forced after a prompt of one token, and this one has {prompt}"
        raise InvalidFieldError("forced_bos_token_id", reason, "prompts")
    room = Room(limits.capacity, most_new)
    full = with_lengths(checked.config, asked, model, room, prompt=prompt, tokens=tokens)
    if full.watermarking_config.HasField("greenlist"):
        full.watermarking_config.greenlist.vocabulary_size = limits.model_ids
    return full


def _negatives(request: CheckedRequest, prompts: Sequence[Ids]) -> Sequence[Ids]:
    """Returns the negative prompts; by transformers' default, the last token of each prompt."""
    if not is_guided(request.checked.config):
        return [()] * len(prompts)
    return request.parsed.negatives or [prompt[-1:] for prompt in prompts]


def _check_limits(
    config: Config, mode: Mode, limits: ServiceLimits, tokens: int, negative: int, quantized: bool
) -> None:
    new, beams = config.max_length - tokens, config.num_beams
    if negative + new > limits.capacity:
        reason = f"is so long that with {new} new tokens it exceeds the limit of {limits.capacity}"
        raise InvalidFieldError("negative_prompt", reason, "max_new_tokens")
    if negative and limits.rows < 2:
        reason = "takes two rows, and this service has one; its operator can set --rows"
        raise InvalidFieldError("guidance_scale", reason)
    if mode.has_beams and not limits.fits(tokens, beams, new, quantized):
        reason = (
            f"{tokens} tokens of the prompt and {beams} times {new} new ones do not fit the "
            "service's rows"
        )
        raise InvalidFieldError("num_beams", reason, "max_new_tokens")
