"""The mode that a config asks for; contradictions are refused with every field named."""

from typing import Any

import pytest

from foredraft.v1 import generation_pb2, target_pb2
from foredraft.wire import write
from foredraft_engine.errors import InvalidFieldError
from target_service.request.defaults import Config, fill
from target_service.request.mode import Mode, check_call, mode_of


def _config(**fields: Any) -> Config:
    config = Config()
    for name, value in fields.items():
        write(config, name, value)
    return config


def _mode(model: Config | None = None, **fields: Any) -> Mode:
    asked = _config(**fields)
    return mode_of(asked, fill(asked, model or Config()))


@pytest.mark.parametrize(
    ("fields", "mode"),
    [
        ({}, Mode.ASSISTED),
        ({"do_sample": True, "num_return_sequences": 3}, Mode.ASSISTED),
        (
            {"num_beams": 1, "penalty_alpha": 0.0, "early_stopping": False, "length_penalty": 1.0},
            Mode.ASSISTED,
        ),
        ({"num_beams": 4, "num_return_sequences": 4}, Mode.BEAMS),
        ({"num_beams": 2, "do_sample": True, "early_stopping": "never"}, Mode.BEAMS),
        ({"num_beams": 2, "num_assistant_tokens": 0}, Mode.BEAMS),
        ({"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5}, Mode.DIVERSE_BEAMS),
        ({"penalty_alpha": 0.6, "top_k": 4}, Mode.CONTRASTIVE),
        ({"penalty_alpha": 0.6}, Mode.CONTRASTIVE),
    ],
    ids=str,
)
def test_modes(fields: dict[str, Any], mode: Mode) -> None:
    assert _mode(**fields) is mode


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"num_return_sequences": 2}, {"num_return_sequences", "do_sample"}),
        ({"early_stopping": True}, {"early_stopping", "num_beams"}),
        ({"length_penalty": 2.0}, {"length_penalty", "num_beams"}),
        ({"diversity_penalty": 2.0}, {"diversity_penalty", "num_beams"}),
        ({"num_beams": 4, "diversity_penalty": 2.0}, {"diversity_penalty", "num_beam_groups"}),
        ({"num_beams": 2, "num_return_sequences": 3}, {"num_return_sequences", "num_beams"}),
        (
            {"num_beams": 4, "num_beam_groups": 3, "diversity_penalty": 1.0},
            {"num_beam_groups", "num_beams"},
        ),
        ({"num_beams": 4, "num_beam_groups": 2}, {"num_beam_groups", "diversity_penalty"}),
        ({"num_beam_groups": 2, "diversity_penalty": 1.0}, {"num_beam_groups", "num_beams"}),
        (
            {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0, "do_sample": True},
            {"num_beam_groups", "do_sample"},
        ),
        ({"num_beams": 4, "penalty_alpha": 0.5}, {"penalty_alpha", "num_beams"}),
        ({"num_beams": 4, "num_assistant_tokens": 5}, {"num_assistant_tokens", "num_beams"}),
        (
            {"num_beams": 4, "prompt_lookup_num_tokens": 5},
            {"prompt_lookup_num_tokens", "num_beams"},
        ),
        ({"num_beams": 4, "guidance_scale": 1.5}, {"guidance_scale", "num_beams"}),
        ({"penalty_alpha": 0.5, "do_sample": True}, {"penalty_alpha", "do_sample"}),
        ({"penalty_alpha": 0.5, "top_k": 1}, {"penalty_alpha", "top_k"}),
        ({"penalty_alpha": 0.5, "num_return_sequences": 2}, {"num_return_sequences", "do_sample"}),
        ({"penalty_alpha": 0.5, "length_penalty": 2.0}, {"length_penalty", "num_beams"}),
        ({"penalty_alpha": 0.5, "output_scores": True}, {"output_scores", "penalty_alpha"}),
    ],
    ids=lambda value: "+".join(sorted(value)),
)
def test_contradictions(fields: dict[str, Any], named: set[str]) -> None:
    with pytest.raises(InvalidFieldError) as raised:
        _mode(**fields)
    assert set(raised.value.fields) == named


def test_a_default_that_does_not_suit_is_no_contradiction() -> None:
    """Only a default that changes the text is a contradiction."""
    searching = _config(num_beams=4, length_penalty=2.0, early_stopping=True)
    assert _mode(searching, num_beams=1) is Mode.ASSISTED
    assert _mode(_config(penalty_alpha=0.5, top_k=4), do_sample=True) is Mode.ASSISTED
    assert _mode(_config(num_assistant_tokens=5), num_beams=3) is Mode.BEAMS
    with pytest.raises(InvalidFieldError, match="guidance_scale"):
        _mode(_config(guidance_scale=2.0), num_beams=3)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"logprobs": 0}, "logprobs"),
        ({"prompt_logprobs": 0}, "prompt_logprobs"),
        ({"sampling_rule": generation_pb2.SAMPLING_RULE_COUPLED}, "sampling_rule"),
        ({"prompts": [generation_pb2.Prompt(text="a", generated_ids=[1])]}, "generated_ids"),
    ],
)
def test_arguments_that_a_search_has_no_use_for(fields: dict[str, Any], name: str) -> None:
    message = target_pb2.GenerateRequest(**fields)
    check_call(message, Config(), Mode.ASSISTED)
    for mode, chosen_by in ((Mode.BEAMS, "num_beams"), (Mode.CONTRASTIVE, "penalty_alpha")):
        with pytest.raises(InvalidFieldError) as raised:
            check_call(message, Config(), mode)
        assert set(raised.value.fields) == {name, chosen_by}
