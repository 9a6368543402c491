"""The first stage of a request: from the message to values.

Prompts become token ids, and a named config goes under the call's own. This module knows nothing of
defaults, nor of what a config asks for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from foredraft.v1 import target_pb2
from foredraft_engine.errors import InvalidFieldError
from foredraft_serving.logs import is_request_id
from foredraft_serving.overload import LimitError
from target_service.request.defaults import Config
from target_service.request.identity import Identity
from target_service.request.named_configs import NamedConfigs
from target_service.request.prompts import Prompts

_MAX_REQUEST_ID = 128

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """The values of a call; its config holds only what the call and its named config set."""

    message: target_pb2.GenerateRequest
    config: Config
    prompts: tuple[Ids, ...]
    generated: tuple[Ids, ...]
    """The tokens that an earlier call generated after each prompt."""
    negatives: tuple[Ids, ...]
    """The negative prompts that the call gives; empty or one for each prompt."""
    identity: Identity


def parse(
    message: target_pb2.GenerateRequest, identity: Identity, prompts: Prompts, configs: NamedConfigs
) -> ParsedRequest:
    """Reads a request. Blocks while it tokenizes prompts and reads a named config from disk.

    Raises:
        LimitError: a prompt is longer than the caller's token allows.
        InvalidFieldError: a field outside the config is wrong, a prompt cannot be read, or there
            is no such named config.
    """
    if len(message.request_id) > _MAX_REQUEST_ID:
        raise InvalidFieldError("request_id", f"is longer than {_MAX_REQUEST_ID} characters")
    if not is_request_id(message.request_id):
        raise InvalidFieldError("request_id", "has a character that is not printable ASCII")
    if not message.prompts:
        raise InvalidFieldError("prompts", "there is none")
    parsed = ParsedRequest(
        message=message,
        config=configs.over(message.config_name, message.config),
        prompts=tuple(prompts.ids(p) for p in message.prompts),
        generated=tuple(prompts.checked("generated_ids", p.generated_ids) for p in message.prompts),
        negatives=tuple(prompts.ids(p, "negative_prompt") for p in message.negative_prompts),
        identity=identity,
    )
    for field, given in (("prompts", parsed.prompts), ("negative_prompts", parsed.negatives)):
        _check_lengths(field, given, identity.limits.max_prompt_tokens)
    return parsed


def _check_lengths(field: str, prompts: Sequence[Ids], most: int) -> None:
    if (longest := max(map(len, prompts), default=0)) > most:
        reason = f"one has {longest} tokens; this token is allowed {most}"
        raise LimitError("max_prompt_tokens", reason, fields=(field,))
