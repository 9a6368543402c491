"""The types of what callers pass: prompts, configs, streamers, stopping criteria.

This module knows nothing of how they are sent.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

from foredraft._generation_config import GenerationConfig, GenerationFields, SupportsToDict


class Array(Protocol):
    """A tensor or an array, of torch or numpy."""

    def tolist(self) -> object:
        """Returns the numbers as nested lists."""


class Streamer(Protocol):
    """A streamer, as those of transformers are."""

    def put(self, value: Array) -> object:
        """Takes the prompt [1, length] first, then new tokens [tokens]."""

    def end(self) -> object:
        """Takes the end of the text."""


ChatMessages = Sequence[Mapping[str, str]]
"""The messages of a conversation, oldest first, each with `role` and `content`."""
Prompt = str | Sequence[int] | ChatMessages
"""One prompt: text, token ids, or a conversation."""
PromptBatch = list[str] | tuple[str, ...] | Sequence[Sequence[int]] | Sequence[ChatMessages]
"""Several prompts of one form."""
Config = GenerationConfig | SupportsToDict | str
"""A config of foredraft or transformers, or the name of one that the service keeps."""
Criterion = Callable[..., object]
"""A function of (input_ids [1, length], None) that returns whether the text ends there."""


class CallOptions(GenerationFields, total=False):
    """The keyword arguments of a call: its generation fields, and what is said of the call itself.

    `seed` makes sampling repeatable. Without one the service draws a seed, which the result's
    stats tell. `sampling_rule` is "coupled" by default for a call with a seed, and "rejection" for
    one without. `logprobs` asks for the log-probability of each token, and of this number of most
    likely tokens. `timeout` is the number of seconds after which the call ends with
    DeadlineExceededError, in place of the client's. `generated_ids` are tokens that an earlier
    call generated, to go on from; a batch takes a list of them for each prompt. `negative_prompt`
    is what `guidance_scale` leads away from, one for each prompt. `stopping_criteria` are asked
    here about every token; the sequence ends with the token that meets one of them. `resume` lets
    a call whose connection is lost in the middle go on at the next address: greedy and seeded texts
    are then what they would have been, others are drawn by the same law. A search begins again if
    nothing of it came, and fails otherwise.
    """

    seed: int | None
    sampling_rule: Literal["rejection", "coupled"] | None
    logprobs: int | None
    timeout: float | None
    generated_ids: Sequence[int] | Sequence[Sequence[int]] | Array | None
    negative_prompt: Prompt | PromptBatch | Array | None
    negative_prompt_ids: Sequence[int] | Sequence[Sequence[int]] | Array | None
    stopping_criteria: Criterion | Sequence[Criterion] | None
    resume: bool | None
    return_dict_in_generate: bool | None
