"""The lengths of a sequence, by transformers' rules for four fields that depend on one another.

The order of precedence is that of `GenerationMixin`. Each field by itself comes from the call, else
from the model's own config. Then `max_new_tokens` goes before `max_length`, and `min_new_tokens`
before `min_length`, wherever each of them came from. This module knows nothing of other parameters.
"""

from dataclasses import dataclass

from foredraft_engine.errors import InvalidFieldError
from foredraft_serving.access.api_tokens import UNLIMITED
from foredraft_serving.overload import LimitError
from target_service.request.defaults import DEFAULT_NEW_TOKENS, Config


@dataclass(frozen=True, slots=True)
class Room:
    """How long a text may become."""

    limit: int
    """The number of tokens that fit a row."""
    most_new: int = UNLIMITED
    """The number of tokens of the longest answer that the caller's token allows."""


def with_lengths(
    config: Config, asked: Config, model: Config, room: Room, *, prompt: int, tokens: int
) -> Config:
    """Returns the config with one total, `max_length`, and one minimum.

    Args:
        config: every default but lengths is filled in.
        asked: what the call sets.
        model: what the model's own config sets.
        prompt: the number of tokens of the prompt.
        tokens: the number of tokens of the prompt and of what was generated after it before.

    Raises:
        InvalidFieldError: the text does not fit, or the minimum is more than the maximum.
        LimitError: the call asks for a longer answer than its token allows.
    """
    field, total = _most(asked, model, room, prompt)
    if total - prompt > room.most_new:
        reason = f"asks for {total - prompt} new tokens; this token is allowed {room.most_new}"
        raise LimitError("max_new_tokens", reason, fields=(field,))
    if total > room.limit:
        reason = f"prompt ({prompt}) and new tokens make {total}, the limit is {room.limit}"
        raise InvalidFieldError(field, reason, *(["prompts"] if field != "prompts" else []))
    if total <= tokens:
        raise InvalidFieldError(
            field, f"leaves no room: the sequence has {tokens} tokens, the limit is {total}"
        )
    full = Config()
    full.CopyFrom(config)
    full.max_length, full.min_length, full.min_new_tokens = total, 0, 0
    full.ClearField("max_new_tokens")
    least = next(
        (n for n in ("min_new_tokens", "min_length") if asked.HasField(n) or model.HasField(n)),
        "min_length",
    )
    setattr(full, least, getattr(asked if asked.HasField(least) else model, least))
    if not asked.HasField(least):  # as in transformers, the model's own minimum ends there
        most = total if least == "min_length" else total - prompt
        setattr(full, least, min(getattr(full, least), most))
    if max(full.min_length, prompt + full.min_new_tokens if full.min_new_tokens else 0) > total:
        raise InvalidFieldError(
            least, "is more than the maximum", field if field != "prompts" else "max_new_tokens"
        )
    return full


def _most(asked: Config, model: Config, room: Room, prompt: int) -> tuple[str, int]:
    """Returns the field that sets the total, and the total in tokens.

    What the model asks for by itself is cut to what fits, and to what is allowed.
    """
    most = min(room.limit, prompt + room.most_new)
    if asked.HasField("max_new_tokens"):
        return "max_new_tokens", prompt + asked.max_new_tokens
    if model.HasField("max_new_tokens"):
        return "max_new_tokens", min(prompt + model.max_new_tokens, most)
    if asked.HasField("max_length"):
        return "max_length", asked.max_length
    if model.HasField("max_length"):
        return "max_length", min(model.max_length, most)
    return "prompts", min(prompt + DEFAULT_NEW_TOKENS, most)
