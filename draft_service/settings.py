"""The settings of the draft service."""

from dataclasses import dataclass

from foredraft_serving.access.exposure import check_exposure
from foredraft_serving.service_settings import (
    AccessFlags,
    ModelFlags,
    ProcessFlags,
    check_memory,
)
from foredraft_serving.settings import SettingsError, check_needs, setting

ROWS_ALONE = 16
"""The sequences that n-grams draft for at the same time without a model."""
BRANCH_PLACES = 256
"""The places of a row for tokens drafted ahead: outcomes times the tokens of each."""

TOKEN_LIMITS = ("max_sequences",)
"""What a token can be limited in here: a draft service knows nothing of the length of answers."""


@dataclass(frozen=True)
class DraftSettings(ModelFlags, AccessFlags, ProcessFlags):
    """foredraft draft service: proposes tokens for target services to verify."""

    model: str | None = setting(
        None, "model directory, GGUF file or hub id; without one, n-gram lookup alone"
    )
    listen: str = setting("127.0.0.1:50051", "HOST:PORT for gRPC")
    metrics_listen: str = setting("127.0.0.1:9101", "HOST:PORT for Prometheus metrics")
    rows: int = setting(
        0,
        "sequences drafted for at the same time; 0 is what fits, at most 16 on a CPU or without a "
        "model, 64 elsewhere",
        at_least=0,
    )
    max_waiting: int = setting(
        256, "sequences that may wait for a row; more are refused, and go on without", at_least=0
    )
    ngram: str = setting(
        "auto",
        "n-gram lookup: 'off', 'only', or 'auto' (with long matches)",
        ("auto", "off", "only"),
    )
    ngram_min_match: int = setting(
        8,
        "with a model, the match length from which n-grams draft instead of it",
        at_least=1,
        needs=["model"],
    )
    q_width: int = setting(
        128,
        "entries of a row of q under the rejection rule; 0 is the whole vocabulary",
        at_least=0,
        needs=["model"],
    )
    grace: float = setting(
        10.0, "time in seconds for running streams to end after SIGTERM", at_least=0
    )


SETTINGS = DraftSettings


def check(settings: DraftSettings) -> None:
    """Refuses settings that contradict one another.

    Raises:
        SettingsError: they do.
    """
    check_memory(settings)
    check_needs(settings)
    if settings.model is None and settings.ngram == "off":
        raise SettingsError(
            "--ngram off without --model leaves nothing to draft with: give one of the two"
        )
    if settings.model is not None and settings.ngram == "only":
        raise SettingsError(
            "--ngram only would load --model and never use it: leave one of the two out"
        )
    check_exposure(settings)
