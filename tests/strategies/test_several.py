"""Several sequences of one prompt: it is fed once, on the target and on the draft, and the rows
fork.
"""

from collections import Counter

from foredraft import AsyncClient
from tests.exactness.laws import LUCK, exact_law, p_value
from tests.fakes import TableRows, random_table, table_model
from tests.loopback import draft_service, target_service

VOCAB = 10
PROMPT = [i % VOCAB for i in range(1, 200)]


async def test_the_prompt_is_fed_once() -> None:
    table = random_table(VOCAB, 4)
    target_rows, draft_rows = TableRows(table), TableRows(table)
    async with (
        draft_service(draft_rows, table_model(VOCAB), ngram="off") as draft,
        target_service(
            target_rows, table_model(VOCAB), draft.address, chunk_tokens=64, outcomes=0
        ) as target,
        AsyncClient(target.address, metadata={"authorization": "Bearer x"}) as client,
    ):
        results = await client.generate(
            PROMPT,
            num_return_sequences=6,
            do_sample=True,
            max_new_tokens=4,
            num_assistant_tokens=2,
            seed=1,
        )
        batch = await client.generate([PROMPT[:150]] * 3, max_new_tokens=4, num_assistant_tokens=2)
    assert len(results) == 6
    assert all(r.stats.proposed > 0 for r in [*results, *batch])
    for rows in (target_rows, draft_rows):
        # The second prompt is the first's beginning; rounds of six sequences are narrow.
        assert sum(fed for fed in rows.fed if fed > 30) <= len(PROMPT)
        assert sum(rows.copied) >= 5 * (len(PROMPT) - 1)


async def test_assisted_sequences_have_the_law_each() -> None:
    """Every sequence of a draft, forked rows and one seed has the law, and no two are more alike
    than by chance.
    """
    vocab, length, prompt = 4, 3, [1, 2, 3]
    table, other = random_table(vocab, 1), random_table(vocab, 2)
    law = exact_law(TableRows(table), prompt, length)
    counts: dict[int, Counter[tuple[int, ...]]] = {0: Counter(), 1: Counter()}
    pairs = 0
    async with (
        draft_service(TableRows(other), table_model(vocab), ngram="off") as draft,
        target_service(TableRows(table), table_model(vocab), draft.address) as target,
        AsyncClient(target.address) as client,
    ):
        for _ in range(8):
            results = await client.generate(
                prompt,
                num_return_sequences=60,
                do_sample=True,
                top_k=0,
                max_new_tokens=length,
                num_assistant_tokens=2,
            )
            for result in results:
                counts[result.sequence_index % 2][result.token_ids] += 1
            pairs += sum(
                a.token_ids == b.token_ids for a, b in zip(results[::2], results[1::2], strict=True)
            )
    for counted in counts.values():
        assert p_value(counted, law) > LUCK
    expected = 8 * 30 * sum(p * p for p in law.values())
    assert abs(pairs - expected) < 6 * expected**0.5 + 6


async def test_a_row_that_gives_up_leaves_the_others() -> None:
    """The row that was to lend its prompt goes away while it is fed, and the others feed it
    themselves.
    """
    table = random_table(VOCAB, 4)
    async with (
        target_service(TableRows(table), table_model(VOCAB), chunk_tokens=8) as target,
        AsyncClient(target.address) as client,
    ):
        alone = await client.generate(PROMPT, max_new_tokens=8)
        async with client.stream(PROMPT[1:], max_new_tokens=8) as first:
            await anext(first)
        again = await client.generate([PROMPT, PROMPT[1:]], max_new_tokens=8)
    assert again[0].token_ids == alone.token_ids
