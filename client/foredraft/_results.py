"""Builds results from what the service streams; the same for both clients.

This module knows nothing of channels, threads or event loops.
"""

from dataclasses import dataclass, field
from typing import Any

import grpc

from foredraft._call import MET, Call
from foredraft._chunk_values import origins_from, round_from, score_row_from
from foredraft._criteria import Criteria
from foredraft._errors import ForedraftError, InternalError, details_of, from_rpc
from foredraft._resumption import Rounds, is_search, number_of_sequences, request_again
from foredraft._types import Chunk, Logprobs, ModelInfo, Origin, Result, Round, ScoreRow, Stats
from foredraft.v1 import generation_pb2, target_pb2
from foredraft.wire.config import config_from

_RULE_NAMES = {
    generation_pb2.SAMPLING_RULE_UNSPECIFIED: "greedy",
    generation_pb2.SAMPLING_RULE_REJECTION: "rejection",
    generation_pb2.SAMPLING_RULE_COUPLED: "coupled",
}
_REASONS = {
    target_pb2.FINISH_REASON_LENGTH: "length",
    target_pb2.FINISH_REASON_EOS_TOKEN: "eos_token",
    target_pb2.FINISH_REASON_STOP_STRING: "stop_string",
    target_pb2.FINISH_REASON_MAX_TIME: "max_time",
}


@dataclass(slots=True)
class _Sequence:
    ids: list[int] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    logprobs: list[Logprobs] = field(default_factory=list)
    scores: list[ScoreRow] = field(default_factory=list)
    logits: list[ScoreRow] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)
    told: list[Round] = field(default_factory=list)
    prompt_logprobs: list[Logprobs] = field(default_factory=list)
    reason: str | None = None
    rounds: Rounds = field(default_factory=Rounds)


class ResultBuilder:
    """Builds the results of one call from its messages."""

    def __init__(self, call: Call) -> None:
        self._call, self._is_list = call, call.is_list
        self._sequences: dict[int, _Sequence] = {}
        self._started = target_pb2.Started(request_id=call.request.request_id)
        self._criteria = Criteria(call.stopping_criteria, call.request)
        self._finished: target_pb2.Finished | None = None
        self._ended_by_chunks = False  # all sequences ended, and the summaries were lost

    def add(self, message: target_pb2.GenerateResponse) -> list[list[int]] | Chunk | None:
        """Takes the next message; returns the token ids of the prompts if they were asked for, a
        chunk, or None at the end.
        """
        kind = message.WhichOneof("message")
        if kind == "started":
            if self._sequences:  # the rest of a call, whose beginning is known
                return None
            self._started = message.started
            self._criteria.begin(message.started)
            return [list(p.ids) for p in message.started.prompt_ids]
        if kind == "finished":
            self._finished = message.finished
        return self._chunk(message.chunk) if kind == "chunk" else None

    @property
    def met(self) -> bool:
        """Whether every sequence has ended, at least one by a stopping criterion, so that nothing
        more is wanted.
        """
        reasons = [sequence.reason for sequence in self._sequences.values()]
        return MET in reasons and all(reasons) and len(reasons) == self._criteria.sequences

    def _chunk(self, message: target_pb2.Chunk) -> Chunk | None:
        sequence = self._sequences.setdefault(message.sequence_index, _Sequence())
        if sequence.reason == MET:  # the service made this before it knew of the end
            return None
        if message.prompt_logprobs:  # in chunks that have nothing else
            sequence.prompt_logprobs += map(_logprobs, message.prompt_logprobs)
            return None
        if self._call.resume:
            sequence.rounds.add(message)
        met = self._criteria.cut(message)
        logprobs = tuple(map(_logprobs, message.logprobs))
        ids, reason = tuple(message.token_ids), MET if met else _REASONS.get(message.finish_reason)
        sequence.ids += ids
        sequence.text.append(message.text)
        sequence.logprobs += logprobs
        scores, logits = (
            tuple(map(score_row_from, message.scores)),
            tuple(map(score_row_from, message.logits)),
        )
        sequence.scores += scores
        sequence.logits += logits
        origins = origins_from(message)
        sequence.origins += origins
        told = round_from(message)
        sequence.told += [told] if told else []
        sequence.reason = reason
        return Chunk(
            sequence_index=message.sequence_index,
            token_ids=ids,
            text=message.text,
            num_accepted=message.num_accepted,
            logprobs=logprobs,
            text_offsets=tuple(message.text_offsets),
            finish_reason=reason,
            scores=scores,
            logits=logits,
            origins=origins,
            round=told,
        )

    def result(self) -> Result | list[Result]:
        """Returns the result, or a list of results where the call asked for several.

        Raises:
            InternalError: the service's answer stops short of its end.
        """
        if self.met or self._ended_by_chunks:
            results = self.partial()
            return results if self._is_list or len(results) > 1 else results[0]
        if self._finished is None or not self._finished.sequences:
            message = "the service ended its answer without a result"
            raise InternalError(
                message, partial=self.partial(), request_id=self._started.request_id
            )
        summaries = {s.sequence_index: s for s in self._finished.sequences}
        # A sequence that ended before its service was lost has no summary.
        results = [
            self._result(index, summaries.get(index, target_pb2.SequenceSummary()))
            for index in sorted(summaries.keys() | self._sequences.keys())
        ]
        # The model's own config may ask for several sequences where the call does not.
        return results if self._is_list or len(results) > 1 else results[0]

    def rest(self, elapsed_s: float) -> target_pb2.GenerateRequest | None:
        """Returns the request for what is missing, after the connection was lost; None if every
        sequence has ended.

        Raises:
            LookupError: a search cannot go on.
        """
        request = self._call.request
        if not self._sequences:
            return request_again(request, None, {}, elapsed_s)
        if is_search(request):
            raise LookupError("a search cannot go on once something of it came")
        count = number_of_sequences(request, self._started)
        unended = {}
        for index in range(count):
            sequence = self._sequences.setdefault(index, _Sequence())
            sequence.rounds.keep(goes_on=sequence.reason is None)
            if sequence.reason is None:
                unended[index] = sequence.ids
        if unended:
            return request_again(request, self._started, unended, elapsed_s)
        self._ended_by_chunks = True
        return None

    def partial(self) -> list[Result]:
        """Returns the results as far as they came."""
        return [self._result(i, target_pb2.SequenceSummary()) for i in sorted(self._sequences)]

    def error(self, error: grpc.RpcError, timeout_s: float | None) -> ForedraftError:
        """Returns the exception for a failed call, with what came before it."""
        for chunk in details_of(error, target_pb2.Chunk):  # what was not read in time
            self._chunk(chunk)
        return from_rpc(error, self.partial(), self._started.request_id, timeout_s)

    def _result(self, index: int, summary: target_pb2.SequenceSummary) -> Result:
        sequence = self._sequences.get(index, _Sequence())
        return Result(
            text="".join(sequence.text),
            token_ids=tuple(sequence.ids),
            finish_reason=MET
            if sequence.reason == MET
            else _REASONS.get(summary.finish_reason, sequence.reason),
            stats=sequence.rounds.added_to(self._stats(summary.stats)),
            logprobs=tuple(sequence.logprobs),
            prompt_tokens=summary.prompt_tokens or self._prompt_tokens(index),
            sequence_index=index,
            score=summary.score if summary.HasField("score") else None,
            request_id=self._started.request_id,
            scores=tuple(sequence.scores),
            logits=tuple(sequence.logits),
            origins=tuple(sequence.origins),
            rounds=tuple(sequence.told),
            prompt_logprobs=self._prompt_logprobs(index),
            cached_tokens=summary.cached_tokens,
        )

    def _prompt_logprobs(self, index: int) -> tuple[Logprobs | None, ...]:
        """Returns what the first sequence of a sequence's prompt was told of the prompt."""
        request = self._call.request
        if not request.HasField("prompt_logprobs"):
            return ()
        each = max(1, number_of_sequences(request, self._started) // len(request.prompts))
        return (None, *self._sequences.get(index // each * each, _Sequence()).prompt_logprobs)

    def _prompt_tokens(self, index: int) -> int:
        """Returns the length of a sequence's prompt, if the service returned the prompts."""
        prompts = self._started.prompt_ids
        count = number_of_sequences(self._call.request, self._started)
        return len(prompts[index * len(prompts) // count].ids) if prompts else 0

    def _stats(self, stats: target_pb2.SpeculationStats) -> Stats:
        return Stats(
            rounds=stats.rounds,
            proposed=stats.proposed,
            accepted=stats.accepted,
            acceptance_histogram=tuple(stats.acceptance_histogram),
            drafter=stats.drafter or "none",
            fallbacks=dict(stats.fallbacks),
            draft_unused_reason=stats.draft_unused_reason,
            seed=self._started.seed,
            sampling_rule=_RULE_NAMES.get(
                self._started.sampling_rule, "unknown"
            ),  # a newer service may send a rule that this client does not know
            seed_repeats_with_any_drafter=stats.seed_repeats_with_any_drafter,
            pushed=stats.pushed,
            waited_for=stats.waited_for,
            waited_s=stats.waited_s,
            hidden_s=stats.hidden_s,
        )


def info_from(message: target_pb2.GetModelInfoResponse) -> ModelInfo:
    """Returns what the service says of itself."""
    names = ("model", "max_length", "vocabulary_size", "rows", "row_layout", "dtype", "device")
    values: dict[str, Any] = {name: getattr(message, name) for name in names}
    config = config_from(message.generation_config)
    return ModelInfo(**values, drafts=dict(message.drafts), generation_config=config)


def _logprobs(entry: target_pb2.TokenLogprobs) -> Logprobs:
    return Logprobs(entry.logprob, tuple(zip(entry.top_ids, entry.top_logprobs, strict=True)))
