"""What a metric is, and the shapes that metrics of the catalogue share.

This module knows no metric: the other modules of the package declare them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from prometheus_client import Counter, Gauge, Histogram

Part = Literal["target", "draft", "client"]

# A millisecond to ten minutes: tokens that were accepted together arrive in bursts.
_SECONDS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
    600.0,
)
# A token's share of its chunk is less than the chunk's time.
TOKEN_SECONDS = (0.0001, 0.00025, 0.0005, *_SECONDS[:13])
_LENGTHS = tuple(float(2**i) for i in range(15))
MAX_POSITION = 32  # accepted tokens further out are counted in no position
POSITIONS = tuple(map(str, range(MAX_POSITION)))
DRAFTERS = ("model", "ngram", "none")
DRAFT_STATES = ("ready", "down", "mismatch")
SERVICES: tuple[Part, ...] = ("target", "draft")
TARGET: tuple[Part, ...] = ("target",)
DRAFT: tuple[Part, ...] = ("draft",)
CLIENT: tuple[Part, ...] = ("client",)
_NO_LABELS: Mapping[str, tuple[str, ...]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric, as it is scraped."""

    name: str
    type: type[Counter] | type[Gauge] | type[Histogram]
    unit: str
    meaning: str
    parts: tuple[Part, ...]
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _NO_LABELS)
    """The names of labels with their values; empty where the configuration says the value."""
    buckets: tuple[float, ...] = ()


def counter(
    name: str, unit: str, meaning: str, parts: tuple[Part, ...], **labels: tuple[str, ...]
) -> Metric:
    """Declares a counter."""
    return Metric(f"foredraft_{name}_total", Counter, unit, meaning, parts, labels)


def gauge(
    name: str, unit: str, meaning: str, parts: tuple[Part, ...], **labels: tuple[str, ...]
) -> Metric:
    """Declares a gauge."""
    return Metric(f"foredraft_{name}", Gauge, unit, meaning, parts, labels)


def seconds(
    name: str,
    meaning: str,
    parts: tuple[Part, ...],
    buckets: tuple[float, ...] = _SECONDS,
    **labels: tuple[str, ...],
) -> Metric:
    """Declares a histogram of times."""
    return Metric(
        f"foredraft_{name}_seconds", Histogram, "seconds", meaning, parts, labels, buckets
    )


def tokens(name: str, meaning: str, parts: tuple[Part, ...]) -> Metric:
    """Declares a histogram of numbers of tokens."""
    return Metric(f"foredraft_{name}_tokens", Histogram, "tokens", meaning, parts, buckets=_LENGTHS)


def accepted(name: str, meaning: str, parts: tuple[Part, ...]) -> tuple[Metric, Metric]:
    """Declares two counters of accepted tokens: in all, and by position."""
    by_position = "Proposed tokens accepted, by their position in the proposal."
    return (
        counter(name, "tokens", meaning, parts),
        counter(f"{name}_per_pos", "tokens", by_position, parts, position=POSITIONS),
    )
