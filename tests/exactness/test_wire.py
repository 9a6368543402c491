"""The law over the real wire: both services on loopback, 1,250 texts for each rule
(5,000 in `make test-long`).
"""

from collections import Counter
from typing import Literal

import pytest

from foredraft import AsyncClient
from foredraft_engine.model.rows import Rows
from tests.exactness.laws import DRAFTED, LUCK, exact_law, p_value, texts
from tests.fakes import TableRows, random_table, table_model
from tests.loopback import draft_service, target_service

VOCAB, LENGTH, AT_ONCE = 4, 3, 250
Rule = Literal["rejection", "coupled"]
TRIALS = texts(1_250, 5_000)
PROMPT = [1, 3, 1]


@TRIALS
@pytest.mark.parametrize(("rule", "width"), [("rejection", 0), ("rejection", 2), ("coupled", 0)])
async def test_texts_over_the_wire_have_the_targets_law(
    rule: Rule, width: int, trials: int
) -> None:
    """width: the largest number of entries of a row of q; the coupled rule sends none."""
    await check_the_law(rule, width, trials, least_accepted=trials // 4)


async def check_the_law(
    rule: Rule, width: int, trials: int, least_accepted: int, draft_rows: Rows | None = None
) -> None:
    """Compares texts with the law; least_accepted: the drafted tokens that have a part in them."""
    model = table_model(VOCAB)
    target_rows, others = (TableRows(random_table(VOCAB, seed), count=64) for seed in (0, 1))
    draft_rows = draft_rows or others
    counts: Counter[tuple[int, ...]] = Counter()
    accepted = 0
    async with (
        draft_service(draft_rows, model, q_width=width, ngram="off") as draft,
        target_service(target_rows, model, draft.address) as target,
        AsyncClient(target.address) as client,
    ):
        for seed in range(trials // AT_ONCE):
            results = await client.generate(
                PROMPT,
                max_new_tokens=LENGTH,
                num_return_sequences=AT_ONCE,
                sampling_rule=rule,
                seed=seed,
                **DRAFTED,
            )
            counts.update(r.token_ids for r in results)
            accepted += sum(r.stats.accepted for r in results)
    assert accepted > least_accepted, "nothing was accepted: the drafts had no part in it"
    assert p_value(counts, exact_law(target_rows, PROMPT, LENGTH)) > LUCK
