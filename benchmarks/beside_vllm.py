"""Measures a real model, served, beside vLLM's CPU build, served, and beside transformers. Two
cores, Linux.

    make bench-vllm
    make bench-vllm ARGS='--dtype float32 --streams 16 --rivals eager --bare'
    python -m benchmarks.beside_vllm --rivals           # foredraft alone

Prompts of 96 tokens, 64 new ones, greedy, no end of text, streamed to as many callers. Whoever
generates has both cores, and all others are stopped. The callers are in a process of their own,
which shares these cores, the same for both servers. All take turns, in an order that rotates.
"""

import argparse
import json
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoTokenizer

from benchmarks import machine
from benchmarks.against import Bare, Score, Table
from benchmarks.peers import CORES, VLLM_PYTHON, NotStartedError, Peer, Place
from benchmarks.report import Section, grid
from benchmarks.worker import ROOT, Worker
from demo.real_model import smollm2

_PROMPT = 96
_PLAIN = {"num_assistant_tokens": 0}
_RIVALS = ("eager", "compiled", "batch", "continuous")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured."""

    dtypes: tuple[str, ...]
    streams: tuple[int, ...]
    texts: tuple[str, ...]
    rivals: tuple[str, ...]
    lookups: tuple[int, ...]
    repetitions: int
    new_tokens: int
    flags: tuple[str, ...]
    bare: bool


def _windows(model: Path, count: int, tokens: int) -> list[list[int]]:
    """Returns pieces of source text of so many tokens, all different."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    entries = json.loads((ROOT / "demo" / "prompts.json").read_text())
    ids = tokenizer("\n\n".join(entry["text"] for entry in entries))["input_ids"]
    stride = min(tokens, (len(ids) - tokens) // max(1, count - 1))
    return [ids[at * stride : at * stride + tokens] for at in range(count)]


def _started(plan: Plan, text: str, place: Place, notes: list[str]) -> list[Peer]:
    """Starts everybody; who cannot be started is noted and left out."""
    quotes = text == "quotes"
    fields = {} if quotes else _PLAIN
    peers = [place.foredraft("foredraft", plan.flags, fields)]
    wanted: list[tuple[str, tuple[str, ...]]] = []
    if quotes:
        for k in plan.lookups if {"eager", "compiled"} & set(plan.rivals) else ():
            config = {"method": "ngram", "num_speculative_tokens": k}
            config |= {"prompt_lookup_max": 3, "prompt_lookup_min": 2}
            mode = () if "compiled" in plan.rivals else ("--enforce-eager",)
            flags = ("--speculative-config", json.dumps(config), *mode)
            wanted.append((f"vLLM, ngram, k = {k}", flags))
    else:
        wanted += [("vLLM, eager", ("--enforce-eager",))] if "eager" in plan.rivals else []
        wanted += [("vLLM, compiled", ())] if "compiled" in plan.rivals else []
    if wanted and not VLLM_PYTHON.exists():
        notes.append("vLLM is LEFT OUT: its environment is not there, `make bench-vllm` builds it")
        wanted = []
    for name, flags in wanted:
        try:
            peers.append(place.vllm(name, *flags))
        except NotStartedError as error:
            print(error, file=sys.stderr)
            notes.append(f"{name}, {place.dtype} is LEFT OUT: it did not come up")
    if not quotes and {"batch", "continuous"} & set(plan.rivals):
        padded, continuous = place.transformers()
        peers += [padded] if "batch" in plan.rivals else []
        peers += [continuous] if "continuous" in plan.rivals else []
    for peer in peers:
        peer.stop()
    return peers


def _prompts(text: str, model: Path, count: int, ours: Peer) -> list[list[int]]:
    """Returns prompts of 96 tokens: pieces of source text, or prompts after which the model repeats
    itself, which hold a beginning, how it went on, and the beginning again.
    """
    if text == "plain":
        return _windows(model, count, _PROMPT)
    quarter = _PROMPT // 4
    beginnings = _windows(model, count, quarter)
    texts = ours.ask(beginnings, _PROMPT - 2 * quarter)["texts"]
    tokenizer = AutoTokenizer.from_pretrained(model)
    middles = [tokenizer(text)["input_ids"][: _PROMPT - 2 * quarter] for text in texts]
    return [[*ids, *middle, *ids] for ids, middle in zip(beginnings, middles, strict=True)]


class _BareRows:
    """foredraft's own forward passes alone, in a process of their own on the same cores."""

    def __init__(self, place: Place, length: int) -> None:
        arguments = ("--model", str(place.model), "--dtype", place.dtype)
        log = place.folder / f"bare-{place.dtype}.log"
        self._worker = place.stack.enter_context(Worker("benchmarks.bare", CORES, log, *arguments))
        self._length = length
        self._passes_s: dict[int, list[float]] = {}
        self._reads_s: list[float] = []

    def measure(self, rows: int) -> None:
        """Times some passes of one token in each of so many rows, and some reads of the weights."""
        job = {"width": 1, "length": self._length, "rows": rows, "repetitions": 12}
        self._passes_s.setdefault(rows, []).extend(self._worker.ask(**job)["times_s"])
        self._reads_s += self._worker.ask(reads=True, repetitions=12)["times_s"]

    def found(self) -> dict[int, Bare]:
        """Returns all times, by the number of rows."""
        reads_s = tuple(self._reads_s)
        return {rows: Bare(tuple(times_s), reads_s) for rows, times_s in self._passes_s.items()}


def _measured(plan: Plan, text: str, dtype: str, place: Place, notes: list[str]) -> Table:
    peers = _started(plan, text, place, notes)
    prompts = _prompts(text, place.model, max(plan.streams), peers[0])
    scores = {n: [Score(peer.name) for peer in peers] for n in plan.streams}
    bare = (
        _BareRows(place, _PROMPT + plan.new_tokens // 2) if plan.bare and text == "plain" else None
    )
    for peer in peers:
        peer.ask(prompts, 4)  # whatever is made in a first call is made now
    for turn in range(plan.repetitions):
        for n, row in scores.items():
            order = [(turn + i) % len(peers) for i in range(len(peers))]
            for peer, score in [(peers[i], row[i]) for i in order if turn < peers[i].turns]:
                score.answers.append(peer.ask(prompts[:n], plan.new_tokens))
                rate = score.rates(n * plan.new_tokens)[-1]
                print(f"{text}, {dtype}, {n} streams, {score.name}: {rate:.1f}", file=sys.stderr)
            if bare:
                bare.measure(n)
    title = {"plain": "No draft", "quotes": "N-grams, texts that quote their prompt"}[text]
    return Table(f"{title}, {dtype}", plan.new_tokens, scores, bare.found() if bare else {})


def run(plan: Plan, model: Path, folder: Path, about: dict[str, str]) -> Section:
    """Measures everything; returns the section of the report."""
    folder.mkdir(parents=True, exist_ok=True)
    notes: list[str] = []
    tables: list[Table] = []
    with Worker("benchmarks.callers", CORES, folder / "callers.log") as callers:
        for dtype in plan.dtypes:
            for text in plan.texts:
                with ExitStack() as stack:
                    place = Place(model, dtype, callers, folder, stack)
                    tables.append(_measured(plan, text, dtype, place, notes))
    setting = [
        f"{_PROMPT} tokens of prompt, {plan.new_tokens} new ones, greedy, {plan.repetitions} "
        "interleaved repetitions: medians, least and most",
        "ratios are foredraft's tokens/s by the other's in the same repetition, prompt included; "
        "above 1 foredraft is faster",
        "transformers neither serves nor streams; generate_batch takes part once",
        *notes,
    ]
    parts = [grid(("", ""), list(about.items())), "\n".join(f"- {line}" for line in setting)]
    markdown = "\n\n".join([*parts, *(table.markdown() for table in tables)]) + "\n"
    return Section("beside_vllm", markdown, {"machine": about, "plan": plan, "tables": tables})


def _plan() -> tuple[Plan, Path, bool]:
    parser = argparse.ArgumentParser(description="Measure a real model beside vLLM, both served.")
    add = parser.add_argument
    add("--dtype", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    add("--streams", type=int, nargs="+", default=[1, 8, 16])
    add("--texts", nargs="+", default=["plain", "quotes"], choices=["plain", "quotes"])
    add("--rivals", nargs="*", default=list(_RIVALS), choices=_RIVALS, help="none: foredraft alone")
    add("--lookups", type=int, nargs="+", default=[4, 8], help="k of vLLM's n-grams")
    add("--repetitions", type=int, default=3)
    add("--flags", default="", help="further flags of foredraft's target service")
    add("--model", type=Path, help="a model's directory instead of the one that is fetched")
    add("--bare", action="store_true", help="forward passes alone, and reading the weights once")
    add("--quick", action="store_true", help="a short form: that everything runs")
    add("--write", action="store_true", help="write the results into this folder")
    args = parser.parse_args()
    plan = Plan(
        dtypes=tuple(args.dtype),
        streams=tuple(args.streams),
        texts=tuple(args.texts),
        rivals=tuple(args.rivals),
        lookups=tuple(args.lookups),
        repetitions=1 if args.quick else args.repetitions,
        new_tokens=16 if args.quick else 64,
        flags=tuple(args.flags.split()),
        bare=args.bare,
    )
    return plan, args.model or smollm2(), args.write


def main() -> int:
    """Measures and prints tables; returns the exit code."""
    plan, model, write = _plan()
    about = machine.describe(f"make bench-vllm ARGS='{' '.join(sys.argv[1:])}'")
    section = run(plan, model, ROOT / "build" / "benchmarks" / "beside_vllm", about)
    print(section.markdown)
    if write:
        section.write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
