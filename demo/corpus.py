"""The text of the bundled pair: the Python standard library's own sources.

Whole modules are held out by name, so that prompts from them are text that neither model has seen.
"""

import sysconfig
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

HELD_OUT = (
    "bisect.py",
    "cmd.py",
    "colorsys.py",
    "fractions.py",
    "heapq.py",
    "queue.py",
    "sched.py",
    "shlex.py",
    "statistics.py",
    "string.py",
    "textwrap.py",
    "timeit.py",
)
# Not prose of a programmer: tests, tables made by programs, other people's packages.
_LEFT_OUT = ("test", "tests", "idlelib", "lib2to3", "site-packages", "encodings", "pydoc_data", "turtledemo", "ensurepip")
END = "<|endoftext|>"
PAD = "<|pad|>"


def modules() -> dict[str, str]:
    """Every module's text by its path in the library."""
    root = Path(sysconfig.get_path("stdlib"))
    found = {}
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if not set(name.parts[:-1]) & set(_LEFT_OUT) and path.stat().st_size < 300_000:
            found[str(name)] = path.read_text(encoding="utf-8", errors="strict" if name.parts[0] != "lib" else "ignore")
    return found


def split() -> tuple[dict[str, str], dict[str, str]]:
    """Training modules and held-out modules."""
    everything = modules()
    held_out = {name: everything.pop(name) for name in HELD_OUT}
    return everything, held_out


def train_tokenizer(texts: list[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, texts: list[str]) -> Tensor:
    """All texts in one row of ids, each between end tokens. int64 [n]."""
    end = tokenizer.token_to_id(END)
    ids = [end]
    for encoding in tokenizer.encode_batch(texts):
        ids += [*encoding.ids, end]
    return torch.tensor(ids)
