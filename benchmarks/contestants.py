"""The two ways to generate, with the same values in and out: transformers in a worker, foredraft
through its SDK.

This module knows nothing of who competes with whom.
"""

import secrets
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from benchmarks.runs import Assist, Prompt, Run, Sampling
from benchmarks.services import Service
from benchmarks.worker import Worker
from foredraft import Client


class Generator(Protocol):
    """Generates one text at a time."""

    def generate(self, prompt: Prompt, assist: Assist, sampling: Sampling) -> Run: ...


@dataclass(frozen=True, slots=True)
class Transformers:
    """`transformers.generate` in a process of its own."""

    worker: Worker

    def generate(self, prompt: Prompt, assist: Assist, sampling: Sampling) -> Run:
        answer = self.worker.ask(ids=prompt.ids, assist=asdict(assist), sampling=asdict(sampling))
        return Run(**{**answer, "ids": tuple(answer["ids"])})


@dataclass(frozen=True, slots=True)
class Foredraft:
    """A target service, with the draft that it was started with."""

    target: Service

    def generate(self, prompt: Prompt, assist: Assist, sampling: Sampling, caller: str = "") -> Run:
        """Generates one text.

        Args:
            caller: rows are reused for the same caller alone. By default every call has a new one,
                since transformers reads every prompt anew.
        """
        metadata = {"authorization": caller or secrets.token_hex(8)}
        fields = {**_sampled(sampling), **_assisted(assist)}
        with Client(self.target.address, metadata=metadata) as client:
            client.info()  # this call connects
            before = self.target.counters()
            began = time.perf_counter()
            first_s, first_tokens = 0.0, 0
            with client.stream(list(prompt.ids), **fields) as stream:
                for chunk in stream:
                    if not first_tokens:
                        first_s, first_tokens = time.perf_counter() - began, len(chunk.token_ids)
            whole_s = time.perf_counter() - began
        result, stats = stream.result, stream.result.stats
        assert result.finish_reason == "length", (
            "a text that ends early would be timed as a fast one"
        )
        return Run(
            ids=result.token_ids,
            whole_s=whole_s,
            first_s=first_s,
            first_tokens=first_tokens,
            rounds=stats.rounds,
            drafts=round((self.target.counters() - before)["spec_decode_num_drafts_total"]),
            proposed=stats.proposed,
            fallbacks=sum(stats.fallbacks.values()),
        )


def _sampled(sampling: Sampling) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "max_new_tokens": sampling.max_new_tokens,
        "eos_token_id": [],  # every text has full length
        "do_sample": sampling.temperature > 0,
    }
    if sampling.temperature > 0:
        fields |= {"temperature": sampling.temperature, "top_k": 0, "top_p": 1.0}
        fields |= {"seed": sampling.seed, "sampling_rule": sampling.rule}
    return fields


def _assisted(assist: Assist) -> dict[str, Any]:
    if assist.kind == "lookup":
        return {"prompt_lookup_num_tokens": assist.k}
    fields: dict[str, Any] = {"num_assistant_tokens": assist.k}
    if assist.kind == "goodput":
        fields["num_assistant_tokens_schedule"] = "goodput"
    return fields | ({"assistant_confidence_threshold": assist.threshold} if assist.k else {})


@dataclass(frozen=True, slots=True)
class Rival:
    """A rival, and the options among which it has its best."""

    name: str
    cores: str
    """The cores that generate, as the table shows them."""
    generator: Generator
    grid: tuple[Assist, ...] = field(default=(Assist(),))
