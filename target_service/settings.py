"""The settings of the target service."""

from dataclasses import dataclass

from foredraft.wire.limits import MAX_ALTERNATIVES, MAX_BEAMS, MAX_OUTCOMES, MAX_SEQUENCES
from foredraft_serving.logs import FORMATS, LEVELS
from foredraft_serving.settings import setting


@dataclass(frozen=True, slots=True)
class TargetSettings:
    """foredraft target service: generates with the model, verifying what draft services propose."""

    model: str = setting("", "model directory or hub id; required")
    draft: str = setting(
        "", "draft services, HOST:PORT[,HOST:PORT...]; without one, no remote drafts"
    )
    revision: str | None = setting(None, "revision of the model on the hub")
    trust_remote_code: bool = setting(False, "run code that comes with the model")
    device: str = setting("cpu", "torch device")
    dtype: str = setting(
        "auto",
        "data type of the weights; 'auto' is the checkpoint's own, or float32 if the device only "
        "emulates it",
        ("auto", "float32", "bfloat16", "float16"),
    )
    threads: int = setting(0, "torch threads; 0 leaves torch's own choice", at_least=0)
    listen: str = setting("127.0.0.1:50052", "HOST:PORT for gRPC")
    metrics_listen: str = setting("127.0.0.1:9102", "HOST:PORT for Prometheus metrics")
    health_listen: str = setting(
        "", "HOST:PORT for health alone, which answers whatever else is done; empty is none"
    )
    packed_weights: bool = setting(
        True, "on a CPU, store weights in the order that its kernels read; rounds are faster"
    )
    rows: int = setting(
        0,
        "sequences generated at the same time; 0 is what fits, at most 16 on a CPU, 64 elsewhere",
        at_least=0,
    )
    max_waiting: int = setting(
        128, "calls with sequences that wait for a row, before others are refused", at_least=1
    )
    max_waiting_bytes: int = setting(
        32 << 20, "bytes of the requests of calls that wait, before others are refused", at_least=1
    )
    max_sequences: int = setting(
        MAX_SEQUENCES, "sequences in one call", at_least=1, at_most=MAX_SEQUENCES
    )
    max_beams: int = setting(MAX_BEAMS, "beams of one search", at_least=1, at_most=MAX_BEAMS)
    max_candidates: int = setting(
        128, "candidates for each token of a contrastive search (its top_k)", at_least=2
    )
    max_listed_ids: int = setting(
        16384, "token ids in all lists of one call, such as bad_words_ids", at_least=0
    )
    max_length: int = setting(
        0, "longest sequence in tokens; 0 is what fits, at most the model's own limit", at_least=0
    )
    memory_share: float = setting(
        0.8,
        "share that rows may take of the memory that the weights leave free on the device",
        at_least=0.01,
        at_most=1,
    )
    cache_implementation: str = setting(
        "dynamic",
        "how keys and values are stored for calls that do not set it",
        ("dynamic", "quantized"),
    )
    cache_config: str = setting(
        "", 'options of a quantized cache, as JSON: \'{"backend": "quanto", "nbits": 4}\''
    )
    chunk_tokens: int = setting(256, "new tokens in one forward pass", at_least=1)
    draft_timeout: float = setting(
        1.0,
        "longest time in seconds that a round waits for a proposal of a draft service",
        at_least=0,
    )
    fallback: str = setting(
        "ngram",
        "what makes proposals where no draft service does, or promises less",
        ("ngram", "none"),
    )
    outcomes: int = setting(
        32,
        "outcomes of a verification to draft ahead for; 0 turns drafting ahead off",
        at_least=0,
        at_most=MAX_OUTCOMES,
    )
    alternatives: int = setting(
        16,
        "largest number of alternatives to a proposal, where acceptance is an exact match",
        at_least=0,
        at_most=MAX_ALTERNATIVES,
    )
    generation_configs: str = setting(
        "", "directory of named generation configs; empty is the model's directory"
    )
    save_generation_configs: bool = setting(
        False, "let callers save named generation configs in that directory"
    )
    send_timeout: float = setting(
        30.0, "time in seconds after which a caller that does not read is ended", at_least=0.1
    )
    grace: float = setting(
        30.0, "time in seconds for running streams to end after SIGTERM", at_least=0
    )
    log_level: str = setting("info", "lowest level that is logged", LEVELS)
    log_format: str = setting("text", "'text' for people or 'json' for machines", FORMATS)
    tracing: bool = setting(
        False,
        "export OpenTelemetry spans by OTLP, as the OTEL_ environment variables configure",
    )
    log_texts: bool = setting(False, "log prompts and outputs as well")

    @property
    def draft_addresses(self) -> tuple[str, ...]:
        """The addresses of the draft services."""
        return tuple(address.strip() for address in self.draft.split(",") if address.strip())


SETTINGS = TargetSettings
