"""The ranking of outcomes that are drafted ahead, and blocks that wait for their turn."""

from draft_service.outcome_ranking import OutcomeRanking
from foredraft.v1 import draft_pb2
from foredraft_engine.speculation.preview import Preview
from target_service.drafting.inbox import Inbox


def view(*confidences: float) -> Preview:
    """Returns a preview: proposed tokens are 0, 1, 2 ..., with four candidates after each, 10 to
    13, the first the likeliest.
    """
    places = range(len(confidences) + 1)
    return Preview(
        confidences,
        tuple((10, 11, 12, 13) for _ in places),
        tuple((0.5, 0.3, 0.15, 0.05) for _ in places),
        tuple(range(len(confidences))),
    )


def test_the_likely_outcomes_come_first() -> None:
    ranking = OutcomeRanking()
    sure, unsure = view(0.95, 0.95, 0.95, 0.95), view(0.95, 0.05, 0.95, 0.95)
    assert ranking.choose(sure, 1) == [(4, 0)], "all accepted, the best candidate after them"
    assert ranking.choose(unsure, 2)[0] == (1, 0), "rejected where the draft was unsure"
    assert len(ranking.choose(sure, 6)) == 6
    assert ranking.choose(view(), 3) == [(0, 0), (0, 1), (0, 2)]


def test_it_learns_where_and_what() -> None:
    ranking, sure = OutcomeRanking(), view(0.95, 0.95, 0.95)
    for _ in range(300):
        ranking.observe(sure, [12])  # always wrong at once, always the third candidate
    assert ranking.choose(sure, 1) == [(0, 2)]
    for _ in range(100):
        ranking.observe(sure, [0, 1, 2, 11])  # all right, then the second
    assert ranking.choose(sure, 4)[0] == (3, 1)
    for _ in range(3000):
        ranking.observe(sure, [0, 1, 2, 99])  # and nothing foreseen after them
    assert ranking.choose(sure, 4) == [], "not worth any width"


def test_a_turnout_is_where_the_text_leaves_the_proposal() -> None:
    tree = Preview((0.9, 0.9), (), (), (0, 1), ((0, 7), (1, 8)))
    assert tree.outcome_of([0, 1, 5]) == (2, 5)
    assert tree.outcome_of([9]) == (0, 9)
    assert tree.outcome_of([7, 3]) == (3, 3), "in the first alternative"
    assert tree.outcome_of([0, 8, 4, 4, 4]) == (4, 4), (
        "in the second; more rounds were told at once"
    )
    assert tree.outcome_of([0, 1]) is None, "nothing tells how it went on"
    assert [tree.depth(node) for node in range(5)] == [0, 1, 2, 0, 1]


def test_what_comes_after_an_alternative_is_an_outcome() -> None:
    ranking = OutcomeRanking()
    tree = Preview((0.05,), ((10, 11), (20, 21), (30, 31)), ((0.9, 0.1),) * 3, (0,), ((0, 10),))
    chosen = ranking.choose(tree, 8)
    assert chosen[0] == (2, 0), "the alternative is likely, and 30 after it"
    assert (0, 0) not in chosen, "10 is verified, not foreseen as the end"
    for _ in range(300):
        ranking.observe(tree, [10, 31])
    assert ranking.choose(tree, 1) == [(2, 1)]


def block(base_len: int, *paths: list[int], block_id: int = 1) -> draft_pb2.Block:
    outcomes = [
        draft_pb2.Outcome(path=p, proposal=draft_pb2.Proposal(ids=[block_id])) for p in paths
    ]
    return draft_pb2.Block(block_id=block_id, base_len=base_len, outcomes=outcomes)


def test_an_outcome_fits_just_the_tokens_that_it_says() -> None:
    inbox = Inbox()
    inbox.request(3)
    assert not inbox.receive(block(3, [7], [8, 9]))
    assert not inbox.receive(block(3, [], block_id=2))
    found = inbox.find([1, 2, 3, 8, 9])
    assert found is not None
    assert found[1].path == [8, 9]
    waited_for = inbox.find([1, 2, 3])
    assert waited_for is not None
    assert waited_for[0].block.block_id == 2
    assert inbox.find([1, 2, 3, 9]) is None
    assert inbox.find([1, 2, 3, 7, 7]) is None
    assert inbox.has_outcomes(3)
    assert not inbox.has_outcomes(4)


def test_blocks_on_what_is_history_are_stale() -> None:
    inbox = Inbox()
    inbox.request(3)
    inbox.receive(block(3, [7]))
    assert inbox.forget(3) == 0
    inbox.request(5)
    assert inbox.find([1, 2, 3, 7]) is not None, "on the base before the newest"
    assert inbox.forget(5) == 1
    assert inbox.find([1, 2, 3, 7]) is None
    assert inbox.receive(block(3, [7])) == "stale"
    assert sum(not inbox.receive(block(5, [7])) for _ in range(100)) < 50, "a flood is not kept"
