"""The types of what callers pass: prompts, configs, streamers, stopping criteria.

This module knows nothing of how they are sent.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, Protocol, TypedDict

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


ChatMessages = Sequence[Mapping[str, object]]
"""The messages of a conversation, oldest first, each with `role` and `content` and what else the
model's chat template reads, such as `tool_calls`.
"""
Prompt = str | Sequence[int] | ChatMessages
"""One prompt: text, token ids, or a conversation."""
PromptBatch = list[str] | tuple[str, ...] | Sequence[Sequence[int]] | Sequence[ChatMessages]
"""Several prompts of one form."""
Ids = Sequence[int] | Sequence[Sequence[int]] | Array
"""Token ids of one text or of several."""
Config = GenerationConfig | SupportsToDict | str
"""A config of foredraft or transformers, or the name of one that the service keeps."""
Criterion = Callable[..., object]
"""A function of (input_ids [1, length], None) that returns whether the text ends there."""


class Encoding(Protocol):
    """What a tokenizer of transformers returns: `input_ids`, and `attention_mask` beside them."""

    def keys(self) -> Iterable[str]:
        """Returns the names of what it has."""

    def __getitem__(self, name: str, /) -> object:
        """Returns what has this name."""


class ChatOptions(TypedDict, total=False):
    """The keyword arguments that concern conversations, as in `apply_chat_template`.

    `tools` are functions, or JSON schemas of them, that the model may call.
    `chat_template_kwargs` are the template's own variables, such as Qwen3's `enable_thinking`. With
    `continue_final_message` the answer goes on with the last message. With
    `sanitize_control_tokens` control tokens that a message spells out are plain text. What the
    model's template has no place for is refused.
    """

    tools: Sequence[Mapping[str, object] | Callable[..., object]] | None
    chat_template_kwargs: Mapping[str, object] | None
    continue_final_message: bool | None
    sanitize_control_tokens: bool | None


class CallOptions(GenerationFields, ChatOptions, total=False):
    """The keyword arguments of a call: its generation fields, and what is said of the call itself.

    `seed` makes sampling repeatable. Without one the service draws a seed, which the result's stats
    tell. `sampling_rule` is "coupled" by default for a call with a seed; for one without, the
    service takes what is faster, which the stats tell, too. `logprobs` asks for the log-probability
    of each token, and of this number of most likely tokens; `prompt_logprobs` asks the same of the
    prompt's tokens. `timeout` is the number of seconds
    after which the call ends with DeadlineExceededError, in place of the client's. `generated_ids`
    are tokens that an earlier call generated, to go on from; a batch takes a list of them for each
    prompt. `negative_prompt` is what `guidance_scale` leads away from, one for each prompt.
    `stopping_criteria` are asked here about every token; the sequence ends with the token that
    meets one of them. `resume` lets a call whose connection is lost in the middle go on at the next
    address: greedy and seeded texts are then what they would have been, others are drawn by the
    same law. A search begins again if nothing of it came, and fails otherwise. `attention_mask`
    says which token ids of the prompts are padding, which is left out. `return_rounds` tells with
    each round what it proposed, and when.
    """

    seed: int | None
    sampling_rule: Literal["rejection", "coupled"] | None
    logprobs: int | None
    prompt_logprobs: int | None
    timeout: float | None
    generated_ids: Ids | None
    negative_prompt: Prompt | PromptBatch | Array | None
    negative_prompt_ids: Ids | None
    stopping_criteria: Criterion | Sequence[Criterion] | None
    resume: bool | None
    return_rounds: bool | None
    return_dict_in_generate: bool | None
    attention_mask: Ids | None
    token_type_ids: Ids | None
