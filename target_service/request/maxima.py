"""The largest amounts of what is dear, as the operator sets them.

A call is checked before it is admitted. This module knows nothing of contradictions.
"""

from dataclasses import dataclass

from foredraft_engine.errors import InvalidFieldError
from target_service.request.defaults import Config
from target_service.request.mode import Mode
from target_service.settings import TargetSettings


@dataclass(frozen=True, slots=True)
class Maxima:
    """What one call may ask for."""

    sequences: int
    beams: int
    candidates: int
    listed_ids: int

    @classmethod
    def of(cls, settings: TargetSettings) -> "Maxima":
        """Returns what the settings say."""
        return cls(
            settings.max_sequences,
            settings.max_beams,
            settings.max_candidates,
            settings.max_listed_ids,
        )

    def check_lists(self, config: Config) -> None:
        """Checks how many ids the lists of a config have, before anything is made of them.

        Raises:
            InvalidFieldError: there are too many; the longest list is named.
        """
        listed = {
            "bad_words_ids": sum(len(entry.ids) for entry in config.bad_words_ids.values),
            "sequence_bias": sum(len(entry.ids) for entry in config.sequence_bias.values),
            "logit_bias": len(config.logit_bias.values),
            "suppress_tokens": len(config.suppress_tokens.ids),
            "begin_suppress_tokens": len(config.begin_suppress_tokens.ids),
            "eos_token_id": len(config.eos_token_id.ids),
            "forced_eos_token_id": len(config.forced_eos_token_id.ids),
        }
        if (total := sum(listed.values())) > self.listed_ids:
            longest = max(listed, key=listed.__getitem__)
            raise InvalidFieldError(
                longest, f"makes {total} listed ids; {_limit('--max-listed-ids', self.listed_ids)}"
            )

    def check_prompts(self, prompts: int, field: str) -> None:
        """Checks how many prompts there are, before any is tokenized.

        Raises:
            InvalidFieldError: there are too many.
        """
        if prompts > self.sequences:
            reason = f"makes {prompts} sequences; {_limit('--max-sequences', self.sequences)}"
            raise InvalidFieldError(field, reason)

    def check(self, config: Config, mode: Mode, prompts: int) -> None:
        """Checks the amounts that a config asks for, with all defaults filled in.

        Raises:
            InvalidFieldError: an amount is too large; its field is named.
        """
        if mode.has_beams and config.num_beams > self.beams:
            reason = f"is {config.num_beams}; {_limit('--max-beams', self.beams)}"
            raise InvalidFieldError("num_beams", reason)
        if mode is Mode.CONTRASTIVE and config.top_k > self.candidates:
            reason = f"is {config.top_k}; {_limit('--max-candidates', self.candidates)}"
            raise InvalidFieldError("top_k", reason, "penalty_alpha")
        if (sequences := prompts * config.num_return_sequences) > self.sequences:
            reason = f"makes {sequences} sequences; {_limit('--max-sequences', self.sequences)}"
            raise InvalidFieldError("num_return_sequences", reason, "prompts")


def _limit(flag: str, most: int) -> str:
    return f"this service takes up to {most}, which its operator sets with {flag}"


DEFAULT_MAXIMA = Maxima.of(TargetSettings())
