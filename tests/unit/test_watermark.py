"""Watermarks and their statistics are those of transformers, at every position, without state."""

import math
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, WatermarkDetector, WatermarkingConfig
from transformers.generation import logits_process as hf

from foredraft.v1 import generation_pb2, target_pb2
from foredraft_engine.logits.processing import Scored, process
from foredraft_engine.logits.processors import Processors
from foredraft_engine.logits.synthid import g_values
from foredraft_engine.sampling import Greenlist, Rule, Sampling, SynthId
from target_service.request.prompts import Prompts
from target_service.watermark_detection import Detector
from tests.fakes import table_model

CPU, VOCAB = torch.device("cpu"), 50
PROMPT = [4, 1, 2, 6, 1]


def _text(length: int, kinds: int) -> list[int]:
    """Returns a text of few different tokens, so that contexts repeat."""
    return torch.randint(kinds, (length,), generator=torch.Generator().manual_seed(length)).tolist()


def _scores(
    sampling: Sampling, generated: list[int], count: int, logits: torch.Tensor
) -> torch.Tensor:
    return process([Scored(Processors(sampling, CPU), [*PROMPT, *generated], count)], logits)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"greenlist_ratio": 0.5, "bias": 4.0, "hashing_key": 12},
        {"seeding_scheme": "selfhash"},
        {"seeding_scheme": "selfhash", "context_width": 3, "hashing_key": 99},
        {"context_width": 7},
    ],
    ids=str,
)
def test_green_lists(fields: dict[str, Any]) -> None:
    generated, count = _text(8, 20), 5
    theirs = hf.WatermarkLogitsProcessor(VOCAB, "cpu", **fields)
    sampling = Sampling(
        rule=Rule.REJECTION, prompt_length=len(PROMPT), watermark=Greenlist(VOCAB, **fields)
    )
    logits = torch.randn(count, VOCAB, generator=torch.Generator().manual_seed(1)) * 3
    whole = [*PROMPT, *generated]
    want = torch.cat(
        [
            theirs(torch.tensor([whole[: len(whole) - count + 1 + i]]), logits[i : i + 1])
            for i in range(count)
        ]
    )
    assert torch.equal(_scores(sampling, generated, count, logits), want)


@pytest.mark.parametrize(
    "fields",
    [
        {"ngram_len": 3, "keys": [5, 9, 12, 7]},
        {"ngram_len": 2, "keys": [1], "context_history_size": 3},
        {
            "ngram_len": 5,
            "keys": list(range(20)),
            "skip_first_ngram_calls": True,
            "sampling_table_seed": 3,
        },
        {"ngram_len": 3, "keys": [5, 9], "sampling_table_size": 17, "debug_mode": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("count", [1, 4])
def test_synthid(fields: dict[str, Any], count: int) -> None:
    """transformers' processor is called token by token, ours for the last positions together."""
    defaults: dict[str, Any] = {
        "sampling_table_size": 2**16,
        "sampling_table_seed": 0,
        "context_history_size": 1024,
    }
    theirs = hf.SynthIDTextWatermarkLogitsProcessor(**{**defaults, **fields}, device="cpu")
    generated = _text(60, 3)
    logits = torch.randn(len(generated) + 1, VOCAB, generator=torch.Generator().manual_seed(1)) * 3
    logits[:, 7] = float("-inf")  # a token that a warper removed
    want = [
        theirs(torch.tensor([[*PROMPT, *generated[:i]]]), logits[i : i + 1]).clone()
        for i in range(len(generated) + 1)
    ]
    mark = SynthId(**{**fields, "keys": tuple(fields["keys"])})
    sampling = Sampling(rule=Rule.COUPLED, prompt_length=len(PROMPT), watermark=mark)
    for last in [40, 3, 60, 12, 41]:
        got = _scores(sampling, generated[:last], count, logits[last - count + 1 : last + 1])
        for i in range(count):
            expected = want[last - count + 1 + i][0]
            expected = expected.masked_fill(
                expected <= torch.finfo(torch.float32).min, float("-inf")
            )
            torch.testing.assert_close(
                got[i].softmax(-1), expected.softmax(-1), atol=1e-5, rtol=1e-4
            )


def _detector() -> Detector:
    return Detector(Prompts(table_model(VOCAB), 512), VOCAB, None)


def _request(ids: list[int], **fields: Any) -> target_pb2.DetectWatermarkRequest:
    texts = [generation_pb2.Prompt(token_ids=generation_pb2.TokenIds(ids=ids))]
    return target_pb2.DetectWatermarkRequest(texts=texts, **fields)


@pytest.mark.parametrize(
    "fields", [{}, {"seeding_scheme": "selfhash", "context_width": 2}, {"context_width": 2}]
)
@pytest.mark.parametrize("once", [False, True])
def test_the_statistics_are_those_of_transformers(fields: dict[str, Any], once: bool) -> None:
    ids = _text(80, 12)
    config = WatermarkingConfig(**fields)
    theirs = WatermarkDetector(LlamaConfig(vocab_size=VOCAB, bos_token_id=49), "cpu", config, once)
    want = theirs(torch.tensor([ids]), z_threshold=0.5, return_dict=True)
    wire = generation_pb2.WatermarkingConfig(greenlist=generation_pb2.Greenlist(**fields))
    answer = _detector().detect(
        _request(ids, watermarking_config=wire, z_threshold=0.5, ignore_repeated_ngrams=once)
    )
    got = answer.detections[0]
    for name in (
        "num_tokens_scored",
        "num_green_tokens",
        "green_fraction",
        "z_score",
        "p_value",
        "confidence",
    ):
        assert getattr(got, name) == pytest.approx(float(getattr(want, name)[0]), rel=1e-6)
    assert got.prediction == bool(want.prediction[0])


def test_g_values_are_those_of_transformers() -> None:
    ids, keys = _text(60, 4), [5, 9, 12, 7]
    theirs = hf.SynthIDTextWatermarkLogitsProcessor(4, keys, 2**16, 0, 1024, "cpu")
    g = theirs.compute_g_values(torch.tensor([ids]))[0].float()
    mask = theirs.compute_context_repetition_mask(torch.tensor([ids]))[0].bool()
    assert 0 < mask.sum() < len(mask)
    assert torch.equal(g_values(SynthId(4, tuple(keys)), ids), g[mask])
    wire = generation_pb2.WatermarkingConfig(
        synth_id=generation_pb2.SynthId(ngram_len=4, keys=keys)
    )
    found = _detector().detect(_request(ids, watermarking_config=wire)).detections[0]
    assert found.num_tokens_scored == mask.sum()
    assert found.mean_score == pytest.approx(g[mask].mean().item())
    weights = torch.linspace(10, 1, 4)
    weighted = (g[mask] * weights * 4 / weights.sum()).mean().item()
    assert found.weighted_mean_score == pytest.approx(weighted, rel=1e-5)
    assert not math.isnan(found.mean_score)
