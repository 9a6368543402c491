"""Requests to detect watermarks, and what the service answers; the same for both clients.

This module knows nothing of channels, nor of how a watermark is found.
"""

from collections.abc import Mapping
from typing import Any, TypedDict

from foredraft._errors import InvalidRequestError
from foredraft._generation_config import SupportsToDict
from foredraft._prompts import prompt_messages
from foredraft._types import Result, WatermarkDetection
from foredraft.v1 import target_pb2
from foredraft.wire.values import write_watermark

Watermark = Mapping[str, object] | SupportsToDict
"""A watermark, as transformers' object or its dictionary."""


class DetectionOptions(TypedDict, total=False):
    """The keyword arguments of a detection.

    For green lists, `z_threshold` is the z-score above which a text counts as marked, by default 3,
    and `ignore_repeated_ngrams` counts every n-gram once. `timeout` is the number of seconds for
    the call, in place of the client's.
    """

    z_threshold: float | None
    ignore_repeated_ngrams: bool
    timeout: float | None


def detection_request(
    inputs: Any, watermark: Watermark | None, options: DetectionOptions
) -> tuple[target_pb2.DetectWatermarkRequest, bool]:
    """Returns the request, and whether the texts are a batch.

    Raises:
        InvalidRequestError: an argument cannot be sent; it is named.
    """
    texts, is_batch = prompt_messages(_generated(inputs))
    request = target_pb2.DetectWatermarkRequest(
        texts=texts, ignore_repeated_ngrams=options.get("ignore_repeated_ngrams", False)
    )
    threshold = options.get("z_threshold")
    try:
        if threshold is not None:
            request.z_threshold = float(threshold)
        if watermark is not None:
            write_watermark(request.watermarking_config, watermark)
    except (TypeError, ValueError, OverflowError) as error:
        reason = f"watermarking_config={watermark!r}: {error}"
        raise InvalidRequestError(reason, field="watermarking_config") from error
    return request, is_batch


def _generated(inputs: Any) -> Any:
    """Returns token ids in place of results."""
    if isinstance(inputs, Result):
        return inputs.token_ids
    if isinstance(inputs, list | tuple) and inputs and isinstance(inputs[0], Result):
        return [_generated(value) for value in inputs]
    return inputs


def detections_from(
    message: target_pb2.DetectWatermarkResponse, is_batch: bool
) -> WatermarkDetection | list[WatermarkDetection]:
    """Returns one detection, or a list of them for a batch."""
    found = [_detection(one) for one in message.detections]
    return found if is_batch else found[0]


def _detection(message: target_pb2.WatermarkDetection) -> WatermarkDetection:
    values: dict[str, Any] = {field.name: value for field, value in message.ListFields()}
    return WatermarkDetection(**{"num_tokens_scored": 0, **values})
