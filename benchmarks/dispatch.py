"""Measures what a step costs the host: a model of many layers in which arithmetic is nothing.

    make bench-dispatch
    make bench-dispatch ARGS='--layers 64'

On an accelerator the host only tells the device what to do. If that takes longer than the device
needs, the host is the clock. So the layers are tiny, and one thread computes: proposals of five
tokens, and verifications of ragged rounds, with the layers as they are and traced, in turns.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks import machine
from benchmarks.report import grid
from foredraft_engine.feed import Feed
from foredraft_engine.job import UNFINISHED, Job
from foredraft_engine.logits.processors import Processors
from foredraft_engine.model.proof import prove_rows
from foredraft_engine.model.rows import Rows
from foredraft_engine.model.traced_rows import trace_rows
from foredraft_engine.proposal import Proposal
from foredraft_engine.sampling import Rule, Sampling
from foredraft_engine.scheduling.step import step
from foredraft_engine.speculation.draft_job import DraftJob
from foredraft_engine.speculation.draft_options import DraftOptions
from foredraft_engine.speculation.round import Round, round_feed
from foredraft_engine.speculation.verify_job import VerifyJob, VerifyOptions

_VOCABULARY, _ROWS, _PLACES = 512, 16, 256
_PROMPT, _K = 96, 5
_DEVICE = torch.device("cpu")


def _model(layers: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=_VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(config).eval()


def _rounds(rows: int) -> list[Round]:
    """Returns greedy rounds whose texts and proposals differ in length."""
    processors = Processors(Sampling(rule=Rule.GREEDY), _DEVICE)
    return [
        Round(list(range(1, _PROMPT + i)), Proposal((7,) * (i % 4 + 1)), processors)
        for i in range(rows)
    ]


def _drafted(rows: Rows) -> int:
    """Drafts a proposal; returns the number of its tokens."""
    text = list(range(1, _PROMPT))
    processors = Processors(Sampling(rule=Rule.GREEDY), _DEVICE)
    job: Job = DraftJob(Feed(0, len(text) - 1, text[-1:]), text, processors, DraftOptions(_K))
    result: Any = UNFINISHED
    while result is UNFINISHED:
        (result,) = step(rows, [job], _VOCABULARY).results
    return len(result.ids)


def _verified(rows: Rows, count: int) -> int:
    """Verifies ragged rounds in one step; returns 1."""
    jobs = [
        VerifyJob(round_feed(i, len(r.tokens) - 1, r.tokens, r.proposal), r, VerifyOptions())
        for i, r in enumerate(_rounds(count))
    ]
    results = step(rows, jobs, _VOCABULARY).results
    failed = [result for result in results if isinstance(result, Exception)]
    if failed:
        raise failed[0]
    return 1


def _times_ms(
    work: Mapping[str, Callable[[Rows], int]], both: Sequence[Rows], repetitions: int
) -> dict[str, list[list[float]]]:
    """Returns the times of each kind of work on both kinds of rows, in turns."""
    times: dict[str, list[list[float]]] = {name: [[], []] for name in work}
    for _ in range(repetitions):
        for name, do in work.items():
            for rows, its in zip(both, times[name], strict=True):
                began = time.perf_counter()
                done = do(rows)
                its.append(1e3 * (time.perf_counter() - began) / done)
    return times


@torch.inference_mode()
def main() -> int:
    """Measures and prints a table; returns the exit code."""
    parser = argparse.ArgumentParser(description="Measure what a step costs the host.")
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--repetitions", type=int, default=100)
    args = parser.parse_args()
    torch.set_num_threads(1)
    command = f"make bench-dispatch ARGS='{' '.join(sys.argv[1:])}'"
    print(grid(("", ""), list(machine.describe(command).items())), flush=True)
    model = _model(args.layers)
    proved = prove_rows(model, model.config, _PLACES)
    both = [proved.make(_ROWS, _PLACES) for _ in range(2)]
    for rows in both:
        for i, one in enumerate(_rounds(_ROWS)):
            rows.forward([Feed(i, 0, one.tokens[:-1])], [0])
    tracing = trace_rows(both[1], "on")
    print(f"\nTraced: {tracing.shapes} shapes in {tracing.seconds:.1f} s {tracing.notes or ''}")
    work: dict[str, Callable[[Rows], int]] = {
        "a drafted token": _drafted,
        **{f"verifying {n} ragged rows": partial(_verified, count=n) for n in (1, 4, 16)},
    }
    _times_ms(work, both, 5)
    times = _times_ms(work, both, args.repetitions)
    cells = []
    for name, (plain, traced) in times.items():
        a, b = statistics.median(plain), statistics.median(traced)
        cells.append((name, f"{a:.2f}", f"{b:.2f}", f"**{b / a:.2f}**"))
    print("\n" + grid(("ms", "as they are", "traced", "ratio"), cells))
    return 0


if __name__ == "__main__":
    sys.exit(main())
