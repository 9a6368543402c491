"""Fields of a config that contradict one another, or the model. Knows nothing of prompts."""

from typing import Any

from foredraft.v1 import generation_pb2
from foredraft_engine.errors import InvalidFieldError
from foredraft_serving.ranges import check_ranges
from target_service.request.defaults import Config
from target_service.request.mode import Mode, mode_of

# Fields that mean something under sampling only, and the values by which they are off.
_SAMPLING_ONLY = {
    "temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "top_h": None,
    "typical_p": 1.0, "epsilon_cutoff": 0.0, "eta_cutoff": 0.0,
}  # fmt: skip
# Fields that mean something where a model drafts, and the values that ask for nothing.
_DRAFT_MODEL_ONLY: dict[str, tuple[Any, ...]] = {
    "num_assistant_tokens_schedule": ("constant", "goodput"), "assistant_confidence_threshold": (0.0, 0.4),
}  # fmt: skip


def check_config(asked: Config, config: Config, vocabulary_size: int) -> Mode:
    """Refuses what cannot be honoured, by itself or beside the others; says which mode is asked
    for.

    Args:
        asked: what the call itself sets; config: the same with every default filled in.

    Raises:
        InvalidFieldError: there is such a field; all that are concerned are named.
    """
    check_ranges(config, vocabulary_size)
    mode = mode_of(asked, config)
    if not config.do_sample:
        for name, off in _SAMPLING_ONLY.items():
            if name == "top_k" and mode is Mode.CONTRASTIVE:
                continue
            if asked.HasField(name) and getattr(asked, name) != off:
                reason = "has no effect with do_sample=False; set do_sample=True or leave it out"
                raise InvalidFieldError(name, reason, "do_sample")
    check_own_vocabulary(asked.watermarking_config)
    if asked.HasField("prompt_lookup_num_tokens") and asked.HasField("num_assistant_tokens"):
        reason = "asks for n-grams alone and says how many; leave num_assistant_tokens out"
        raise InvalidFieldError("prompt_lookup_num_tokens", reason, "num_assistant_tokens")
    if asked.HasField("prompt_lookup_num_tokens"):
        for name, offs in _DRAFT_MODEL_ONLY.items():
            if asked.HasField(name) and getattr(asked, name) not in offs:
                reason = "asks for n-grams alone, to which it does not apply; leave one of them out"
                raise InvalidFieldError("prompt_lookup_num_tokens", reason, name)
    if config.HasField("exponential_decay_length_penalty") and not config.eos_token_id.ids:
        reason = "makes an end of the sequence more likely, of which there is none"
        raise InvalidFieldError("exponential_decay_length_penalty", reason, "eos_token_id")
    if mode.has_beams and len(set(config.eos_token_id.ids)) >= vocabulary_size:
        raise InvalidFieldError(
            "eos_token_id", "ends every text at once: there is nothing to search", "num_beams"
        )
    _check_bans(asked, config, vocabulary_size)
    return mode


def check_own_vocabulary(mark: generation_pb2.WatermarkingConfig) -> None:
    """Refuses a number of ids that a caller gives: it is for the draft, and the target fills it in.

    Raises:
        InvalidFieldError: there is one.
    """
    if mark.greenlist.HasField("vocabulary_size"):
        raise InvalidFieldError(
            "watermarking_config", "vocabulary_size is the model's own; leave it out"
        )


def _check_bans(asked: Config, config: Config, vocabulary_size: int) -> None:
    """A token that is forced and banned would leave none to choose."""
    forced = {
        "forced_bos_token_id": {config.forced_bos_token_id}
        if config.HasField("forced_bos_token_id")
        else set(),
        "forced_eos_token_id": set(config.forced_eos_token_id.ids),
    }
    banned = {
        "suppress_tokens": set(config.suppress_tokens.ids),
        "bad_words_ids": {
            entry.ids[0] for entry in config.bad_words_ids.values if len(entry.ids) == 1
        },
    }
    for force, ids in forced.items():
        for ban, others in banned.items():
            if ids and ids <= others:
                raise InvalidFieldError(force, f"forces {sorted(ids)}, which {ban} bans", ban)
    ends = banned["bad_words_ids"] & set(config.eos_token_id.ids)
    if ends and asked.HasField("bad_words_ids"):
        # transformers leaves these out of the bad words without a word.
        reason = f"bans {sorted(ends)}, which ends a text; to go on to max_length use min_length or suppress_tokens"
        raise InvalidFieldError("bad_words_ids", reason, "eos_token_id")
    banned["begin_suppress_tokens"] = set(config.begin_suppress_tokens.ids)
    if len(set().union(*banned.values())) >= vocabulary_size:
        names = [ban for ban, ids in banned.items() if ids]
        raise InvalidFieldError(names[0], "bans the whole vocabulary", *names[1:])
