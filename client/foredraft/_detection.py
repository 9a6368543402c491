"""Asking whether texts bear a watermark, and what the service answers; the same for both clients.

Knows nothing of channels, or of how a mark is found.
"""

from typing import Any

from foredraft._errors import InvalidRequestError
from foredraft._prompts import prompt_messages
from foredraft._types import WatermarkDetection
from foredraft.v1 import target_pb2
from foredraft.wire.values import write_watermark


def detection_request(
    inputs: Any, watermarking_config: Any, z_threshold: float | None, ignore_repeated_ngrams: bool
) -> tuple[target_pb2.DetectWatermarkRequest, bool]:
    """The request, and whether the texts are a batch.

    Raises:
        InvalidRequestError: something that cannot be sent; it is named.
    """
    texts, is_batch = prompt_messages(inputs)
    request = target_pb2.DetectWatermarkRequest(
        texts=texts, ignore_repeated_ngrams=ignore_repeated_ngrams
    )
    try:
        if z_threshold is not None:
            request.z_threshold = float(z_threshold)
        if watermarking_config is not None:
            write_watermark(request.watermarking_config, watermarking_config)
    except (TypeError, ValueError, OverflowError) as error:
        message = f"watermarking_config={watermarking_config!r}: {error}"
        raise InvalidRequestError(message, field="watermarking_config") from error
    return request, is_batch


def detections_from(message: target_pb2.DetectWatermarkResponse, is_batch: bool) -> Any:
    """One detection, or a list of them."""
    found = [
        WatermarkDetection(
            **{"num_tokens_scored": 0, **{field.name: value for field, value in one.ListFields()}}
        )
        for one in message.detections
    ]
    return found if is_batch else found[0]
