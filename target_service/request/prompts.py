"""Prompts as token ids: text, ids and conversations, by the model's tokenizer.

This module knows nothing of parameters.
"""

from collections.abc import Sequence

from foredraft.v1 import generation_pb2
from foredraft.wire.limits import MAX_MESSAGE_BYTES
from foredraft_engine.errors import InvalidFieldError
from foredraft_engine.model.loading import LoadedModel
from foredraft_serving.ranges import check_ids
from foredraft_serving.worker_pool import breathe
from target_service.request.chat_template import ChatTemplate, characters


class Prompts:
    """Reads prompts for one model."""

    def __init__(self, model: LoadedModel, capacity: int, sanitizes: bool = False) -> None:
        """
        Args:
            capacity: the length of the longest sequence, in tokens.
            sanitizes: whether control tokens that conversations spell out are always plain text.
        """
        self.tokenizer = model.tokenizer
        self._chat_template = ChatTemplate(model.tokenizer, sanitizes)
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
            self._refuse_endless(field, characters(prompt.chat))
            ids = self._chat_template.ids(prompt.chat)
        else:
            raise InvalidFieldError(field, "a prompt is text, token ids or a conversation")
        if not ids:
            raise InvalidFieldError(field, "a prompt is empty; it takes at least one token")
        return self.checked(field, ids)

    def texts(
        self, token_ids: Sequence[generation_pb2.TokenIds], skip_special_tokens: bool
    ) -> list[str]:
        """Returns the texts of token ids.

        Raises:
            InvalidFieldError: an id is outside the vocabulary, or the texts are too long.
        """
        texts: list[str] = []
        characters_left = MAX_MESSAGE_BYTES
        for its in token_ids:
            breathe()
            check_ids("token_ids", its.ids, self._known_ids)
            if len(its.ids) > self._capacity:
                reason = f"a text has {len(its.ids)} tokens; the limit is {self._capacity}"
                raise InvalidFieldError("token_ids", reason)
            text = self.tokenizer.decode(
                its.ids,
                skip_special_tokens=skip_special_tokens,
                clean_up_tokenization_spaces=False,
            )
            texts.append(text)
            characters_left -= len(text)
            if characters_left < 0:
                reason = f"make more than {MAX_MESSAGE_BYTES} characters; ask for fewer at once"
                raise InvalidFieldError("token_ids", reason)
        return texts

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
