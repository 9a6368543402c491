"""The client library of foredraft: assisted generation across machines.

from foredraft import Client

with Client("127.0.0.1:50052") as client:
    print(client.generate("def main(", max_new_tokens=64).text)
"""

from foredraft import metrics
from foredraft._async_client import AsyncClient
from foredraft._async_stream import AsyncStream
from foredraft._client import Client
from foredraft._detection import DetectionOptions
from foredraft._errors import (
    DeadlineExceededError,
    ForedraftError,
    InternalError,
    InvalidRequestError,
    OverloadedError,
    PermissionDeniedError,
    RequestCancelledError,
    UnauthenticatedError,
    UnavailableError,
    UnreadError,
    UnsupportedError,
)
from foredraft._generation_config import GenerationConfig, GenerationFields
from foredraft._inputs import CallOptions, ChatOptions
from foredraft._response_format import ResponseFormat
from foredraft._stream import Stream
from foredraft._tls import tls
from foredraft._types import (
    Chunk,
    Logprobs,
    ModelInfo,
    Origin,
    Result,
    Round,
    ScoreRow,
    Stats,
    WatermarkDetection,
)

__version__ = "0.2.0"

__all__ = [
    "AsyncClient",
    "AsyncStream",
    "CallOptions",
    "ChatOptions",
    "Chunk",
    "Client",
    "DeadlineExceededError",
    "DetectionOptions",
    "ForedraftError",
    "GenerationConfig",
    "GenerationFields",
    "InternalError",
    "InvalidRequestError",
    "Logprobs",
    "ModelInfo",
    "Origin",
    "OverloadedError",
    "PermissionDeniedError",
    "RequestCancelledError",
    "ResponseFormat",
    "Result",
    "Round",
    "ScoreRow",
    "Stats",
    "Stream",
    "UnauthenticatedError",
    "UnavailableError",
    "UnreadError",
    "UnsupportedError",
    "WatermarkDetection",
    "metrics",
    "tls",
]
