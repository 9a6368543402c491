"""Prompts as token ids: text, ids and conversations, by the model's tokenizer.

This module knows nothing of parameters.
"""

from collections.abc import Sequence

from foredraft.v1 import generation_pb2
from foredraft_engine.errors import InvalidFieldError
from foredraft_engine.model.loading import LoadedModel
from foredraft_serving.ranges import check_ids
from foredraft_serving.worker_pool import breathe


class Prompts:
    """Reads prompts for one model."""

    def __init__(self, model: LoadedModel, capacity: int) -> None:
        """Reads prompts. capacity: the length of the longest sequence, in tokens."""
        self.tokenizer = model.tokenizer
        self._known_ids, self._capacity = model.known_ids, capacity
        # Prompts share the numbers of their ids, which would take five times as much as the ids.
        self._shared = tuple(range(model.known_ids))
        self._longest_token = max(map(len, model.tokenizer.get_vocab()), default=1)

    def ids(self, prompt: generation_pb2.Prompt, field: str = "prompts") -> tuple[int, ...]:
        """Returns the token ids of a prompt.

        Raises:
            InvalidFieldError: the prompt is empty or too long, or has ids that do not exist;
                `field` or a part of it is named.
        """
        breathe()
        tokenizer = self.tokenizer
        form = prompt.WhichOneof("content")
        ids: Sequence[int]
        if form == "text":
            self._refuse_endless(field, len(prompt.text))
            ids = tokenizer(prompt.text)["input_ids"]
        elif form == "token_ids":
            ids = prompt.token_ids.ids
        elif form == "chat":
            if not tokenizer.chat_template:
                raise InvalidFieldError(
                    "chat", "the model has no chat template; send text or token ids"
                )
            self._refuse_endless(field, sum(len(m.content) for m in prompt.chat.messages))
            messages = [{"role": m.role, "content": m.content} for m in prompt.chat.messages]
            try:
                ids = tokenizer.apply_chat_template(
                    messages, add_generation_prompt=True, return_dict=False
                )
            except Exception as error:  # templates raise what they like, jinja's errors among them
                raise InvalidFieldError(
                    "chat", f"the model's chat template refuses it: {error}"
                ) from error
        else:
            raise InvalidFieldError(field, "a prompt is text, token ids or a conversation")
        if not ids:
            raise InvalidFieldError(field, "a prompt is empty; it takes at least one token")
        return self.checked(field, ids)

    def _refuse_endless(self, field: str, characters: int) -> None:
        """Refuses a text that cannot fit, before it is tokenized."""
        if characters > self._capacity * self._longest_token:
            raise InvalidFieldError(
                field, f"has {characters} characters; the limit is {self._capacity} tokens"
            )

    def checked(self, field: str, ids: Sequence[int]) -> tuple[int, ...]:
        """Returns token ids after checking that the model knows them and has room for them.

        Raises:
            InvalidFieldError: an id is outside the vocabulary, or the ids do not fit.
        """
        check_ids(field, ids, self._known_ids)
        if len(ids) >= self._capacity:
            raise InvalidFieldError(
                field, f"has {len(ids)} tokens; with one more they must fit in {self._capacity}"
            )
        return tuple(map(self._shared.__getitem__, ids))
