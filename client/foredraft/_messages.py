"""Requests from what callers say, results from what the service streams; the same for both clients.

Knows nothing of channels, threads or event loops.
"""

import secrets
import sys
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from foredraft._criteria import Criteria, Criterion, criteria_of
from foredraft._errors import ForedraftError, InternalError, InvalidRequestError, from_rpc
from foredraft._prompts import prompt_messages
from foredraft._types import Chunk, Logprobs, ModelInfo, Result, ScoreRow, Stats
from foredraft.v1 import generation_pb2, target_pb2
from foredraft.wire.config import config_from, config_message
from foredraft.wire.limits import MAX_MESSAGE_BYTES
from foredraft.wire.numbers import UINT32_MAX, UINT64_MAX, whole

_RULES = {
    "greedy": generation_pb2.SAMPLING_RULE_UNSPECIFIED,
    "rejection": generation_pb2.SAMPLING_RULE_REJECTION,
    "coupled": generation_pb2.SAMPLING_RULE_COUPLED,
}
_RULE_NAMES = {number: name for name, number in _RULES.items()}
_REASONS = {
    target_pb2.FINISH_REASON_LENGTH: "length",
    target_pb2.FINISH_REASON_EOS_TOKEN: "eos_token",
    target_pb2.FINISH_REASON_STOP_STRING: "stop_string",
    target_pb2.FINISH_REASON_MAX_TIME: "max_time",
}


_MET = "stopping_criteria"  # the reason that only the client knows


@dataclass(frozen=True, slots=True)
class Call:
    """A request, and whether its answer is a list."""

    request: target_pb2.GenerateRequest
    is_list: bool
    stopping_criteria: tuple[Criterion, ...] = ()


@dataclass(frozen=True, slots=True)
class Extras:
    """Arguments of a call that are not generation parameters."""

    seed: int | None
    sampling_rule: str | None
    logprobs: int | None
    generated_ids: Any
    negative_prompt: Any = None
    stopping_criteria: Any = None


def build_call(
    inputs: Any,
    generation_config: Any,
    fields: Mapping[str, Any],
    extras: Extras,
    return_prompt_ids: bool = False,
) -> Call:
    """The request for a call; `fields` go over those of `generation_config`.

    Raises:
        InvalidRequestError: something that cannot be sent; it is named.
    """
    prompts, is_batch = prompt_messages(inputs, extras.generated_ids)
    away, fields = _negative(extras.negative_prompt, dict(fields))
    name = generation_config if isinstance(generation_config, str) else ""
    config = config_message(None if name else generation_config, fields)
    criteria = criteria_of(extras.stopping_criteria)
    if criteria and config.num_beams > 1:
        message = "stopping_criteria and num_beams: a beam search is not ended by the client; use stop_strings or max_time"
        raise InvalidRequestError(message, fields=["stopping_criteria", "num_beams"])
    if extras.sampling_rule not in (None, "rejection", "coupled"):
        message = f"sampling_rule={extras.sampling_rule!r} is neither 'rejection' nor 'coupled'"
        raise InvalidRequestError(message, field="sampling_rule")
    request = target_pb2.GenerateRequest(
        request_id=secrets.token_hex(
            8
        ),  # drawn here, so that a call that never got through has a name too
        prompts=prompts,
        config=config,
        seed=_argument("seed", extras.seed, UINT64_MAX),
        sampling_rule=_RULES[extras.sampling_rule or "greedy"],
        logprobs=_argument("logprobs", extras.logprobs, UINT32_MAX),
        negative_prompts=prompt_messages(away)[0] if away is not None else (),
        return_prompt_ids=return_prompt_ids or bool(criteria),
        config_name=name,
    )
    if (size := request.ByteSize()) > MAX_MESSAGE_BYTES:
        message = (
            f"inputs: make a request of {size} bytes; the service's limit is {MAX_MESSAGE_BYTES}"
        )
        raise InvalidRequestError(message, field="inputs")
    return Call(request, is_batch or config.num_return_sequences > 1, criteria)


def _negative(prompt: Any, fields: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The negative prompt, which transformers has as `negative_prompt_ids`, and the other fields."""
    ids = fields.pop("negative_prompt_ids", None)
    if prompt is not None and ids is not None:
        message = "negative_prompt and negative_prompt_ids: are the same; leave one of them out"
        raise InvalidRequestError(message, fields=["negative_prompt", "negative_prompt_ids"])
    return (ids if prompt is None else prompt), fields


def _argument(name: str, value: Any, limit: int) -> int | None:
    try:
        return None if value is None else whole(value, limit)
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"{name}={value!r}: {error}", field=name) from error


@dataclass(slots=True)
class _Sequence:
    ids: list[int] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    logprobs: list[Logprobs] = field(default_factory=list)
    scores: list[ScoreRow] = field(default_factory=list)
    logits: list[ScoreRow] = field(default_factory=list)
    reason: str | None = None


class Folding:
    """Folds the messages of one call into results."""

    def __init__(self, call: Call) -> None:
        self._is_list = call.is_list
        self._sequences: dict[int, _Sequence] = {}
        self._started = target_pb2.Started(request_id=call.request.request_id)
        self._criteria = Criteria(call.stopping_criteria, call.request)
        self._finished: target_pb2.Finished | None = None

    def add(self, message: target_pb2.GenerateResponse) -> list[list[int]] | Chunk | None:
        """Takes the next message:

        token ids of the prompts (those asked for), a chunk, or None at the end.
        """
        kind = message.WhichOneof("message")
        if kind == "started":
            self._started = message.started
            self._criteria.begin(message.started)
            return [list(p.ids) for p in message.started.prompt_ids]
        if kind == "finished":
            self._finished = message.finished
        return self._chunk(message.chunk) if kind == "chunk" else None

    @property
    def met(self) -> bool:
        """Whether all sequences have ended, one of them at least by a stopping criterion:

        nothing more is wanted.
        """
        reasons = [sequence.reason for sequence in self._sequences.values()]
        return _MET in reasons and all(reasons) and len(reasons) == self._criteria.sequences

    def _chunk(self, message: target_pb2.Chunk) -> Chunk | None:
        sequence = self._sequences.setdefault(message.sequence_index, _Sequence())
        if sequence.reason == _MET:  # what the service made before it knew
            return None
        met = self._criteria.cut(message)
        logprobs = tuple(
            Logprobs(entry.logprob, tuple(zip(entry.top_ids, entry.top_logprobs, strict=True)))
            for entry in message.logprobs
        )
        ids, reason = tuple(message.token_ids), _MET if met else _REASONS.get(message.finish_reason)
        sequence.ids += ids
        sequence.text.append(message.text)
        sequence.logprobs += logprobs
        scores, logits = (
            tuple(map(_score_row, message.scores)),
            tuple(map(_score_row, message.logits)),
        )
        sequence.scores += scores
        sequence.logits += logits
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
        )

    def result(self) -> Result | list[Result]:
        """The result, or the list of results where the call asked for several.

        Raises:
            InternalError: the service's answer stops short of its end.
        """
        if self.met:
            results = self.partial()
            return results if self._is_list or len(results) > 1 else results[0]
        if self._finished is None or not self._finished.sequences:
            message = "the service ended its answer without a result"
            raise InternalError(
                message, partial=self.partial(), request_id=self._started.request_id
            )
        results = [self._result(s.sequence_index, s) for s in self._finished.sequences]
        # The model's own config may ask for several sequences where the call does not.
        return results if self._is_list or len(results) > 1 else results[0]

    def partial(self) -> list[Result]:
        """What came so far."""
        return [self._result(i, target_pb2.SequenceSummary()) for i in sorted(self._sequences)]

    def error(self, error: Any) -> ForedraftError:
        """The exception for a failed call, with what came before it."""
        return from_rpc(error, self.partial(), self._started.request_id)

    def _result(self, index: int, summary: target_pb2.SequenceSummary) -> Result:
        sequence = self._sequences.get(index, _Sequence())
        return Result(
            text="".join(sequence.text),
            token_ids=tuple(sequence.ids),
            finish_reason=_MET
            if sequence.reason == _MET
            else _REASONS.get(summary.finish_reason, sequence.reason),
            stats=self._stats(summary.stats),
            logprobs=tuple(sequence.logprobs),
            prompt_tokens=summary.prompt_tokens or self._criteria.prompt_tokens(index),
            sequence_index=index,
            score=summary.score if summary.HasField("score") else None,
            request_id=self._started.request_id,
            scores=tuple(sequence.scores),
            logits=tuple(sequence.logits),
        )

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
            ),  # by a newer service
            seed_repeats_with_any_drafter=stats.seed_repeats_with_any_drafter,
        )


def _score_row(message: target_pb2.ScoreRow) -> ScoreRow:
    ids, values = array("I", message.ids), array("f", message.values)
    if sys.byteorder == "big":
        ids.byteswap()
        values.byteswap()
    return ScoreRow(ids if ids else None, values)


def info_from(message: target_pb2.GetModelInfoResponse) -> ModelInfo:
    """What the service says of itself."""
    names = ("model", "max_length", "vocabulary_size", "rows", "row_layout", "dtype", "device")
    values: dict[str, Any] = {name: getattr(message, name) for name in names}
    config = config_from(message.generation_config)
    return ModelInfo(**values, drafts=dict(message.drafts), generation_config=config)
