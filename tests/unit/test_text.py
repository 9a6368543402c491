"""Text that comes piece by piece is the text of all tokens at once, whatever the tokenizer."""

import random
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import pytest
import torch
from transformers import StopStringCriteria

from target_service.output.stop_strings import StopStrings
from target_service.output.stopping import Stopping
from target_service.output.text import text_after
from target_service.output.token_forms import Joining, TokenForms
from tests.plans import plan
from tests.tokenizers_of_kinds import SPECIAL, TOKENIZERS

_SEQUENCES = 600
KINDS = pytest.mark.parametrize("kind", TOKENIZERS)


@cache
def _forms(kind: str) -> tuple[Any, TokenForms]:
    tokenizer = TOKENIZERS[kind]()
    return tokenizer, TokenForms(tokenizer)


def _sequences(kind: str, count: int) -> Iterator[tuple[list[int], list[int], random.Random]]:
    """Yields prompts and what follows them, with runs of bytes and special tokens among words."""
    vocab = _forms(kind)[0].get_vocab()
    letters = [token for token in vocab if len(token) == 1 or token.startswith("<0x")]
    others = sorted(set(vocab) - set(letters)) + [*SPECIAL] * 2
    smile = [vocab[token] for token in _smile(vocab)]
    for seed in range(count):
        draw = random.Random(seed)
        ids: list[int] = []
        while len(ids) < draw.choice([6, 12, 40]):
            some = draw.choice([letters, others, others])
            ids += [vocab[draw.choice(some)] for _ in range(draw.randrange(1, 14))]
            ids += draw.choice([[], smile])
            ids += draw.choice([[], [], [max(vocab.values()) + 3]])  # no token has this id
        cut = draw.randrange(1, len(ids))
        yield ids[:cut], ids[cut:], draw


def _smile(vocab: dict[str, int]) -> list[str]:
    for tokens in (["ð", "Ł", "Ļ", "Ĥ"], ["<0xF0>", "<0x9F>", "<0x99>", "<0x82>"]):
        if set(tokens) <= set(vocab):
            return tokens
    return []


def _after(tokenizer: Any, prompt: Sequence[int], ids: Sequence[int]) -> str:
    """Returns the text of all tokens at once, without what the prompt's own text holds of it."""
    before, whole = (
        tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for tokens in (list(prompt), [*prompt, *ids])
    )
    known = next(n for n in range(len(before), -1, -1) if whole.startswith(before[:n]))
    return str(whole[known:])


def test_kinds_of_joining_are_told_apart() -> None:
    told = {kind: _forms(kind)[1].joining for kind in TOKENIZERS}
    assert told == {
        "byte level": Joining.BYTES,
        "byte level, own code": Joining.OPAQUE,
        "byte fallback, as Llama": Joining.BYTE_RUNS,
        "byte fallback, as Gemma": Joining.BYTE_RUNS,
        "SentencePiece": Joining.OPAQUE,
        "WordPiece": Joining.OPAQUE,
        "word ends": Joining.OPAQUE,
    }


@KINDS
def test_pieces_are_the_text_of_all_tokens_at_once(kind: str) -> None:
    """What was shown after every token, and what would be shown if the sequence ended there."""
    tokenizer, forms = _forms(kind)
    for prompt, ids, _ in _sequences(kind, _SEQUENCES):
        text, shown = text_after(forms, prompt), ""
        for n, token in enumerate(ids, 1):
            at_once = _after(tokenizer, prompt, ids[: n - 1])
            piece, earlier = text.add(token)
            own = len(shown) + earlier
            assert at_once.startswith((shown + piece)[:own]), "a token begins after those before it"
            shown += piece
            assert shown + text.fork().rest() == _after(tokenizer, prompt, ids[:n]), (prompt, ids)


@KINDS
def test_another_call_goes_on_where_one_was_cut_off(kind: str) -> None:
    """Nothing that the first call held back is lost, and nothing comes twice."""
    tokenizer, forms = _forms(kind)
    for prompt, ids, draw in _sequences(kind, _SEQUENCES):
        cut = draw.randrange(len(ids))
        first, second = text_after(forms, prompt), text_after(forms, prompt, ids[:cut])
        shown = "".join(first.add(token)[0] for token in ids[:cut])
        shown += "".join(second.add(token)[0] for token in ids[cut:]) + second.rest()
        assert shown == _after(tokenizer, prompt, ids), (prompt, ids, cut)


@pytest.mark.parametrize("stray", [1, 2, 5, 6, 7, 13])
@pytest.mark.parametrize("kind", ["byte level", "byte level, own code"])
def test_a_character_after_stray_bytes_is_whole_and_ends_the_text(kind: str, stray: int) -> None:
    tokenizer, forms = _forms(kind)
    vocab = tokenizer.get_vocab()
    ids = [vocab["Ģ"]] * stray + [vocab[token] for token in _smile(vocab)] + [vocab["a"]]
    stopping = Stopping(plan([vocab["a"]], 100, stop_strings=["🙂"]), forms)
    pieces = [stopping.take([token]) for token in ids[:-1]]
    assert "".join(piece.text for piece in pieces) == "\ufffd" * stray + "🙂"
    assert [piece.reason for piece in pieces] == [""] * (len(pieces) - 1) + ["stop_string"]


def test_text_is_held_back_only_while_it_can_change() -> None:
    tokenizer, forms = _forms("byte level")
    vocab = tokenizer.get_vocab()
    text = text_after(forms, [vocab["a"]])
    assert [text.add(vocab[token])[0] for token in ("ð", "a", "Ģ", "að", "ŁĻ"[0])] == [
        "",
        "\ufffda",
        "\ufffd",
        "a",
        "",
    ]
    tokenizer, forms = _forms("byte fallback, as Llama")
    vocab = tokenizer.get_vocab()
    text = text_after(forms, [vocab["a"]])
    tokens = ("<0xC3>", "<0xA9>", "a", "<0xC3>", "<0x41>", "<0x42>", "▁the")
    pieces = ["", "", "éa", "", "\ufffd\ufffd", "\ufffd", " the"]
    assert [text.add(vocab[token])[0] for token in tokens] == pieces


@KINDS
def test_stop_strings_end_where_those_of_transformers_do(kind: str) -> None:
    tokenizer, forms = _forms(kind)
    stopped = 0
    for prompt, ids, draw in _sequences(kind, 150):
        whole = tokenizer.decode([*prompt, *ids], skip_special_tokens=False)
        begin = draw.randrange(len(whole))
        strings = [whole[begin : begin + draw.choice([1, 2, 4, 14])], draw.choice(SPECIAL)]
        criterion = StopStringCriteria(tokenizer, strings)
        stops = StopStrings(strings, forms, prompt)
        for n, token in enumerate(ids, 1):
            want = bool(criterion(torch.tensor([[*prompt, *ids[:n]]]), None).item())
            assert bool(stops.complete(token)) == want, (strings, prompt, ids[:n])
            stopped += want
    assert stopped
