"""Calls that go on after their connection was lost: what is sent then, and what is counted.

This module knows nothing of channels, nor of when a call is sent again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from foredraft._types import Stats
from foredraft.v1 import generation_pb2, target_pb2

_LEAST_TIME_S = 0.001  # a time limit that has passed ends the sequence with its reason


@dataclass(slots=True)
class Rounds:
    """The rounds of one sequence, counted from its chunks.

    What a service counts comes in the last message, which is lost with the connection.
    """

    counts: list[list[int]] = field(default_factory=list)
    """The proposed and the accepted tokens of each round."""
    kept: int = 0
    """The number of rounds whose service was lost."""
    resumed: int = 0
    """The number of times that the sequence went on."""

    def add(self, chunk: target_pb2.Chunk) -> None:
        """Counts what a chunk tells; score rows can divide a round into several chunks."""
        if chunk.HasField("num_proposed"):
            self.counts.append([chunk.num_proposed, 0])
        if self.counts:
            self.counts[-1][1] += chunk.num_accepted

    def keep(self, goes_on: bool) -> None:
        """Records that the service was lost, before or after the end of the sequence."""
        self.kept = len(self.counts)
        self.resumed += goes_on

    def added_to(self, stats: Stats) -> Stats:
        """Returns the statistics of the last service with those of the lost ones."""
        lost = self.counts[: self.kept]
        if not lost and not self.resumed:
            return stats
        longest = max((accepted for _, accepted in lost), default=0)
        histogram = [*stats.acceptance_histogram]
        histogram += [0] * (longest + 1 - len(histogram))
        for _, accepted in lost:
            histogram[accepted] += 1
        return replace(
            stats,
            rounds=stats.rounds + len(lost),
            proposed=stats.proposed + sum(proposed for proposed, _ in lost),
            accepted=stats.accepted + sum(accepted for _, accepted in lost),
            acceptance_histogram=tuple(histogram),
            resumed=self.resumed,
        )


def is_search(request: target_pb2.GenerateRequest) -> bool:
    """Returns whether the call asks for a search, which keeps more than the tokens that it sends.

    A service refuses to go on with one that only a named config or the model's own asks for.
    """
    return request.config.num_beams > 1 or request.config.penalty_alpha > 0


def request_again(
    request: target_pb2.GenerateRequest,
    started: target_pb2.Started | None,
    open_sequences: Mapping[int, Sequence[int]],
    elapsed_s: float,
) -> target_pb2.GenerateRequest:
    """Returns the request for the rest of a call.

    Args:
        request: the request of the whole call.
        started: the first message of its answer; None if no token came, and all is sent again.
        open_sequences: the tokens that came of each sequence that has not ended, by its index.
        elapsed_s: the time since the call began.
    """
    again = target_pb2.GenerateRequest()
    again.CopyFrom(request)
    if again.config.HasField("max_time"):
        again.config.max_time = max(_LEAST_TIME_S, again.config.max_time - elapsed_s)
    if started is None:
        return again
    if started.sampling_rule != generation_pb2.SAMPLING_RULE_UNSPECIFIED:
        # The random numbers of a position are those of the seed, so the rest is drawn as it would
        # have been.
        again.seed, again.sampling_rule = started.seed, started.sampling_rule
    each = number_of_sequences(request, started) // len(request.prompts)
    del again.prompts[:], again.negative_prompts[:]
    for index, ids in sorted(open_sequences.items()):
        at = index // each
        # The prompt as it was read there: it may be healed, and a template may tell the time.
        given = [*request.prompts[at].generated_ids, *ids]
        prompt = generation_pb2.Prompt(token_ids=started.prompt_ids[at], generated_ids=given)
        again.prompts.append(prompt)
        if request.negative_prompts:
            again.negative_prompts.append(request.negative_prompts[at])
    again.config.token_healing = False
    again.config.num_return_sequences = 1
    if sorted(open_sequences) != list(range(len(open_sequences))):
        again.sequence_indices.extend(sorted(open_sequences))
    return again


def number_of_sequences(request: target_pb2.GenerateRequest, started: target_pb2.Started) -> int:
    """Returns the number of sequences of a call. The service says it, since the model's own config
    or a named one may ask for several.
    """
    return started.num_sequences or len(request.prompts) * (
        request.config.num_return_sequences or 1
    )
