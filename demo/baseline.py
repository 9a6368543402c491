"""transformers' own `generate`, in a process of its own, as what a demonstration is compared with.

    python -m demo.baseline MODEL

The process reads one request a line on standard input, JSON with the ids of a prompt, and answers
each with a line: the new ids and the seconds that they took. This module knows nothing of
foredraft.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Answer:
    """New tokens, and how long they took."""

    token_ids: tuple[int, ...]
    spent_s: float


class Baseline:
    """A process that answers with transformers."""

    def __init__(self, requests: IO[str], answers: IO[str], log: Path) -> None:
        self._requests, self._answers, self._log = requests, answers, log

    def answer(
        self, prompt_ids: Sequence[int], max_new_tokens: int, lookup: int | None = None
    ) -> Answer:
        """Returns the greedy continuation of a prompt.

        Args:
            lookup: `prompt_lookup_num_tokens`; None decodes plainly.

        Raises:
            RuntimeError: the process has ended.
        """
        options: dict[str, Any] = {"max_new_tokens": max_new_tokens}
        if lookup is not None:
            options["prompt_lookup_num_tokens"] = lookup
        try:
            self._requests.write(json.dumps({"ids": list(prompt_ids), "options": options}) + "\n")
            self._requests.flush()
            line = self._answers.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError(f"transformers has ended, see {self._log}")
        told = json.loads(line)
        return Answer(tuple(told["ids"]), told["spent_s"])


@contextmanager
def started(model: Path, log: Path) -> Iterator[Baseline]:
    """Runs transformers on a model for the time of the context, with its log in a file."""
    command = [sys.executable, "-m", "demo.baseline", str(model)]
    with (
        log.open("w") as told,
        subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=told,
            text=True,
        ) as process,
    ):
        assert process.stdin
        assert process.stdout
        try:
            yield Baseline(process.stdin, process.stdout, log)
        finally:
            process.terminate()


def _serve(model: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    for line in sys.stdin:
        request = json.loads(line)
        ids = torch.tensor([request["ids"]])
        began = time.perf_counter()
        made = network.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, **request["options"]
        )
        spent_s = time.perf_counter() - began
        new = made[0, ids.shape[1] :].tolist()
        print(json.dumps({"ids": new, "spent_s": spent_s}), flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1])
