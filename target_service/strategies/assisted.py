"""Greedy decoding and sampling, with or without assistance (Leviathan et al., arXiv 2211.17192).

Plain decoding is the case k = 0. Knows nothing of what drafts, how a proposal is accepted, or who
reads.
"""

from collections.abc import Sequence

from foredraft_engine.logits.processors import Processors
from foredraft_engine.scheduling.engine import Engine, Guidance
from foredraft_engine.scheduling.row_pool import Row
from foredraft_engine.speculation.verify_job import VerifyOptions
from foredraft_serving.metrics import TargetMetrics
from target_service.drafting.drafter import Drafters
from target_service.drafting.length_schedule import LengthSchedule
from target_service.output.speculation_stats import SpeculationStats
from target_service.output.stopping import Stopping, Taken
from target_service.output.stream import SequenceStream
from target_service.request.plan import Plan


async def assisted(
    plan: Plan,
    engine: Engine,
    drafters: Drafters,
    stopping: Stopping,
    stream: SequenceStream,
    metrics: TargetMetrics,
) -> SpeculationStats:
    """Generates one sequence into the stream."""
    tokens = list(plan.tokens)
    processors = Processors(plan.sampling, engine.device)
    lookahead, statistics = LengthSchedule(plan), SpeculationStats()
    options = VerifyOptions(plan.logprobs, plan.config.output_scores, plan.config.output_logits)
    # Guidance has a second row, which is lent with the first: see RowPool.
    prompts = [tokens, plan.negative] if plan.negative else [tokens]
    async with (
        engine.pool.lend_several(prompts, plan.owner, plan.cache) as (row, *others),
        drafters.follow(plan) as drafter,
    ):
        guidance = _guidance(plan, others)
        stream.admitted(plan.sampling.prompt_length)
        await drafter.begin(tokens, lookahead.k(stopping.tokens_left))
        async for _ in engine.prefill(row, tokens):
            if stopping.out_of_time():
                break
        stream.prefilled(row.reused)
        if guidance and not stopping.reason:
            async for _ in engine.prefill(guidance.row, guidance.tokens):
                pass
        while not stopping.reason and not stopping.out_of_time():
            proposal = await drafter.propose(tokens, lookahead.k(stopping.tokens_left))
            verdict = await engine.verify(row, tokens, proposal, processors, options, guidance)
            taken = stopping.take(verdict.ids)
            lookahead.observe(len(proposal.ids), verdict.accepted)
            tokens += taken.ids
            if guidance:
                guidance.tokens.extend(taken.ids)
            if not taken.reason:
                # Before anything is streamed: the draft works while the reader is served.
                await drafter.commit(tokens, verdict, lookahead.k(stopping.tokens_left))
            statistics.observe(proposal, verdict, drafter.fallback)
            metrics.observe_round(len(proposal.ids), verdict.accepted, drafter.fallback)
            metrics.observe_alternatives(len(proposal.alternatives), verdict.used_alternative)
            await stream.send(taken, verdict.accepted, verdict)
        if stopping.reason == "max_time":
            await stream.send(Taken((), stopping.flush(), "max_time"), 0)
    return statistics


def _guidance(plan: Plan, rows: Sequence[Row]) -> Guidance | None:
    """Returns the guidance on the second row, if one was lent."""
    return Guidance(rows[0], list(plan.negative), plan.config.guidance_scale) if rows else None
