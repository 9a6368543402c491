"""Requests from what callers say, results from what the service streams; the same for both clients.

Knows nothing of channels, threads or event loops.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from foredraft._config import config_message
from foredraft._errors import InvalidRequestError, ForedraftError, from_rpc
from foredraft._types import Chunk, Logprobs, ModelInfo, Result, Stats
from foredraft.v1 import generation_pb2, target_pb2

_RULES = {
    None: generation_pb2.SAMPLING_RULE_UNSPECIFIED,
    "rejection": generation_pb2.SAMPLING_RULE_REJECTION,
    "coupled": generation_pb2.SAMPLING_RULE_COUPLED,
}
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


@dataclass(frozen=True, slots=True)
class Call:
    """A request, and whether its answer is a list."""

    request: target_pb2.GenerateRequest
    is_list: bool


def build_call(
    inputs: Any,
    generation_config: Any = None,
    *,
    seed: int | None = None,
    sampling_rule: str | None = None,
    logprobs: int | None = None,
    generated_ids: Sequence[int] | None = None,
    return_prompt_ids: bool = False,
    **kwargs: Any,
) -> Call:
    """The request for a call.

    Raises:
        InvalidRequestError: something that cannot be sent; it is named.
    """
    prompts, is_batch = _prompts(inputs)
    if generated_ids is not None:
        if is_batch:
            raise InvalidRequestError("generated_ids goes with a single prompt", field="generated_ids")
        prompts[0].generated_ids.extend(generated_ids)
    config = config_message(generation_config, kwargs)
    if sampling_rule not in _RULES:
        raise InvalidRequestError(
            f"sampling_rule={sampling_rule!r} is neither 'rejection' nor 'coupled'", field="sampling_rule"
        )
    try:
        request = target_pb2.GenerateRequest(
            prompts=prompts,
            config=config,
            seed=seed,
            sampling_rule=_RULES[sampling_rule],
            logprobs=logprobs,
            return_prompt_ids=return_prompt_ids,
        )
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"seed={seed!r}, logprobs={logprobs!r}: {error}") from error
    return Call(request, is_batch or config.num_return_sequences > 1)


def prompt_message(value: Any) -> generation_pb2.Prompt:
    """One prompt: text, ids or a conversation."""
    prompts, is_batch = _prompts(value)
    if is_batch:
        raise InvalidRequestError("takes one prompt", field="inputs")
    return prompts[0]


def _prompts(inputs: Any) -> tuple[list[generation_pb2.Prompt], bool]:
    """Prompts, and whether they are a batch."""
    if not isinstance(inputs, str) and hasattr(inputs, "tolist"):
        inputs = inputs.tolist()  # a tensor or an array
    if isinstance(inputs, str) or not isinstance(inputs, Sequence):
        return [_prompt(inputs)], False
    if not inputs:
        raise InvalidRequestError("the prompt is empty", field="inputs")
    is_batch = isinstance(inputs[0], str) or (isinstance(inputs[0], Sequence) and not isinstance(inputs[0], Mapping))
    return ([_prompt(value) for value in inputs], True) if is_batch else ([_prompt(inputs)], False)


def _prompt(value: Any) -> generation_pb2.Prompt:
    try:
        if isinstance(value, str):
            return generation_pb2.Prompt(text=value)
        items = list(value)
        if items and isinstance(items[0], Mapping):
            messages = [generation_pb2.ChatMessage(role=m["role"], content=m["content"]) for m in items]
            return generation_pb2.Prompt(chat=generation_pb2.Chat(messages=messages))
        return generation_pb2.Prompt(token_ids=generation_pb2.TokenIds(ids=[int(i) for i in items]))
    except (TypeError, ValueError, KeyError) as error:
        raise InvalidRequestError(
            f"a prompt is text, token ids, or messages with role and content: {error!r}", field="inputs"
        ) from error


@dataclass(slots=True)
class _Sequence:
    ids: list[int] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    logprobs: list[Logprobs] = field(default_factory=list)
    reason: str | None = None


class Folding:
    """Folds the messages of one stream into results."""

    def __init__(self, call: Call) -> None:
        self._is_list = call.is_list
        self._sequences: dict[int, _Sequence] = {}
        self._summaries: Sequence[target_pb2.SequenceSummary] = ()
        self._started = target_pb2.Started()
        self.began = False
        self.finished = False

    @property
    def prompt_ids(self) -> list[list[int]]:
        """Token ids of the prompts, if they were asked for."""
        return [list(p.ids) for p in self._started.prompt_ids]

    def add(self, message: target_pb2.GenerateResponse) -> Chunk | None:
        """Takes the next message; the chunk in it, if it has one."""
        self.began = True
        kind = message.WhichOneof("message")
        if kind == "started":
            self._started = message.started
        elif kind == "finished":
            self._summaries = message.finished.sequences
            self.finished = True
        elif kind == "chunk":
            return self._chunk(message.chunk)
        return None

    def _chunk(self, message: target_pb2.Chunk) -> Chunk:
        logprobs = tuple(
            Logprobs(entry.logprob, tuple(zip(entry.top_ids, entry.top_logprobs, strict=True)))
            for entry in message.logprobs
        )
        ids, reason = tuple(message.token_ids), _REASONS.get(message.finish_reason)
        sequence = self._sequences.setdefault(message.sequence_index, _Sequence())
        sequence.ids += ids
        sequence.text.append(message.text)
        sequence.logprobs += logprobs
        sequence.reason = reason
        return Chunk(
            sequence_index=message.sequence_index,
            token_ids=ids,
            text=message.text,
            num_accepted=message.num_accepted,
            logprobs=logprobs,
            text_offsets=tuple(message.text_offsets),
            finish_reason=reason,
        )

    def result(self) -> Result | list[Result]:
        """The result, or the list of results where the call asked for several.

        Raises:
            ForedraftError: the stream has not ended.
        """
        if not self.finished:
            raise ForedraftError("the stream has not ended: read it to its end before its result")
        results = [self._result(s.sequence_index, s) for s in self._summaries]
        return results if self._is_list else results[0]

    def partial(self) -> tuple[Result, ...]:
        """What came so far."""
        return tuple(self._result(i, target_pb2.SequenceSummary()) for i in sorted(self._sequences))

    def error(self, error: Any) -> ForedraftError:
        """The exception for a failed call, with what came before it."""
        return from_rpc(error, self.partial(), self._started.request_id)

    def _result(self, index: int, summary: target_pb2.SequenceSummary) -> Result:
        sequence = self._sequences.get(index, _Sequence())
        return Result(
            text="".join(sequence.text),
            token_ids=tuple(sequence.ids),
            finish_reason=_REASONS.get(summary.finish_reason, sequence.reason),
            stats=self._stats(summary.stats),
            logprobs=tuple(sequence.logprobs),
            prompt_tokens=summary.prompt_tokens,
            sequence_index=index,
            request_id=self._started.request_id,
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
            sampling_rule=_RULE_NAMES[self._started.sampling_rule],
            seed_repeats_with_any_drafter=stats.seed_repeats_with_any_drafter,
        )


def info_from(message: target_pb2.GetModelInfoResponse) -> ModelInfo:
    """What the service says of itself."""
    names = ("model", "max_length", "vocabulary_size", "rows", "row_layout", "dtype", "device")
    return ModelInfo(**{name: getattr(message, name) for name in names}, drafts=dict(message.drafts))
