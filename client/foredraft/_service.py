"""What the blocking client asks of a service itself, and its connections.

`make generated` makes this file from `_async_service.py`; do not edit it.

This module knows nothing of texts.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self, Unpack

import grpc
from prometheus_client import CollectorRegistry

from foredraft._channel import (
    Attempts,
    Route,
    addresses_of,
    metadata_of,
    retries_of,
    timeout_of,
)
from foredraft._connections import Connections, sleep
from foredraft._errors import (
    DeadlineExceededError,
    ForedraftError,
    UnavailableError,
    from_rpc,
)
from foredraft._generation_config import GenerationConfig, GenerationFields
from foredraft._inputs import Config
from foredraft._results import info_from
from foredraft._token import with_token
from foredraft._types import ModelInfo
from foredraft.metrics import for_registry
from foredraft.v1 import target_pb2
from foredraft.wire.config import config_from, config_message
from foredraft.wire.limits import DEFAULT_TIMEOUT_S


class Service:
    """The connections to a target service, and the calls about its state and its configs."""

    def __init__(
        self,
        address: str | Sequence[str] = "127.0.0.1:50052",
        *,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        max_retries: int = 2,
        metadata: Mapping[str, str] | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        token: str | None = None,
        registry: CollectorRegistry | None = None,
    ) -> None:
        """Makes a client, which connects at its first call.

        Args:
            address: host:port, or a list of them: each call begins with the next address, and each
                retry goes on to the next.
            timeout: the number of seconds for a call, retries included; None is no limit.
            max_retries: the number of further attempts if the service cannot be reached and nothing
                of the answer came. A call with `resume` counts those since something came last.
            metadata: headers of every call.
            credentials: for TLS, of `foredraft.tls(...)` or of gRPC; None is plain text.
            token: the API token to show. Without TLS it is sent to this machine alone.
            registry: the registry of prometheus_client for the client's metrics; None is the global
                one.

        Raises:
            InvalidRequestError: an argument makes no sense; it is named.
        """
        self._addresses = addresses_of(address)
        self._connections = Connections(self._addresses, credentials, retries_of(max_retries))
        headers = with_token(metadata, token, self._addresses, credentials is not None)
        self._timeout_s, self._metadata = timeout_of(timeout, None), metadata_of(headers)
        self._metrics = for_registry(registry)
        self._closed = False

    def wait_until_ready(self, timeout: float | None = None) -> ModelInfo:
        """Waits until a service takes calls; returns what `info` returns.

        One of several addresses is enough.

        Args:
            timeout: the number of seconds to wait, in place of the client's.

        Raises:
            DeadlineExceededError: no service was ready in time; the message says what was missing.
            ForedraftError: what answers will never be ready, such as one that wants a credential.
        """
        patience_s = timeout_of(timeout, self._timeout_s)
        probes = self._open_route().probes(patience_s)
        try:
            answer = self._ask(probes, "GetModelInfo", target_pb2.GetModelInfoRequest())
        except (UnavailableError, DeadlineExceededError) as error:
            where = ", ".join(self._addresses)
            message = f"no service at {where} was ready within {patience_s:g} s: {probes.missing}"
            raise DeadlineExceededError(message) from error
        return info_from(answer)

    def info(self, *, timeout: float | None = None) -> ModelInfo:
        """Returns what generates behind the address.

        Raises:
            ForedraftError: the call failed.
        """
        return info_from(self._unary("GetModelInfo", target_pb2.GetModelInfoRequest(), timeout))

    def generation_config(
        self, name: str | None = None, *, timeout: float | None = None
    ) -> GenerationConfig:
        """Returns what a named config sets; without a name, what the model's own config sets.

        Raises:
            InvalidRequestError: there is no config of this name, or it cannot be used.
            ForedraftError: the call failed.
        """
        if name is None:
            model = self.info(timeout=timeout)
            return model.generation_config
        request = target_pb2.GetGenerationConfigRequest(name=name)
        answer = self._unary("GetGenerationConfig", request, timeout)
        return config_from(answer.config)

    def generation_configs(self, *, timeout: float | None = None) -> list[str]:
        """Returns the names of the model's configs, for `generation_config` of a call.

        Raises:
            ForedraftError: the call failed.
        """
        request = target_pb2.ListGenerationConfigsRequest()
        answer = self._unary("ListGenerationConfigs", request, timeout)
        return list(answer.names)

    def save_generation_config(
        self,
        name: str,
        generation_config: Config | None = None,
        *,
        num_return_sequences: int | None = None,
        timeout: float | None = None,
        **fields: Unpack[GenerationFields],
    ) -> None:
        """Keeps a config with the model, in place of one of the same name.

        Raises:
            InvalidRequestError: the name is none, or no call could be made with the config.
            PermissionDeniedError: the operator does not allow it.
            ForedraftError: the call failed.
        """
        values = {"num_return_sequences": num_return_sequences, **fields}
        config = config_message(generation_config, values)
        request = target_pb2.SaveGenerationConfigRequest(name=name, config=config)
        self._unary("SaveGenerationConfig", request, timeout)

    def close(self) -> None:
        """Closes the connections; generations in progress end with RequestCancelledError."""
        self._closed = True
        self._connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        """Shows where the client calls."""
        return f"{type(self).__name__}({', '.join(map(repr, self._addresses))})"

    def _open_route(self) -> Route:
        if self._closed:
            raise ForedraftError("the client is closed")
        return self._connections.route

    def _attempts(self, timeout: float | None) -> Attempts:
        return self._open_route().attempts(timeout_of(timeout, self._timeout_s))

    def _unary(self, method: str, request: Any, timeout: float | None) -> Any:
        return self._ask(self._attempts(timeout), method, request)

    def _ask(self, attempts: Attempts, method: str, request: Any) -> Any:
        while True:
            try:
                call = getattr(attempts.stub, method)
                return call(request, timeout=attempts.left_s(), metadata=self._metadata)
            except grpc.RpcError as error:
                pause_s = attempts.next_pause_s(error)
                if pause_s is None:
                    raise from_rpc(error, timeout_s=attempts.timeout_s) from error
            sleep(pause_s)
