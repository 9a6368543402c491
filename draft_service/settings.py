"""The settings of the draft service."""

from dataclasses import dataclass

from foredraft_serving.access.exposure import check_exposure
from foredraft_serving.logs import FORMATS, LEVELS
from foredraft_serving.memory_size import UNBOUNDED, MemorySize, check_memory
from foredraft_serving.settings import SettingsError, setting

ROWS_ALONE = 16
"""The sequences that n-grams draft for at the same time without a model."""
BRANCH_PLACES = 256
"""The places of a row for tokens drafted ahead: outcomes times the tokens of each."""

TOKEN_LIMITS = ("max_sequences",)
"""What a token can be limited in here: a draft service knows nothing of the length of answers."""


@dataclass(frozen=True, slots=True)
class DraftSettings:
    """foredraft draft service: proposes tokens for target services to verify."""

    model: str | None = setting(
        None, "model directory, GGUF file or hub id; without one, n-gram lookup alone"
    )
    adapter: str = setting("", "LoRA adapter that is merged into the model, directory or hub id")
    revision: str | None = setting(None, "revision of the model on the hub")
    trust_remote_code: bool = setting(False, "run code that comes with the model")
    device: str = setting("cpu", "torch device; 'auto' is the GPU if there is one, else the CPU")
    dtype: str = setting(
        "auto",
        "data type of the weights; 'auto' is the checkpoint's own, or float32 if the device only "
        "emulates it",
        ("auto", "float32", "bfloat16", "float16"),
    )
    threads: int = setting(0, "torch threads; 0 leaves torch's own choice", at_least=0)
    listen: str = setting("127.0.0.1:50051", "HOST:PORT for gRPC")
    metrics_listen: str = setting("127.0.0.1:9101", "HOST:PORT for Prometheus metrics")
    health_listen: str = setting(
        "", "HOST:PORT for health alone, which answers whatever else is done; empty is none"
    )
    tls_cert: str = setting(
        "", "certificate for TLS, PEM, with those between it and its CA; empty is plain text"
    )
    tls_key: str = setting("", "private key of --tls-cert, PEM")
    client_ca: str = setting(
        "", "CAs of the certificates that callers have to show, PEM; empty asks them for none"
    )
    api_tokens: str = setting(
        "", "file of the API tokens that callers have to show, TOML; empty asks them for none"
    )
    client_names: str = setting(
        "",
        "names in certificates of --client-ca that are served, NAME[,NAME...]; empty serves all",
    )
    insecure: bool = setting(
        False,
        "serve other machines without TLS, or without asking who calls; for a network that lets "
        "nobody else in",
    )
    packed_weights: bool = setting(
        True, "on a CPU, store weights in the order that its kernels read; steps are faster"
    )
    compile: str = setting(
        "auto",
        "trace the model's layers on a CPU: 'on' compiles them if need be, some seconds for each "
        "kind of layer; 'auto' takes what was compiled before; 'off'",
        ("auto", "on", "off"),
    )
    rows: int = setting(
        0,
        "sequences drafted for at the same time; 0 is what fits, at most 16 on a CPU or without a "
        "model, 64 elsewhere",
        at_least=0,
    )
    max_waiting: int = setting(
        256, "sequences that may wait for a row; more are refused, and go on without", at_least=0
    )
    max_length: int = setting(
        0, "longest sequence in tokens; 0 is what fits, at most the model's own limit", at_least=0
    )
    memory: MemorySize = setting(
        UNBOUNDED,
        "memory that rows may take, such as 8GiB; 0 is --memory-share of what is free",
        at_least=0,
    )
    memory_share: float | None = setting(
        None,
        "share that rows may take of the memory that the weights leave free on the device; 0.8 if "
        "there is no --memory",
        at_least=0.01,
        at_most=1,
    )
    chunk_tokens: int = setting(256, "new tokens in one forward pass", at_least=1)
    ngram: str = setting(
        "auto",
        "n-gram lookup: 'off', 'only', or 'auto' (with long matches)",
        ("auto", "off", "only"),
    )
    ngram_min_match: int = setting(
        8, "with a model, the match length from which n-grams draft instead of it", at_least=1
    )
    q_width: int = setting(
        128, "entries of a row of q under the rejection rule; 0 is the whole vocabulary", at_least=0
    )
    send_timeout: float = setting(
        30.0,
        "time in seconds after which a caller that sends no request or does not read is ended",
        at_least=0.1,
    )
    grace: float = setting(
        10.0, "time in seconds for running streams to end after SIGTERM", at_least=0
    )
    log_level: str = setting("info", "lowest level that is logged", LEVELS)
    log_format: str = setting("text", "'text' for people or 'json' for machines", FORMATS)
    tracing: bool = setting(
        False,
        "export OpenTelemetry spans by OTLP, as the OTEL_ environment variables configure",
    )


SETTINGS = DraftSettings


def check(settings: DraftSettings) -> None:
    """Refuses settings that contradict one another.

    Raises:
        SettingsError: they do.
    """
    check_memory(settings)
    if settings.model is None and settings.ngram == "off":
        raise SettingsError(
            "--ngram off without --model leaves nothing to draft with: give one of the two"
        )
    if settings.model is not None and settings.ngram == "only":
        raise SettingsError(
            "--ngram only would load --model and never use it: leave one of the two out"
        )
    check_exposure(settings)
