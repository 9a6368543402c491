"""A proposal that is drafted without the host is the one that is drafted token by token."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from foredraft_engine.feed import Feed
from foredraft_engine.job import UNFINISHED, Job
from foredraft_engine.logits.processors import Processors
from foredraft_engine.model.rows import PackedRows, Rows
from foredraft_engine.model.separate_rows import SeparateRows
from foredraft_engine.proposal import Outcome, Proposal
from foredraft_engine.sampling import Greenlist, Rule, Sampling
from foredraft_engine.scheduling.engine import Engine
from foredraft_engine.scheduling.jobs import ScoreJob
from foredraft_engine.scheduling.step import step
from foredraft_engine.scheduling.step_times import StepTimes
from foredraft_engine.speculation.draft_job import DraftJob
from foredraft_engine.speculation.draft_options import DraftOptions, EarlyVerdict, TreeOptions
from foredraft_engine.speculation.preview import Preview
from foredraft_engine.speculation.round import Round, round_feed
from foredraft_engine.speculation.tree_job import TreeJob
from tests.fakes import TableRows, random_table
from tests.models import random_model
from tests.unit.test_tree_job import dense, everything

VOCAB, K = 16, 5
COUPLED, REJECTION = Rule.COUPLED, Rule.REJECTION
LAWS: Mapping[str, Sampling] = {
    "greedy": Sampling(),
    "ends": Sampling(eos_token_id=(2, 3, 5, 7)),
    "coupled": Sampling(rule=COUPLED, seed=3, temperature=0.7),
    "coupled, warped": Sampling(rule=COUPLED, seed=4, top_k=5, top_p=0.8, eos_token_id=(1, 4)),
    "rejection": Sampling(rule=REJECTION, seed=5),
    "warped": Sampling(rule=REJECTION, seed=6, temperature=1.3, top_k=7, top_p=0.9, min_p=0.02),
    "rare": Sampling(rule=REJECTION, seed=7, typical_p=0.8, renormalize_logits=True),
    "penalties": Sampling(repetition_penalty=1.5, no_repeat_ngram_size=2),
    "sampled penalties": Sampling(rule=REJECTION, seed=8, repetition_penalty=1.4),
    "watermark": Sampling(rule=COUPLED, seed=9, watermark=Greenlist(VOCAB)),
}
READ = {"penalties", "sampled penalties", "watermark"}


def all_rows(count: int) -> Iterator[Rows]:
    yield TableRows(random_table(VOCAB, 3), count)
    yield PackedRows(random_model("llama"), count, 64, 32)
    yield SeparateRows(random_model("llama"), count, 64)


def jobs_of(names: Sequence[str], **fields: Any) -> list[DraftJob]:
    """Returns a job for each law; they differ in text and in k."""
    made = []
    for i, name in enumerate(names):
        text = [(3 * j + i) % VOCAB for j in range(3 + i % 4)]
        processors = Processors(replace(LAWS[name], prompt_length=2), torch.device("cpu"))
        options = DraftOptions(max(1, K - i % 3), epoch=1, q_width=[4, 0][i % 2])
        made.append(DraftJob(Feed(i, 0, text), text, processors, replace(options, **fields)))
    return made


def others(preview: Preview, most: int) -> list[tuple[int, int]]:
    """Chooses the best other candidate at each position. A `Chooser`."""
    return [(at, 0) for at, candidates in enumerate(preview.candidates) if candidates][:most]


def results_of(rows: Rows, jobs: Sequence[Job], runs_ahead: bool) -> tuple[list[Any], int]:
    """Runs jobs to their ends; returns their results and the number of steps."""
    rows.runs_ahead = runs_ahead
    results: list[Any] = [UNFINISHED] * len(jobs)
    steps = 0
    with torch.inference_mode():
        while left := [i for i, result in enumerate(results) if result is UNFINISHED]:
            made = step(rows, [jobs[i] for i in left], VOCAB).results
            for i, result in zip(left, made, strict=True):
                assert not isinstance(result, Exception), result
                results[i] = result
            steps += 1
    return results, steps


def same(one: Proposal, other: Proposal, exactly: bool) -> None:
    assert (one.ids, one.alternatives) == (other.ids, other.alternatives)
    assert (one.q is None) == (other.q is None)
    if one.q and other.q:
        for a, b in zip(dense(one), dense(other), strict=True):
            assert np.array_equal(a, b) if exactly else np.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("confidence", [0.0, 0.3])
@pytest.mark.parametrize("names", [*([name] * 3 for name in LAWS), list(LAWS)], ids=str)
def test_a_whole_proposal_is_the_one_of_token_by_token(
    names: Sequence[str], confidence: float
) -> None:
    fields = {"confidence": confidence, "alternatives": 3, "choose": others}
    for rows in all_rows(len(names)):
        whole, steps = results_of(rows, jobs_of(names, **fields), True)
        single, _ = results_of(rows, jobs_of(names, **fields), False)
        for one, other in zip(whole, single, strict=True):
            same(one, other, isinstance(rows, TableRows))
        assert steps == 1 or set(names) & READ


def test_a_token_is_the_one_of_a_proposal_of_one_token() -> None:
    """It is so under the rules whose tokens do not depend on where a proposal begins."""
    names = [name for name in LAWS if LAWS[name].rule is not REJECTION]
    for rows in all_rows(len(names)):
        whole, _ = results_of(rows, jobs_of(names), True)
        for i, proposal in enumerate(whole):
            job = jobs_of(names)[i]
            text = list(job.tokens)
            for token in proposal.ids:
                options = replace(job.options, k=1)
                one = DraftJob(Feed(i, 0, text), text, job.processors, options)
                assert results_of(rows, [one], False)[0][0].ids == (token,)
                text = [*text, token]


def test_a_proposal_ends_before_scores_that_allow_no_token() -> None:
    table = random_table(VOCAB, 3)
    table[:, 9] = float("-inf")
    for name in ("greedy", "coupled", "rejection"):
        rows, jobs = TableRows(table), [jobs_of([name] * 40, k=12) for _ in range(2)]
        whole, _ = results_of(rows, jobs[0], True)
        single, _ = results_of(rows, jobs[1], False)
        for one, other in zip(whole, single, strict=True):
            same(one, other, True)
        assert {len(proposal.ids) for proposal in whole} > {12}


def test_long_proposals_keep_their_noise_apart() -> None:
    """There are more positions than rows of noise that a sequence keeps; some are kept already."""
    for k in (30, 50):
        jobs = [jobs_of(["coupled"], k=k) for _ in range(2)]
        results_of(TableRows(random_table(VOCAB, 3)), jobs_again(jobs[0], 20), True)
        whole, _ = results_of(TableRows(random_table(VOCAB, 3)), jobs[0], True)
        single, _ = results_of(TableRows(random_table(VOCAB, 3)), jobs[1], False)
        assert whole[0].ids == single[0].ids
        assert len(whole[0].ids) == k


def jobs_again(jobs: Sequence[DraftJob], k: int) -> list[DraftJob]:
    """Returns jobs of the same sequences with another k."""
    return [
        DraftJob(job.feeds[0], job.tokens, job.processors, replace(job.options, k=k))
        for job in jobs
    ]


def test_hidden_states_are_those_of_the_pass_of_the_step() -> None:
    for rows in (
        PackedRows(random_model("llama"), 2, 64),
        SeparateRows(random_model("llama"), 2, 64),
    ):
        hidden = []
        for runs_ahead in (True, False):
            score = ScoreJob(Feed(1, 0, [1, 2, 3]), 1, lambda logits, hidden: hidden)
            results, _ = results_of(rows, [*jobs_of(["greedy"]), score], runs_ahead)
            hidden.append(results[1])
        assert torch.allclose(hidden[0], hidden[1], atol=1e-5)


def trees(names: Sequence[str], confidence: float = 0.0) -> list[TreeJob]:
    made = []
    for i, name in enumerate(names):
        text = [(3 * j + i) % VOCAB for j in range(3 + i % 4)]
        processors = Processors(replace(LAWS[name], prompt_length=2), torch.device("cpu"))
        verified = Round(text, Proposal((4, 1, 6)), processors)
        draft = DraftOptions(
            K - i % 3, epoch=2, confidence=confidence, q_width=4, choose=everything
        )
        options = TreeOptions(draft, 6)
        made.append(TreeJob(round_feed(i, 0, text, verified.proposal), verified, options))
    return made


@pytest.mark.parametrize("confidence", [0.0, 0.3])
@pytest.mark.parametrize("names", [*([name] * 3 for name in LAWS), list(LAWS)], ids=str)
def test_a_whole_tree_is_the_one_of_depth_by_depth(names: Sequence[str], confidence: float) -> None:
    for rows in all_rows(len(names)):
        if not rows.branches:
            continue
        whole, steps = results_of(rows, trees(names, confidence), True)
        single, _ = results_of(rows, trees(names, confidence), False)
        for one, other in zip(whole, single, strict=True):
            assert len(one.outcomes) >= 2
            for a, b in zip(one.outcomes, other.outcomes, strict=True):
                assert a.path == b.path
                same(a.proposal, b.proposal, isinstance(rows, TableRows))
        assert steps == 2 or set(names) & READ


def test_a_whole_tree_is_cut_to_its_verdict() -> None:
    rows, early = TableRows(random_table(VOCAB, 3)), EarlyVerdict()
    (job,) = trees(["greedy"])
    job.options = replace(job.options, early_verdict=early)
    outcomes: list[Outcome] = results_of(rows, trees(["greedy"]), True)[0][0].outcomes
    early.path = outcomes[3].path
    assert results_of(rows, [job], True)[0][0].outcomes == (outcomes[3],)


async def test_a_whole_proposal_is_as_long_as_comes_in_time() -> None:
    step_times = StepTimes()
    step_times.observe(1, 1, 10.0)
    rows = TableRows(random_table(VOCAB, 3))
    rows.runs_ahead = True
    engine = Engine(rows, VOCAB, step_times=step_times)
    processors = Processors(LAWS["greedy"], engine.device)
    async with engine.pool.lend([1, 2], "") as row:
        for within_s, k in ((-1.0, 1), (5.0, 1), (35.0, 3), (1000.0, K), (float("inf"), K)):
            row.truncate(1)
            step_times._times_s[1] = 10.0
            options = DraftOptions(K, deadline=time.monotonic() + within_s)
            proposal = await engine.draft(row, [1, 2], processors, options)
            assert len(proposal.ids) == k
            assert row.cached == [1, 2, *proposal.ids[:-1]]
    engine.close()
