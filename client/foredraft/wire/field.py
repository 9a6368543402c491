"""What a declaration of a generation field consists of.

This module knows no field: `generation_fields` declares them.
"""

import math
from dataclasses import dataclass
from enum import Enum, Flag, auto


class Kind(Enum):
    """The type of a field's value."""

    BOOL = "bool"
    UINT = "uint"
    FLOAT = "float"
    STRING = "string"
    STRINGS = "strings"
    TOKEN_ID = "token id"
    TOKEN_IDS = "token ids"
    SEQUENCES = "sequences of token ids"
    BIASES = "biases of token sequences"
    TOKEN_BIASES = "biases of tokens"
    EARLY_STOPPING = "early stopping"
    DECAY = "start and factor"
    WATERMARK = "watermark"
    CACHE = "cache config"
    RESPONSE_FORMAT = "response format"


class Applier(Flag):
    """The parts of foredraft that apply a field."""

    NOTHING = 0
    DECODING_MODE = auto()
    LENGTHS = auto()
    STOP_CONDITIONS = auto()
    PROCESSORS = auto()
    WARPERS = auto()
    WATERMARK = auto()
    GRAMMAR = auto()
    GUIDANCE = auto()
    PROMPT = auto()
    DRAFTING = auto()
    BEAM_SEARCH = auto()
    CONTRASTIVE_SEARCH = auto()
    CACHE = auto()
    OUTPUT = auto()


class Scope(Enum):
    """The calls in which a field has an effect."""

    EVERY_CALL = "every call"
    SAMPLING = "do_sample=True"
    BEAMS = "num_beams > 1"
    NO_SEARCH = "no beam or contrastive search"
    DRAFT_MODEL = "no prompt lookup"


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers that a field accepts, and the sentence that says so."""

    rule: str
    least: float = -math.inf
    most: float = math.inf
    open_below: bool = False
    """Whether `least` itself is excluded."""
    open_above: bool = False
    """Whether `most` itself is excluded."""

    def __contains__(self, number: float) -> bool:
        """Whether the range holds a number; it holds no NaN."""
        above = number > self.least if self.open_below else number >= self.least
        below = number < self.most if self.open_above else number <= self.most
        return above and below


def between(least: int, most: int, way_out: str = "") -> Range:
    """Whole numbers from `least` to `most`."""
    return Range(f"must be between {least} and {most}{way_out}", least, most)


def at_least(least: int) -> Range:
    """Numbers from `least` on."""
    return Range(f"must be at least {least}", least)


def at_most(most: int) -> Range:
    """Numbers up to `most`."""
    return Range(f"must be at most {most}", most=most)


def positive(what: str) -> Range:
    """Numbers above 0."""
    return Range(f"must be {what}", 0.0, open_below=True)


def within(least: float, most: float, way_out: str = "") -> Range:
    """Numbers from `least` to `most`, with which float32 works."""
    return Range(f"must be from {least:g} to {most:g}{way_out}", least, most)


SHARE = Range("must be in [0, 1]", 0.0, 1.0)
SHARE_ABOVE_0 = Range("must be in (0, 1]", 0.0, 1.0, open_below=True)
SHARE_BELOW_1 = Range("must be in [0, 1)", 0.0, 1.0, open_above=True)


@dataclass(frozen=True, slots=True)
class Field:
    """The declaration of one generation field, from which everything about it is made."""

    number: int
    """The field number in the protobuf message."""
    name: str
    kind: Kind
    doc: str
    """One sentence for users, without the full stop."""
    applied_by: Applier
    default: object = None
    """transformers' default, which the target fills in; None leaves the field unset."""
    off: tuple[object, ...] = ()
    """The values that ask for nothing."""
    range: Range | None = None
    """The range of the field's number, or of the numbers within its value."""
    choices: tuple[str, ...] = ()
    scope: Scope = Scope.EVERY_CALL
    in_transformers: bool = True
    """Whether transformers has the field, under this name and with this meaning."""

    @property
    def in_sampling(self) -> bool:
        """Whether the field is an attribute of the engine's `Sampling`, under the same name."""
        return bool(self.applied_by & (Applier.PROCESSORS | Applier.WARPERS))

    @property
    def changes_text(self) -> bool:
        """Whether the field can change the text, and so counts in a model's own config too."""
        return self.applied_by not in (Applier.CACHE, Applier.OUTPUT)
