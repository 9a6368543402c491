"""Generation parameters: Hugging Face's names, kept, merged and refused before anything is sent."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from google.protobuf.json_format import MessageToDict

from foredraft import Client, GenerationConfig, InvalidRequestError, UnavailableError
from foredraft._call import build_call
from foredraft.v1 import generation_pb2
from foredraft.wire import GENERATION_FIELDS as FIELDS
from foredraft.wire import UNSUPPORTED_FIELDS, config_message
from foredraft.wire.config import config_from
from tests.sdk.fake_target import FakeTarget


def sent(config: Any = None, **fields: Any) -> dict[str, Any]:
    """Returns what is sent, as plain values."""
    message: dict[str, Any] = MessageToDict(
        config_message(config, fields), preserving_proto_field_name=True
    )
    return message


def test_the_fields_are_those_of_the_wire() -> None:
    assert set(FIELDS) == set(generation_pb2.GenerationConfig.DESCRIPTOR.fields_by_name)


def test_the_fields_are_those_of_transformers() -> None:
    theirs = set(transformers.GenerationConfig().to_dict())
    assert {name for name, field in FIELDS.items() if field.in_transformers} == set(FIELDS) & theirs


def test_keywords_go_over_the_config() -> None:
    config = GenerationConfig(max_new_tokens=8, temperature=0.5, do_sample=True)
    assert sent(config, temperature=0.7) == {
        "max_new_tokens": 8,
        "temperature": 0.7,
        "do_sample": True,
    }
    assert sent(config, temperature=None) == {
        "max_new_tokens": 8,
        "temperature": 0.5,
        "do_sample": True,
    }
    assert sent() == {}


def test_a_config_of_transformers() -> None:
    config = transformers.GenerationConfig(
        max_new_tokens=8, do_sample=True, top_p=0.9, eos_token_id=[2, 3]
    )
    assert sent(config, top_p=0.8) == {
        "max_new_tokens": 8,
        "do_sample": True,
        "top_p": 0.8,
        "eos_token_id": {"ids": [2, 3]},
    }


def test_the_defaults_of_transformers_are_no_request() -> None:
    defaults = transformers.GenerationConfig._get_default_generation_params()
    refused = {
        name
        for name, value in defaults.items()
        if name not in FIELDS and not UNSUPPORTED_FIELDS[name].is_off(value)
    }
    assert not refused
    message = sent(transformers.GenerationConfig(**defaults))
    assert message["do_sample"] is False  # it may go over the model's own config
    assert (
        "top_k" not in message
    )  # means nothing without sampling, and older configs always carry it
    assert sent(do_sample=True, top_k=50)["top_k"] == 50


@pytest.mark.parametrize(
    "fields",
    [
        {"force_words_ids": [[1]]},
        {"use_mtp": True},
        {"dola_layers": "high"},
        {"something_own": 1},
    ],
    ids=lambda fields: next(iter(fields)),
)
@pytest.mark.filterwarnings("ignore")
def test_what_is_not_supported_is_refused_by_name(fields: dict[str, Any]) -> None:
    name = next(iter(fields))
    config = transformers.GenerationConfig()
    config.update(**fields)
    if fields.keys() <= config.to_dict().keys() and getattr(config, name) is not None:
        with pytest.raises(InvalidRequestError, match=name) as raised:
            sent(config)
        assert raised.value.field == name
    with pytest.raises(InvalidRequestError, match=name) as raised:
        sent(None, **fields)
    assert raised.value.field == name


def test_every_field_of_transformers_has_a_way_out() -> None:
    for name in set(transformers.GenerationConfig().to_dict()) - set(FIELDS):
        if name.startswith("_") or name == "transformers_version":
            continue
        with pytest.raises(InvalidRequestError, match=f"{name}='x' is not supported: "):
            sent(**{name: "x"})


@pytest.mark.parametrize(
    "name", ["prefix_allowed_tokens_fn", "logits_processor", "assistant_model", "input_ids"]
)
def test_arguments_of_transformers_generate_have_a_way_out(name: str) -> None:
    with pytest.raises(InvalidRequestError, match="is not supported: "):
        sent(**{name: object()})


def test_a_result_is_what_return_dict_in_generate_asks_for() -> None:
    assert sent(return_dict_in_generate=True, max_new_tokens=3) == {"max_new_tokens": 3}


def test_an_unknown_keyword() -> None:
    with pytest.raises(
        InvalidRequestError, match=r"'max_new_token' .* did you mean 'max_new_tokens'"
    ):
        sent(max_new_token=3)


@pytest.mark.parametrize("config", ["", {"max_new_tokens": 3}, 3])
def test_what_is_no_config(config: Any) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        sent(config)
    assert raised.value.field == "generation_config"


@pytest.mark.parametrize(
    ("name", "value", "on_the_wire"),
    [
        ("stop_strings", "a", {"values": ["a"]}),
        ("stop_strings", ["a", "b"], {"values": ["a", "b"]}),
        ("stop_strings", [], {}),
        ("eos_token_id", 2, {"ids": [2]}),
        ("eos_token_id", [2, 3], {"ids": [2, 3]}),
        ("eos_token_id", torch.tensor([2, 3]), {"ids": [2, 3]}),
        ("eos_token_id", [], {}),
        ("sequence_bias", {(1, 2): 3.0}, {"values": [{"ids": [1, 2], "bias": 3.0}]}),
        ("sequence_bias", [[[1, 2], 3.0]], {"values": [{"ids": [1, 2], "bias": 3.0}]}),
        ("bad_words_ids", [[1], [2, 3]], {"values": [{"ids": [1]}, {"ids": [2, 3]}]}),
        ("temperature", 1, 1.0),
        ("temperature", np.float64(0.5), 0.5),
        ("max_new_tokens", np.int64(3), 3),
        ("max_new_tokens", torch.tensor(3), 3),
        ("do_sample", np.bool_(True), True),
        ("num_assistant_tokens", 0, 0),
        ("num_assistant_tokens_schedule", "constant", "constant"),
        ("early_stopping", False, "EARLY_STOPPING_FALSE"),
        ("early_stopping", "never", "EARLY_STOPPING_NEVER"),
        ("exponential_decay_length_penalty", (5, 1.1), {"start": 5, "factor": 1.1}),
        ("cache_config", {"backend": "quanto", "nbits": 4}, {"backend": "quanto", "nbits": 4}),
        (
            "watermarking_config",
            {"bias": 2.5, "context_width": 2},
            {"greenlist": {"bias": 2.5, "context_width": 2}},
        ),
        (
            "watermarking_config",
            {"ngram_len": 5, "keys": [1, -2]},
            {"synth_id": {"ngram_len": 5, "keys": ["1", "-2"]}},
        ),
    ],
)
def test_values(name: str, value: Any, on_the_wire: Any) -> None:
    message = config_message(None, {name: value})
    assert sent(**{name: value}) == {name: on_the_wire}
    assert getattr(config_from(message), name) is not None


@pytest.mark.parametrize("name", FIELDS)
def test_what_is_no_value(name: str) -> None:
    for value in (object(), float("nan"), float("inf"), -(2**70), {"a": {}}, [{"a": None}]):
        if isinstance(value, int) and name in _FLOATS:
            continue
        with pytest.raises(InvalidRequestError, match=name) as raised:
            sent(**{name: value})
        assert raised.value.field == name


_FLOATS = {name for name in FIELDS if "float | None" in str(GenerationConfig.__annotations__[name])}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_new_tokens", -1),
        ("max_new_tokens", 2**32),
        ("max_new_tokens", 1.5),
        ("max_new_tokens", True),
        ("temperature", np.float32("nan")),
        ("temperature", "0.7"),
        ("temperature", True),
        ("do_sample", 1),
        ("sequence_bias", {(1,): float("-inf")}),
        ("sequence_bias", {(1,): 1e39}),
        ("eos_token_id", [-1]),
        ("stop_strings", [1]),
        ("bad_words_ids", [[1.5]]),
        ("suppress_tokens", "12"),
    ],
)
def test_values_out_of_range(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError, match=name) as raised:
        sent(**{name: value})
    assert raised.value.field == name


def test_nothing_is_sent_when_it_is_refused(target: Callable[..., FakeTarget]) -> None:
    fake = target()
    with (
        Client(fake.address) as client,
        pytest.raises(InvalidRequestError, match="low_memory=True"),
    ):
        client.generate("a", transformers.GenerationConfig(low_memory=True))
    assert not fake.requests


def test_what_a_client_cannot_be_made_of() -> None:
    wrong: list[dict[str, Any]] = [
        {"address": []},
        {"address": ""},
        {"max_retries": -1},
        {"timeout": 0},
    ]
    for fields in wrong:
        with pytest.raises(InvalidRequestError):
            Client(**fields)
    assert issubclass(InvalidRequestError, ValueError)
    assert issubclass(UnavailableError, ConnectionError)


def test_a_negative_prompt_has_two_names() -> None:
    def away(given: Any, **kwargs: Any) -> list[list[int]]:
        call = build_call([1], None, {"negative_prompt": given, **kwargs})
        return [list(prompt.token_ids.ids) for prompt in call.request.negative_prompts]

    assert (
        away([5, 6])
        == away(None, negative_prompt_ids=[5, 6])
        == away([5, 6], negative_prompt_ids=None)
        == [[5, 6]]
    )
    with pytest.raises(InvalidRequestError) as caught:
        away([5], negative_prompt_ids=[6])
    assert caught.value.fields == ("negative_prompt", "negative_prompt_ids")
