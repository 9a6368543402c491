"""transformers' stopping criteria, asked about every token that comes.

This module imports torch only if there are criteria. It knows nothing of calls, nor of what a
criterion looks at.
"""

from collections.abc import Callable, Sequence
from typing import Any

from foredraft._errors import InvalidRequestError
from foredraft.v1 import target_pb2

Criterion = Callable[..., Any]


def criteria_of(stopping_criteria: Any) -> tuple[Criterion, ...]:
    """Returns the criteria of a call, from a StoppingCriteriaList, another list, a single criterion
    or None.

    Raises:
        InvalidRequestError: an entry cannot be called.
    """
    if stopping_criteria is None:
        return ()
    # A StoppingCriteriaList can be called as well, but what counts is what it holds.
    given = (
        stopping_criteria if isinstance(stopping_criteria, list | tuple) else [stopping_criteria]
    )
    for criterion in given:
        if not callable(criterion):
            message = (
                f"stopping_criteria: {type(criterion).__name__} is none; pass functions "
                "of (input_ids, scores)"
            )
            raise InvalidRequestError(message, field="stopping_criteria")
    return tuple(given)


class Criteria:
    """Cuts the sequences of one call after the token that meets a criterion."""

    def __init__(self, criteria: Sequence[Criterion], request: target_pb2.GenerateRequest) -> None:
        """Begins to ask.

        Args:
            request: says what an earlier call generated, and how many sequences a prompt has.

        Raises:
            InvalidRequestError: there are criteria, but torch, whose tensors they take, is not
                installed.
        """
        self._criteria, self._request = criteria, request
        self._texts: dict[int, Any] = {}  # int64 [1, length] of a sequence, prompt included
        self._prompts: list[tuple[int, ...]] = []
        self.sequences = 0  # the number of sequences of the whole call, once it began
        if criteria:
            try:
                import torch
            except ImportError as error:
                message = (
                    "stopping_criteria: take tensors, and torch is not installed; use "
                    "stop_strings or eos_token_id"
                )
                raise InvalidRequestError(message, field="stopping_criteria") from error
            self._torch: Any = torch

    def begin(self, started: target_pb2.Started) -> None:
        """Takes the token ids of the prompts, which the service returned with the admission of the
        call.
        """
        if self._criteria:
            self._prompts = [tuple(prompt.ids) for prompt in started.prompt_ids]
            # The service says how many sequences there are: the model's own config or a named one
            # may ask for several.
            self.sequences = started.num_sequences or len(self._prompts) * (
                self._request.config.num_return_sequences or 1
            )

    def cut(self, chunk: target_pb2.Chunk) -> bool:
        """Cuts a chunk after the token that meets a criterion; returns whether one did.

        Raises:
            TypeError: a criterion returns neither a bool nor a tensor that holds one.
        """
        if not self._criteria or not chunk.token_ids:
            return False
        index, new = (
            chunk.sequence_index,
            self._torch.tensor([list(chunk.token_ids)]),
        )  # [1, tokens]
        text = self._texts.get(index)
        if text is None:
            at = self._prompt(index)
            before_it = [*self._prompts[at], *self._request.prompts[at].generated_ids]
            text = self._torch.tensor([before_it], dtype=self._torch.long)  # [1, length]
        text = self._texts[index] = self._torch.cat([text, new], dim=1)
        before = text.shape[1] - new.shape[1]
        for kept in range(1, new.shape[1] + 1):
            if any([_met(criterion, text[:, : before + kept]) for criterion in self._criteria]):
                _trim(chunk, kept)
                return True
        return False

    def _prompt(self, sequence_index: int) -> int:
        return sequence_index * len(self._prompts) // self.sequences


def _met(criterion: Criterion, input_ids: Any) -> bool:
    """Returns whether a criterion is met. All criteria are asked about every token, as in
    transformers, since one may count.
    """
    verdict = criterion(input_ids, None)
    if not isinstance(verdict, bool) and not hasattr(verdict, "item"):
        name = getattr(criterion, "__name__", type(criterion).__name__)
        raise TypeError(
            f"stopping_criteria: {name} returned {verdict!r}; it takes a bool, or a tensor of one"
        )
    return bool(verdict if isinstance(verdict, bool) else verdict.item())


def _trim(chunk: target_pb2.Chunk, kept: int) -> None:
    """Leaves the first tokens of a chunk, and what belongs to them."""
    if kept == len(chunk.token_ids):
        return
    if kept < len(chunk.text_offsets):
        chunk.text = chunk.text[: chunk.text_offsets[kept]]
    chunk.num_accepted = min(chunk.num_accepted, kept)
    for entries in (
        chunk.token_ids,
        chunk.text_offsets,
        chunk.logprobs,
        chunk.scores,
        chunk.logits,
        chunk.origins,
    ):
        del entries[kept:]
