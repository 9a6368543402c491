"""Makes the drafter of each sequence from its plan and the settings of the service.

This module knows nothing of rounds.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from foredraft.wire.limits import MAX_NGRAM_TOKENS
from foredraft_engine.sampling import Rule
from foredraft_engine.scheduling.engine import Engine
from foredraft_serving.metrics import TargetMetrics
from target_service.drafting.draft_pool import DraftPool
from target_service.drafting.drafter import Drafter, ProposalSources
from target_service.drafting.forced_tokens import ForcedTokens
from target_service.drafting.goodput import Goodput
from target_service.drafting.length_schedule import HeuristicLengths, LengthSchedule
from target_service.drafting.lookup_goodput import LookupGoodput
from target_service.drafting.ngram_lookup import NgramLookup
from target_service.drafting.remote_session import RemoteSession, SessionOptions
from target_service.drafting.shared_estimates import SharedEstimates
from target_service.request.defaults import Config
from target_service.request.plan import Plan, Request
from target_service.settings import TargetSettings


class Drafters:
    """What the drafters of all sequences share."""

    def __init__(
        self, settings: TargetSettings, pool: DraftPool, engine: Engine, metrics: TargetMetrics
    ) -> None:
        self._pool, self._metrics = pool, metrics
        self._options = SessionOptions(
            settings.draft_timeout, settings.outcomes, engine.vocabulary_size
        )
        self._looks_up, self._forces = settings.fallback == "ngram", settings.forced_tokens
        self._max_alternatives = min(settings.alternatives, engine.rows.spare)
        self._estimates = SharedEstimates(engine.step_times, engine.chunk_tokens)
        self._heuristic = HeuristicLengths()

    def with_rule(self, call: Request) -> Request:
        """Returns a call with the sampling rule under which it is faster, if it left that open."""
        plan = call.plans[0]
        if not plan.rule_is_open or not self._is_drafted(plan.config):
            return call
        return call.under(self._estimates.rules.choose())

    def length_schedule(self, plan: Plan) -> LengthSchedule:
        """Returns the draft lengths of one sequence."""
        return LengthSchedule(plan, self._heuristic)

    @asynccontextmanager
    async def follow(self, plan: Plan) -> AsyncIterator[Drafter]:
        """Yields a drafter for the life of one sequence."""
        observe_rule = None
        if plan.rule_is_open and self._is_drafted(plan.config):
            observe_rule = partial(self._estimates.rules.observe, plan.sampling.rule)
        drafter = Drafter(self._sources(plan), self._estimates, self._metrics, observe_rule)
        try:
            yield drafter
        finally:
            await drafter.close()

    def _is_drafted(self, config: Config) -> bool:
        """Whether a draft service has a part in the sequences of a config."""
        lookup = config.HasField("prompt_lookup_num_tokens")
        return bool(self._pool.endpoints) and config.num_assistant_tokens > 0 and not lookup

    def _sources(self, plan: Plan) -> ProposalSources:
        config = plan.config
        if config.HasField("prompt_lookup_num_tokens"):
            return ProposalSources(ngrams=NgramLookup(plan, None))
        if config.num_assistant_tokens <= 0:
            return ProposalSources()
        forced = ForcedTokens(plan) if plan.grammar and self._forces else None
        chooses = config.num_assistant_tokens_schedule == "goodput"
        ngrams = None
        if self._looks_up and plan.max_length <= MAX_NGRAM_TOKENS:
            rows = 2 if plan.negative else 1
            ngrams = NgramLookup(plan, LookupGoodput(self._estimates, rows))
        if not self._is_drafted(config):
            return ProposalSources(ngrams=ngrams if chooses else None, forced=forced)
        remote = RemoteSession(self._pool, plan, self._options, self._metrics)
        goodput = None
        if chooses:
            # Alternatives are exact only where acceptance is an exact match.
            is_exact = plan.sampling.rule is not Rule.REJECTION
            max_alternatives = self._max_alternatives if is_exact else 0
            goodput = Goodput(
                self._estimates, config.num_assistant_tokens, max_alternatives, plan.sampling.rule
            )
        return ProposalSources(remote, ngrams, forced, goodput)

    @property
    def unused_reason(self) -> str:
        """Why no draft service can be used at all; empty if one can, or if there is none."""
        return self._pool.unused_reason
