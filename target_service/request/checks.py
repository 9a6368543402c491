"""The third stage of a request: refuses fields that contradict one another, or the model.

It also tells the mode, the sampling rule and the cache that the call asks for. This module knows
nothing of how long a text may become: planning does.
"""

from dataclasses import dataclass

from foredraft.v1 import generation_pb2, target_pb2
from foredraft.wire import GENERATION_FIELDS, Applier, Scope
from foredraft.wire.limits import MAX_SEQUENCES
from foredraft_engine.cache_spec import CacheSpec
from foredraft_engine.errors import InvalidFieldError
from foredraft_engine.sampling import Rule
from foredraft_serving.messages import rule_from
from foredraft_serving.ranges import check_ranges
from target_service.request.cache_spec import cache_spec
from target_service.request.defaults import Config
from target_service.request.mode import Mode, asks, check_call, mode_of
from target_service.request.parse import ParsedRequest


@dataclass(frozen=True, slots=True)
class CheckedConfig:
    """A config that can be honoured, with the mode and cache that it asks for."""

    asked: Config
    """What the call itself sets."""
    config: Config
    """The same with every default filled in, but for lengths."""
    mode: Mode
    cache: CacheSpec | None
    """How rows are quantized; None if they are not."""


@dataclass(frozen=True, slots=True)
class CheckedRequest:
    """A request that can be honoured, if its texts fit."""

    parsed: ParsedRequest
    checked: CheckedConfig
    rule: Rule

    @property
    def rule_is_open(self) -> bool:
        """Whether the service may take another sampling rule: no seed is to repeat the text."""
        message, samples = self.parsed.message, self.checked.config.do_sample
        is_told = message.sampling_rule or message.HasField("seed")
        return samples and self.checked.mode is Mode.ASSISTED and not is_told

    @property
    def heals(self) -> bool:
        """Whether the prompts are to be healed before the request is planned."""
        return self.checked.config.token_healing


def check(
    parsed: ParsedRequest, config: Config, vocabulary_size: int, can_quantize: bool
) -> CheckedRequest:
    """Checks a request whose defaults are filled in.

    Raises:
        InvalidFieldError: fields contradict one another; all of them are named.
    """
    message = parsed.message
    checked = check_config(parsed.config, config, vocabulary_size, can_quantize)
    check_call(message, config, checked.mode)
    if len(message.prompts) * config.num_return_sequences > MAX_SEQUENCES:
        reason = f"more than {MAX_SEQUENCES} sequences in all"
        raise InvalidFieldError("num_return_sequences", reason, "prompts")
    if parsed.negatives and not is_guided(config):
        reason = "has no effect without guidance_scale"
        raise InvalidFieldError("negative_prompt", reason, "guidance_scale")
    if parsed.negatives and len(parsed.negatives) != len(parsed.prompts):
        given, wanted = len(parsed.negatives), len(parsed.prompts)
        reason = f"has {given} prompts, for {wanted}; give one for each, or none"
        raise InvalidFieldError("negative_prompt", reason, "prompts")
    return CheckedRequest(parsed, checked, _rule(message, config.do_sample, checked.mode))


def check_config(
    asked: Config, config: Config, vocabulary_size: int, can_quantize: bool
) -> CheckedConfig:
    """Checks a config by itself.

    Args:
        asked: what the call itself sets.
        config: the same with every default filled in.

    Raises:
        InvalidFieldError: a field cannot be honoured; all that are concerned are named.
    """
    check_ranges(config, vocabulary_size)
    mode = mode_of(asked, config)
    _check_scopes(asked, config, mode)
    check_own_vocabulary(asked.watermarking_config)
    if asked.HasField("prompt_lookup_num_tokens") and asked.HasField("num_assistant_tokens"):
        reason = "asks for n-grams alone and says how many; leave num_assistant_tokens out"
        raise InvalidFieldError("prompt_lookup_num_tokens", reason, "num_assistant_tokens")
    if config.HasField("exponential_decay_length_penalty") and not config.eos_token_id.ids:
        reason = "makes an end of the sequence more likely, of which there is none"
        raise InvalidFieldError("exponential_decay_length_penalty", reason, "eos_token_id")
    if mode.has_beams and len(set(config.eos_token_id.ids)) >= vocabulary_size:
        reason = "ends every text at once: there is nothing to search"
        raise InvalidFieldError("eos_token_id", reason, "num_beams")
    _check_bans(asked, config, vocabulary_size)
    if asks(config, "response_format"):
        _check_format(config)
    return CheckedConfig(asked, config, mode, cache_spec(asked, config, can_quantize))


def is_guided(config: Config) -> bool:
    """Whether a config asks for classifier-free guidance."""
    return config.HasField("guidance_scale") and config.guidance_scale != 1.0


def check_own_vocabulary(watermark: generation_pb2.WatermarkingConfig) -> None:
    """Refuses a vocabulary size that a caller gives: the target fills it in for the draft.

    Raises:
        InvalidFieldError: there is one.
    """
    if watermark.greenlist.HasField("vocabulary_size"):
        reason = "vocabulary_size is the model's own; leave it out"
        raise InvalidFieldError("watermarking_config", reason)


def _check_scopes(asked: Config, config: Config, mode: Mode) -> None:
    """Refuses fields that have no effect in this call; `mode_of` has refused those of searches."""
    lookup = asked.HasField("prompt_lookup_num_tokens")
    for name, field in GENERATION_FIELDS.items():
        ranks = mode is Mode.CONTRASTIVE and Applier.CONTRASTIVE_SEARCH in field.applied_by
        samples = config.do_sample or ranks
        if field.scope is Scope.SAMPLING and not samples and asks(asked, name):
            reason = "has no effect with do_sample=False; set do_sample=True or leave it out"
            raise InvalidFieldError(name, reason, "do_sample")
        if field.scope is Scope.DRAFT_MODEL and lookup and asks(asked, name):
            reason = "asks for n-grams alone, to which it does not apply; leave one of them out"
            raise InvalidFieldError("prompt_lookup_num_tokens", reason, name)


def _rule(message: target_pb2.GenerateRequest, do_sample: bool, mode: Mode) -> Rule:
    if mode is not Mode.ASSISTED:
        # The noise of a search depends on its seed alone.
        return Rule.COUPLED if do_sample else Rule.GREEDY
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


def _check_format(config: Config) -> None:
    """Refuses to force tokens that the response format may ban, and texts without an end."""
    name = "response_format"
    if not config.eos_token_id.ids:
        reason = "ends with an end-of-sequence token, of which there is none"
        raise InvalidFieldError(name, reason, "eos_token_id")
    for forcing in ("forced_bos_token_id", "forced_eos_token_id"):
        value = getattr(config, forcing)
        if config.HasField(forcing) and (forcing == "forced_bos_token_id" or value.ids):
            reason = "forces a token, whether or not the format allows it; leave one of them out"
            raise InvalidFieldError(forcing, reason, name)
    if config.watermarking_config.synth_id.debug_mode:
        reason = "debug_mode makes all tokens equally likely, also those that the format bans"
        raise InvalidFieldError("watermarking_config", reason, name)


def _check_bans(asked: Config, config: Config, vocabulary_size: int) -> None:
    """Refuses to force a token that is banned, and to ban every token."""
    forces = {
        "forced_bos_token_id": {config.forced_bos_token_id}
        if config.HasField("forced_bos_token_id")
        else set(),
        "forced_eos_token_id": set(config.forced_eos_token_id.ids),
    }
    bans = {
        "suppress_tokens": set(config.suppress_tokens.ids),
        "bad_words_ids": {
            entry.ids[0] for entry in config.bad_words_ids.values if len(entry.ids) == 1
        },
    }
    for force, ids in forces.items():
        for ban, banned in bans.items():
            if ids and ids <= banned:
                raise InvalidFieldError(force, f"forces {sorted(ids)}, which {ban} bans", ban)
    ends = bans["bad_words_ids"] & set(config.eos_token_id.ids)
    if ends and asked.HasField("bad_words_ids"):
        # transformers silently takes these out of the bad words.
        reason = (
            f"bans {sorted(ends)}, which ends a text; to go on to max_length use min_length or "
            "suppress_tokens"
        )
        raise InvalidFieldError("bad_words_ids", reason, "eos_token_id")
    bans["begin_suppress_tokens"] = set(config.begin_suppress_tokens.ids)
    if len(set().union(*bans.values())) >= vocabulary_size:
        names = [ban for ban, ids in bans.items() if ids]
        raise InvalidFieldError(names[0], "bans the whole vocabulary", *names[1:])
