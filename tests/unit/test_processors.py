"""Batched warpers equal transformers' classes, and processors depend on the tokens alone."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig, LogitsProcessorList
from transformers.generation import logits_process as hf

from foredraft_engine.logits.processing import Scored, process
from foredraft_engine.logits.processors import Processors
from foredraft_engine.logits.warpers import Warping
from foredraft_engine.sampling import Rule, Sampling
from foredraft_engine.transfer import to_device
from tests.models import random_model

CPU = torch.device("cpu")
SAMPLINGS = st.builds(
    Sampling,
    rule=st.sampled_from(list(Rule)),
    temperature=st.sampled_from([1.0, 0.3, 1.7]),
    top_k=st.sampled_from([0, 1, 5, 500]),
    top_p=st.sampled_from([1.0, 0.9, 0.4, 0.01]),
    min_p=st.sampled_from([0.0, 0.05, 0.6]),
)


def _transformers_warpers(s: Sampling) -> LogitsProcessorList:
    chain = LogitsProcessorList()
    if s.is_sampled:
        if s.temperature != 1.0:
            chain.append(hf.TemperatureLogitsWarper(s.temperature))
        if s.top_k:
            chain.append(hf.TopKLogitsWarper(s.top_k))
        if s.top_p < 1:
            chain.append(hf.TopPLogitsWarper(s.top_p))
        if s.min_p:
            chain.append(hf.MinPLogitsWarper(s.min_p))
    return chain


@settings(max_examples=60, deadline=None)
@given(st.lists(SAMPLINGS, min_size=1, max_size=6), st.integers(0, 10_000))
def test_batched_warpers_equal_those_of_transformers(rows: list[Sampling], seed: int) -> None:
    logits = torch.randn(len(rows), 64, generator=torch.Generator().manual_seed(seed)) * 3
    logits[:, 3] = logits[:, 4]  # a tie
    logits[:, 9] = float("-inf")  # a token that a processor removed
    want = torch.cat(
        [_transformers_warpers(s)(None, logits[i : i + 1]) for i, s in enumerate(rows)]
    )
    warping = Warping(rows, logits.shape[1])
    moved = to_device(list(warping.arrays.values()), CPU)
    got = warping.apply(logits, dict(zip(warping.arrays, moved, strict=True)))
    assert torch.equal(got, want)


FIELDS: list[dict[str, Any]] = [
    {"repetition_penalty": 1.3},
    {"no_repeat_ngram_size": 2},
    {"bad_words_ids": ((5,), (6, 7))},
    {"sequence_bias": (((3,), 2.5), ((1, 2), -4.0))},
    {"min_length": 9, "eos_token_id": (2,)},
    {"min_new_tokens": 4, "eos_token_id": (2, 3)},
    {"forced_eos_token_id": (2,), "max_length": 9},
    {"suppress_tokens": (1, 2)},
    {"begin_suppress_tokens": (4, 5)},
    {"do_sample": True, "temperature": 0.7, "typical_p": 0.8},
    {"do_sample": True, "top_h": 0.5, "top_k": 20},
    {"do_sample": True, "epsilon_cutoff": 0.02, "eta_cutoff": 0.03},
    {
        "repetition_penalty": 1.3,
        "do_sample": True,
        "temperature": 0.7,
        "top_k": 10,
        "renormalize_logits": True,
    },
]


@pytest.mark.parametrize("fields", FIELDS, ids=lambda f: "+".join(f))
def test_scores_equal_those_of_generate(fields: dict[str, Any]) -> None:
    """Compares with the list that `generate` itself builds, at every position of a block."""
    prompt, block = [4, 1, 2, 6, 1], [6, 7, 1, 2]
    sampled = fields.get("do_sample", False)
    values = {"top_k": 0, "max_length": 30, **fields}
    given = {name: value for name, value in values.items() if name != "do_sample"}
    sampling = Sampling(
        rule=Rule.REJECTION if sampled else Rule.GREEDY, prompt_length=len(prompt), **given
    )
    model: Any = random_model("llama")
    plain: dict[str, Any] = {
        n: [list(i) for i in v] if n == "bad_words_ids" else v for n, v in values.items()
    }
    plain = {
        n: dict(v)
        if n == "sequence_bias"
        else list(v)
        if isinstance(v, tuple) and n != "bad_words_ids"
        else v
        for n, v in plain.items()
    }
    config = GenerationConfig(**plain)
    config._eos_token_tensor = (
        torch.tensor(plain["eos_token_id"]) if "eos_token_id" in plain else None
    )
    for name, neutral in {
        "typical_p": 1.0,
        "top_p": 1.0,
        "epsilon_cutoff": 0.0,
        "eta_cutoff": 0.0,
    }.items():
        if getattr(config, name) is None:
            setattr(config, name, neutral)
    chain = model._get_logits_processor(config, input_ids_seq_length=len(prompt), device="cpu")
    logits = torch.randn(len(block) + 1, 64, generator=torch.Generator().manual_seed(1)) * 2
    context = torch.tensor([[*prompt, *block]])
    want = torch.cat(
        [chain(context[:, : len(prompt) + i], logits[i : i + 1]) for i in range(len(block) + 1)]
    )
    got = process([Scored(Processors(sampling, CPU), [*prompt, *block], len(block) + 1)], logits)
    assert torch.equal(got, want)


def test_equal_histories_are_read_together() -> None:
    """Sequences that differ in seed share a call, with the same scores as each alone."""
    samplings = [
        Sampling(
            rule=Rule.COUPLED,
            seed=seed,
            repetition_penalty=1.5,
            no_repeat_ngram_size=2,
            temperature=0.9,
        )
        for seed in range(3)
    ] + [Sampling(repetition_penalty=1.5), Sampling(rule=Rule.REJECTION)]
    tokens = [[1, 2, 1, 3], [2, 2, 1, 5], [1, 2, 1], [7, 7, 7, 7], [1, 2, 3, 4]]
    counts = [3, 2, 1, 2, 1]
    logits = torch.randn(sum(counts), 32, generator=torch.Generator().manual_seed(0))
    before = logits.clone()
    batch = [
        Scored(Processors(s, CPU), t, n) for s, t, n in zip(samplings, tokens, counts, strict=True)
    ]
    parts = logits.split(counts)
    alone = torch.cat([process([item], part) for item, part in zip(batch, parts, strict=True)])
    assert torch.equal(process(batch, logits), alone)
    assert torch.equal(logits, before), (
        "the model's own logits stay: log-probabilities are read from them"
    )


def test_sequences_of_a_batch_do_not_touch_each_other() -> None:
    samplings = [
        Sampling(rule=Rule.REJECTION, temperature=0.5, top_k=3),
        Sampling(),
        Sampling(rule=Rule.COUPLED, typical_p=0.6, repetition_penalty=2.0),
    ]
    logits = torch.randn(3, 32)
    tokens = [[1, 2], [3], [4, 5, 6]]
    batch = [Scored(Processors(s, CPU), t, 1) for s, t in zip(samplings, tokens, strict=True)]
    together = process(batch, logits)
    alone = torch.cat([process([item], logits[i : i + 1]) for i, item in enumerate(batch)])
    assert torch.equal(together, alone)
    assert torch.equal(together[1], logits[1])
