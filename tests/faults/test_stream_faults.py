"""Every fault of a draft's stream, at every message: callers get their texts, and the draft is used
again.
"""

import asyncio
import time
from typing import Any

import pytest

from foredraft import AsyncClient, Result
from tests.fakes import TableRows, random_table, table_model
from tests.faults.faulty_draft import FAULTS, faulty
from tests.faults.table import FaultTable, Outcome
from tests.loopback import draft_service, target_service

VOCAB = 12
PROMPT = [5, 6, 7, 5, 6]
TABLE = random_table(VOCAB, 3)
TIMEOUT_S = 0.1
FIELDS: dict[str, Any] = {
    "max_new_tokens": 16,
    "num_assistant_tokens": 2,
    "assistant_confidence_threshold": 0.0,
}
RULES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "coupled": {"do_sample": True, "top_k": 0, "seed": 11},
    "rejection": {"do_sample": True, "top_k": 0, "seed": 11, "sampling_rule": "rejection"},
}


@pytest.fixture(autouse=True)
def _short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that is no draft is asked again after 15 seconds, which no test waits for."""
    monkeypatch.setattr("target_service.drafting.draft_pool._MISMATCH_PAUSE_S", 0.3)


async def _meets(name: str, every: int, outcome: Outcome) -> None:
    """Meets a fault at every `every`-th message, under each rule."""
    model = table_model(VOCAB)
    async with (
        draft_service(TableRows(TABLE), model, ngram="off") as real,
        faulty(real.address) as (address, draft),
        target_service(
            TableRows(TABLE), model, address, fallback="none", draft_timeout=TIMEOUT_S
        ) as target,
        AsyncClient(target.address) as client,
    ):
        for rule, sampling in RULES.items():
            fields = {**FIELDS, **sampling}
            whole = await _drafted(client, fields)
            messages = draft.messages
            assert messages > 5
            for at in range(0, messages, every):
                expected, happened = (
                    None if rule == "rejection" else whole.token_ids,
                    draft.happened,
                )
                # A draft that is late by itself is left before the message comes.
                for _ in range(20):
                    draft.fault, draft.at = FAULTS[name], at
                    await outcome.call(client, PROMPT, expected, **fields)
                    draft.fault, began = None, time.perf_counter()
                    await _drafted(client, fields)
                    outcome.recovered(began)
                    if draft.happened > happened:
                        break
                else:
                    raise AssertionError(f"the fault does not happen at message {at}")


async def _drafted(client: AsyncClient, fields: dict[str, Any]) -> Result:
    """Returns a text that the draft drafted from the first round on, in the first call of many.

    On a busy machine a draft without a fault misses a block as well.
    """
    for _ in range(400):
        result: Result = await client.generate(PROMPT, **fields)
        if result.stats.accepted and not result.stats.fallbacks:
            return result
        await asyncio.sleep(0.02)
    raise AssertionError("the draft is not used")


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_of_the_stream_costs_speed_only(name: str, fault_table: FaultTable) -> None:
    outcome = Outcome(name)
    await _meets(name, 5, outcome)
    fault_table.add(outcome)
    assert outcome.holds, outcome.failed


@pytest.mark.long
@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_at_every_message_costs_speed_only(
    name: str, fault_table: FaultTable
) -> None:
    outcome = Outcome(f"{name}, every message")
    await _meets(name, 1, outcome)
    fault_table.add(outcome)
    assert outcome.holds, outcome.failed
