"""The way of a request through its stages: parse, fill defaults, check, heal, plan.

Each stage is entered once. This module knows nothing of streams.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from foredraft.v1 import target_pb2
from foredraft_engine.errors import InvalidFieldError
from foredraft_engine.logits.grammar import Grammar
from foredraft_engine.model.loading import LoadedModel
from foredraft_serving.grammars import Grammars
from foredraft_serving.messages import format_from
from foredraft_serving.worker_pool import WorkerPool
from target_service.request.checks import CheckedRequest, check, check_config
from target_service.request.defaults import Config, fill
from target_service.request.identity import Identity
from target_service.request.model_config import without_contradictions
from target_service.request.named_configs import NamedConfigs
from target_service.request.parse import Ids, parse
from target_service.request.plan import Request, ServiceLimits, plan, planned_config
from target_service.request.prompts import Prompts
from target_service.request.token_healing import TokenHealing


class Planner:
    """Plans the requests of one model."""

    def __init__(
        self,
        model: LoadedModel,
        defaults: Config,
        limits: ServiceLimits,
        config_places: Sequence[Path] = (),
        saving: bool = False,
        sanitizes: bool = False,
    ) -> None:
        """Plans for a model.

        Args:
            defaults: what the model's own config and the service's settings set.
            config_places: the directories of named configs; the first is written to.
            saving: whether callers may save named configs.
            sanitizes: whether control tokens that conversations spell out are always plain text.
        """
        self._limits, self._vocabulary_size = limits, model.known_ids
        self._defaults = without_contradictions(model.name, defaults, self._check)
        self.prompts = Prompts(model, limits.capacity, sanitizes)
        self.configs = NamedConfigs(config_places, self.check_config, saving)

    def checked(self, message: target_pb2.GenerateRequest, identity: Identity) -> CheckedRequest:
        """Parses a request, fills in its defaults and checks it. Blocks, as `parse` does.

        Raises:
            InvalidFieldError: a field cannot be honoured; it is named.
            LimitError: a prompt is longer than the caller's token allows.
        """
        # What is too much is refused before anything is made of it.
        self._limits.maxima.check_lists(message.config)
        self._limits.maxima.check_prompts(len(message.prompts), "prompts")
        self._limits.maxima.check_prompts(len(message.negative_prompts), "negative_prompts")
        parsed = parse(message, identity, self.prompts, self.configs)
        with _naming(message.config_name):
            config = fill(parsed.config, self._defaults)
            self._limits.maxima.check_lists(config)
            checked = check(parsed, config, self._vocabulary_size, self._limits.quantizes)
            self._limits.maxima.check(config, checked.checked.mode, len(message.prompts))
            return checked

    def planned(
        self, checked: CheckedRequest, prompts: tuple[Ids, ...], grammar: Grammar | None = None
    ) -> Request:
        """Plans a checked request for prompts that were healed, or are as they came.

        Args:
            grammar: that of the response format, if there is one.

        Raises:
            InvalidFieldError: a text does not fit; the fields that say how long it is are named.
        """
        with _naming(checked.parsed.message.config_name):
            request = plan(checked, prompts, self._defaults, self._limits)
            return request.held_to(grammar) if grammar else request

    def check_config(self, asked: Config) -> None:
        """Checks a config without a prompt, as if the shortest one came.

        Raises:
            InvalidFieldError: no call could be made with it; what is wrong is named.
        """
        self._check(asked, self._defaults)

    def _check(self, asked: Config, defaults: Config) -> None:
        config = fill(asked, defaults)
        self._limits.maxima.check_lists(config)
        checked = check_config(asked, config, self._vocabulary_size, self._limits.quantizes)
        self._limits.maxima.check(config, checked.mode, prompts=1)
        planned_config(checked, defaults, self._limits, prompt=1, tokens=1)


async def plan_request(
    planner: Planner,
    healing: TokenHealing,
    grammars: Grammars,
    pool: WorkerPool,
    message: target_pb2.GenerateRequest,
    identity: Identity,
) -> Request:
    """Plans a request, off the event loop: a long prompt takes a while to tokenize.

    Raises:
        InvalidFieldError: a field cannot be honoured; it is named.
        LimitError: a prompt or an answer is longer than the caller's token allows.
    """
    checked = await pool.run(planner.checked, message, identity)
    wanted = format_from(checked.checked.config.response_format)
    with _naming(message.config_name):
        grammar = await grammars.compiled(wanted, identity.scope) if wanted else None
    prompts = checked.parsed.prompts
    if checked.heals:
        kept = identity.scope, checked.checked.cache
        prompts = tuple(
            await asyncio.gather(*(healing.heal(pool, prompt, *kept) for prompt in prompts))
        )
    return await pool.run(planner.planned, checked, prompts, grammar)


@contextmanager
def _naming(config_name: str) -> Iterator[None]:
    """Adds the name of the call's named config to a refusal."""
    try:
        yield
    except InvalidFieldError as error:
        if not config_name:
            raise
        reason = f"{error.reason} (with generation_config={config_name!r})"
        raise InvalidFieldError(error.field, reason, *error.fields[1:]) from error
