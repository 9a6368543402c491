"""What foredraft chooses by measured times, over the real wire, and how the statistics tell it."""

from typing import Any

from foredraft import AsyncClient
from tests.fakes import SlowRows, TableRows, random_table, table_model
from tests.loopback import draft_service, target_service
from tests.premises import begins_again, in_time

VOCAB = 12
TABLE, OTHER = random_table(VOCAB, 0), random_table(VOCAB, 1)
PROMPT = [1, 2, 3]
FIELDS: dict[str, Any] = {
    "max_new_tokens": 150,
    "num_assistant_tokens": 3,
    "num_assistant_tokens_schedule": "constant",
    "assistant_confidence_threshold": 0.0,
    "top_k": 0,
}


@begins_again
async def test_a_slow_target_is_pushed_to() -> None:
    model = table_model(VOCAB)
    async with (
        draft_service(TableRows(TABLE), model, ngram="off") as draft,
        target_service(SlowRows(TABLE, 0.04), model, draft.address, choose_outcomes=True) as target,
        AsyncClient(target.address) as client,
    ):
        stats = (await client.generate(PROMPT, **FIELDS)).stats
        in_time(stats.pushed > 0.7 * stats.rounds, stats)
        assert stats.pushed + stats.waited_for >= stats.rounds - 1  # the last has no room for more


@begins_again
async def test_a_slow_tree_is_not_pushed() -> None:
    """The tree takes longer than the verification, and its outcomes seldom come true."""
    model = table_model(VOCAB)
    async with (
        draft_service(SlowRows(OTHER, 0.002, token_s=0.001), model, ngram="off") as draft,
        target_service(TableRows(TABLE), model, draft.address, choose_outcomes=True) as target,
        AsyncClient(target.address) as client,
    ):
        await client.generate(PROMPT, **FIELDS)
        stats = (await client.generate(PROMPT, **FIELDS)).stats
        in_time(stats.waited_for > 0.8 * stats.rounds, stats)
        assert stats.waited_for + stats.pushed >= stats.rounds - 1  # the last has no room for more


@begins_again
async def test_the_rule_is_chosen_where_it_is_open() -> None:
    """A seed or a rule in the call is never overruled, and without a draft there is no choice."""
    model, fields = table_model(VOCAB), {**FIELDS, "do_sample": True, "max_new_tokens": 200}
    async with (
        # The draft is the target's equal, which makes `coupled` accept everything.
        draft_service(TableRows(TABLE * 0.8), model, ngram="off", q_width=0) as draft,
        target_service(SlowRows(TABLE, 0.003), model, draft.address, choose_outcomes=True) as pair,
        target_service(TableRows(TABLE), model) as alone,
        AsyncClient(pair.address) as client,
        AsyncClient(alone.address) as undrafted,
    ):
        open_rules = [(await client.generate(PROMPT, **fields)).stats for _ in range(12)]
        rules = [stats.sampling_rule for stats in open_rules]
        assert rules[0] == "rejection"
        in_time(set(rules) == {"rejection", "coupled"}, rules)
        for stats in open_rules:
            assert stats.seed_repeats_with_any_drafter == (stats.sampling_rule == "coupled")
        for own, rule in (
            ({"seed": 5}, "coupled"),
            ({"sampling_rule": "rejection"}, "rejection"),
            ({"sampling_rule": "coupled"}, "coupled"),
            ({"seed": 5, "sampling_rule": "rejection"}, "rejection"),
        ):
            for _ in range(3):
                result = await client.generate(PROMPT, **{**fields, "max_new_tokens": 4, **own})
                assert result.stats.sampling_rule == rule
        again = await client.generate(
            PROMPT, **fields, seed=open_rules[-1].seed, sampling_rule="coupled"
        )
        assert again.stats.seed == open_rules[-1].seed
        told = [(await undrafted.generate(PROMPT, **fields)).stats for _ in range(3)]
        assert {(stats.sampling_rule, stats.pushed, stats.waited_for) for stats in told} == {
            ("rejection", 0, 0)
        }
