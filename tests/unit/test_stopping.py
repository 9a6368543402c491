"""Ends of sequences, token by token, and text that never shows half a character."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from target_service.output.branch_stopping import BranchStopping
from target_service.output.stopping import Stopping
from target_service.output.token_forms import TokenForms
from tests.fakes import LetterTokenizer
from tests.models import bundled
from tests.plans import plan

LETTERS = LetterTokenizer(26)
FORMS = TokenForms(LETTERS)


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
    stopping = Stopping(plan(_ids("xy"), 8, **fields), FORMS)
    taken = stopping.take(_ids(block))
    assert (taken.text, taken.reason) == (kept, reason)
    assert list(taken.ids) == _ids(kept)
    assert taken.offsets == tuple(range(len(kept)))


def test_stop_strings_span_blocks() -> None:
    stopping = Stopping(plan(_ids("xy"), 20, stop_strings=["abc"]), FORMS)
    assert not stopping.take(_ids("qa")).reason
    assert not stopping.take(_ids("b")).reason
    assert stopping.take(_ids("cd")).text == "c"


def test_time_ends_a_sequence() -> None:
    stopping = Stopping(plan(_ids("xy"), 20, max_time=1e-9), FORMS)
    assert stopping.is_out_of_time()
    assert stopping.reason == "max_time"


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="aé∑字🙂 \n{", min_size=1, max_size=20), st.integers(1, 5))
def test_pieces_add_up_to_the_text(text: str, width: int) -> None:
    tokenizer = bundled("target").tokenizer
    prompt, ids = tokenizer("def x")["input_ids"], tokenizer(text)["input_ids"]
    stopping = Stopping(plan(prompt, 1000), TokenForms(tokenizer))
    pieces = [stopping.take(ids[i : i + width]).text for i in range(0, len(ids), width)]
    assert "".join(pieces) + stopping.flush() == text
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)


@pytest.mark.parametrize("stop", ["<|pad|>", "x<|pad|>", "<|pad|>y"])
def test_a_stop_string_may_hold_a_special_token_that_is_not_shown(stop: str) -> None:
    """Tokens of one block, of separate blocks and of branches of a search end the text alike."""
    tokenizer = bundled("target").tokenizer
    pad = tokenizer.convert_tokens_to_ids("<|pad|>")
    prompt, (x,), (y,) = ([2], tokenizer("x")["input_ids"], tokenizer("y")["input_ids"])
    ids = [x, pad, y, y]
    kept = ids[: 3 if stop.endswith("y") else 2]
    shown = "xy" if stop.endswith("y") else "x"

    def stopping() -> Stopping:
        return Stopping(plan(prompt, 100, stop_strings=[stop]), TokenForms(tokenizer))

    taken = stopping().take(ids)
    assert (list(taken.ids), taken.text, taken.reason) == (kept, shown, "stop_string")
    one_by_one = stopping()
    assert [one_by_one.take([token]).reason for token in kept][-1] == "stop_string"
    branches = BranchStopping(stopping())
    for n in range(1, len(kept)):
        assert not branches.ends(tuple(kept[:n]))
        branches.keep([tuple(kept[:n])])
    assert branches.ends(tuple(kept))
