"""Forced tokens are always accepted, and drafts that are held to a format go by it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from torch import Tensor

from foredraft import AsyncClient, Result
from foredraft_engine.errors import InvalidFieldError
from foredraft_engine.logits.grammar import FIELD
from foredraft_engine.logits.grammar_compiler import GrammarCompiler
from foredraft_engine.proposal import Proposal
from foredraft_engine.sampling import ResponseFormat
from foredraft_serving.grammars import Grammars
from target_service.drafting.forced_tokens import ForcedTokens
from tests.fakes import TableRows
from tests.grammars import ascii_tokenizer, held_model, json_table
from tests.loopback import LoopbackTarget, draft_service, target_service
from tests.plans import plan

TOKENIZER = ascii_tokenizer()
END = int(TOKENIZER.eos_token_id)
TABLE = json_table(TOKENIZER, 1)
SCHEMA = {
    "type": "object",
    "properties": {
        "identifier": {"enum": ["abc", "12"]},
        "description": {"const": "none so far"},
        "true": {"type": "boolean"},
    },
    "required": ["identifier", "description", "true"],
    "additionalProperties": False,
}
FORMAT: Any = {"type": "json_schema", "json_schema": {"schema": SCHEMA}}
RULES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "coupled": {"do_sample": True, "top_k": 0, "seed": 3},
    "rejection": {"do_sample": True, "top_k": 0, "sampling_rule": "rejection"},
}
_PLAIN = {"num_assistant_tokens": 0}
_DRAFTED = {
    "num_assistant_tokens": 4,
    "num_assistant_tokens_schedule": "constant",
    "assistant_confidence_threshold": 0.0,
}


@asynccontextmanager
async def target(
    drafts: str = "", table: Tensor = TABLE, **settings: Any
) -> AsyncIterator[tuple[LoopbackTarget, AsyncClient]]:
    settings = {"draft_timeout": 60.0, "outcomes": 0, "fallback": "none", **settings}
    model = held_model(TOKENIZER)
    async with (
        target_service(TableRows(table), model, drafts, **settings) as serving,
        AsyncClient(serving.address, timeout=300) as client,
    ):
        yield serving, client


async def _result(client: AsyncClient, **fields: Any) -> Result:
    settings = {"response_format": FORMAT, "max_new_tokens": 120, "eos_token_id": [END]}
    result = await client.generate([40, 41], **{**settings, **fields})
    assert isinstance(result, Result)
    return result


@pytest.mark.parametrize("rule", RULES)
async def test_forced_tokens_are_accepted_under_every_rule(rule: str) -> None:
    async with target() as (serving, client):
        plain = await _result(client, **RULES[rule], **_PLAIN)
        forced = await _result(client, **RULES[rule])
        metric = serving.value("foredraft_forced_tokens_total")
    assert plain.origins.count("grammar") == 0
    assert forced.stats.accepted == forced.stats.proposed > 20
    assert forced.origins.count("grammar") == forced.stats.accepted == metric
    assert forced.stats.drafter == "grammar"
    assert forced.stats.rounds < len(forced.token_ids) / 4
    if rule != "rejection":
        assert forced.token_ids == plain.token_ids


async def test_the_operator_can_turn_them_off() -> None:
    async with target(forced_tokens=False) as (_, client):
        result = await _result(client)
    assert result.stats.proposed == 0


@pytest.mark.parametrize("rule", RULES)
async def test_a_draft_is_held_to_the_format(rule: str) -> None:
    """A draft with the target's own table proposes the target's own text, and nothing else."""
    async with (
        draft_service(TableRows(TABLE), held_model(TOKENIZER), ngram="off") as draft,
        target(draft.address, forced_tokens=False) as (_, client),
    ):
        plain = await _result(client, **RULES[rule], **_PLAIN)
        drafted = await _result(client, **RULES[rule], **_DRAFTED)
        info = await client.info()
    assert drafted.stats.accepted == drafted.stats.proposed > 20
    assert drafted.stats.drafter == "model"
    assert info.drafts == {draft.address: "ready"}
    if rule != "rejection":
        assert drafted.token_ids == plain.token_ids


@pytest.mark.parametrize("rule", ["greedy", "coupled"])
async def test_a_held_draft_drafts_ahead(rule: str) -> None:
    async with (
        draft_service(TableRows(TABLE), held_model(TOKENIZER), ngram="off") as draft,
        target(draft.address, forced_tokens=False, outcomes=8) as (_, client),
    ):
        plain = await _result(client, **RULES[rule], **_PLAIN)
        drafted = await _result(client, **RULES[rule], **_DRAFTED)
    assert drafted.token_ids == plain.token_ids
    assert drafted.stats.accepted == drafted.stats.proposed


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("forced", [False, True])
async def test_a_draft_that_cannot_follow_changes_nothing(
    rule: str, forced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target holds its text to the format by itself, and tells of the draft."""
    other = json_table(TOKENIZER, 9)
    async with (
        draft_service(TableRows(other), held_model(TOKENIZER), ngram="off") as draft,
        target(draft.address, forced_tokens=forced) as (_, client),
    ):
        plain = await _result(client, **RULES[rule], **_PLAIN)
        monkeypatch.setattr(Grammars, "compiled", _for_the_first_alone(Grammars.compiled))
        drafted = await _result(client, **RULES[rule], **_DRAFTED)
        info = await client.info()
    assert drafted.finish_reason == "eos_token"
    assert "lacks llguidance" in info.drafts[draft.address]
    if rule != "rejection":
        assert drafted.token_ids == plain.token_ids
    assert bool(drafted.origins.count("grammar")) is forced


def _for_the_first_alone(compiled: Any) -> Any:
    """Returns a method that fails for all services but the one that is asked first: the target."""
    first: list[Grammars] = []

    async def compiled_there(self: Grammars, wanted: ResponseFormat, scope: str) -> Any:
        first.append(self)
        if self is not first[0]:
            raise InvalidFieldError(FIELD, "is not offered by this service, which lacks llguidance")
        return await compiled(self, wanted, scope)

    return compiled_there


def test_a_proposal_that_begins_otherwise_makes_way() -> None:
    grammar = GrammarCompiler(TOKENIZER).compile(ResponseFormat("choice", '["abc12x", "abc12y"]'))
    planned = plan([1], 20, eos_token_id=[END])
    forced = ForcedTokens(replace(planned, grammar=grammar))

    def ids(text: str) -> Sequence[int]:
        return tuple(TOKENIZER(text, add_special_tokens=False)["input_ids"])

    assert forced.propose([1], 9).ids == ids("abc12")
    assert forced.propose([1], 1).ids == ids("abc12")[:1]
    assert forced.propose([1], 0).ids == ()
    for proposed, kept in (("abc12x", True), ("abc12", True), ("abc", False), ("xyz", False)):
        proposal = Proposal(tuple(ids(proposed)), None, "model")
        assert (forced.in_front([1], proposal, 9) is proposal) is kept
    assert forced.propose([1, *ids("abc12x")], 9).ids == (END,)
