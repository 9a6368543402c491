"""A config becomes transformers' own object and comes back: nothing is lost unless it is named."""

from pathlib import Path
from typing import Any

import pytest
import transformers
from transformers import SynthIDTextWatermarkingConfig, WatermarkingConfig

from foredraft import GenerationConfig, InvalidRequestError
from foredraft.wire import config_message

FIELDS: list[dict[str, Any]] = [
    {"max_new_tokens": 8, "do_sample": True, "temperature": 0.5, "top_p": 0.9},
    {"eos_token_id": [2, 3], "stop_strings": ["a", "b"], "bad_words_ids": [[1], [2, 3]]},
    {"sequence_bias": {(1, 2): 3.0}},
    {"num_beams": 4, "early_stopping": "never", "length_penalty": 0.5},
    {"num_beams": 4, "early_stopping": True},
    {"exponential_decay_length_penalty": (5, 1.25)},
    {"penalty_alpha": 0.6, "top_k": 4},
    {"cache_implementation": "quantized", "cache_config": {"backend": "hqq", "nbits": 4}},
    {"do_sample": True, "watermarking_config": {"bias": 2.5, "seeding_scheme": "selfhash"}},
    {"do_sample": True, "watermarking_config": WatermarkingConfig(context_width=2)},
    {"do_sample": True, "watermarking_config": {"ngram_len": 5, "keys": [1, 2]}},
    {
        "do_sample": True,
        "watermarking_config": SynthIDTextWatermarkingConfig(5, [1, 2], sampling_table_size=16),
    },
    {"output_scores": True, "output_logits": True},
    {"num_assistant_tokens": 5, "num_assistant_tokens_schedule": "constant"},
]


@pytest.mark.parametrize("fields", FIELDS, ids=lambda fields: " ".join(fields))
def test_there_and_back(fields: dict[str, Any]) -> None:
    config = GenerationConfig(**fields)
    upstream = config.to_transformers()
    assert isinstance(upstream, transformers.GenerationConfig)
    sent = config_message(config, {})
    kind = type(fields.get("watermarking_config", {}))
    again = config_message(upstream, {})
    if kind is dict and "watermarking_config" in fields:  # transformers fills in its defaults
        sent.watermarking_config.MergeFrom(again.watermarking_config)
        if sent.watermarking_config.synth_id.keys:
            sent.watermarking_config.synth_id.keys[:] = [1, 2]
    assert again == sent


@pytest.mark.parametrize(
    "fields", [f for f in FIELDS if "penalty_alpha" not in f], ids=lambda fields: " ".join(fields)
)
def test_it_can_be_saved_as_for_a_hub(fields: dict[str, Any], tmp_path: Path) -> None:
    """save_pretrained is strict, and push_to_hub uses it; it refuses the contrastive example."""
    GenerationConfig(**fields).to_transformers().save_pretrained(tmp_path)
    assert (tmp_path / "generation_config.json").stat().st_size


def test_it_shows_what_is_set() -> None:
    assert (
        repr(GenerationConfig(top_k=0, do_sample=True))
        == "GenerationConfig(do_sample=True, top_k=0)"
    )
    assert repr(GenerationConfig()) == "GenerationConfig()"


def test_real_watermarks() -> None:
    synth_id = GenerationConfig(watermarking_config={"ngram_len": 5, "keys": [1]}).to_transformers()
    assert isinstance(synth_id.watermarking_config, SynthIDTextWatermarkingConfig)
    greenlist = GenerationConfig(watermarking_config={"bias": 3.0}).to_transformers()
    assert isinstance(greenlist.watermarking_config, WatermarkingConfig)


def test_what_is_not_set_stays_none() -> None:
    upstream = GenerationConfig(top_k=0).to_transformers()
    assert upstream.to_diff_dict() == {"top_k": 0, "transformers_version": transformers.__version__}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"num_assistant_tokens_schedule": "goodput"}, "num_assistant_tokens_schedule"),
        ({"num_return_sequences": 2}, "generation_config"),
        ({"watermarking_config": {"keys": [1]}}, "generation_config"),
        ({"watermarking_config": {"colour": 1}}, "watermarking_config"),
        ({"temperature": float("nan")}, "temperature"),
    ],
)
def test_what_cannot_go_over_is_named(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        GenerationConfig(**fields).to_transformers()
    assert raised.value.field == field


def test_a_config_that_transformers_saved_and_read(tmp_path: Path) -> None:
    """transformers turns keys that are tuples into strings, and does not turn them back."""
    transformers.GenerationConfig(sequence_bias={(1, 2): 3.0, (4,): -1.0}).save_pretrained(tmp_path)
    config = transformers.GenerationConfig.from_pretrained(tmp_path)
    assert config.sequence_bias == {"(1, 2)": 3.0, "(4,)": -1.0}
    message = config_message(config, {})
    assert [(list(e.ids), e.bias) for e in message.sequence_bias.values] == [
        ([1, 2], 3.0),
        ([4], -1.0),
    ]
    for wrong in ("(1, x)", "1, 2", "(-1)", "("):
        with pytest.raises(InvalidRequestError):
            config_message(None, {"sequence_bias": {wrong: 1.0}})
