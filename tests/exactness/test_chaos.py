"""The same promises where blocks are delayed, dropped, doubled and reordered on their way."""

import random
from collections.abc import Iterator
from functools import partial

import pytest

from target_service.drafting.goodput import Goodput
from tests.chaos import ChaoticDrafts
from tests.exactness import test_alternatives as wire
from tests.exactness import test_seeds, test_wire
from tests.loopback import target_service

# Each block that is lost costs as much.
_IMPATIENT = partial(target_service, draft_timeout=1.0)


@pytest.fixture
def drafts() -> Iterator[ChaoticDrafts]:
    drafts = ChaoticDrafts()
    yield drafts
    assert {"passed", "doubled", "delayed"} <= set(drafts.fates)


@pytest.mark.timeout(1500)  # each of many lost blocks is waited for
@test_wire.TRIALS
@pytest.mark.parametrize(("rule", "width"), [("rejection", 0), ("rejection", 2), ("coupled", 0)])
async def test_the_law(
    monkeypatch: pytest.MonkeyPatch,
    drafts: ChaoticDrafts,
    rule: test_wire.Rule,
    width: int,
    trials: int,
) -> None:
    monkeypatch.setattr(test_wire, "draft_service", drafts)
    monkeypatch.setattr(test_wire, "target_service", _IMPATIENT)
    # How much comes in time is chance where blocks are lost and the machine is busy.
    await test_wire.check_the_law(rule, width, trials, least_accepted=trials // 50)
    assert drafts.fates["dropped"]


async def test_the_text_of_a_seed(monkeypatch: pytest.MonkeyPatch, drafts: ChaoticDrafts) -> None:
    monkeypatch.setattr(test_seeds, "draft_service", drafts)
    monkeypatch.setattr(test_seeds, "target_service", _IMPATIENT)
    await test_seeds.test_the_text_depends_on_target_prompt_and_seed_alone()


@pytest.mark.parametrize("sampled", [False, True], ids=["greedy", "coupled"])
async def test_alternatives(
    monkeypatch: pytest.MonkeyPatch, drafts: ChaoticDrafts, sampled: bool
) -> None:
    """The numbers of tokens and alternatives are drawn by dice, since what pays would depend on
    chance where blocks are lost.
    """
    monkeypatch.setattr(wire, "draft_service", drafts)
    dice = random.Random(1)
    monkeypatch.setattr(Goodput, "k", lambda self, max_k, times: min(max_k, dice.randint(0, 6)))
    monkeypatch.setattr(
        Goodput,
        "alternatives",
        lambda self, k, times: dice.choice((0, 4, 8)) if k and self._max_alternatives else 0,
    )
    verified, _, _ = await wire.same_texts(sampled, timeout_s=0.1)
    assert verified > 0
