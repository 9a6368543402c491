"""Looked-up tokens are verified where that is faster, by measured step times and acceptance."""

import pytest
from prometheus_client import CollectorRegistry

from foredraft_engine.proposal import Proposal
from foredraft_engine.scheduling.engine import Engine
from foredraft_engine.scheduling.step_times import StepTimes
from foredraft_serving.metrics import TargetMetrics
from target_service.drafting.draft_pool import DraftPool
from target_service.drafting.drafters import Drafters
from target_service.drafting.goodput import Goodput
from target_service.drafting.lookup_goodput import LookupGoodput
from target_service.drafting.ngram_lookup import Lookup, NgramLookup
from target_service.drafting.shared_estimates import SharedEstimates
from target_service.settings import TargetSettings
from tests.fakes import TableRows, random_table
from tests.models import bundled
from tests.plans import plan

FOUND, OTHER = [1] * 20, [2] * 20


def _shared(flat_s: float, token_s: float, jobs: int = 1) -> SharedEstimates:
    """Returns estimates of a service whose steps have `jobs` jobs."""
    pace = StepTimes()
    for tokens in (1, 2, 4, 8, 16, 32, 64, 128, 256):
        pace.observe(tokens, jobs, flat_s + token_s * tokens)
    pace.jobs = jobs
    return SharedEstimates(pace)


def _seen(shared: SharedEstimates, match: int, right: int, rounds: int = 60) -> LookupGoodput:
    """Returns the choice of a sequence in which the first `right` tokens came as found."""
    goodput = LookupGoodput(shared)
    for _ in range(rounds):
        goodput.observe(match, FOUND, [*FOUND[:right], *OTHER[right:]])
    return goodput


def test_quotes_are_verified_at_length_when_alone() -> None:
    k, length = _seen(_shared(0.03, 0.0002), 4, right=20).choose(4, 20)
    assert k == 20
    assert length > 15


def test_no_more_is_verified_than_comes() -> None:
    k, length = _seen(_shared(0.03, 0.0005), 4, right=3).choose(4, 20)
    assert k == 3
    assert length == pytest.approx(4, abs=0.3)


def test_what_never_comes_is_not_verified() -> None:
    shared = _shared(0.03, 0.001)
    assert _seen(shared, 4, right=0).choose(4, 20) == (0, 1.0)
    assert LookupGoodput(shared).choose(4, 20)[0] == 0, "a new sequence believes what others saw"


def test_a_long_match_is_believed_before_a_short_one() -> None:
    new = LookupGoodput(_shared(0.03, 0.006))
    chosen = [new.choose(match, 20)[0] for match in (1, 2, 4, 8, 16)]
    assert chosen[0] == 0 < chosen[2] < chosen[4]
    assert chosen == sorted(chosen)


@pytest.mark.parametrize("jobs", [1, 16, 64])
def test_nothing_is_verified_where_steps_cost_in_proportion(jobs: int) -> None:
    """Not even what always comes."""
    assert _seen(_shared(0.0, 0.001, jobs), 16, right=20).choose(16, 20)[0] == 0


def test_load_shortens_what_is_verified() -> None:
    """Half of the lookups are right in their first token alone."""
    chosen = []
    for jobs in (1, 16, 64):
        shared = _shared(0.03, 0.001, jobs)
        for _ in range(30):
            _seen(shared, 4, right=1, rounds=1)
            _seen(shared, 4, right=20, rounds=1)
        chosen.append(LookupGoodput(shared).choose(4, 20)[0])
    assert chosen[0] == 20 > chosen[1] >= chosen[2]


def test_steps_that_do_not_fit_are_several() -> None:
    shared = _shared(0.03, 0.0001, jobs=64)
    assert shared.step_s(7) == pytest.approx(2 * (shared.step_s(3) or 0.0))


def test_guidance_feeds_two_rows() -> None:
    shared = _shared(0.03, 0.001)
    assert shared.step_s(3, rows=2) == shared.step_s(7)


def test_before_any_step_nothing_is_verified() -> None:
    assert LookupGoodput(SharedEstimates(StepTimes())).choose(8, 20) == (0, 1.0)


def test_the_draft_or_what_was_looked_up() -> None:
    """The draft that has come is verified unless the lookup promises more."""
    goodput = Goodput(_shared(0.03, 0.0001), 20)
    quote, accident = (Lookup(Proposal((1,) * 8, None, "ngram"), n) for n in (8.5, 1.2))
    assert goodput.prefers(quote, 5, 0)
    assert not goodput.prefers(accident, 5, 0)
    assert not goodput.prefers(Lookup(), 5, 0)


async def test_a_text_that_repeats_teaches_without_being_verified() -> None:
    """A lookup learns from what came, so that it begins again where repetition begins."""
    shared = _shared(0.03, 0.003)
    for match in (1, 2, 4, 8):
        _seen(shared, match, right=0)
    one = plan([1, 2], 200)
    lookup = NgramLookup(one, LookupGoodput(shared))
    text, chosen = [1, 2], []
    for i in range(80):
        text.append(3 + i % 5)
        chosen.append(len((await lookup.propose(text, 20)).proposal.ids))
    await lookup.close()
    assert chosen[5] == 0 < chosen[-1]


async def test_a_fixed_lookup_proposes_what_is_asked_for() -> None:
    lookup = NgramLookup(plan([5, 6, 7, 5], 20, prompt_lookup_num_tokens=2), None)
    assert (await lookup.propose([5, 6, 7, 5], 2)).proposal.ids == (6, 7)
    await lookup.close()


@pytest.mark.parametrize(("longest", "found"), [(43, 0), (44, 1)])
async def test_what_is_too_long_for_an_index_gets_none(
    longest: int, found: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("target_service.drafting.drafters.MAX_NGRAM_TOKENS", longest)
    engine = Engine(TableRows(random_table(9, 0)), 9, step_times=_shared(0.03, 0.0).step_times)
    pool, settings = DraftPool([], bundled("target").vocabulary), TargetSettings(model="none")
    tokens = [1, 2, 3, 4] * 6
    try:
        drafters = Drafters(settings, pool, engine, TargetMetrics(CollectorRegistry()))
        async with drafters.follow(plan(tokens, 20)) as drafter:
            proposed = (await drafter.propose(tokens, 8)).proposal
            assert min(1, len(proposed.ids)) == found
    finally:
        await pool.close()
        engine.close()
