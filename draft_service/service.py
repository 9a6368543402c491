"""The RPCs of `DraftService`: opens a sequence and streams its blocks.

This module knows nothing of models: it hands over to the session.
"""

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from draft_service.blocks import Blocks
from draft_service.outcome_ranking import OutcomeRanking
from draft_service.sequence_record import SequenceRecord
from draft_service.session import DraftSession, SessionOptions
from draft_service.settings import ROWS_ALONE, DraftSettings
from foredraft.v1 import draft_pb2, draft_pb2_grpc
from foredraft.wire.limits import MAX_SEQUENCE_TOKENS
from foredraft_engine.errors import InvalidFieldError
from foredraft_engine.logits.grammar import FIELD, Grammar
from foredraft_engine.logits.grammar_compiler import GrammarCompiler
from foredraft_engine.model.loading import LoadedModel
from foredraft_engine.sampling import Rule
from foredraft_engine.scheduling.caller import Caller, act_for
from foredraft_engine.scheduling.engine import Engine
from foredraft_serving.access.account import account
from foredraft_serving.access.quotas import Quotas
from foredraft_serving.grammars import Grammars
from foredraft_serving.logs import REQUEST_ID, serve_request
from foredraft_serving.messages import (
    format_from,
    kind_message,
    rule_from,
    sampling_from,
    vocabulary_message,
)
from foredraft_serving.metrics import DraftMetrics
from foredraft_serving.overload import OverloadError
from foredraft_serving.ranges import check_asked, check_format, check_ids, check_ranges
from foredraft_serving.tracing import serve_span

_MAX_DIGEST_BYTES = 64  # of what names a caller or a scope
_ANY_ID = 1 << 32  # n-grams work with every vocabulary


@dataclass(frozen=True, slots=True)
class Drafting:
    """What a draft service drafts with."""

    settings: DraftSettings
    metrics: DraftMetrics
    engine: Engine | None = None
    model: LoadedModel | None = None
    rankings: dict[Rule, OutcomeRanking] = field(
        default_factory=lambda: {rule: OutcomeRanking() for rule in Rule}
    )
    """What all sequences under a rule taught, by rule."""

    @property
    def rows(self) -> int:
        """The number of sequences that are drafted for at the same time."""
        if self.engine is None:
            return self.settings.rows or ROWS_ALONE
        return self.engine.rows.count

    @property
    def kind(self) -> str:
        """The name of the drafter: "model", "ngram" or "model+ngram"."""
        if self._alone:
            return "ngram"
        return "model" if self.settings.ngram == "off" else "model+ngram"

    def check_ids(self, field: str, ids: Sequence[int]) -> None:
        """Refuses ids that the draft model does not know: they would fail the step of all
        sequences.
        """
        check_ids(field, ids, self._vocabulary_size)

    @property
    def _vocabulary_size(self) -> int:
        return self.model.known_ids if self.model else _ANY_ID

    @property
    def _alone(self) -> bool:
        """Whether n-grams draft without a model."""
        return self.engine is None or self.settings.ngram == "only"

    def session(self, message: draft_pb2.Open, grammar: Grammar | None = None) -> DraftSession:
        """Returns a session for a sequence that the target opens.

        Args:
            grammar: what its proposals are held to, if they are.

        Raises:
            InvalidFieldError: the sequence cannot be followed.
        """
        _check_length(message)
        self.check_ids("prompt_ids", message.prompt_ids)
        self.check_ids("generated_ids", message.generated_ids)
        check_ranges(message.sampling, self._vocabulary_size)
        check_asked(message)
        sampling = sampling_from(
            message.sampling,
            rule=rule_from(message.rule),
            seed=message.seed,
            sequence_index=message.sequence_index,
            prompt_length=len(message.prompt_ids),
        )
        config = message.sampling
        alone = self._alone
        # With a model, n-grams draft only where the match is long, so a longer match must be
        # visible.
        longest = config.max_matching_ngram_size or 2
        min_match = {"off": None, "only": 1, "auto": 1 if alone else self.settings.ngram_min_match}
        options = SessionOptions(
            max_length=message.max_length,
            epoch=message.epoch,
            scope=message.cache_scope.hex() or secrets.token_hex(16),
            confidence=config.assistant_confidence_threshold,
            max_ngram=longest if alone else max(longest, self.settings.ngram_min_match),
            ngram_min_match=min_match[self.settings.ngram],
            q_width=self.settings.q_width,
        )
        tokens = [*message.prompt_ids, *message.generated_ids]
        engine = None if alone else self.engine
        ranking = self.rankings[sampling.rule]
        return DraftSession(engine, sampling, tokens, options, ranking, grammar)


def _check_digests(message: draft_pb2.Open) -> None:
    """Refuses names that are too long to be kept for a while."""
    for name in ("cache_scope", "owner"):
        if (size := len(getattr(message, name))) > _MAX_DIGEST_BYTES:
            reason = f"has {size} bytes; a digest has at most {_MAX_DIGEST_BYTES}"
            raise InvalidFieldError(name, reason)


def _check_length(message: draft_pb2.Open) -> None:
    """Refuses a sequence that is longer than it says or than any can be."""
    if not 0 < message.max_length <= MAX_SEQUENCE_TOKENS:
        reason = f"is {message.max_length}; it must be from 1 to {MAX_SEQUENCE_TOKENS}"
        raise InvalidFieldError("max_length", reason)
    tokens = len(message.prompt_ids) + len(message.generated_ids)
    if tokens > message.max_length:
        reason = f"and generated_ids have {tokens} tokens, with max_length {message.max_length}"
        raise InvalidFieldError("prompt_ids", reason)


class DraftServicer(draft_pb2_grpc.DraftServiceServicer):
    """Serves drafts. One stream is one sequence; when the stream ends, its row is free."""

    def __init__(self, drafting: Drafting) -> None:
        self._drafting = drafting
        self._following = 0
        self._quotas = Quotas()
        tokenizer = drafting.model.tokenizer if drafting.model else None
        self._grammars = Grammars(GrammarCompiler(tokenizer).compile)

    async def GetDraftInfo(
        self, request: draft_pb2.GetDraftInfoRequest, context: object
    ) -> draft_pb2.GetDraftInfoResponse:
        model, engine = self._drafting.model, self._drafting.engine
        told = model.vocabulary if model and request.with_tokens else None
        return draft_pb2.GetDraftInfoResponse(
            model=model.name if model else "",
            kind=kind_message(self._drafting.kind),
            vocabulary=vocabulary_message(model.vocabulary) if model else None,
            max_length=engine.capacity if engine else 0,
            rows=self._drafting.rows,
            tokens=told.tokens if told else (),
            special_ids=told.special_ids if told else {},
        )

    async def Draft(
        self, requests: AsyncIterator[draft_pb2.DraftRequest], context: Any
    ) -> AsyncIterator[draft_pb2.DraftResponse]:
        metadata = dict(context.invocation_metadata() or ())
        serve_request(metadata.get(REQUEST_ID, ""))
        span = serve_span("foredraft.draft.Draft", metadata.items())
        with SequenceRecord(self._drafting.metrics, span) as record:
            first = await anext(aiter(requests), None)
            if first is None:
                return
            # Who has sent nothing yet takes no place.
            with self._place():
                async with aclosing(self._follow(first, requests, record)) as responses:
                    async for response in responses:
                        yield response

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Keeps a place for one sequence.

        Raises:
            OverloadError: as many as may wait do so, or its target has all that it may have.
        """
        settings = self._drafting.settings
        if self._following >= self._drafting.rows + settings.max_waiting:
            raise OverloadError("queue", f"{settings.max_waiting} sequences wait for a row")
        with self._quotas.enter(account()):
            self._following += 1
            try:
                yield
            finally:
                self._following -= 1

    async def _follow(
        self,
        first: draft_pb2.DraftRequest,
        requests: AsyncIterator[draft_pb2.DraftRequest],
        record: SequenceRecord,
    ) -> AsyncGenerator[draft_pb2.DraftResponse, None]:
        if first.WhichOneof("message") != "open":
            raise InvalidFieldError("open", "a draft stream begins with it")
        if not first.open.prompt_ids:
            raise InvalidFieldError("prompt_ids", "is empty")
        opened = first.open
        _check_digests(opened)
        act_for(Caller(opened.owner.hex()))
        record.opened(opened.sequence_index, len(opened.prompt_ids))
        # The vocabulary is told before ids are judged: to a target that has another one, ids that
        # do not exist here are no fault of the sequence.
        answer = self._opened(opened.epoch)
        grammar = await self._grammar(opened, answer)
        yield draft_pb2.DraftResponse(opened=answer)
        async with self._drafting.session(opened, grammar) as session:
            blocks = Blocks(session, opened, requests, record, self._drafting.check_ids)
            async with aclosing(blocks.run()) as answers:
                async for block in answers:
                    yield block

    async def _grammar(self, opened: draft_pb2.Open, answer: draft_pb2.Opened) -> Grammar | None:
        """Returns what a sequence is held to, and tells in the answer why it is held to nothing.

        The target holds its texts to the format in any case, so that this costs speed alone.
        """
        message = opened.sampling.response_format
        if (wanted := format_from(message)) is None:
            return None
        answer.unheld_reason = ""
        if self._drafting.kind == "ngram":
            answer.unheld_reason = "n-grams are proposed as they are"
            return None
        try:
            check_format(FIELD, message)
            return await self._grammars.compiled(wanted, opened.cache_scope.hex())
        except (InvalidFieldError, OverloadError) as error:
            answer.unheld_reason = str(error)
            return None

    def _opened(self, epoch: int) -> draft_pb2.Opened:
        model = self._drafting.model
        vocabulary = vocabulary_message(model.vocabulary) if model else None
        return draft_pb2.Opened(
            epoch=epoch, kind=kind_message(self._drafting.kind), vocabulary=vocabulary
        )
