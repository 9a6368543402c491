"""An answer while it is streamed, and what is told of it below.

This module knows nothing of how it was asked for.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from foredraft import Chunk, Origin, Result
from foredraft.cli.flags import flag_of
from foredraft.cli.pieces import pieces_of
from foredraft.cli.screen import Piece, Screen

Row = tuple[str, Sequence[Piece]]

NAMES: dict[Origin, str] = {
    "draft_model": "draft model",
    "ngram": "n-gram",
    "alternative": "alternative",
    "grammar": "grammar",
    "target": "the target's own",
    "unknown": "of unknown origin",
}
"""What tokens are called by their origin."""

_LIMITS = {"length": ("length", "max_new_tokens"), "max_time": ("time", "max_time")}


class Answer:
    """The texts of one call, and the times at which they came."""

    def __init__(self) -> None:
        self._began = self._ended = time.perf_counter()
        self._first: float | None = None
        self._chunks: dict[int, list[Chunk]] = defaultdict(list)

    def follow(self, chunks: Iterable[Chunk]) -> Iterator[tuple[int, list[Piece]]]:
        """Yields the pieces of each chunk, with the sequence that they belong to."""
        for chunk in chunks:
            self._ended = time.perf_counter()
            if self._first is None and chunk.token_ids:
                self._first = self._ended
            self._chunks[chunk.sequence_index].append(chunk)
            yield chunk.sequence_index, pieces_of(chunk)

    def chunks(self, sequence_index: int) -> list[Chunk]:
        """Returns what came of one sequence."""
        return self._chunks[sequence_index]

    def pieces(self, sequence_index: int) -> list[Piece]:
        """Returns the text that came of one sequence."""
        return [piece for chunk in self._chunks[sequence_index] for piece in pieces_of(chunk)]

    @property
    def text(self) -> str:
        """What came of the first sequence."""
        return "".join(chunk.text for chunk in self._chunks[0])

    def figures(self, results: Sequence[Result]) -> list[Row]:
        """Returns what assistance did, over all sequences together."""
        origins = [origin for result in results for origin in result.origins]
        stats = [result.stats for result in results]
        rounds, accepted = sum(s.rounds for s in stats), sum(s.accepted for s in stats)
        hidden_s, waited_s = sum(s.hidden_s for s in stats), sum(s.waited_s for s in stats)
        took_s = hidden_s + waited_s
        rows: list[Row] = [("tokens", _counted(origins))]
        if origins and self._first is not None:
            per_s = len(origins) / (self._ended - self._began)
            first_s = self._first - self._began
            rows.append(_row("tokens/s", f"{per_s:.1f}, the first token after {first_s:.2f} s"))
        if rounds:
            rows.append(_row("mean acceptance length", f"{1 + accepted / rounds:.2f}"))
        if took_s:
            share = f"{hidden_s:.2f} s of the {took_s:.2f} s that proposals took"
            rows.append(_row("time hidden", f"{share} ({hidden_s / took_s:.0%})"))
        else:
            rows.append(_row("time hidden", "none, as no draft service proposed"))
        return rows


def tell_limits(screen: Screen, results: Sequence[Result]) -> None:
    """Says which limits ended texts that could have gone on."""
    for reason, (limit, field) in _LIMITS.items():
        cut = [result for result in results if result.finish_reason == reason]
        if not cut:
            continue
        what = f"the text after {len(cut[0].token_ids)} tokens"
        if len(results) > 1:
            what = f"{len(cut)} of {len(results)} texts"
        screen.notice(f"the {limit} limit ended {what}; {flag_of(field)} sets it")


def _row(name: str, value: str) -> Row:
    return name, [(value, "unknown")]


def _counted(origins: Sequence[Origin]) -> list[Piece]:
    """Returns how many tokens came from where, in pieces."""
    pieces: list[Piece] = []
    for origin, name in NAMES.items():
        if count := origins.count(origin):
            pieces += [(", ", "unknown")] if pieces else []
            pieces.append((f"{count} {name}", origin))
    return pieces or [("none", "unknown")]
