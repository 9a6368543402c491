"""The text of the bundled pair: the Python standard library's own sources.

Whole modules are held out by name, so that prompts from them are text that neither model has seen.
"""

import sysconfig
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

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
# Left out: tables made by programs, tests and demonstrations that are much alike, and packages of
# other people.
_LEFT_OUT = {
    "test",
    "tests",
    "idle_test",
    "idlelib",
    "lib2to3",
    "site-packages",
    "encodings",
    "pydoc_data",
    "turtledemo",
    "ensurepip",
    "__phello__",
    "_casefix.py",  # re: a table of characters
    "entities.py",  # html: a table of names
}
# The settings of the build differ from machine to machine and name its folders.
_BUILD = ("_sysconfigdata", "config-")
END = "<|endoftext|>"
PAD = "<|pad|>"
END_ID, PAD_ID = 0, 1  # the trainer numbers special tokens first, in this order
CONTEXT = 2048


def modules() -> dict[str, str]:
    """Returns every module's text by its path in the library."""
    root = Path(sysconfig.get_path("stdlib"))
    found = {}
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if not _LEFT_OUT & set(name.parts) and not any(
            part.startswith(_BUILD) for part in name.parts
        ):
            found[name.as_posix()] = path.read_text(encoding="utf-8")
    return found


def split() -> tuple[dict[str, str], dict[str, str]]:
    """Returns training modules and held-out modules."""
    training = modules()
    held_out = {name: training.pop(name) for name in HELD_OUT}
    return training, held_out


def train_tokenizer(texts: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Trains a byte-level BPE tokenizer."""
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
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=PAD,
        model_max_length=CONTEXT,
    )


def encode(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> Tensor:
    """Returns all texts as one row of ids, each between end tokens. int64 [n]."""
    ids = [END_ID]
    for text in texts:
        ids += [*tokenizer.encode(text, add_special_tokens=False, verbose=False), END_ID]
    return torch.tensor(ids)
