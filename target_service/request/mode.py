"""The decoding mode that a config asks for, and the fields that contradict it.

This module knows nothing of prompts, nor of how a mode decodes.
"""

from enum import Enum

from foredraft.v1 import target_pb2
from foredraft.wire import GENERATION_FIELDS, Scope, read
from foredraft_engine.errors import InvalidFieldError
from target_service.request.defaults import Config


class Mode(Enum):
    """A way of decoding, each with a strategy of its own."""

    ASSISTED = "assisted"
    """Greedy decoding and sampling, with a draft or without."""
    BEAMS = "beams"
    DIVERSE_BEAMS = "diverse beams"
    CONTRASTIVE = "contrastive"

    @property
    def has_beams(self) -> bool:
        """Whether one search finds several sequences."""
        return self in (Mode.BEAMS, Mode.DIVERSE_BEAMS)


def mode_of(asked: Config, config: Config) -> Mode:
    """Returns the mode of a config, by transformers' rules.

    Args:
        asked: what the call itself sets; a default that does not suit the mode is no contradiction.
        config: the same with every default filled in.

    Raises:
        InvalidFieldError: fields contradict one another; all of them are named.
    """
    if config.num_beams > 1 or config.num_beam_groups > 1:
        mode, chosen_by = _beams(asked, config), "num_beams"
    elif config.penalty_alpha > 0 and (asked.HasField("penalty_alpha") or not config.do_sample):
        mode, chosen_by = _contrastive(config), "penalty_alpha"
    else:
        mode, chosen_by = Mode.ASSISTED, "num_beams"
    if not mode.has_beams:
        reason = "has no effect with num_beams=1; set num_beams or leave it out"
        _refuse(asked, Scope.BEAMS, reason, "num_beams")
        if config.num_return_sequences > 1 and not config.do_sample:
            reason = "more than 1 with do_sample=False would all be equal"
            raise InvalidFieldError("num_return_sequences", reason, "do_sample")
    if mode is not Mode.ASSISTED:
        reason = f"does not go with {chosen_by}; leave one of them out"
        _refuse(asked, Scope.NO_SEARCH, reason, chosen_by)
        if asks(config, "guidance_scale"):  # a default that changes the text counts, too
            raise InvalidFieldError("guidance_scale", reason, chosen_by)
    return mode


def asks(config: Config, name: str) -> bool:
    """Whether a config sets a field to a value that asks for something."""
    off = GENERATION_FIELDS[name].off
    return config.HasField(name) and read(name, getattr(config, name)) not in off


def check_call(message: target_pb2.GenerateRequest, config: Config, mode: Mode) -> None:
    """Refuses arguments of a call, outside its config, that have no effect in its mode.

    Raises:
        InvalidFieldError: there is such an argument; it is named.
    """
    if config.token_healing:
        if any(prompt.generated_ids for prompt in message.prompts):
            reason = (
                "changes the prompt, and these tokens come after it as it was; leave one "
                "of them out"
            )
            raise InvalidFieldError("token_healing", reason, "generated_ids")
        if any(prompt.HasField("chat") for prompt in message.prompts):
            raise InvalidFieldError(
                "token_healing", "would take a conversation's form away; send text", "chat"
            )
    if mode is Mode.ASSISTED:
        return
    chosen_by = "penalty_alpha" if mode is Mode.CONTRASTIVE else "num_beams"
    for name in ("logprobs", "prompt_logprobs"):
        if message.HasField(name):
            reason = f"is not offered with {chosen_by}; leave it out"
            raise InvalidFieldError(name, reason, chosen_by)
    if message.return_rounds:
        reason = "a search has no rounds to tell; leave it out"
        raise InvalidFieldError("return_rounds", reason, chosen_by)
    if message.sampling_rule:
        raise InvalidFieldError(
            "sampling_rule", f"has no effect with {chosen_by}; leave it out", chosen_by
        )
    for field, is_set in (
        ("generated_ids", any(prompt.generated_ids for prompt in message.prompts)),
        ("sequence_indices", bool(message.sequence_indices)),
    ):
        if is_set:
            reason = "a search cannot go on from where another ended; send it whole"
            raise InvalidFieldError(field, reason, chosen_by)


def _beams(asked: Config, config: Config) -> Mode:
    n, groups = config.num_beams, config.num_beam_groups
    if asked.penalty_alpha > 0:
        raise InvalidFieldError(
            "penalty_alpha", "is contrastive search, which has no beams", "num_beams"
        )
    if config.num_return_sequences > n:
        reason = f"is {config.num_return_sequences}, more than there are beams ({n})"
        raise InvalidFieldError("num_return_sequences", reason, "num_beams")
    if groups <= 1:
        if asked.diversity_penalty:
            reason = "has no effect with num_beam_groups=1; set num_beam_groups or leave it out"
            raise InvalidFieldError("diversity_penalty", reason, "num_beam_groups")
        return Mode.BEAMS
    if groups > n or n % groups:
        raise InvalidFieldError(
            "num_beam_groups", f"is {groups}; it has to divide num_beams, {n}", "num_beams"
        )
    if config.do_sample:
        raise InvalidFieldError(
            "num_beam_groups", "takes the best only; set do_sample=False", "do_sample"
        )
    if not config.diversity_penalty:
        reason = (
            "has no effect without diversity_penalty; set it to what a token of another "
            "group shall cost"
        )
        raise InvalidFieldError("num_beam_groups", reason, "diversity_penalty")
    return Mode.DIVERSE_BEAMS


def _contrastive(config: Config) -> Mode:
    if config.do_sample:
        raise InvalidFieldError(
            "penalty_alpha", "is contrastive search, which does not sample", "do_sample"
        )
    if config.top_k <= 1:
        raise InvalidFieldError(
            "penalty_alpha", "chooses among top_k tokens, which must be more than 1", "top_k"
        )
    return Mode.CONTRASTIVE


def _refuse(asked: Config, scope: Scope, reason: str, other: str) -> None:
    for name, field in GENERATION_FIELDS.items():
        if field.scope is scope and asks(asked, name):
            raise InvalidFieldError(name, reason, other)
