"""Starts everything that runs during the benchmark: the widened target, the workers, the services.

This module knows nothing of what is measured.
"""

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoTokenizer

from benchmarks.bare import BareTimes
from benchmarks.contestants import Foredraft, Rival, Transformers
from benchmarks.runs import Assist, Prompt
from benchmarks.services import Service, service
from benchmarks.worker import ROOT, Worker
from demo.instructions import HELD_OUT
from demo.real_model import smollm2

MODELS = ROOT / "demo" / "models"
CORES = sorted(os.sched_getaffinity(0))
_TARGET, _DRAFT = [CORES[0]], [CORES[1 % len(CORES)]]
OUTCOMES = 32


@dataclass(frozen=True, slots=True)
class Course:
    """How much is measured."""

    prompts: int = 18
    new_tokens: int = 64
    repetitions: int = 1
    tuning_prompts: int = 2
    ks: tuple[int, ...] = (3, 5, 8, 20)
    thresholds: tuple[float, ...] = (0.0, 0.4)
    lookups: tuple[int, ...] = (3, 5, 10)
    budgets: tuple[int, ...] = (0, 3, 5)
    temperatures: tuple[float, ...] = (0.0, 0.7)
    everybody: bool = True
    """Whether transformers on both cores and foredraft by default take part, too."""
    forward_ms: tuple[float, float] = (30.0, 40.0)
    size: int = 0
    """The neurons of the target's MLPs; 0 finds a number at which a forward pass takes
    `forward_ms`.
    """

    @property
    def models(self) -> tuple[Assist, ...]:
        return tuple(
            Assist("model", k, threshold) for k in self.ks for threshold in self.thresholds
        )

    @property
    def ngrams(self) -> tuple[Assist, ...]:
        return tuple(Assist("lookup", k) for k in self.lookups)


QUICK = Course(
    prompts=3,
    new_tokens=32,
    repetitions=1,
    tuning_prompts=1,
    ks=(3, 5),
    lookups=(5,),
    budgets=(0, 3),
)


@dataclass(frozen=True, slots=True)
class Models:
    """A target and its draft."""

    target: Path
    draft: Path
    is_whole: bool = True
    """Whether the draft knows all of the target's ids, without which transformers does not run it.
    """


@dataclass(frozen=True, slots=True)
class RealPair:
    """A target and a draft that speak, and what they are asked."""

    target: Path
    draft: Path
    texts: tuple[Prompt, ...]


@dataclass(frozen=True, slots=True)
class Arena:
    """All rivals, and what is measured next to them."""

    rivals: tuple[Rival, ...]
    target: Service
    draft: Service
    bare_target: BareTimes
    bare_draft: BareTimes


def prompts(count: int) -> list[Prompt]:
    """Returns beginnings of modules that the bundled pair has not seen."""
    tokenizer = AutoTokenizer.from_pretrained(MODELS / "target")
    entries = json.loads((ROOT / "demo" / "prompts.json").read_text())[:count]
    return [
        Prompt(entry["name"], tuple(tokenizer(entry["text"])["input_ids"])) for entry in entries
    ]


def real_pair(count: int) -> RealPair:
    """Returns the real model, its draft, and questions that the draft has not seen."""
    target = smollm2()
    return RealPair(target, MODELS / "smollm2-draft", tuple(questions(count, target)))


def questions(count: int, target: Path) -> list[Prompt]:
    """Returns questions that the real model's draft has not seen, as its target reads them."""
    tokenizer = AutoTokenizer.from_pretrained(target)
    asked = []
    for question in HELD_OUT[:count]:
        chat = [{"role": "user", "content": question}]
        ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
        asked.append(Prompt(question, tuple(ids)))
    return asked


def make_target(course: Course, folder: Path, prompts: Sequence[Prompt]) -> str:
    """Widens the bundled target into the folder; returns a sentence about what it made."""
    with Worker("benchmarks.widening", _TARGET, folder / "widening.log") as worker:
        made = worker.ask(
            source=str(MODELS / "target"),
            folder=str(folder / "target"),
            size=course.size,
            least_s=course.forward_ms[0] / 1e3,
            most_s=course.forward_ms[1] / 1e3,
            prompts=[p.ids for p in prompts[:2]],
        )
    return (
        f"the target's MLPs widened to {made['intermediate_size']}, "
        f"{made['parameters'] / 1e6:.1f} M parameters, fp32: "
        f"a forward pass over six tokens takes {made['forward_s'] * 1e3:.1f} ms on one core, "
        f"{made['stock_forward_s'] * 1e3:.1f} ms as transformers makes it; "
        f"logits differ from the narrow model's by {made['difference']:.1g} at most"
    )


PACKED = "transformers with our packed weights, assistant model"
_ASSISTED = "transformers, assistant model"


def _usual_length(course: Course, prompts: Sequence[Prompt]) -> int:
    """Returns the median length of a text in the middle of its generation, in tokens."""
    lengths = sorted(len(p.ids) for p in prompts)
    return lengths[len(lengths) // 2] + course.new_tokens // 2


@dataclass(frozen=True, slots=True)
class _Starting:
    """Starts processes on cores of theirs, for as long as the stack lives."""

    folder: Path
    models: Models
    stack: ExitStack

    def services(self, name: str, outcomes: int, *draft_flags: str) -> tuple[Service, Service]:
        log, models = self.folder / f"{name}.log", self.models
        draft = service("draft", models.draft, _DRAFT, log, *draft_flags)
        drafts = self.stack.enter_context(draft)
        flags = ("--draft", drafts.address, "--outcomes", str(outcomes))
        target = service("target", models.target, _TARGET, log, *flags)
        return self.stack.enter_context(target), drafts

    def transformers(self, name: str, cores: list[int], *flags: str) -> Transformers:
        models = self.models
        draft = ("--draft", str(models.draft)) if models.is_whole else ()
        log, theirs = self.folder / f"transformers-{name}.log", ("--target", str(models.target))
        worker = Worker("benchmarks.rival", cores, log, *theirs, *draft, *flags)
        return Transformers(self.stack.enter_context(worker))

    def bare(self, name: str, model: Path, cores: list[int], length: int) -> BareTimes:
        log = self.folder / f"{name}.log"
        worker = Worker("benchmarks.bare", cores, log, "--model", str(model))
        return BareTimes(self.stack.enter_context(worker), length)


def open_arena(
    course: Course, folder: Path, models: Models, prompts: Sequence[Prompt], stack: ExitStack
) -> Arena:
    """Starts all processes, each on its cores, for as long as the stack lives."""
    start, length = _Starting(folder, models, stack), _usual_length(course, prompts)
    # Workers get ready while the services start.
    single = start.transformers("one", _TARGET)
    double = start.transformers("both", [*_TARGET, *_DRAFT]) if course.everybody else None
    packed = None
    if course.everybody and models.is_whole:
        packed = start.transformers("packed", _TARGET, "--packed-weights")
    bare_target = start.bare("bare-target", models.target, _TARGET, length)
    bare_draft = start.bare("bare-draft", models.draft, _DRAFT, length)
    by_model, drafting = start.services("model-draft", 0, "--ngram", "off")
    pushed, _ = start.services("pushed-draft", OUTCOMES, "--ngram", "off")
    rivals = [
        Rival("transformers, plain", "1", single),
        Rival(_ASSISTED, "1", single, course.models),
        Rival("transformers, prompt lookup", "1", single, course.ngrams),
        Rival("foredraft, plain", "1", Foredraft(by_model)),
        Rival("foredraft, n-grams", "1", Foredraft(by_model), course.ngrams),
        Rival("foredraft, model draft", "1 + 1", Foredraft(by_model), course.models),
        Rival("foredraft, model draft pushed ahead", "1 + 1", Foredraft(pushed), course.models),
    ]
    if double:
        by_both, _ = start.services("default-draft", OUTCOMES)
        rivals += [
            Rival("foredraft as by default", "1 + 1", Foredraft(by_both), (Assist("goodput", 20),)),
            *([Rival(PACKED, "1", packed, course.models)] if packed else []),
            Rival("transformers, plain, both cores", "2", double),
            Rival(f"{_ASSISTED}, both cores", "2", double, course.models),
            Rival("transformers, prompt lookup, both cores", "2", double, course.ngrams),
        ]
    able = [r for r in rivals if models.is_whole or not r.name.startswith(_ASSISTED)]
    return Arena(tuple(able), by_model, drafting, bare_target, bare_draft)
