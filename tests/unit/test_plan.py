"""Requests become plans with every default filled in, or are refused with the field named."""

from typing import Any

import pytest

from foredraft.v1 import generation_pb2, target_pb2
from foredraft_engine.errors import InvalidFieldError, ModelError
from foredraft_engine.sampling import Rule
from target_service.request.defaults import Config
from target_service.request.model_config import model_config
from target_service.request.plan import Request, ServiceLimits
from target_service.request.planner import Planner
from tests.fakes import table_model
from tests.plans import planned

PROMPT = generation_pb2.Prompt(token_ids=generation_pb2.TokenIds(ids=[1, 2, 3]))


def _planner(**defaults: Any) -> Planner:
    return Planner(table_model(20), model_config("model", defaults), ServiceLimits(64))


def _request(
    planner: Planner | None = None, prompt: generation_pb2.Prompt = PROMPT, **fields: Any
) -> Request:
    top = {
        n: fields.pop(n)
        for n in ("seed", "sampling_rule", "logprobs", "prompt_logprobs")
        if n in fields
    }
    message = target_pb2.GenerateRequest(prompts=[prompt], config=Config(**fields), **top)
    return planned(planner or _planner(), message)


def test_lengths_are_those_of_transformers() -> None:
    assert _request().plans[0].max_length == 3 + 20
    assert _request(max_new_tokens=5).plans[0].max_length == 8
    assert _request(max_length=9).plans[0].max_length == 9
    assert _request(max_length=50, max_new_tokens=4).plans[0].max_length == 7
    assert _request(_planner(max_length=40)).plans[0].max_length == 40
    assert _request(_planner(max_length=4000)).plans[0].max_length == 64, (
        "a model's own limit is cut to the rows'"
    )
    assert _request(_planner(max_new_tokens=6), max_length=30).plans[0].max_length == 9, (
        "wherever it comes from"
    )


def test_the_call_wins_over_the_model_over_the_defaults() -> None:
    planner = _planner(do_sample=True, temperature=0.6, top_p=0.9, eos_token_id=[1, 2], num_beams=1)
    sampling = _request(planner, top_p=0.5).plans[0].sampling
    assert (sampling.rule, sampling.temperature, sampling.top_p, sampling.top_k) == (
        Rule.REJECTION,
        0.6,
        0.5,
        50,
    )
    assert sampling.eos_token_id == (1, 2)
    none = generation_pb2.TokenIds()
    assert _request(planner, eos_token_id=none).plans[0].sampling.eos_token_id == ()
    assert _request(planner, do_sample=False).plans[0].sampling.rule is Rule.GREEDY


def test_rules_and_seeds() -> None:
    assert _request(do_sample=True).rule is Rule.REJECTION
    assert _request(do_sample=True, seed=1).rule is Rule.COUPLED
    assert _request(do_sample=True, seed=1, sampling_rule=1).rule is Rule.REJECTION
    assert _request(do_sample=True).seed != _request(do_sample=True).seed


def test_generated_ids_are_no_prompt() -> None:
    prompt = generation_pb2.Prompt(
        token_ids=generation_pb2.TokenIds(ids=[1, 2, 3]), generated_ids=[4, 5]
    )
    plan = _request(prompt=prompt, max_new_tokens=6).plans[0]
    assert plan.tokens == (1, 2, 3, 4, 5)
    assert plan.sampling.prompt_length == 3
    assert plan.max_length == 9


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("max_new_tokens", {"max_new_tokens": 0}),
        ("max_new_tokens", {"max_new_tokens": 62}),
        ("max_length", {"max_length": 3}),
        ("temperature", {"do_sample": True, "temperature": 0.0}),
        ("temperature", {"temperature": 0.7}),
        ("temperature", {"do_sample": True, "temperature": float("nan")}),
        ("top_k", {"top_k": 10, "do_sample": False}),
        ("top_p", {"do_sample": True, "top_p": 1.5}),
        ("repetition_penalty", {"repetition_penalty": float("inf")}),
        ("num_return_sequences", {"num_return_sequences": 2}),
        ("num_return_sequences", {"num_return_sequences": 0}),
        ("num_assistant_tokens_schedule", {"num_assistant_tokens_schedule": "sometimes"}),
        ("prompt_lookup_num_tokens", {"prompt_lookup_num_tokens": 3, "num_assistant_tokens": 0}),
        ("stop_strings", {"stop_strings": generation_pb2.Strings(values=[""])}),
        ("eos_token_id", {"eos_token_id": generation_pb2.TokenIds(ids=[20])}),
        (
            "bad_words_ids",
            {"bad_words_ids": generation_pb2.TokenIdsList(values=[generation_pb2.TokenIds()])},
        ),
        ("min_new_tokens", {"min_new_tokens": 30, "max_new_tokens": 10}),
        ("sampling_rule", {"sampling_rule": 2}),
        ("sampling_rule", {"sampling_rule": 9, "do_sample": True}),
        ("logprobs", {"logprobs": 2**31}),
        ("prompt_logprobs", {"prompt_logprobs": 2**31}),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(field: str, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidFieldError) as caught:
        _request(**fields)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "prompt",
    [
        generation_pb2.Prompt(),
        generation_pb2.Prompt(token_ids=generation_pb2.TokenIds()),
        generation_pb2.Prompt(token_ids=generation_pb2.TokenIds(ids=[99])),
        generation_pb2.Prompt(text=""),
    ],
)
def test_prompts_that_are_none(prompt: generation_pb2.Prompt) -> None:
    with pytest.raises(InvalidFieldError, match="prompt"):
        _request(prompt=prompt)


def test_a_conversation_needs_a_template() -> None:
    chat = generation_pb2.Prompt(
        chat=generation_pb2.Chat(messages=[generation_pb2.ChatMessage(role="user", content="a")])
    )
    with pytest.raises(InvalidFieldError, match=r"no chat template.* as foredraft generate does"):
        _request(prompt=chat)


def test_a_model_that_asks_for_what_is_not_served_is_refused_at_start() -> None:
    with pytest.raises(ModelError, match="dola_layers"):
        _planner(dola_layers="high")
