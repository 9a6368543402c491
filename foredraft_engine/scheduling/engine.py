"""The engine: a model that any number of coroutines share.

Coroutines await `score`, `verify`, `draft` and `draft_ahead`. All jobs that wait when the device is
free become one forward pass over rows of different lengths (continuous batching). A proposal is
drafted without a return to the event loop between its tokens. A long prompt is prefilled in chunks,
with steps for other sequences in between.

This module knows nothing of gRPC, of decoding strategies, or of text.
"""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from foredraft_engine.feed import Feed, Tree
from foredraft_engine.job import Job
from foredraft_engine.logits.processors import Processors
from foredraft_engine.model.rows import Rows
from foredraft_engine.proposal import Proposal, Verdict
from foredraft_engine.scheduling.device_thread import Callbacks, DeviceThread
from foredraft_engine.scheduling.jobs import DeviceCall, Reduce, ScoreJob
from foredraft_engine.scheduling.row_pool import Row, RowPool, common_length
from foredraft_engine.scheduling.step_times import StepTimes
from foredraft_engine.speculation.draft_job import DraftJob
from foredraft_engine.speculation.draft_options import DraftOptions, TreeOptions
from foredraft_engine.speculation.round import Round, round_feed
from foredraft_engine.speculation.tree_job import DraftedAhead, TreeJob
from foredraft_engine.speculation.verify_job import GuideFeed, VerifyJob, VerifyOptions

_CHUNK_TOKENS, _CHUNK_TOKENS_OF_CPU = 2048, 256
_UNMEASURED_S = 1e-6  # a pass before any was measured
_IDS_ALONE = VerifyOptions()
_NO_CALLBACKS = Callbacks()


@dataclass(frozen=True, slots=True)
class Guidance:
    """Classifier-free guidance: a second row, which holds the same text after another prompt."""

    row: Row
    tokens: list[int]
    """The prompt to move away from and the text so far. The caller of `verify` keeps it up to date.
    """
    scale: float


class Engine:
    """A model that many sequences share."""

    def __init__(
        self,
        rows: Rows,
        vocabulary_size: int,
        *,
        chunk_tokens: int = 0,
        callbacks: Callbacks = _NO_CALLBACKS,
        step_times: StepTimes | None = None,
    ) -> None:
        """
        Args:
            rows: the model and its cache.
            vocabulary_size: ids from here on are padding and never chosen.
            chunk_tokens: the largest number of tokens in a chunk of a prompt, and in a step of
                several jobs, where there are as many texts as prompts; 0 is 256 on a CPU, 2048
                elsewhere.
            step_times: how long steps take, as far as that was measured before.
        """
        self.rows = rows
        self.pool = RowPool(rows.count, rows.lend)
        self.device = rows.device
        self.capacity = rows.capacity
        self.vocabulary_size = vocabulary_size
        on_cpu = rows.device.type == "cpu"
        self.chunk_tokens = chunk_tokens or (_CHUNK_TOKENS_OF_CPU if on_cpu else _CHUNK_TOKENS)
        self.step_times = step_times or StepTimes()
        self._thread = DeviceThread(
            rows, vocabulary_size, self.chunk_tokens, self.step_times, callbacks, self.pool
        )

    def close(self) -> None:
        """Ends the device thread; coroutines that still wait are cancelled."""
        self._thread.close()

    async def submit(self, job: Job) -> Any:
        """Runs a job of any kind and returns its result."""
        return await self._thread.submit(job)

    async def prefill(self, row: Row, tokens: Sequence[int]) -> AsyncIterator[None]:
        """Feeds all tokens but the last, chunk by chunk, and yields after each chunk.

        Tokens that another row of the same owner holds, or is being fed, are copied from there.
        """
        if len(tokens) - 1 <= len(row.cached):
            return  # as in nearly every round of a draft
        self.pool.prefilling(row, tokens)
        try:
            while (source := self.pool.source_for(row, tokens)) is not None:
                await source.wait_until_prefilled()
                if (length := source.shares(tokens)) > len(row.cached):
                    await self.copy(source, row, length)
            while (rest := len(tokens) - 1 - len(row.cached)) > 0:
                start = len(row.cached)
                await self.score(row, tokens[start : start + min(rest, self.chunk_tokens)], 0)
                yield
        finally:
            row.prefilled()

    async def score(
        self, row: Row, ids: Sequence[int], scored: int, reduce: Reduce | None = None
    ) -> Any:
        """Feeds tokens after those that the row holds.

        Args:
            ids: the new tokens.
            scored: how many of them, at the end, get logits.
            reduce: computes the result on the device thread.

        Returns:
            Logits, float32 [scored, vocab], or the result of `reduce`.
        """
        feed = Feed(row.index, len(row.cached), ids, cache=row.cache)
        result = await self.submit(ScoreJob(feed, scored, reduce))
        row.cached.extend(ids)
        return result

    async def score_tree(
        self, row: Row, start: int, ids: Sequence[int], tree: Tree, reduce: Reduce
    ) -> Any:
        """Feeds branching tokens from place `start` on and scores all of them.

        Afterwards the row holds the tokens that it held before.

        Returns:
            The result of `reduce`.
        """
        feed = Feed(row.index, start, ids, tree, row.cache)
        return await self.submit(ScoreJob(feed, len(ids), reduce))

    async def copy(self, source: Row, target: Row, length: int) -> None:
        """Copies the first `length` tokens of a row to another.

        The prefix that both rows hold already is not copied.
        """
        start = min(common_length(source.cached, target.cached), length)
        copied = source.cached[:length]
        target.truncate(start)
        await self.run(lambda: self.rows.copy_row(source.index, target.index, length, start))
        target.adopt(copied)

    async def run(self, call: Callable[[], Any]) -> Any:
        """Calls a function on the device thread, between two steps, and returns its result."""
        return await self.submit(DeviceCall(call))

    async def verify(
        self,
        row: Row,
        tokens: Sequence[int],
        proposal: Proposal,
        processors: Processors,
        options: VerifyOptions = _IDS_ALONE,
        guidance: Guidance | None = None,
        timed: bool = True,
    ) -> Verdict:
        """Verifies a proposal in one forward pass over k + 1 tokens and the alternatives.

        Afterwards the row holds the committed and the accepted tokens, except an accepted
        alternative and the target's own token, which are fed in the next round. The same is true
        of the row of the guidance, which is fed in the same pass.

        Args:
            tokens: the committed tokens.
            options: what the verdict reports.
            timed: whether a step of this round alone tells how long such steps take.

        Raises:
            ValueError: the rows have too few spare places for the alternatives.
        """
        if len(proposal.alternatives) > self.rows.spare:
            raise ValueError(
                f"proposal: has {len(proposal.alternatives)} alternatives, but a row has only "
                f"{self.rows.spare} spare places; propose fewer"
            )
        start = len(row.cached)
        job = VerifyJob(
            round_feed(row.index, start, tokens, proposal, row.cache),
            Round(list(tokens), proposal, processors),
            options,
            _guide_feed(guidance, proposal) if guidance else None,
            timed,
        )
        verdict: Verdict = await self.submit(job)
        accepted = verdict.ids[: verdict.accepted - verdict.used_alternative]
        row.cached.extend([*tokens[start:], *accepted])
        if guidance:
            held = guidance.row.cached
            held.extend([*guidance.tokens[len(held) :], *accepted])
        return verdict

    async def draft(
        self, row: Row, tokens: Sequence[int], processors: Processors, options: DraftOptions
    ) -> Proposal:
        """Drafts a proposal of up to k tokens.

        Args:
            tokens: the committed tokens.
        """
        start = len(row.cached)
        new = tokens[start:]
        if self.rows.runs_ahead and options.deadline < float("inf"):
            options = replace(options, k=self._in_time(options))
        job = DraftJob(Feed(row.index, start, new), list(tokens), processors, options)
        proposal: Proposal = await self.submit(job)
        row.cached.extend([*new, *proposal.ids[:-1]])
        return proposal

    def _in_time(self, options: DraftOptions) -> int:
        """Returns how many tokens a whole proposal has that comes in time, at least one.

        Nobody looks at the clock between its tokens. What the tokens are has no part in it.
        """
        left_s = options.deadline - time.monotonic()
        pass_s = self.step_times.at(self.step_times.jobs) or _UNMEASURED_S
        return max(1, min(options.k, int(left_s / pass_s)))

    async def draft_ahead(
        self,
        row: Row,
        tokens: Sequence[int],
        verified: Proposal,
        processors: Processors,
        options: TreeOptions,
    ) -> DraftedAhead:
        """Drafts proposals for the outcomes that the verification of another proposal may have.

        There are no more outcomes than the row has spare places for.

        Args:
            tokens: the committed tokens.
            verified: the proposal that is verified on them.
        """
        row.truncate(len(tokens) - 1)
        new = [*tokens[len(row.cached) :], *verified.ids]
        room = (self.rows.spare - len(verified.alternatives)) // options.draft.k
        job = TreeJob(
            round_feed(row.index, len(row.cached), tokens, verified),
            Round(list(tokens), verified, processors),
            replace(options, max_outcomes=max(0, min(options.max_outcomes, room))),
        )
        ahead: DraftedAhead = await self.submit(job)
        row.cached.extend(new)
        return ahead


def _guide_feed(guidance: Guidance, proposal: Proposal) -> GuideFeed:
    row = guidance.row
    feed = round_feed(row.index, len(row.cached), guidance.tokens, proposal, row.cache)
    return GuideFeed(feed, guidance.scale)
