"""The law of calls whose rule is open, while outcomes and rule are chosen by measured times."""

from collections import Counter

from foredraft import AsyncClient
from tests.exactness.laws import DRAFTED, LUCK, exact_law, p_value, texts
from tests.fakes import TableRows, random_table, table_model
from tests.loopback import draft_service, target_service

VOCAB, LENGTH, AT_ONCE = 4, 3, 50
PROMPT = [1, 3, 1]
TRIALS = texts(1_250, 5_000)


@TRIALS
async def test_whatever_is_chosen_has_the_targets_law(trials: int) -> None:
    model = table_model(VOCAB)
    target_rows, draft_rows = (TableRows(random_table(VOCAB, seed), count=64) for seed in (0, 1))
    counts: Counter[tuple[int, ...]] = Counter()
    rules: Counter[str] = Counter()
    drafted = 0
    async with (
        draft_service(draft_rows, model, ngram="off") as draft,
        target_service(target_rows, model, draft.address, choose_outcomes=True) as target,
        AsyncClient(target.address) as client,
    ):
        for _ in range(trials // AT_ONCE):
            results = await client.generate(
                PROMPT, max_new_tokens=LENGTH, num_return_sequences=AT_ONCE, **DRAFTED
            )
            counts.update(r.token_ids for r in results)
            rules.update(r.stats.sampling_rule for r in results)
            drafted += sum(r.stats.pushed + r.stats.waited_for for r in results)
    assert set(rules) == {"rejection", "coupled"}
    assert drafted > trials // 4
    assert p_value(counts, exact_law(target_rows, PROMPT, LENGTH)) > LUCK
