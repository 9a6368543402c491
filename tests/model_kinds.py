"""What becomes of every decoder kind of transformers: `python -m tests.model_kinds` writes
docs/model-kinds.md.

Each kind is a tiny random model, saved and loaded as a service loads one, in a process of its own.
"""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import torch

from foredraft_engine.errors import ModelError
from foredraft_engine.feed import Feed
from foredraft_engine.model.loading import load
from foredraft_engine.model.proof import prove_rows
from foredraft_engine.model.rows import Rows
from tests.models import bundled, stock
from tests.tiny_models import VOCABULARY, kinds, tiny_model

PAGE = Path(__file__).resolve().parent.parent / "docs" / "model-kinds.md"
NEW_TOKENS = 32
PROPOSED = 4
TIMEOUT_S = 120.0
_HEAD = """# Kinds of models

`make models` makes this page from tiny random models of every kind of causal language model that
transformers has; `make test-long` compares it with a fresh run. Packed rows share one forward pass,
branches and quantized caches need them, and separate rows have a forward pass each. "Equal" counts
the greedy tokens that are those of transformers' own `generate`, with proposals of four tokens that
are verified and partly rejected, in batches of two. A trained model may be refused for reasons that
its tiny one does not have, and the engine tries each model when it is loaded.

| kind | rows | branches | quantized cache | equal | note |
| --- | --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one kind; each field is a cell of the table."""

    kind: str
    rows: str
    """packed, separate, refused, not tried, or fault."""
    branches: str = ""
    quantized: str = ""
    equal: str = ""
    note: str = ""


def outcome(kind: str) -> Outcome:
    """Loads and runs the tiny model of a kind."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        try:
            model: Any = tiny_model(kind)
            model.save_pretrained(folder)
        except Exception as error:  # of transformers, for a config that names do not make small
            return Outcome(kind, "not tried", note=_line(error))
        bundled("target").tokenizer.save_pretrained(folder)
        try:
            module: Any = load(folder).module
            rows = prove_rows(module, module.config.get_text_config(), 128, 8).make(3, 128)
        except ModelError as error:
            return Outcome(kind, "refused", note=_line(error, folder))
        except Exception as error:  # what a start must not end in
            return Outcome(kind, "fault", note=_line(error, folder))
        prompts = _prompts()
        with torch.inference_mode():
            used = module.config._attn_implementation
            stock(module)
            try:
                want = [_generated(module, prompt) for prompt in prompts]
            except Exception as error:  # of transformers' own generate, for some kinds
                return _served(kind, rows, "", f"generate fails: {_line(error)}")
            module.set_attn_implementation(used)
            got = verified(rows, prompts, want)
            pairs = [
                g == w for a, b in zip(got, want, strict=True) for g, w in zip(a, b, strict=True)
            ]
            if got == want:
                note = ""
            elif got == [_uncached(stock(module), prompt) for prompt in prompts]:
                note = "equal to the model without a cache, from which its own generate differs"
            else:
                note = "the text is not that of generate"
        return _served(kind, rows, f"{sum(pairs)} of {len(pairs)}", note)


def _served(kind: str, rows: Rows, equal: str, note: str) -> Outcome:
    branches, quantized = ("yes" if able else "no" for able in (rows.branches, rows.quantizes))
    return Outcome(kind, rows.layout, branches, quantized, equal, note)


def verified(
    rows: Rows, prompts: Sequence[Sequence[int]], want: list[list[int]]
) -> list[list[int]]:
    """Returns greedy texts by verification of proposals, ragged and all rows at once.

    A proposal holds the wanted tokens, the last one or the one before it changed, so that each
    round rolls back.
    """
    texts = [list(prompt) for prompt in prompts]
    rows.forward([Feed(i, 0, t[:-1]) for i, t in enumerate(texts)], [0] * len(texts))
    ends = [len(prompt) + NEW_TOKENS for prompt in prompts]
    while open_rows := [i for i, text in enumerate(texts) if len(text) < ends[i]]:
        feeds = []
        for i in open_rows:
            at = len(texts[i]) - len(prompts[i])
            proposal = want[i][at : at + PROPOSED - at % 2]
            if proposal:
                proposal[-1 - at % 2 * (len(proposal) > 1)] ^= 1
            feeds.append(Feed(i, len(texts[i]) - 1, [texts[i][-1], *proposal]))
        scores = rows.forward(feeds, [len(feed.ids) for feed in feeds])
        for feed, best in zip(
            feeds, scores.argmax(-1).split([len(f.ids) for f in feeds]), strict=True
        ):
            chosen = best.tolist()
            right = 0
            while right < len(feed.ids) - 1 and feed.ids[right + 1] == chosen[right]:
                right += 1
            texts[feed.row] += chosen[: right + 1]
    return [t[len(p) :][:NEW_TOKENS] for t, p in zip(texts, prompts, strict=True)]


def _generated(module: Any, prompt: Sequence[int]) -> list[int]:
    ids = torch.tensor([prompt])
    out = module.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        min_new_tokens=NEW_TOKENS,
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        eos_token_id=None,
    )
    new: list[int] = out[0, len(prompt) :].tolist()
    return new


def _uncached(module: Any, prompt: Sequence[int]) -> list[int]:
    """Returns the greedy text of a model that reads it whole for every token."""
    text = list(prompt)
    for _ in range(NEW_TOKENS):
        logits = module(input_ids=torch.tensor([text]), use_cache=False).logits
        text.append(int(logits[0, -1].argmax()))
    return text[len(prompt) :]


def _prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randint(2, VOCABULARY, (n,), generator=generator).tolist() for n in (7, 21)]


def _line(error: Exception, folder: str = "") -> str:
    """Returns an error in one line of a table, the same in every run."""
    text = " ".join(str(error).split()) or "without a message"
    if folder:
        text = text.replace(repr(folder), "the model")
    if not isinstance(error, ModelError):
        text = f"{type(error).__name__}: {text}"
    return text.replace("|", "/")[:160].strip()


def outcomes(names: Iterable[str]) -> list[Outcome]:
    """Returns the outcomes of kinds, each in a process that has its own end."""
    bundled("target")
    results = []
    for name in names:
        receiver, sender = multiprocessing.get_context("fork").Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(target=_send, args=(name, sender))
        process.start()
        sender.close()
        try:
            if receiver.poll(TIMEOUT_S):
                results.append(receiver.recv())
            else:
                results.append(
                    Outcome(name, "not tried", note=f"takes more than {TIMEOUT_S:.0f} s")
                )
        except EOFError:
            results.append(Outcome(name, "fault", note="the process ends"))
        process.kill()
        process.join()
    return results


def _send(name: str, sender: Any) -> None:
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    sender.send(outcome(name))


def page(results: Iterable[Outcome]) -> str:
    """Returns docs/model-kinds.md."""
    return _HEAD + "".join(_row(result) for result in results)


def _row(result: Outcome) -> str:
    kind, *cells = astuple(result)
    return "| " + " | ".join([f"`{kind}`", *cells]) + " |\n"


def listed() -> list[Outcome]:
    """Returns the outcomes that the page has."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [Outcome(kind.strip("`"), *rest) for kind, *rest in cells]


if __name__ == "__main__":
    PAGE.write_text(page(outcomes(sys.argv[1:] or kinds())))
