"""A real link to the draft that is cut, slow or lossy: a network namespace of its own."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
from prometheus_client import CollectorRegistry

from foredraft import AsyncClient
from tests.faults.network import Network, NetworkError
from tests.faults.table import FaultTable, Outcome
from tests.faults.test_process_faults import FIELDS, PLACES, PROMPT, RULES, once, until_used
from tests.integration.processes import MODELS, service
from tests.premises import begins_again, in_time

_CUT_S = 1.5


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    try:
        made = Network()
    except NetworkError as error:
        pytest.skip(f"no network namespace can be made here: {error}")
    yield made
    made.close()


@pytest.fixture(scope="module")
def target_address(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    logs = tmp_path_factory.mktemp("network")
    draft, address = network.start_draft(logs / "draft.log")
    flags = ("--model", str(MODELS / "target"), "--draft", address, "--draft-timeout", "0.2")
    try:
        with service("target", logs / "target.log", *flags) as target:
            yield target.address
    finally:
        draft.kill()
        draft.wait()


FAULTS: dict[str, Callable[[Network], None]] = {
    "network cut": Network.cut,
    "network slow (100 ms)": lambda network: network.impair("delay", "100ms"),
    "network lossy (20 %)": lambda network: network.impair("loss", "20%"),
}


@pytest.mark.parametrize("name", FAULTS)
@begins_again
async def test_a_fault_of_the_network_costs_speed_only(
    name: str, network: Network, target_address: str, fault_table: FaultTable
) -> None:
    outcome = Outcome(name)
    async with AsyncClient(target_address, registry=CollectorRegistry()) as client:
        await until_used(client)
        for place, (rule, sampling) in zip(PLACES, RULES.items(), strict=True):
            plain = {**FIELDS, "num_assistant_tokens": 0}
            expected = None
            if rule != "rejection":
                expected = (await client.generate(PROMPT, **plain, **sampling)).token_ids
            try:
                call = outcome.call(
                    client,
                    PROMPT,
                    expected,
                    once(PLACES[place], lambda: FAULTS[name](network)),
                    **FIELDS,
                    **sampling,
                )
                await call
            except NetworkError as error:
                pytest.skip(f"{name}: {error}")
            await asyncio.sleep(_CUT_S)
            if name == "network cut":
                network.join()
            else:
                network.mend()
            await until_used(client)
    fault_table.add(outcome)
    assert outcome.holds, outcome.failed
    in_time(outcome.stall_s < 5.0, outcome)
