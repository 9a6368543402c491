"""What the asynchronous client asks of texts: their tokens, and whether they bear a watermark.

This module knows nothing of generation.
"""

from collections.abc import Sequence
from typing import Unpack, overload

from foredraft._async_service import AsyncService
from foredraft._detection import DetectionOptions, Watermark, detection_request, detections_from
from foredraft._inputs import Array, ChatOptions, Encoding, Prompt, PromptBatch
from foredraft._prompts import prompt_messages, token_ids_messages
from foredraft._types import Result, WatermarkDetection
from foredraft.v1 import target_pb2


class AsyncTexts(AsyncService):
    """The calls about texts, by the tokenizer of the model."""

    @overload
    async def tokenize(
        self, inputs: Prompt, *, timeout: float | None = None, **options: Unpack[ChatOptions]
    ) -> list[int]: ...
    @overload
    async def tokenize(
        self, inputs: PromptBatch, *, timeout: float | None = None, **options: Unpack[ChatOptions]
    ) -> list[list[int]]: ...
    @overload
    async def tokenize(
        self,
        inputs: Array | Encoding,
        *,
        timeout: float | None = None,
        **options: Unpack[ChatOptions],
    ) -> list[int] | list[list[int]]: ...
    async def tokenize(
        self,
        inputs: Prompt | PromptBatch | Array | Encoding,
        *,
        timeout: float | None = None,
        **options: Unpack[ChatOptions],
    ) -> list[int] | list[list[int]]:
        """Returns the token ids of a prompt, as generation would use them; for a batch, a list.

        Args:
            inputs: a prompt or a batch, in the forms that `generate` takes.
            timeout: the number of seconds for the call, in place of the client's.
            options: what `ChatOptions` lists, for conversations.

        Raises:
            InvalidRequestError: an argument cannot be honoured; it is named.
            ForedraftError: the call failed.
        """
        prompts, is_batch = prompt_messages(inputs, chat_options=options)
        request = (
            target_pb2.TokenizeRequest(prompts=prompts)
            if is_batch
            else target_pb2.TokenizeRequest(prompt=prompts[0])
        )
        answer = await self._unary("Tokenize", request, timeout)
        return [list(t.ids) for t in answer.batch] if is_batch else list(answer.token_ids.ids)

    @overload
    async def decode(
        self,
        token_ids: int | Sequence[int],
        *,
        skip_special_tokens: bool = False,
        timeout: float | None = None,
    ) -> str: ...
    @overload
    async def decode(
        self,
        token_ids: Sequence[Sequence[int]],
        *,
        skip_special_tokens: bool = False,
        timeout: float | None = None,
    ) -> list[str]: ...
    @overload
    async def decode(
        self,
        token_ids: Array,
        *,
        skip_special_tokens: bool = False,
        timeout: float | None = None,
    ) -> str | list[str]: ...
    async def decode(
        self,
        token_ids: int | Sequence[int] | Sequence[Sequence[int]] | Array,
        *,
        skip_special_tokens: bool = False,
        timeout: float | None = None,
    ) -> str | list[str]:
        """Returns the text of token ids; for a batch, a list.

        Args:
            token_ids: the ids of a text, such as `result.token_ids`, or a list of these.
            skip_special_tokens: whether special tokens are left out, as generated text does it.
            timeout: the number of seconds for the call, in place of the client's.

        Raises:
            InvalidRequestError: the ids are none, or the model has no such token.
            ForedraftError: the call failed.
        """
        ids, is_batch = token_ids_messages(token_ids)
        request = target_pb2.DetokenizeRequest(
            token_ids=ids, skip_special_tokens=skip_special_tokens
        )
        answer = await self._unary("Detokenize", request, timeout)
        return list(answer.texts) if is_batch else str(answer.texts[0])

    @overload
    async def detect_watermark(
        self,
        inputs: Prompt | Result,
        watermarking_config: Watermark | None = None,
        **options: Unpack[DetectionOptions],
    ) -> WatermarkDetection: ...
    @overload
    async def detect_watermark(
        self,
        inputs: PromptBatch | Sequence[Result],
        watermarking_config: Watermark | None = None,
        **options: Unpack[DetectionOptions],
    ) -> list[WatermarkDetection]: ...
    @overload
    async def detect_watermark(
        self,
        inputs: Array,
        watermarking_config: Watermark | None = None,
        **options: Unpack[DetectionOptions],
    ) -> WatermarkDetection | list[WatermarkDetection]: ...
    async def detect_watermark(
        self,
        inputs: Prompt | PromptBatch | Array | Result | Sequence[Result],
        watermarking_config: Watermark | None = None,
        **options: Unpack[DetectionOptions],
    ) -> WatermarkDetection | list[WatermarkDetection]:
        """Returns whether a text bears a watermark; for a batch, a list.

        Args:
            inputs: results of `generate`, or generated texts without their prompts in the forms
                that `generate` takes.
            watermarking_config: the watermark, as transformers' object or its dictionary; by
                default that of the model's own config.
            options: what `DetectionOptions` lists.

        Raises:
            InvalidRequestError: an argument cannot be honoured; it is named.
            ForedraftError: the call failed.
        """
        request, is_batch = detection_request(inputs, watermarking_config, options)
        answer = await self._unary("DetectWatermark", request, options.get("timeout"))
        return detections_from(answer, is_batch)
