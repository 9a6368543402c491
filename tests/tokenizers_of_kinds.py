"""Small tokenizers of every kind, with tokens that cut characters and words anywhere."""

from collections.abc import Callable
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

SPECIAL = ("<|im_end|>", "<|pad|>")
_WORDS = ("a", "b", "ab", "▁", "▁▁", "▁ab", "the", "▁the", "🙂", "é", "字", "\n", "�", ".")


class OwnDecoding(PreTrainedTokenizerFast):
    """A tokenizer with code of its own, of which nothing is known."""

    def _decode(self, *args: Any, **kwargs: Any) -> str:
        text: str = super()._decode(*args, **kwargs)
        return text


def _fast(
    core: Tokenizer, kind: type[PreTrainedTokenizerFast] = PreTrainedTokenizerFast
) -> PreTrainedTokenizerFast:
    core.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    core.add_tokens([AddedToken("<tool é>"), AddedToken("é字")])
    return kind(tokenizer_object=core, pad_token="<|pad|>", eos_token="<|im_end|>")


def _byte_level(kind: type[PreTrainedTokenizerFast] = PreTrainedTokenizerFast) -> Any:
    letters = bytes_to_unicode()
    pieces = ["a b", " ab", "🙂", "é", "字"]
    words = ["".join(letters[byte] for byte in piece.encode()) for piece in pieces]
    words += ["".join(letters[b] for b in cut) for cut in (b"\xf0\x9f", b"a\xf0", b"\x99\x82 b")]
    vocab = {token: i for i, token in enumerate([*letters.values(), *words])}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return _fast(core, kind)


def _byte_fallback(strip: bool) -> Any:
    tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *_WORDS, "c", "d", "e", "f"]
    vocab = {token: i for i, token in enumerate(tokens)}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[], byte_fallback=True, unk_token="<unk>"))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    core.decoder = decoders.Sequence([*steps, *([decoders.Strip(" ", 1, 0)] if strip else [])])
    return _fast(core)


def _metaspace() -> Any:
    pieces = [(token, -1.0) for token in ("<unk>", *_WORDS, "c", "d", "e", "f")]
    core = Tokenizer(models.Unigram(pieces, unk_id=0))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    return _fast(core)


def _word_piece() -> Any:
    tokens = ["[UNK]", "the", "##the", "a", "##a", ".", "!", "##!", "é", "##字", "'", "abcdef"]
    vocab = {token: i for i, token in enumerate(tokens)}
    core = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.decoder = decoders.WordPiece()
    return _fast(core)


def _word_ends() -> Any:
    tokens = ["<unk>", "the", "the</w>", "a", "a</w>", ".</w>", "é", "字</w>", "abcdef"]
    vocab = {token: i for i, token in enumerate(tokens)}
    core = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.decoder = decoders.BPEDecoder()
    return _fast(core)


TOKENIZERS: dict[str, Callable[[], Any]] = {
    "byte level": _byte_level,
    "byte level, own code": lambda: _byte_level(OwnDecoding),
    "byte fallback, as Llama": lambda: _byte_fallback(strip=True),
    "byte fallback, as Gemma": lambda: _byte_fallback(strip=False),
    "SentencePiece": _metaspace,
    "WordPiece": _word_piece,
    "word ends": _word_ends,
}
