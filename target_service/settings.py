"""The settings of the target service."""

from dataclasses import dataclass

from foredraft.wire.addresses import address_fault
from foredraft.wire.limits import MAX_ALTERNATIVES, MAX_BEAMS, MAX_OUTCOMES, MAX_SEQUENCES
from foredraft_serving.access.exposure import check_exposure
from foredraft_serving.service_settings import (
    AccessFlags,
    ModelFlags,
    ProcessFlags,
    check_memory,
)
from foredraft_serving.settings import SettingsError, check_needs, setting

_DRAFT = ("draft",)


@dataclass(frozen=True)
class TargetSettings(ModelFlags, AccessFlags, ProcessFlags):
    """foredraft target service: generates with the model, verifying what draft services propose."""

    model: str = setting("", "model directory, GGUF file or hub id; required")
    draft: str = setting(
        "", "draft services, HOST:PORT[,HOST:PORT...]; without one, no remote drafts"
    )
    listen: str = setting("127.0.0.1:50052", "HOST:PORT for gRPC")
    metrics_listen: str = setting("127.0.0.1:9102", "HOST:PORT for Prometheus metrics")
    metrics_aliases: str = setting(
        "none",
        "whose names metrics have beside their own: those of vLLM, where the meaning is the same",
        ("none", "vllm"),
    )
    draft_ca: str = setting(
        "",
        "CAs of the certificates of draft services, PEM; empty calls them in plain text",
        needs=_DRAFT,
    )
    draft_cert: str = setting(
        "", "certificate to show to draft services, PEM", needs=["draft", "draft_ca"]
    )
    draft_key: str = setting("", "private key of --draft-cert, PEM", needs=_DRAFT)
    draft_token: str = setting(
        "", "file with the API token to show to draft services", needs=_DRAFT
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
    cache_implementation: str = setting(
        "dynamic",
        "how keys and values are stored for calls that do not set it",
        ("dynamic", "quantized"),
    )
    cache_config: str = setting(
        "", 'options of a quantized cache, as JSON: \'{"backend": "quanto", "nbits": 4}\''
    )
    draft_timeout: float = setting(
        1.0,
        "longest time in seconds that a round waits for a proposal of a draft service",
        at_least=0,
        needs=_DRAFT,
    )
    fallback: str = setting(
        "ngram",
        "what makes proposals where no draft service does, or promises less",
        ("ngram", "none"),
    )
    forced_tokens: bool = setting(
        True, "propose the tokens that a response format leaves no choice about"
    )
    outcomes: int = setting(
        32,
        "outcomes of a verification to draft ahead for, at most; 0 turns drafting ahead off",
        at_least=0,
        at_most=MAX_OUTCOMES,
        needs=_DRAFT,
    )
    choose_outcomes: bool = setting(
        True,
        "draft ahead for as many outcomes as measured times favour; else for all of them",
        needs=["draft", "outcomes"],
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
    sanitize_control_tokens: bool = setting(
        False,
        "take control tokens that conversations spell out for plain text, whether or not a call "
        "asks for it",
    )
    gateway: bool = setting(
        True, "serve gateways, as a worker of vLLM's gRPC, where the extra `gateway` is installed"
    )
    share_anonymous: bool = setting(
        False,
        "let calls without a credential reuse each other's cached prompts, which tells each caller "
        "by time what others have sent",
    )
    grace: float = setting(
        30.0, "time in seconds for running streams to end after SIGTERM", at_least=0
    )
    log_texts: bool = setting(False, "log prompts and outputs as well")

    @property
    def draft_addresses(self) -> tuple[str, ...]:
        """The addresses of the draft services."""
        return tuple(address.strip() for address in self.draft.split(",") if address.strip())


SETTINGS = TargetSettings


def check(settings: TargetSettings) -> None:
    """Refuses settings that no service can start with, whatever its machine has.

    Raises:
        SettingsError: these are such.
    """
    if not settings.model:
        raise SettingsError("--model is required: a model directory, a GGUF file or a hub id")
    check_memory(settings)
    check_needs(settings)
    if settings.draft and not settings.draft_addresses:
        raise SettingsError(f"--draft: {settings.draft!r} holds no address, as in 10.0.0.5:50051")
    if settings.share_anonymous and (settings.client_ca or settings.api_tokens):
        raise SettingsError(
            "--share-anonymous does nothing where every caller shows a credential, as --client-ca "
            "and --api-tokens ask: leave it out"
        )
    for address in settings.draft_addresses:
        if fault := address_fault(address):
            raise SettingsError(
                f"--draft: {address!r} {fault}; it is host:port, as in 10.0.0.5:50051"
            )
    check_exposure(settings)
