"""The table of model kinds, docs/model-kinds.md, is that of this transformers and this engine."""

import re
from collections.abc import Iterable
from dataclasses import replace

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
    said = [result for kind in HANDFUL for result in listed() if result.kind == kind]
    assert _on_any_processor(outcomes(HANDFUL)) == _on_any_processor(said)


@pytest.mark.long
def test_all_kinds_are_what_the_table_says() -> None:
    assert _on_any_processor(outcomes(kinds())) == _on_any_processor(listed())


def _on_any_processor(results: Iterable[Outcome]) -> list[Outcome]:
    """Returns outcomes without how far logits differ, which is the processor's rounding."""
    return [
        replace(result, note=re.sub(r"differ by [\d.e-]+", "differ", result.note))
        for result in results
    ]
