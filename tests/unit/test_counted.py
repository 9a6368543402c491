"""How often a step speaks to its device, counted on one that pretends.

On an accelerator this decides: kernels do not depend on the number of rows, and the host copies and
waits a fixed number of times.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from foredraft_engine.feed import Feed
from foredraft_engine.job import UNFINISHED, Job
from foredraft_engine.logits.processors import Processors
from foredraft_engine.model.rows import PackedRows
from foredraft_engine.proposal import Proposal, SparseRows, Verdict
from foredraft_engine.sampling import Rule, Sampling
from foredraft_engine.scheduling.step import step
from foredraft_engine.speculation.draft_job import DraftJob
from foredraft_engine.speculation.draft_options import DraftOptions, TreeOptions
from foredraft_engine.speculation.round import Round, round_feed
from foredraft_engine.speculation.tree_job import TreeJob
from foredraft_engine.speculation.verify_job import VerifyJob, VerifyOptions
from tests.pretended import DEVICE, NO_KERNELS, PretendedDevice, Traffic
from tests.unit.test_tree_job import everything

VOCAB, ROWS, PROMPT = 256, 16, 12
SPARE = 16
WRITES = frozenset(["index_put_", "_index_put_impl_", "copy_"])
LAYERS = (2, 4)
SAMPLED: dict[str, Any] = {"temperature": 0.8, "top_k": 50}
PENALTIES: dict[str, Any] = {"repetition_penalty": 1.3, "no_repeat_ngram_size": 3}


def model(layers: int) -> nn.Module:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    made: nn.Module = LlamaForCausalLM(config).eval()
    return made


def rounds(
    rows: int,
    ragged: bool,
    rule: Rule,
    token: int = 5,
    penalties: Mapping[str, Any] = MappingProxyType({}),
) -> list[Round]:
    """Returns rounds that are verified together; ragged ones differ in length and draft length."""
    made = []
    for i in range(rows):
        k = i % 4 + 1 if ragged else 3
        q = SparseRows(np.full(k, token, dtype=np.uint32), np.ones(k, dtype=np.float32), (1,) * k)
        proposal = Proposal((token,) * k, q if rule is Rule.REJECTION else None)
        warpers = {} if rule is Rule.GREEDY else SAMPLED
        sampling = Sampling(rule=rule, seed=i, prompt_length=4, **warpers, **penalties)
        tokens = list(range(1, PROMPT + 1 + (i if ragged else 0)))
        made.append(Round(tokens, proposal, Processors(sampling, DEVICE)))
    return made


def jobs_of(wanted: Sequence[Round]) -> list[VerifyJob]:
    """Returns the job of each round, on a row that holds all of its tokens but the last."""
    return [
        VerifyJob(round_feed(i, len(r.tokens) - 1, r.tokens, r.proposal), r, VerifyOptions())
        for i, r in enumerate(wanted)
    ]


def verify(
    layers: int, wanted: Sequence[Round], device: PretendedDevice, capacity: int = 128
) -> tuple[list[Verdict], Traffic]:
    """Verifies rounds in one step on the device; returns the verdicts and what it counted."""
    module = device.take(model(layers))
    with torch.no_grad(), device:
        rows = PackedRows(module, ROWS, capacity, SPARE)
        for i, one in enumerate(wanted):
            rows.forward([Feed(i, 0, one.tokens[:-1])], [0])
        device.forget()
        feeds = [
            round_feed(i, len(r.tokens) - 1, r.tokens, r.proposal) for i, r in enumerate(wanted)
        ]
        jobs = [VerifyJob(f, r, VerifyOptions()) for f, r in zip(feeds, wanted, strict=True)]
        results = step(rows, jobs, VOCAB).results
    assert all(isinstance(result, Verdict) for result in results), results
    return list(results), device.traffic


def kernels_a_layer(rows: int, ragged: bool, rule: Rule) -> float:
    few, many = (
        sum(verify(n, rounds(rows, ragged, rule), PretendedDevice())[1].kernels.values())
        for n in LAYERS
    )
    return (many - few) / (LAYERS[1] - LAYERS[0])


@pytest.mark.parametrize("rule", Rule)
def test_kernels_do_not_depend_on_the_rows(rule: Rule) -> None:
    alone = kernels_a_layer(1, False, rule)
    for rows, ragged in ((4, False), (4, True), (8, True), (16, False), (16, True)):
        assert kernels_a_layer(rows, ragged, rule) <= 1.1 * alone


@pytest.mark.parametrize("rule", Rule)
@pytest.mark.parametrize("rows", [1, 4, 16])
def test_a_verification_copies_twice_and_waits_once(rule: Rule, rows: int) -> None:
    _, traffic = verify(2, rounds(rows, True, rule), PretendedDevice())
    assert traffic.copies.total() <= 2, traffic.copies
    assert traffic.waits.total() <= 1, traffic.waits


@pytest.mark.parametrize("rule", Rule)
def test_penalties_travel_with_the_rest(rule: Rule) -> None:
    _, traffic = verify(2, rounds(8, True, rule, penalties=PENALTIES), PretendedDevice())
    assert traffic.copies.total() <= 2, traffic.copies
    assert traffic.waits.total() <= 1, traffic.waits


@pytest.mark.parametrize("rule", Rule)
@pytest.mark.parametrize("rows", [1, 8])
@pytest.mark.parametrize("k", [1, 5, 16])
def test_a_proposal_copies_twice_and_waits_once(rule: Rule, rows: int, k: int) -> None:
    traffic = draft(rounds(rows, True, rule), k)
    assert traffic.copies.total() <= 2, traffic.copies
    assert traffic.waits.total() <= 1, traffic.waits


def test_proposals_of_all_rules_copy_twice_and_wait_once() -> None:
    mixed = [rounds(6, True, rule)[i] for i, rule in enumerate([*Rule] * 2)]
    traffic = draft(mixed, 5)
    assert traffic.copies.total() <= 2, traffic.copies
    assert traffic.waits.total() <= 1, traffic.waits


@pytest.mark.parametrize("rule", Rule)
def test_what_reads_the_text_waits_for_each_token_and_nobody_else_does(rule: Rule) -> None:
    mixed = [*rounds(3, True, rule), rounds(4, True, rule, penalties=PENALTIES)[3]]
    traffic = draft(mixed, 5)
    assert traffic.copies.total() <= 2 * 5, traffic.copies
    assert traffic.waits.total() <= 5, traffic.waits


@pytest.mark.parametrize("rule", Rule)
@pytest.mark.parametrize("k", [1, 5, 16])
def test_a_tree_waits_for_its_preview_and_its_end(rule: Rule, k: int) -> None:
    (one,) = rounds(1, False, rule)
    draft_options = DraftOptions(k, q_width=8, choose=everything)
    with on_device([one]) as (rows, device):
        feed = round_feed(0, len(one.tokens) - 1, one.tokens, one.proposal)
        job = TreeJob(feed, one, TreeOptions(draft_options, 6))
        (ahead,) = finished(rows, [job])
    assert [len(outcome.proposal.ids) for outcome in ahead.outcomes] == [k] * 6
    assert device.traffic.copies.total() <= 4, device.traffic.copies
    assert device.traffic.waits.total() <= 2, device.traffic.waits


@contextmanager
def on_device(wanted: Sequence[Round]) -> Iterator[tuple[PackedRows, PretendedDevice]]:
    """Gives rows that hold all tokens of every text but the last."""
    device = PretendedDevice()
    module = device.take(model(2))
    with torch.no_grad(), device:
        rows = PackedRows(module, ROWS, 128, 6 * 16)
        for i, one in enumerate(wanted):
            rows.forward([Feed(i, 0, one.tokens[:-1])], [0])
        device.forget()
        yield rows, device


def finished(rows: PackedRows, jobs: Sequence[Job]) -> list[Any]:
    """Runs jobs to their ends, together; returns their results."""
    results: list[Any] = [UNFINISHED] * len(jobs)
    while left := [i for i, result in enumerate(results) if result is UNFINISHED]:
        made = step(rows, [jobs[i] for i in left], VOCAB).results
        for i, result in zip(left, made, strict=True):
            results[i] = result
    return results


def draft(wanted: Sequence[Round], k: int) -> Traffic:
    """Drafts k tokens after every round's text, together; returns what host and device said."""
    options = DraftOptions(k, q_width=8)
    with on_device(wanted) as (rows, device):
        jobs = [
            DraftJob(Feed(i, len(r.tokens) - 1, r.tokens[-1:]), r.tokens, r.processors, options)
            for i, r in enumerate(wanted)
        ]
        results = finished(rows, jobs)
    assert all(len(result.ids) == k for result in results), results
    return device.traffic


@pytest.mark.parametrize("rule", Rule)
def test_rounds_of_one_shape_dispatch_the_same_operations(rule: Rule) -> None:
    """A graph could be captured of them: nothing but numbers differs."""
    first, second = (
        verify(2, rounds(8, True, rule, token), PretendedDevice())[1].operations for token in (5, 9)
    )
    assert first == second


@pytest.mark.parametrize("rule", Rule)
def test_what_a_step_computes_does_not_depend_on_the_capacity(rule: Rule) -> None:
    """Whole rows are written to and looked into; nothing that is computed has their length."""
    short, long = (_without_stores(rounds(8, True, rule), capacity) for capacity in (128, 8192))
    assert short == long


def _without_stores(wanted: Sequence[Round], capacity: int) -> list[object]:
    """Returns the operations of a verification, those aside that look or write into whole rows."""
    _, traffic = verify(2, wanted, PretendedDevice(), capacity)
    return [
        (name, shapes)
        for name, shapes in traffic.operations
        if not (name in NO_KERNELS | WRITES and any(capacity + SPARE in s for s in shapes))
    ]


@pytest.mark.parametrize("rule", Rule)
def test_verdicts_are_those_of_the_cpu(rule: Rule) -> None:
    wanted = rounds(8, True, rule)
    pretended, _ = verify(2, wanted, PretendedDevice())
    rows = PackedRows(model(2), ROWS, 128, 16)
    on_cpu = [
        Round(r.tokens, r.proposal, Processors(r.processors.sampling, rows.device)) for r in wanted
    ]
    with torch.no_grad():
        for i, one in enumerate(wanted):
            rows.forward([Feed(i, 0, one.tokens[:-1])], [0])
        own = step(rows, jobs_of(on_cpu), VOCAB).results
    assert [verdict.ids for verdict in pretended] == [verdict.ids for verdict in own]
