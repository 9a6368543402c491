"""The table of model kinds, docs/models.md, is that of this transformers and of this engine."""

import pytest

from tests.model_kinds import NEW_TOKENS, PAGE, Outcome, listed, outcomes, page
from tests.tiny_models import kinds

HANDFUL = ("llama", "gpt_oss", "falcon", "stablelm", "bloom", "mamba", "bart")


def test_the_table_names_every_kind_and_is_well_formed() -> None:
    assert [result.kind for result in listed()] == kinds()
    assert page(listed()) == PAGE.read_text()


@pytest.mark.parametrize("result", listed(), ids=lambda result: str(result.kind))
def test_each_kind_is_served_or_refused_with_a_reason(result: Outcome) -> None:
    assert result.rows in ("packed", "separate", "refused", "not tried")
    if result.rows in ("refused", "not tried"):
        assert result.note
    else:
        assert result.equal == f"{2 * NEW_TOKENS} of {2 * NEW_TOKENS}" or result.note


def test_a_handful_of_kinds_is_what_the_table_says() -> None:
    assert outcomes(HANDFUL) == [result for k in HANDFUL for result in listed() if result.kind == k]


@pytest.mark.long
def test_all_kinds_are_what_the_table_says() -> None:
    assert outcomes(kinds()) == listed()
