"""Every way to generate says on a device what it says on the CPU, and mixes no devices.

The device pretends, see `tests.pretended`. The calls come from the table of generation fields, so
that a new field is tried without being named here.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

import pytest
import pytest_asyncio
import torch

from foredraft import AsyncClient, InvalidRequestError, Result
from foredraft.wire import GENERATION_FIELDS, Field
from foredraft_engine.cache.quantizers import BACKENDS
from foredraft_engine.logits.processors import Processors
from foredraft_engine.model.loading import LoadedModel
from foredraft_engine.proposal import Proposal
from foredraft_engine.sampling import Rule, Sampling
from foredraft_engine.scheduling.engine import Engine
from foredraft_engine.speculation.draft_options import DraftOptions, TreeOptions
from tests.loopback import LoopbackDraft, LoopbackTarget, draft_service, target_service
from tests.models import loaded, random_model, rows_of
from tests.pretended import PretendedDevice
from tests.strategies.calls import LONG, NEW_TOKENS, OTHERS, PROMPT, QUANTIZED, RULES, calls_of
from tests.strategies.test_quantized import SPECS, installed
from tests.strategies.test_together import EVERY
from tests.unit.test_tree_job import LAWS, everything


@dataclass
class Pair:
    """A service on the CPU and one on the device, each with a draft of its own."""

    cpu: AsyncClient
    pretended: AsyncClient
    device: PretendedDevice
    engines: tuple[Engine, Engine]
    """The targets' engines."""
    draft: LoopbackDraft
    """The draft on the device."""

    async def check(
        self, calls: dict[str, dict[str, Any]], within: float = 1e-3
    ) -> dict[str, list[Result] | str]:
        """Makes calls together on both services; returns what they gave, if it is the same.

        Args:
            within: how far scores may be apart.
        """
        want = await _answers(self.cpu, calls)
        got = await _answers(self.pretended, calls)
        assert not self.device.traffic.refused
        self.device.forget()
        for name, answer in want.items():
            assert _said(got[name]) == _said(answer), name
            assert _numbers(got[name]) == pytest.approx(_numbers(answer), abs=within), name
        return got


@asynccontextmanager
async def _services(
    device: PretendedDevice | None,
) -> AsyncIterator[tuple[LoopbackTarget, LoopbackDraft]]:
    """Serves a small target and a draft of it, on the CPU or on a device."""
    models: list[LoadedModel] = []
    for noise in (0.05, 0.0):  # the draft is a target that errs now and then
        module = random_model("llama")
        torch.manual_seed(1)
        for parameter in module.parameters():
            parameter.data += noise * parameter.data.std() * torch.randn_like(parameter)
        models.append(loaded(device.take(module) if device else module, "llama"))
    async with (
        draft_service(rows_of(models[0].module, 24, 256, spare=160), models[0]) as draft,
        target_service(
            rows_of(models[1].module, 24, 256, spare=16),
            models[1],
            draft.address,
            draft_timeout=60.0,
        ) as target,
    ):
        for engine in (draft.engine, target.engine):
            if device and engine:
                await engine.run(PretendedDevice(device.traffic).__enter__)
        yield target, draft


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair() -> AsyncIterator[Pair]:
    device = PretendedDevice()
    async with AsyncExitStack() as stack:
        own, _ = await stack.enter_async_context(_services(None))
        stack.enter_context(device)
        target, draft = await stack.enter_async_context(_services(device))
        cpu, pretended = [
            await stack.enter_async_context(AsyncClient(one.address, timeout=300))
            for one in (own, target)
        ]
        yield Pair(cpu, pretended, device, (own.engine, target.engine), draft)


@pytest.fixture(autouse=True)
def no_step_fails(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fails a test in which the engine tried something again, or a draft was given up."""
    yield
    assert not [
        record.getMessage()
        for record in caplog.get_records("call")
        if record.levelno >= logging.WARNING and not record.name.startswith("asyncio")
    ]


async def _answers(
    client: AsyncClient, calls: dict[str, dict[str, Any]]
) -> dict[str, list[Result] | str]:
    answers = await asyncio.gather(*(_answer(client, fields) for fields in calls.values()))
    return dict(zip(calls, answers, strict=True))


async def _answer(client: AsyncClient, fields: dict[str, Any]) -> list[Result] | str:
    """Returns the results of a call, or why it was refused."""
    options = {"inputs": PROMPT, "max_new_tokens": NEW_TOKENS, **fields}
    try:
        found = await client.generate(options.pop("inputs"), **options)
    except InvalidRequestError as error:
        return str(error)
    return found if isinstance(found, list) else [found]


def _said(answer: list[Result] | str) -> Any:
    return answer if isinstance(answer, str) else [result.token_ids for result in answer]


def _numbers(answer: list[Result] | str) -> list[float]:
    """Returns the scores and log-probabilities of results."""
    results = [] if isinstance(answer, str) else answer
    found = [result.score for result in results if result.score is not None]
    for result in results:
        found += [one.logprob for one in result.logprobs]
        found += [value for row in (*result.scores, *result.logits) for value in row.values]
    return found


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("field", GENERATION_FIELDS.values(), ids=lambda field: field.name)
async def test_every_field(pair: Pair, field: Field) -> None:
    answers = await pair.check(calls_of(field))
    served = [answer for answer in answers.values() if not isinstance(answer, str)]
    assert served, answers


@pytest.mark.asyncio(loop_scope="module")
async def test_every_strategy(pair: Pair) -> None:
    answers = await pair.check(EVERY)
    assert all(isinstance(answer, list) for answer in answers.values()), answers


@pytest.mark.asyncio(loop_scope="module")
async def test_other_calls(pair: Pair) -> None:
    answers = await pair.check(OTHERS)
    assert all(isinstance(answer, list) for answer in answers.values()), answers


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("rule", ["greedy", "rejection", "coupled"])
async def test_drafting_ahead(pair: Pair, rule: str) -> None:
    drafted = {"num_assistant_tokens": 4, "assistant_confidence_threshold": 0.0}
    call = {"inputs": LONG, **RULES[rule], **drafted, "max_new_tokens": 24}
    answers = await pair.check({"assisted": call})
    assert isinstance(answers["assisted"], list)
    stats = answers["assisted"][0].stats
    assert stats.drafter == "model"
    assert 0 < stats.accepted < stats.proposed
    assert pair.draft.value("foredraft_draft_outcomes_total") > 0


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", LAWS)
async def test_alternatives_and_outcomes(pair: Pair, name: str) -> None:
    """A round with both, which over the wire depends on time."""
    ids, ahead, verdict = await _round(pair.engines[0], LAWS[name])
    assert (ids, ahead, verdict) == await _round(pair.engines[1], LAWS[name])
    assert len(ahead) >= 2
    assert not pair.device.traffic.refused


async def _round(engine: Engine, law: Sampling) -> tuple[Any, Any, Any]:
    """Returns what a round consists of: a proposal and its alternatives, the outcomes drafted for,
    and the verdict.
    """
    options = DraftOptions(4, q_width=5, choose=everything, alternatives=5)
    processors = Processors(law, engine.device)
    async with engine.pool.lend((), "") as row, engine.pool.lend((), "") as verified:
        for one in (row, verified):
            async for _ in engine.prefill(one, LONG):
                pass
        proposal = await engine.draft(row, LONG, processors, options)
        ahead = await engine.draft_ahead(row, LONG, proposal, processors, TreeOptions(options, 8))
        # The engine is the target's, which accepts what it drafted.
        wrong = Proposal((proposal.ids[0], 7, 8), None, "model", ((0, 9), (1, proposal.ids[1])))
        asked = proposal if law.rule is Rule.REJECTION else wrong
        verdict = await engine.verify(verified, LONG, asked, processors)
    return (
        (proposal.ids, proposal.alternatives),
        [(one.path, one.proposal.ids) for one in ahead.outcomes],
        (verdict.ids, verdict.used_alternative),
    )


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", SPECS)
async def test_quantized_caches(pair: Pair, name: str) -> None:
    """Quantized rows are fed in steps with dense ones."""
    spec = asdict(installed(SPECS[name]))
    if not BACKENDS[spec["backend"]].axes:
        del spec["axis_key"], spec["axis_value"], spec["q_group_size"]
    quantized = {"inputs": LONG, "cache_implementation": "quantized", "cache_config": spec}
    calls = {way: {**quantized, **fields} for way, fields in QUANTIZED.items()}
    # Which calls share a step depends on time, and so does the last bit of a key, of which a
    # quantizer can make a whole level.
    answers = await pair.check({**calls, "dense": {"inputs": LONG}}, within=0.02)
    assert all(isinstance(answer, list) for answer in answers.values()), answers
