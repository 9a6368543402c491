"""DraftService by itself, message by message."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest

from foredraft.v1 import draft_pb2, draft_pb2_grpc, generation_pb2
from tests.fakes import TableRows, random_table, table_model
from tests.loopback import LoopbackDraft, draft_service

VOCAB = 10
TABLE = random_table(VOCAB, 0)
REJECTION, COUPLED = generation_pb2.SAMPLING_RULE_REJECTION, generation_pb2.SAMPLING_RULE_COUPLED


@pytest.fixture
async def draft() -> AsyncIterator[LoopbackDraft]:
    async with draft_service(
        TableRows(TABLE), table_model(VOCAB), q_width=4, ngram_min_match=3
    ) as service:
        yield service


def _open(*ids: int, k: int = 3, rule: Any = 0, **config: Any) -> draft_pb2.DraftRequest:
    sampling = generation_pb2.GenerationConfig(
        max_matching_ngram_size=2, top_k=0, max_length=200, **config
    )
    opened = draft_pb2.Open(
        epoch=5, prompt_ids=ids, sampling=sampling, rule=rule, seed=9, k=k, max_length=200
    )
    return draft_pb2.DraftRequest(open=opened)


def _commit(
    base_len: int, *accepted: int, next_id: int, k: int = 3, **more: Any
) -> draft_pb2.DraftRequest:
    commit = draft_pb2.Commit(
        base_len=base_len, accepted_ids=accepted, next_id=next_id, k=k, **more
    )
    return draft_pb2.DraftRequest(commit=commit)


def _greedy(tokens: list[int], n: int) -> list[int]:
    text = list(tokens)
    for _ in range(n):
        text.append(int(TABLE[text[-2], text[-1]].argmax()))
    return text[len(tokens) :]


class Conversation:
    """A stream, one message at a time."""

    def __init__(self, draft: LoopbackDraft) -> None:
        self._channel = grpc.aio.insecure_channel(draft.address)
        self._call: Any = draft_pb2_grpc.DraftServiceStub(self._channel).Draft()  # type: ignore[call-arg]

    async def say(self, request: draft_pb2.DraftRequest) -> None:
        await self._call.write(request)

    async def hear(self) -> Any:
        return await self._call.read()

    async def rest(self) -> None:
        while await self.hear() is not grpc.aio.EOF:
            pass

    async def block(self) -> draft_pb2.Block:
        block: draft_pb2.Block = (await self.hear()).block
        return block

    async def __aenter__(self) -> "Conversation":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._call.cancel()
        await self._channel.close()


async def test_a_greedy_sequence(draft: LoopbackDraft) -> None:
    async with Conversation(draft) as talk:
        await talk.say(_open(1, 2))
        opened = (await talk.hear()).opened
        assert opened.epoch == 5
        assert opened.vocabulary == draft_pb2.Vocabulary(
            fingerprint=table_model(VOCAB).vocabulary.fingerprint, size=VOCAB
        )
        block = await talk.block()
        assert (block.epoch, block.base_len, block.block_id) == (5, 2, 1)
        right = _greedy([1, 2], 3)
        assert list(block.outcomes[0].proposal.ids) == right
        assert not block.outcomes[0].proposal.HasField("q")
        # Two accepted, then another token than the third.
        other = (right[2] + 1) % VOCAB
        await talk.say(_commit(2, *right[:2], next_id=other))
        block = await talk.block()
        assert (block.base_len, block.block_id) == (5, 2)
        assert list(block.outcomes[0].proposal.ids) == _greedy([1, 2, *right[:2], other], 3)
        # All accepted: the draft's row lacks the last one and the bonus.
        ids = list(block.outcomes[0].proposal.ids)
        await talk.say(_commit(5, *ids, next_id=4))
        assert list((await talk.block()).outcomes[0].proposal.ids) == _greedy(
            [*right[:2], other, *ids, 4], 3
        )


async def test_rows_of_q_are_what_was_sampled_from(draft: LoopbackDraft) -> None:
    async with Conversation(draft) as talk:
        await talk.say(_open(1, 2, rule=REJECTION, do_sample=True))
        await talk.hear()
        proposal = (await talk.block()).outcomes[0].proposal
        counts = list(proposal.q.counts)
        ids, q = (
            np.frombuffer(proposal.q.ids, "<u4"),
            np.frombuffer(proposal.q.probabilities, "<f4"),
        )
        assert len(counts) == 3
        assert max(counts) <= 4, "no wider than q_width"
        context = [1, 2]
        for row, token in enumerate(proposal.ids):
            span = slice(sum(counts[:row]), sum(counts[: row + 1]))
            assert token in ids[span]
            assert q[span].sum() == pytest.approx(1, abs=1e-5)
            best = TABLE[context[-2], context[-1]].softmax(-1).topk(4)
            assert set(ids[span]) == set(best.indices.tolist())
            assert sorted(q[span]) == pytest.approx(
                sorted((best.values / best.values.sum()).tolist()), abs=1e-5
            )
            context.append(token)


async def test_coupled_proposals_carry_no_q(draft: LoopbackDraft) -> None:
    async with Conversation(draft) as talk:
        await talk.say(_open(1, 2, rule=COUPLED, do_sample=True))
        await talk.hear()
        assert not (await talk.block()).outcomes[0].proposal.HasField("q")


async def test_ngrams_draft_where_the_match_is_long(draft: LoopbackDraft) -> None:
    async with Conversation(draft) as talk:
        await talk.say(_open(1, 2, 3, 4, 7, 8, 9, 2, 3, 4))
        await talk.hear()
        proposal = (await talk.block()).outcomes[0].proposal
        assert (list(proposal.ids), proposal.kind) == ([7, 8, 9], draft_pb2.DRAFTER_KIND_NGRAM)
        await talk.say(_commit(10, 7, next_id=1))
        assert (await talk.block()).outcomes[0].proposal.kind == draft_pb2.DRAFTER_KIND_MODEL


async def test_a_commit_overtakes_and_none_is_asked_for(draft: LoopbackDraft) -> None:
    async with Conversation(draft) as talk:
        await talk.say(_open(1, 2, k=0))
        await talk.hear()
        for base_len in range(2, 12):
            await talk.say(_commit(base_len, next_id=base_len % VOCAB, k=0))
        await talk.say(_commit(12, next_id=3, explicit_ids=generation_pb2.TokenIds()))
        assert (await talk.block()).base_len == 13


@pytest.mark.parametrize(
    "requests",
    [
        [_commit(2, next_id=1)],
        [_open()],
        [_open(1, 2), _open(1, 2)],
        [_open(1, 2), _commit(7, next_id=1)],
        [_open(1, 2, rule=9)],
    ],
    ids=["commit first", "no prompt", "open twice", "commit on another base", "unknown rule"],
)
async def test_what_makes_no_sense_ends_the_stream(
    draft: LoopbackDraft, requests: list[draft_pb2.DraftRequest]
) -> None:
    async with Conversation(draft) as talk:
        for request in requests:
            await talk.say(request)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await talk.rest()
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert draft.engine
    assert draft.engine.pool.in_use == 0


async def test_info(draft: LoopbackDraft) -> None:
    async with grpc.aio.insecure_channel(draft.address) as channel:
        stub: Any = draft_pb2_grpc.DraftServiceStub(channel)
        info = await stub.GetDraftInfo(draft_pb2.GetDraftInfoRequest())
    assert (info.kind, info.max_length, info.rows) == (
        draft_pb2.DRAFTER_KIND_MODEL_AND_NGRAM,
        512,
        64,
    )
