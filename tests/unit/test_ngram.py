"""The suffix automaton finds what a search through the whole text finds."""

from hypothesis import given
from hypothesis import strategies as st

from foredraft_engine.speculation.ngram import NgramDrafter


def _search(text: list[int], longest: int) -> tuple[int, int]:
    """Returns the longest suffix that occurred before, and where it ended last, by brute force."""
    for n in range(min(longest, len(text) - 1), 0, -1):
        for end in range(len(text) - 2, n - 2, -1):
            if text[end - n + 1 : end + 1] == text[-n:]:
                return n, end
    return 0, -1


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(1, 12))
def test_finds_what_a_search_finds(text: list[int], longest: int) -> None:
    drafter = NgramDrafter(max_ngram=longest)
    for i, token in enumerate(text):
        drafter.extend([token])
        so_far = text[: i + 1]
        length, end = _search(so_far, longest)
        assert drafter.match_length == length
        proposed = drafter.propose(5).ids
        if length:
            endless = so_far[: end + 1]
            for _ in range(5):
                source = len(endless)
                endless.append(
                    so_far[source]
                    if source < len(so_far)
                    else endless[source - (len(so_far) - end - 1)]
                )
            assert list(proposed) == endless[end + 1 :]
        else:
            assert proposed == ()


def test_all_at_once_is_one_by_one() -> None:
    text = [1, 2, 3, 1, 2, 4, 1, 2]
    assert NgramDrafter(text, max_ngram=3).propose(3).ids == (4, 1, 2)


def test_the_latest_of_equal_matches_wins() -> None:
    assert NgramDrafter([7, 1, 7, 2, 7], max_ngram=2).propose(1).ids == (2,)


def test_ends_before_a_stop_token() -> None:
    drafter = NgramDrafter([5, 6, 0, 9, 5], max_ngram=2)
    assert drafter.propose(4, frozenset({0})).ids == (6,)


def test_time_per_token_does_not_grow_with_the_text() -> None:
    """Each token adds at most two states, so that nothing is quadratic."""
    drafter = NgramDrafter([i % 7 for i in range(20_000)], max_ngram=16)
    assert len(drafter._length) <= 2 * 20_000 + 1
