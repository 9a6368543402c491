"""A small vocabulary of bytes and a few joined tokens, for tests of response formats."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from foredraft_engine.model.loading import LoadedModel
from foredraft_engine.vocabulary import Vocabulary

# Joined as byte-pair encoding does it, so that most texts have several tokenisations and one that
# is canonical.
_MERGES = ("t r", "tr u", "tru e", "n a", "m e", "na me", '" :', '" ,', 'Ġ "', "a b", "ab c", "1 2")
END = "<end>"


def tokenizer_of(characters: str, merges: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """Returns a tokenizer whose tokens are the bytes of characters, and their merges; the last one
    ends texts.
    """
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    single = "".join(byte_level.pre_tokenize_str(one)[0][0] for one in characters)
    known = [*dict.fromkeys(single), *("".join(pair.split()) for pair in merges)]
    vocabulary = {token: i for i, token in enumerate(known)}
    pairs = [(left, right) for left, right in (pair.split() for pair in merges)]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    tokenizer.pre_tokenizer, tokenizer.decoder = byte_level, decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(END, special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END)


@lru_cache
def ascii_tokenizer() -> PreTrainedTokenizerFast:
    """Returns a tokenizer of what JSON in ASCII is written with, some of it in two ways."""
    return tokenizer_of("".join(map(chr, range(32, 127))), _MERGES)


def held_model(tokenizer: PreTrainedTokenizerFast) -> LoadedModel:
    """Returns a loaded model with this tokenizer. Its logits come from the engine's rows."""
    vocabulary = Vocabulary.of(tokenizer)
    return LoadedModel("table", torch.nn.Identity(), tokenizer, vocabulary, 512)


def json_table(tokenizer: PreTrainedTokenizerFast, seed: int) -> Tensor:
    """Returns random logits, [vocab, vocab, vocab], under which values soon come to an end."""
    size = len(tokenizer)
    table = torch.randn(size, size, size, generator=torch.Generator().manual_seed(seed)) * 1.5
    for token in ('"', "}", "]", '",', END):
        table[..., tokenizer.convert_tokens_to_ids(token)] += 2.5
    return table
