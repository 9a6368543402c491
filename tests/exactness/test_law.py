"""Sampled output has the target's law, whatever is proposed.

20,000 texts (200,000 in `make test-long`) of several rounds each go through the engine's own
drafting and verification. They are compared with the enumerated law of a model that is a table.
"""

import gc
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LogitsProcessorList
from transformers.generation import logits_process as hf

from foredraft_engine.feed import Feed
from foredraft_engine.job import UNFINISHED, PassOutput
from foredraft_engine.logits.grammar import Grammar
from foredraft_engine.logits.grammar_compiler import GrammarCompiler
from foredraft_engine.logits.processors import Processors
from foredraft_engine.proposal import Proposal, SparseRows, Verdict
from foredraft_engine.sampling import ResponseFormat, Rule, Sampling
from foredraft_engine.speculation.draft_job import DraftJob
from foredraft_engine.speculation.draft_options import DraftOptions
from foredraft_engine.speculation.ngram import NgramDrafter
from foredraft_engine.speculation.round import Round
from foredraft_engine.speculation.verify_job import VerifyJob, VerifyOptions
from tests.exactness.laws import LUCK, exact_law, p_value, texts
from tests.fakes import TableRows, random_table
from tests.grammars import tokenizer_of
from tests.vllm_additions import Additions

VOCAB, LENGTH, K = 4, 3, 2
PROMPT = (1, 3, 1, 3)
BATCH = 5_000
TRIALS = texts(20_000, 200_000)
TARGET, DRAFT = TableRows(random_table(VOCAB, 0)), TableRows(random_table(VOCAB, 1))
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """A way to sample, and what proposes."""

    sampling: Sampling
    drafter: str = "model"
    width: int = 0
    confidence: float = 0.0
    grammar: Grammar | None = None


# What a text may be: under a grammar of these words there is a choice, or one token that is forced.
WORDS = ("a", "ab", "abca", "bca", "bcb", "cab", "ccc", "aab")
END = VOCAB - 1


@lru_cache
def _words() -> Grammar:
    compiler = GrammarCompiler(tokenizer_of("abc"))
    return compiler.compile(ResponseFormat("choice", json.dumps(WORDS)))


class _OneOfWords(hf.LogitsProcessor):
    """The law of the grammar, by looking at every word."""

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        text = ids[0, len(PROMPT) :].tolist()
        if END in text:
            return scores
        so_far = "".join("abc"[i] for i in text)
        may_come = [any(w.startswith(so_far + c) for w in WORDS) for c in "abc"]
        return scores.masked_fill(~torch.tensor([*may_come, so_far in WORDS]), -torch.inf)


BASE = Sampling(rule=Rule.REJECTION, prompt_length=len(PROMPT), max_length=99)
COUPLED = replace(BASE, rule=Rule.COUPLED)
PENALTIES: dict[str, Any] = {
    "repetition_penalty": 1.7,
    "temperature": 0.8,
    "top_k": 4,
    "no_repeat_ngram_size": 3,
}
ADDITIONS: dict[str, Any] = {
    "frequency_penalty": 0.9,
    "presence_penalty": -0.4,
    "logit_bias": ((1, 0.8), (3, -1.1)),
}
CASES = {
    "rejection, full q": Case(BASE),
    "rejection, sparse q": Case(BASE, width=2),
    "rejection, greedy draft": Case(BASE, drafter="greedy"),
    "rejection, n-gram draft": Case(BASE, drafter="ngram"),
    "rejection, no draft": Case(BASE, drafter="none"),
    "rejection, draft = target": Case(BASE, drafter="self"),
    "rejection, early stop": Case(BASE, confidence=0.5),
    "rejection, penalties": Case(replace(BASE, **PENALTIES)),
    "rejection, penalties, n-gram draft": Case(replace(BASE, **PENALTIES), drafter="ngram"),
    "rejection, additions": Case(replace(BASE, **ADDITIONS)),
    "rejection, additions, n-gram draft": Case(replace(BASE, **ADDITIONS), drafter="ngram"),
    "coupled, additions": Case(replace(COUPLED, **ADDITIONS)),
    "coupled": Case(COUPLED),
    "coupled, early stop": Case(COUPLED, confidence=0.5),
    "coupled, n-gram draft": Case(COUPLED, drafter="ngram"),
    "coupled, greedy draft": Case(COUPLED, drafter="greedy"),
    "coupled, penalties": Case(replace(COUPLED, **PENALTIES)),
}


# Under a response format: drafts that are held to it and that are not, and forced tokens.
HELD = {
    f"{rule}, {drafter}": Case(
        replace(sampling, eos_token_id=(END,), top_k=3), drafter=drafter, grammar=_words()
    )
    for rule, sampling, drafters in (
        ("rejection", BASE, ("model", "unheld", "forced", "none")),
        ("coupled", COUPLED, ("model", "unheld", "forced")),
    )
    for drafter in drafters
}


@pytest.fixture(autouse=True)
def _no_garbage_collection() -> Iterator[None]:
    """The tests make hundreds of thousands of small objects, none of them in a cycle."""
    gc.disable()
    yield
    gc.enable()


@TRIALS
@pytest.mark.parametrize("name", CASES)
def test_texts_have_the_targets_law(name: str, trials: int) -> None:
    _check_law(CASES[name], trials)


@texts(3_000, 50_000)
@pytest.mark.parametrize("name", HELD)
def test_texts_under_a_grammar_have_the_law_that_is_left(name: str, trials: int) -> None:
    _check_law(HELD[name], trials)


@pytest.mark.long
@pytest.mark.parametrize("name", ADDITIONS)
def test_many_texts_with_one_addition_have_the_law(name: str) -> None:
    _check_law(Case(replace(BASE, **{name: ADDITIONS[name]})), 200_000)


@pytest.mark.long
def test_many_texts_under_a_grammar_have_the_law_that_is_left() -> None:
    _check_law(HELD["rejection, model"], 200_000)


def _check_law(case: Case, trials: int) -> None:
    counts: Counter[tuple[int, ...]] = Counter()
    for first in range(0, trials, BATCH):
        counts.update(_texts(case, range(first, min(trials, first + BATCH))))
    chain = _transformers(case.sampling)
    if case.grammar:
        chain.insert(0, _OneOfWords())
    law = exact_law(TARGET, PROMPT, LENGTH, chain)
    assert p_value(counts, law) > LUCK


@TRIALS
def test_shared_noise_under_the_rejection_rule_would_be_caught(trials: int) -> None:
    """Guards against the published fault of one noise for draft and residual (vLLM #54282).

    With p = (.1, .5, .4) and q = (.5, .4, .1) the fault fails this chi-square; keys that keep the
    two apart pass it.
    """
    p, q = torch.tensor([0.1, 0.5, 0.4]), torch.tensor([0.5, 0.4, 0.1])
    target = TableRows(p.log().expand(3, 3, 3).contiguous())
    draft = TableRows(q.log().expand(3, 3, 3).contiguous())
    sampling = replace(BASE, prompt_length=1)
    counts = Counter(
        text[:1] for first in range(0, trials, BATCH)
        for text in _run(target, draft, sampling, (0,), 1, 1, range(first, first + BATCH))
    )  # fmt: skip
    assert p_value(counts, {(i,): p[i].item() for i in range(3)}) > LUCK


def test_a_draft_opened_again_on_the_same_text_draws_anew() -> None:
    """A lost draft is replaced at the same committed length, and its noise must not be that of the
    lost one.
    """
    first, second = (_draft_ids(epoch) for epoch in (1, 2))
    assert _draft_ids(1) == first
    agreeing = np.mean([a == b for a, b in zip(first, second, strict=True)])
    q = DRAFT._logits(PROMPT).softmax(-1)
    assert abs(agreeing - (q * q).sum().item()) < 0.05  # as often as independent draws agree


def _draft_ids(epoch: int) -> list[int]:
    options = DraftOptions(1, epoch=epoch)
    jobs = [
        DraftJob(Feed(0, 0, PROMPT), PROMPT, Processors(replace(BASE, seed=seed), CPU), options)
        for seed in range(2000)
    ]
    proposals = DraftJob.finish(jobs, _output(torch.stack([DRAFT._logits(PROMPT)] * len(jobs))))
    return [proposal.ids[0] for proposal in proposals]


def _texts(case: Case, seeds: range) -> list[tuple[int, ...]]:
    draft = {"self": TARGET}.get(case.drafter, DRAFT)
    return _run(TARGET, draft, case.sampling, PROMPT, LENGTH, K, seeds, case)


def _run(
    target: TableRows,
    draft: TableRows,
    sampling: Sampling,
    prompt: Sequence[int],
    length: int,
    k: int,
    seeds: range,
    case: Case | None = None,
) -> list[tuple[int, ...]]:
    """Returns texts of `length` tokens, one for each seed, with all rounds of a batch together."""
    case = case or Case(sampling)
    processors = [Processors(replace(sampling, seed=seed), CPU, case.grammar) for seed in seeds]
    texts = [list(prompt) for _ in seeds]
    open_ = list(range(len(seeds)))
    while open_:
        proposals = _propose(
            case, draft, [texts[i] for i in open_], [processors[i] for i in open_], k
        )
        jobs = [
            VerifyJob(
                Feed(0, 0, ()), Round(list(texts[i]), proposal, processors[i]), VerifyOptions()
            )
            for i, proposal in zip(open_, proposals, strict=True)
        ]
        contexts = [
            [*job.round.tokens[-2:], *job.round.proposal.ids][: len(job.round.tokens[-2:]) + n][-2:]
            for job in jobs
            for n in range(job.scored)
        ]
        verdicts = VerifyJob.finish(jobs, _output(_logits(target, contexts)))
        for i, verdict in zip(open_, verdicts, strict=True):
            assert isinstance(verdict, Verdict)
            texts[i] += verdict.ids
        open_ = [i for i in open_ if len(texts[i]) < len(prompt) + length]
    return [tuple(text[len(prompt) : len(prompt) + length]) for text in texts]


def _propose(
    case: Case, draft: TableRows, texts: list[list[int]], processors: list[Processors], k: int
) -> list[Proposal]:
    if case.drafter == "none":
        return [Proposal()] * len(texts)
    if case.drafter == "ngram":
        return [NgramDrafter(text, max_ngram=2).propose(k) for text in texts]
    if case.drafter == "forced":
        return [_forced(p, text) for p, text in zip(processors, texts, strict=True)]
    if case.drafter == "unheld":
        processors = [Processors(p.sampling, CPU) for p in processors]
    if case.drafter == "greedy":
        greedy = [Processors(Sampling(prompt_length=len(PROMPT)), CPU)] * len(texts)
        return [Proposal(p.ids) for p in _drafted(draft, texts, greedy, k, 0, 0.0)]
    return _drafted(draft, texts, processors, k, case.width, case.confidence)


def _forced(processors: Processors, text: list[int]) -> Proposal:
    assert processors.held
    return Proposal(processors.held.forced(text[len(PROMPT) :]), None, "grammar")


def _drafted(
    draft: TableRows,
    texts: list[list[int]],
    processors: list[Processors],
    k: int,
    width: int,
    confidence: float,
) -> list[Proposal]:
    options = DraftOptions(k, q_width=width, confidence=confidence)
    jobs = [
        DraftJob(Feed(0, 0, text), list(text), p, options)
        for text, p in zip(texts, processors, strict=True)
    ]
    proposals: list[Any] = [UNFINISHED] * len(jobs)
    while open_ := [i for i, proposal in enumerate(proposals) if proposal is UNFINISHED]:
        logits = _logits(draft, [jobs[i].text[-2:] for i in open_])
        results = DraftJob.finish([jobs[i] for i in open_], _output(logits))
        for i, result in zip(open_, results, strict=True):
            proposals[i] = result
    return proposals


def _output(logits: torch.Tensor) -> PassOutput:
    return PassOutput(logits, lambda at: logits)


def _logits(rows: TableRows, contexts: list[list[int]]) -> torch.Tensor:
    last, now = torch.tensor(
        [context if len(context) > 1 else [0, *context] for context in contexts]
    ).T
    return rows.table[last, now]


def _transformers(s: Sampling) -> LogitsProcessorList:
    chain = LogitsProcessorList()
    if s.logit_bias or s.frequency_penalty or s.presence_penalty:
        chain.append(Additions(s))
    if s.repetition_penalty != 1.0:
        chain.append(hf.RepetitionPenaltyLogitsProcessor(s.repetition_penalty))
    if s.no_repeat_ngram_size:
        chain.append(hf.NoRepeatNGramLogitsProcessor(s.no_repeat_ngram_size))
    if s.temperature != 1.0:
        chain.append(hf.TemperatureLogitsWarper(s.temperature))
    if s.top_k:
        chain.append(hf.TopKLogitsWarper(s.top_k))
    return chain


def test_a_greedy_proposal_with_soft_q_would_be_biased() -> None:
    """Guards against the published fault of argmax drafts scored with their softmax (ds4 #482):
    their q is one-hot.
    """
    processors = Processors(Sampling(prompt_length=4), CPU)
    (proposal,) = _drafted(DRAFT, [list(PROMPT)], [processors], K, 0, 0.0)
    assert proposal.q is None
    (sampled,) = _drafted(DRAFT, [list(PROMPT)], [Processors(BASE, CPU)], K, 0, 0.0)
    assert isinstance(sampled.q, SparseRows)
