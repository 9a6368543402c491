"""Greedy decoding and sampling, with or without assistance (Leviathan et al., "Fast Inference from
Transformers via Speculative Decoding", arXiv 2211.17192).

Plain decoding is the case k = 0. This module knows nothing of what drafts, of how a proposal is
accepted, or of who reads.
"""

from collections.abc import Sequence
from contextlib import aclosing

from foredraft_engine.logits.processors import Processors
from foredraft_engine.proposal import Verdict
from foredraft_engine.scheduling.engine import Engine, Guidance
from foredraft_engine.scheduling.prompt_logprobs import prompt_logprobs
from foredraft_engine.scheduling.row_pool import Row
from foredraft_engine.speculation.verify_job import VerifyOptions
from foredraft_serving.metrics import TargetMetrics
from target_service.drafting.round_proposal import RoundProposal
from target_service.output.round_report import round_report, token_origins
from target_service.output.sequence_output import SequenceOutput
from target_service.output.speculation_stats import SpeculationStats
from target_service.request.plan import Plan
from target_service.strategies.resources import Resources


async def assisted(
    plan: Plan, resources: Resources, outputs: Sequence[SequenceOutput]
) -> SpeculationStats:
    """Generates one sequence into the first output."""
    engine, drafters, metrics = resources.engine, resources.drafters, resources.metrics
    output, stopping = outputs[0], outputs[0].stopping
    tokens, stats = list(plan.tokens), SpeculationStats()
    schedule = drafters.length_schedule(plan)
    options = VerifyOptions(plan.logprobs, plan.config.output_scores, plan.config.output_logits)
    # What a row holds already has no logits any more, so that a prompt that is told is fed anew.
    held = tokens if plan.prompt_logprobs is None else []
    # Both rows of guidance are lent at once: no two sequences each hold one and wait for another.
    prompts = [held, plan.negative] if plan.negative else [held]
    async with (
        engine.pool.lend_several(prompts, plan.identity.scope, plan.cache) as (row, *others),
        drafters.follow(plan) as drafter,
    ):
        processors = Processors(plan.sampling, engine.device, plan.grammar)
        guidance = _guidance(plan, others)
        output.stream.admitted(plan.sampling.prompt_length)
        drafter.begin(tokens, schedule.k(stopping.tokens_left))
        await _prefill(engine, row, plan, output)
        output.stream.prefilled(row.reused)
        if guidance and not stopping.reason:
            await _prefill_other(engine, guidance)
        while not stopping.reason and not stopping.is_out_of_time():
            drafted = await drafter.propose(tokens, schedule.k(stopping.tokens_left))
            proposal = drafted.proposal
            verdict = await engine.verify(
                row, tokens, proposal, processors, options, guidance, drafted.is_timed
            )
            told = round_report(drafted, output.stream.began) if plan.returns_rounds else None
            taken = stopping.take(verdict.ids)
            schedule.observe(len(proposal.ids), verdict.accepted)
            tokens += taken.ids
            if guidance:
                guidance.tokens.extend(taken.ids)
            if not taken.reason:
                # The commit goes first, so that the draft works while the reader is served.
                await drafter.commit(tokens, drafted, verdict, schedule.k(stopping.tokens_left))
            stats.observe(drafted, verdict)
            _observe(metrics, drafted, verdict)
            origins = token_origins(proposal, verdict)
            await output.stream.send(taken, origins, verdict, len(proposal.ids), told)
        if stopping.reason == "max_time":
            await output.finish(())
    return stats


def _observe(metrics: TargetMetrics, drafted: RoundProposal, verdict: Verdict) -> None:
    """Counts one round in the metrics."""
    proposal = drafted.proposal
    metrics.observe_round(len(proposal.ids), verdict.accepted, drafted.fallback)
    metrics.observe_alternatives(len(proposal.alternatives), verdict.used_alternative)
    if proposal.made_by == "grammar":
        metrics.forced_tokens.inc(verdict.accepted)


async def _prefill(engine: Engine, row: Row, plan: Plan, output: SequenceOutput) -> None:
    """Feeds the prompt and tells its log-probabilities, if they are asked for, while there is
    time.
    """
    if plan.prompt_logprobs is not None:
        prompt = plan.tokens[: plan.sampling.prompt_length]
        async with aclosing(prompt_logprobs(engine, row, prompt, plan.prompt_logprobs)) as told:
            async for entries in told:
                await output.stream.send_prompt(entries)
                if output.stopping.is_out_of_time():
                    return
    async for _ in engine.prefill(row, plan.tokens):
        if output.stopping.is_out_of_time():
            break


async def _prefill_other(engine: Engine, guidance: Guidance) -> None:
    """Feeds the prompt of the second row."""
    async for _ in engine.prefill(guidance.row, guidance.tokens):
        pass


def _guidance(plan: Plan, rows: Sequence[Row]) -> Guidance | None:
    """Returns the guidance on the second row, if one was lent."""
    return Guidance(rows[0], list(plan.negative), plan.config.guidance_scale) if rows else None
