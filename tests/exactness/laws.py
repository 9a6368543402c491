"""Exact laws of short texts, and the probability of missing them by luck."""

from collections import Counter
from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
import torch
from scipy.stats import chi2
from transformers import LogitsProcessorList

from tests.fakes import TableRows

# A right implementation fails one test in a hundred million by luck; with the tests' fixed seeds,
# never again once it has passed. The number of texts changes what a law test can see, not this.
LUCK = 1e-8

# Sampled texts, with a proposal in every round: what pays would depend on chance on a busy machine.
DRAFTED: Any = {
    "do_sample": True,
    "top_k": 0,
    "num_assistant_tokens": 2,
    "num_assistant_tokens_schedule": "constant",
    "assistant_confidence_threshold": 0.0,
}


def texts(usual: int, long: int) -> pytest.MarkDecorator:
    """Parametrizes a test by the number of texts that it counts against a law.

    Args:
        usual: the number of texts in `make test`.
        long: the number of texts in `make test-long`, which sees biases that are
            `sqrt(long / usual)` times smaller.
    """
    many = pytest.param(long, marks=pytest.mark.long)
    return pytest.mark.parametrize("trials", [usual, many], ids=lambda n: f"{n} texts")


def exact_law(
    rows: TableRows,
    prompt: Sequence[int],
    length: int,
    processors: LogitsProcessorList | None = None,
) -> dict[tuple[int, ...], float]:
    """Returns the probability of every continuation of `length` tokens, with transformers' own
    processors.
    """
    vocab = rows.table.shape[-1]
    law = {}
    for text in product(range(vocab), repeat=length):
        probability = 1.0
        for i, token in enumerate(text):
            context = [*prompt, *text[:i]]
            scores = rows._logits(context)[None]
            if processors:
                scores = processors(torch.tensor([context]), scores)
            probability *= scores.double().softmax(-1)[0, token].item()
            if probability == 0.0:
                break
        law[text] = probability
    return law


def p_value(counts: Counter[tuple[int, ...]], law: dict[tuple[int, ...], float]) -> float:
    """Returns the chi-square p-value of counted texts under their law; rare texts are pooled (at
    least 5 expected).
    """
    trials = sum(counts.values())
    impossible = [text for text in counts if law.get(text, 0.0) == 0.0]
    assert not impossible, f"texts of probability 0 came out: {impossible[:3]}"
    statistic, cells = 0.0, 0
    rare_expected = rare_seen = 0.0
    for text, probability in law.items():
        expected = trials * probability
        if expected < 5:
            rare_expected, rare_seen = rare_expected + expected, rare_seen + counts[text]
            continue
        statistic += (counts[text] - expected) ** 2 / expected
        cells += 1
    if rare_expected >= 5:
        statistic += (rare_seen - rare_expected) ** 2 / rare_expected
        cells += 1
    return float(chi2.sf(statistic, cells - 1))
