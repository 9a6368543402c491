"""The answers of this service as those of `vllm.grpc.engine`.

A streamed call has the tokens of each round as a chunk; a call that is not streamed has one message
for each sequence. This module knows nothing of requests or engines.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from smg_grpc_proto.generated import vllm_engine_pb2 as pb

from foredraft.v1 import target_pb2

# vLLM has three reasons: a text that ran out of time has no other.
_REASONS = {
    target_pb2.FINISH_REASON_LENGTH: "length",
    target_pb2.FINISH_REASON_EOS_TOKEN: "stop",
    target_pb2.FINISH_REASON_STOP_STRING: "stop",
    target_pb2.FINISH_REASON_MAX_TIME: "length",
}
ABORTED = "abort"


@dataclass(slots=True)
class _Sequence:
    ids: list[int] = field(default_factory=list)
    logprobs: list[target_pb2.TokenLogprobs] = field(default_factory=list)
    told: bool = False
    """Whether a chunk of it was sent."""
    ended: bool = False


class Answers:
    """The answers of one call."""

    def __init__(
        self,
        request: pb.GenerateRequest,
        prompt: Sequence[int],
        stop_token_ids: Collection[int],
    ) -> None:
        """
        Args:
            prompt: the prompt as token ids.
            stop_token_ids: the tokens that end a text because the request says so.
        """
        params = request.sampling_params
        self._streams, self._prompt = request.stream, prompt
        self._stop_token_ids = frozenset(stop_token_ids)
        self._top = params.logprobs if params.HasField("logprobs") else 0
        self._tells_prompt = params.HasField("prompt_logprobs")
        self._count = max(1, params.n)
        self._sequences: defaultdict[int, _Sequence] = defaultdict(_Sequence)
        self._prompt_logprobs: list[target_pb2.TokenLogprobs] = []

    def of(self, message: target_pb2.GenerateResponse) -> Iterator[pb.GenerateResponse]:
        """Yields what a message of this service makes."""
        if message.HasField("chunk"):
            yield from self._of_chunk(message.chunk)
        for summary in message.finished.sequences:
            yield self._complete(summary)

    def aborted(self) -> Iterator[pb.GenerateResponse]:
        """Yields the ends of a call that was aborted."""
        for index in range(self._count):
            if not (sequence := self._sequences[index]).ended:
                yield pb.GenerateResponse(
                    complete=pb.GenerateComplete(
                        output_ids=[] if self._streams else sequence.ids,
                        finish_reason=ABORTED,
                        prompt_tokens=len(self._prompt),
                        completion_tokens=len(sequence.ids),
                        index=index,
                    )
                )

    def _of_chunk(self, chunk: target_pb2.Chunk) -> Iterator[pb.GenerateResponse]:
        self._prompt_logprobs += chunk.prompt_logprobs
        sequence = self._sequences[chunk.sequence_index]
        sequence.ids += chunk.token_ids
        sequence.logprobs += chunk.logprobs
        if not self._streams or not chunk.token_ids:
            return
        made = pb.GenerateStreamChunk(
            token_ids=chunk.token_ids,
            prompt_tokens=len(self._prompt),
            completion_tokens=len(chunk.token_ids),
            output_logprobs=self._output(chunk.token_ids, chunk.logprobs),
            # The first sequence comes after what is told of the prompt; the others may not.
            input_logprobs=None if sequence.told or chunk.sequence_index else self._input(),
            index=chunk.sequence_index,
        )
        sequence.told = True
        yield pb.GenerateResponse(chunk=made)

    def _complete(self, summary: target_pb2.SequenceSummary) -> pb.GenerateResponse:
        sequence = self._sequences[summary.sequence_index]
        sequence.ended = True
        complete = pb.GenerateComplete(
            output_ids=[] if self._streams else sequence.ids,
            finish_reason=_REASONS.get(summary.finish_reason, "stop"),
            prompt_tokens=summary.prompt_tokens,
            completion_tokens=summary.generated_tokens,
            cached_tokens=summary.cached_tokens,
            output_logprobs=None
            if self._streams
            else self._output(sequence.ids, sequence.logprobs),
            input_logprobs=self._input(),
            index=summary.sequence_index,
            spec_accepted_tokens=summary.stats.accepted,
            spec_draft_tokens=summary.stats.proposed,
        )
        if summary.HasField("stop_string"):
            complete.matched_stop_str = summary.stop_string
        elif (
            summary.finish_reason == target_pb2.FINISH_REASON_EOS_TOKEN
            and sequence.ids[-1] in self._stop_token_ids
        ):
            complete.matched_token_id = sequence.ids[-1]
        return pb.GenerateResponse(complete=complete)

    def _output(
        self, ids: Sequence[int], entries: Sequence[target_pb2.TokenLogprobs]
    ) -> pb.OutputLogProbs | None:
        if not entries:
            return None
        return pb.OutputLogProbs(
            token_logprobs=[entry.logprob for entry in entries],
            token_ids=ids,
            top_logprobs=[_top(entry) for entry in entries] if self._top else (),
        )

    def _input(self) -> pb.InputLogProbs | None:
        if not self._tells_prompt:
            return None
        entries, first = self._prompt_logprobs, pb.InputTokenLogProb()
        return pb.InputLogProbs(
            token_logprobs=[
                first,
                *(pb.InputTokenLogProb(value=entry.logprob) for entry in entries),
            ],
            token_ids=self._prompt,
            top_logprobs=[pb.TopLogProbs(), *map(_top, entries)],
        )


def _top(entry: target_pb2.TokenLogprobs) -> pb.TopLogProbs:
    return pb.TopLogProbs(values=entry.top_logprobs, token_ids=entry.top_ids)
