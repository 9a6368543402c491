"""The settings that both services have, in groups under whose docstrings `--help` shows them."""

from dataclasses import dataclass

from foredraft_serving.logs import FORMATS, LEVELS
from foredraft_serving.memory_size import UNBOUNDED, MemorySize
from foredraft_serving.settings import SettingsError, setting

_MODEL = ("model",)


@dataclass(frozen=True)
class ModelFlags:
    """the model, and where it runs"""

    adapter: str = setting(
        "", "LoRA adapter that is merged into the model, directory or hub id", needs=_MODEL
    )
    revision: str | None = setting(None, "revision of the model on the hub", needs=_MODEL)
    trust_remote_code: bool = setting(False, "run code that comes with the model", needs=_MODEL)
    device: str = setting(
        "cpu", "torch device; 'auto' is the GPU if there is one, else the CPU", needs=_MODEL
    )
    dtype: str = setting(
        "auto",
        "data type of the weights; 'auto' is the checkpoint's own, or float32 if the device only "
        "emulates it",
        ("auto", "float32", "bfloat16", "float16"),
        needs=_MODEL,
    )
    threads: int = setting(
        0, "torch threads; 0 leaves torch's own choice", at_least=0, needs=_MODEL
    )
    packed_weights: bool = setting(
        True,
        "on a CPU, store weights in the order that its kernels read; steps are faster",
        needs=_MODEL,
    )
    compile: str = setting(
        "auto",
        "trace the model's layers on a CPU: 'on' compiles them if need be, some seconds for each "
        "kind of layer; 'auto' takes what was compiled before; on CUDA both record passes; 'off'",
        ("auto", "on", "off"),
        needs=_MODEL,
    )
    max_length: int = setting(
        0,
        "longest sequence in tokens; 0 is what fits, at most the model's own limit",
        at_least=0,
        needs=_MODEL,
    )
    memory: MemorySize = setting(
        UNBOUNDED,
        "memory that rows may take, such as 8GiB; 0 is --memory-share of what is free",
        at_least=0,
        needs=_MODEL,
    )
    memory_share: float | None = setting(
        None,
        "share that rows may take of the memory that the weights leave free on the device; 0.8 if "
        "there is no --memory",
        at_least=0.01,
        at_most=1,
        needs=_MODEL,
    )
    chunk_tokens: int = setting(
        0,
        "new tokens in one forward pass beside texts that are being decoded, up to four times as "
        "many beside fewer texts than prompts; 0 is 256 on a CPU, 2048 elsewhere",
        at_least=0,
        needs=_MODEL,
    )


@dataclass(frozen=True)
class AccessFlags:
    """who may call"""

    listen: str = setting("127.0.0.1:0", "HOST:PORT for gRPC")
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
        needs=["client_ca"],
    )
    insecure: bool = setting(
        False,
        "serve other machines without TLS, or without asking who calls; for a network that lets "
        "nobody else in",
    )


@dataclass(frozen=True)
class ProcessFlags:
    """the process"""

    health_listen: str = setting(
        "", "HOST:PORT for health alone, which answers whatever else is done; empty is none"
    )
    send_timeout: float = setting(
        30.0,
        "time in seconds after which a caller that sends no request or does not read is ended",
        at_least=0.1,
    )
    log_level: str = setting("info", "lowest level that is logged", LEVELS)
    log_format: str = setting("text", "'text' for people or 'json' for machines", FORMATS)
    tracing: bool = setting(
        False,
        "export OpenTelemetry spans by OTLP, as the OTEL_ environment variables configure",
    )


def check_memory(settings: ModelFlags) -> None:
    """Refuses two bounds of one memory.

    Raises:
        SettingsError: both are given.
    """
    if settings.memory and settings.memory_share is not None:
        raise SettingsError(
            "--memory and --memory-share both bound the memory of rows: leave one of the two out"
        )
