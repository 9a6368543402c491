"""Ends of sequences, token by token, and text that never shows half a character."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from target_service.output.stopping import Stopping
from tests.fakes import LetterTokenizer
from tests.models import bundled
from tests.plans import plan

LETTERS = LetterTokenizer(26)


def _ids(text: str) -> list[int]:
    return LETTERS(text)["input_ids"]


@pytest.mark.parametrize(
    ("fields", "block", "kept", "reason"),
    [
        ({}, "abcdefghij", "abcdefgh", "length"),
        ({"eos_token_id": [2]}, "abcde", "abc", "eos_token"),
        ({"stop_strings": ["cd"]}, "abcde", "abcd", "stop_string"),
        ({"stop_strings": ["zz", "b"]}, "abcde", "ab", "stop_string"),
        ({"stop_strings": ["ya"]}, "abcde", "a", "stop_string"),  # begins in the prompt
        (
            {"stop_strings": ["xy"]},
            "abcde",
            "abcde",
            "",
        ),  # lies in the prompt: nothing completed it
        ({"eos_token_id": [7]}, "abcdefgh", "abcdefgh", "eos_token"),  # at the limit, EOS says more
    ],
)
def test_a_block_is_cut_at_the_token_that_ends_it(
    fields: dict[str, Any], block: str, kept: str, reason: str
) -> None:
    stopping = Stopping(plan(_ids("xy"), 8, **fields), LETTERS)
    taken = stopping.take(_ids(block))
    assert (taken.text, taken.reason) == (kept, reason)
    assert list(taken.ids) == _ids(kept)
    assert taken.offsets == tuple(range(len(kept)))


def test_stop_strings_span_blocks() -> None:
    stopping = Stopping(plan(_ids("xy"), 20, stop_strings=["abc"]), LETTERS)
    assert not stopping.take(_ids("qa")).reason
    assert not stopping.take(_ids("b")).reason
    assert stopping.take(_ids("cd")).text == "c"


def test_time_ends_a_sequence() -> None:
    stopping = Stopping(plan(_ids("xy"), 20, max_time=1e-9), LETTERS)
    assert stopping.is_out_of_time()
    assert stopping.reason == "max_time"


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="aé∑字🙂 \n{", min_size=1, max_size=20), st.integers(1, 5))
def test_pieces_add_up_to_the_text(text: str, width: int) -> None:
    tokenizer = bundled("target").tokenizer
    prompt, ids = tokenizer("def x")["input_ids"], tokenizer(text)["input_ids"]
    stopping = Stopping(plan(prompt, 1000), tokenizer)
    pieces = [stopping.take(ids[i : i + width]).text for i in range(0, len(ids), width)]
    assert "".join(pieces) + stopping.flush() == text
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)
