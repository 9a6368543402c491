"""One caller tries to learn what another one has sent, for every kind of thing that is kept.

Each attack is made three times: after the other's prompt was the guess, after it was another one of
the same length, and once more with `--share-anonymous`, where it has to succeed: an attack that
cannot see anything proves nothing.
"""

import asyncio
import random
import statistics
import string
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from prometheus_client import CollectorRegistry

from foredraft import AsyncClient, Result, tls
from foredraft.v1 import draft_pb2, draft_pb2_grpc, generation_pb2
from foredraft_engine.scheduling.caller import Caller, act_for
from foredraft_engine.scheduling.row_pool import RowPool
from tests.certificates import Authority
from tests.fakes import SlowRows, TableRows, random_table, table_model
from tests.grammars import held_model, tokenizer_of
from tests.loopback import LoopbackDraft, LoopbackTarget, draft_service, target_service
from tests.premises import begins_again, in_time

VOCAB = 30
TABLE = random_table(VOCAB, 2)
LETTERS = string.ascii_letters[: VOCAB - 1]
_OF_TIME = ("seconds", "_created", "rate", "ratio")


def _prompt(seed: int, length: int = 80) -> list[int]:
    return random.Random(seed).choices(range(1, VOCAB), k=length)


SECRET, OTHER = _prompt(1), _prompt(2)


@dataclass(frozen=True, slots=True)
class Attack:
    """A kind of thing that is kept, and a call that would meet it."""

    fields: dict[str, Any] = field(default_factory=dict)
    sees: str = "target fed"
    """What tells the caller of it where callers share."""
    while_it_runs: bool = False
    """Whether the other's call goes on meanwhile."""
    draft: dict[str, Any] = field(default_factory=dict)
    """The settings of the draft service."""
    in_format: bool = False
    """Whether what is guessed is the response format, and not the prompt."""


_CONSTANT = {"num_assistant_tokens": 3, "num_assistant_tokens_schedule": "constant"}
_MARK = {"do_sample": True, "seed": 3, **_CONSTANT}
ATTACKS = {
    "a row of the target": Attack({"num_assistant_tokens": 0}),
    "its metrics": Attack({"num_assistant_tokens": 0}, "foredraft_prefix_cache_hits_total"),
    "a row that is lent": Attack({"num_assistant_tokens": 0}, "target copied", while_it_runs=True),
    "a row of a draft": Attack(_CONSTANT, "draft fed"),
    "a row of a draft that is lent": Attack(_CONSTANT, "draft copied", while_it_runs=True),
    "n-grams of the target": Attack({"prompt_lookup_num_tokens": 4}),
    "n-grams of a draft": Attack(_CONSTANT, draft={"ngram": "only"}),
    "lengths that a schedule has reached": Attack(
        _CONSTANT
        | {"num_assistant_tokens_schedule": "heuristic", "assistant_confidence_threshold": 0.0},
        "stats",
        draft={"ngram": "off"},
    ),
    "a search": Attack({"num_beams": 3, "num_return_sequences": 2}),
    "a negative prompt": Attack({"guidance_scale": 1.5, **_CONSTANT}),
    "several sequences": Attack({"num_return_sequences": 3, **_MARK}),
    "green lists": Attack({"watermarking_config": {"bias": 2.5}, **_MARK}),
    "a grammar": Attack(
        {"num_assistant_tokens": 0, "eos_token_id": [VOCAB - 1]},
        "foredraft_grammars_total{'result': 'kept'}",
        in_format=True,
    ),
    "a tournament": Attack(
        {"watermarking_config": {"keys": [1, 2, 3], "ngram_len": 3}, **_MARK}, "draft fed"
    ),
}


class Services:
    """A target and its draft, as who reads their metrics sees them."""

    def __init__(
        self, rows: Mapping[str, TableRows], target: LoopbackTarget, draft: LoopbackDraft
    ) -> None:
        self.address, self._rows = target.address, rows
        self._registries = (target.registry, draft.registry)

    async def ended(self) -> None:
        """Waits until the draft knows that every sequence has ended."""
        async with asyncio.timeout(60):
            while self.seen()["foredraft_draft_sessions"]:  # noqa: ASYNC110  # a metric has no event
                await asyncio.sleep(0.001)

    def seen(self) -> dict[str, float]:
        """Returns all counts so far."""
        seen = {
            f"{name} {kind}": float(sum(getattr(rows, kind)))
            for name, rows in self._rows.items()
            for kind in ("fed", "copied")
        }
        for registry in self._registries:
            seen |= _samples(registry)
        return seen


def _samples(registry: CollectorRegistry) -> dict[str, float]:
    return {
        f"{sample.name}{sample.labels or ''}": sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if not any(word in sample.name for word in _OF_TIME)
    }


@asynccontextmanager
async def services(attack: Attack, shared: bool) -> AsyncIterator[Services]:
    step_s = 0.02 if attack.while_it_runs else 0.0
    rows = {"target": SlowRows(TABLE, step_s, count=8), "draft": TableRows(TABLE, count=8)}
    model = held_model(tokenizer_of(LETTERS)) if attack.in_format else table_model(VOCAB)
    async with (
        draft_service(rows["draft"], model, **attack.draft) as draft,
        target_service(
            rows["target"],
            model,
            draft.address,
            share_anonymous=shared,
            outcomes=0,
            alternatives=0,
            draft_timeout=60.0,
        ) as target,
    ):
        yield Services(rows, target, draft)


async def _learned(attack: Attack, victims: list[int], shared: bool = False) -> dict[str, Any]:
    """Returns what a caller sees who guesses the secret after another one has sent a prompt."""
    fields = {"eos_token_id": [], **attack.fields}
    if "guidance_scale" in fields:
        fields["negative_prompt"] = list(reversed(victims))
    if attack.in_format:
        fields["response_format"], victims = _format(victims), OTHER
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(services(attack, shared))
        victim, attacker = [
            await stack.enter_async_context(AsyncClient(running.address, timeout=300))
            for _ in range(2)
        ]
        if attack.while_it_runs:
            stream = victim.stream(victims, max_new_tokens=400, **fields)
            await anext(aiter(await stack.enter_async_context(stream)))
        else:
            await victim.generate(victims, max_new_tokens=24, **fields)
            await running.ended()
        if "guidance_scale" in fields:
            fields["negative_prompt"] = list(reversed(SECRET))
        if attack.in_format:
            fields["response_format"] = _format(SECRET)
        before = running.seen()
        answer = await attacker.generate(SECRET, max_new_tokens=24, **fields)
        if not attack.while_it_runs:
            await running.ended()
        after = running.seen()
    results = answer if isinstance(answer, list) else [answer]
    counts = {name: value - before.get(name, 0.0) for name, value in after.items()}
    if attack.while_it_runs:  # all other counts are of both calls
        counts = {name: n for name, n in counts.items() if "copied" in name or "cache_hits" in name}
    return counts | {
        "text": [result.token_ids for result in results],
        "stats": [_counted(result) for result in results],
    }


def _format(secret: Sequence[int]) -> dict[str, Any]:
    """Returns a format of the letters that ids stand for."""
    return {"type": "choice", "choice": ["".join(LETTERS[i - 1] for i in secret[:9]), "a", "b"]}


def _counted(result: Result) -> dict[str, Any]:
    stats = asdict(result.stats)
    return {name: n for name, n in stats.items() if name != "seed" and not name.endswith("_s")}


@pytest.mark.parametrize("kind", ATTACKS)
async def test_nothing_that_is_counted_tells_of_anothers_prompt(kind: str) -> None:
    attack = ATTACKS[kind]
    guessed, missed = await _learned(attack, SECRET), await _learned(attack, OTHER)
    assert guessed == missed
    shared = await _learned(attack, SECRET, shared=True)
    assert shared[attack.sees] != guessed[attack.sees], "the attack would see nothing in any case"


def _faster(guessed: list[float], missed: list[float]) -> float:
    """Returns how often a right guess was answered sooner than a wrong one."""
    return statistics.mean(right < wrong for right in guessed for wrong in missed)


@pytest.mark.parametrize("shared", [False, True])
@begins_again
async def test_the_time_of_an_answer_does_not_either(shared: bool) -> None:
    """A prompt takes sixty milliseconds here, and nothing where it is known."""
    rows = SlowRows(TABLE, 0.0, token_s=2e-4)
    times: dict[bool, list[float]] = {True: [], False: []}
    settings: dict[str, Any] = {"share_anonymous": shared, "fallback": "none"}
    async with (
        target_service(rows, table_model(VOCAB), **settings) as target,
        AsyncClient(target.address) as victim,
        AsyncClient(target.address) as attacker,
    ):
        for turn in range(16):
            secret = _prompt(100 + turn, 300)
            await victim.generate(secret, max_new_tokens=1)
            guesses = [(True, secret), (False, _prompt(900 + turn, 300))]
            for is_right, guess in random.Random(turn).sample(guesses, 2):
                began = time.perf_counter()
                await attacker.generate(guess, max_new_tokens=1)
                times[is_right].append(time.perf_counter() - began)
    faster = _faster(times[True], times[False])
    # Of 16 against 16, chance has a standard deviation of a tenth around a half.
    if shared:
        in_time(faster > 0.9, times)
    else:
        assert 0.1 < faster < 0.9


async def _drafted(
    draft: LoopbackDraft, begun: Callable[[], None] = lambda: None, **opened: Any
) -> None:
    """Opens a sequence at a draft, and ends it after its first block."""
    sampling = generation_pb2.GenerationConfig(max_length=200)
    opening = draft_pb2.Open(prompt_ids=SECRET, sampling=sampling, k=3, max_length=200, **opened)
    async with grpc.aio.insecure_channel(draft.address) as channel:
        call: Any = draft_pb2_grpc.DraftServiceStub(channel).Draft()  # type: ignore[call-arg]
        await call.write(draft_pb2.DraftRequest(open=opening))
        await call.read()
        await call.read()
        begun()
        call.cancel()


@pytest.mark.parametrize("scope", [b"", b"one"])
async def test_a_draft_shares_nothing_without_a_scope(scope: bytes) -> None:
    rows = TableRows(TABLE)
    async with draft_service(rows, table_model(VOCAB), ngram="off") as draft:
        await _drafted(draft, cache_scope=scope)
        fed = sum(rows.fed)
        await _drafted(draft, cache_scope=scope)
    assert (sum(rows.fed) - fed == fed) == (not scope)


async def _turns(pool: RowPool, ask: Callable[..., Coroutine[Any, Any, None]]) -> None:
    """Lets callers without a credential hold all rows, and one more of them wait before a caller
    with one: that caller has the first turn, as if the others were one caller.
    """
    begun: list[str] = []
    async with AsyncExitStack() as stack:
        rows = [await stack.enter_async_context(_held(pool)) for _ in range(pool.count)]
        calls: list[asyncio.Task[None]] = []
        for name in ("", "somebody"):
            calls.append(asyncio.create_task(ask(name, partial(begun.append, name))))
            async with asyncio.timeout(60):
                while pool.waiting < len(calls):  # noqa: ASYNC110  # a pool has no event
                    await asyncio.sleep(0.001)
        rows.pop().set()
        await asyncio.gather(*calls)
    assert begun == ["somebody", ""]


@asynccontextmanager
async def _held(pool: RowPool) -> AsyncIterator[asyncio.Event]:
    """Holds a row without a credential until it is released; yields what releases it."""
    release, taken = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        act_for(Caller())
        async with pool.lend([1], ""):
            taken.set()
            await release.wait()

    holding = asyncio.create_task(hold())
    await taken.wait()
    yield release
    release.set()
    await holding


async def test_callers_without_a_credential_share_their_turns() -> None:
    """They would be first otherwise, since each of them holds no row."""
    async with target_service(TableRows(TABLE, count=2), table_model(VOCAB)) as target:

        async def ask(name: str, begun: Callable[[], None]) -> None:
            metadata = {"authorization": name} if name else None
            async with AsyncClient(target.address, metadata=metadata) as client:
                await client.generate(SECRET, max_new_tokens=1, num_assistant_tokens=0)
                begun()

        await _turns(target.engine.pool, ask)


async def test_so_they_do_at_a_draft() -> None:
    rows = TableRows(TABLE, count=2)
    async with draft_service(rows, table_model(VOCAB), ngram="off") as draft:

        async def ask(name: str, begun: Callable[[], None]) -> None:
            await _drafted(draft, begun, owner=name.encode())

        assert draft.engine
        await _turns(draft.engine.pool, ask)


async def _reused(address: str, *callers: dict[str, Any], seen: Callable[[], float]) -> float:
    """Returns how many tokens were found that an earlier one of these callers has sent."""
    before = seen()
    for caller in callers:
        async with AsyncClient(address, **caller) as client:
            await client.generate(SECRET, max_new_tokens=1, num_assistant_tokens=0)
    return seen() - before


async def test_who_shows_the_same_credential_reuses_its_prompts(tmp_path: Path) -> None:
    ours = Authority(tmp_path, "ours")
    ca = ours.ca
    server = ours.issue()
    first, second = ours.issue("first"), ours.issue("second")

    def shows(files: Any, header: str = "") -> dict[str, Any]:
        metadata = {"authorization": header} if header else None
        credentials = tls(ca=ca, cert=files.cert, key=files.key)
        return {"credentials": credentials, "metadata": metadata}

    settings: dict[str, Any] = {"tls_cert": server.cert, "tls_key": server.key, "client_ca": ca}
    async with target_service(TableRows(TABLE), table_model(VOCAB), **settings) as target:

        def seen() -> float:
            return target.value("foredraft_prefix_cache_hits_total")

        everybody = [shows(first), shows(second), shows(first, "a"), shows(second, "a")]
        assert await _reused(target.address, *everybody, seen=seen) == 0
        for caller in everybody:
            assert await _reused(target.address, caller, seen=seen) == len(SECRET) - 1
