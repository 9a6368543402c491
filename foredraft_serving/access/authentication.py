"""Finds out who makes each call, and refuses those who may not.

Health and reflection answer everybody who gets a connection: probes have no token, and what is
served is no secret. Everything else is refused without its credential. This module knows nothing of
what is served.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from foredraft_serving.access.account import ACCOUNT, Account
from foredraft_serving.access.api_tokens import ApiTokens
from foredraft_serving.service_settings import AccessFlags

_OPEN = frozenset([health.SERVICE_NAME, reflection.SERVICE_NAME])
_SCHEME = "bearer"
# One message for each kind of credential: it does not tell a token that is unknown from none.
_NO_TOKEN = (
    "this service takes calls with an API token that it knows: Client(address, token=...) and "
    "--token-file of the command line send it, as the header 'authorization: Bearer TOKEN'"
)
_NO_NAME = "this service takes no calls from the name in the certificate that was shown"
_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")

Method = Callable[..., Awaitable[Any]]


def authentication(
    settings: AccessFlags, limits: Collection[str], on_refused: Callable[[str], None]
) -> "Authentication | None":
    """Returns what asks callers for what the settings say; None asks them for nothing.

    Args:
        limits: those of a token that the service keeps to.

    Raises:
        SettingsError: the file of tokens cannot be used.
    """
    names = [name.strip() for name in settings.client_names.split(",") if name.strip()]
    if not settings.api_tokens and not names:
        return None
    tokens = ApiTokens(settings.api_tokens, limits) if settings.api_tokens else None
    return Authentication(tokens, names, on_refused)


class Authentication(grpc.aio.ServerInterceptor):
    """Lets those in who show what the operator asks for: a token, a name in a certificate, or
    both.
    """

    def __init__(
        self,
        tokens: ApiTokens | None,
        names: Collection[str],
        on_refused: Callable[[str], None],
    ) -> None:
        """
        Args:
            tokens: the tokens that are known; None asks for none.
            names: the names in certificates that are served; empty serves every name.
            on_refused: is called at every refusal with what it is counted under.
        """
        self._tokens, self._names, self._on_refused = tokens, frozenset(names), on_refused

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        if details.method.split("/")[1] in _OPEN:
            return await continuation(details)
        if self._tokens is not None:
            # It is refused by its headers, before any message is read.
            token = self._tokens.find(_bearer(details.invocation_metadata))
            if token is None:
                return grpc.stream_stream_rpc_method_handler(self._refuse)
            ACCOUNT.set(Account(token.name, token.limits, token.digest))
        handler = await continuation(details)
        for kind in _KINDS if self._names else ():
            if method := getattr(handler, kind, None):
                return handler._replace(**{kind: self._named(method)})
        return handler

    async def _refuse(self, requests: Any, context: Any) -> None:
        self._on_refused("credentials")
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, _NO_TOKEN)

    def _named(self, method: Method) -> Method:
        """Returns a method that serves the names alone; a call's headers do not tell its name."""

        async def run(request: Any, context: Any) -> Any:
            shown = self._names.intersection(_names_of(context.auth_context()))
            if not shown:
                self._on_refused("credentials")
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, _NO_NAME)
            if self._tokens is None:
                ACCOUNT.set(Account(min(shown)))
            return await method(request, context)

        return run


def _bearer(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """Returns the token in the headers; empty if there is none, or more than one header."""
    shown = [str(value) for name, value in metadata or () if name == "authorization"]
    scheme, _, token = shown[0].partition(" ") if len(shown) == 1 else ("", "", "")
    return token.strip() if scheme.lower() == _SCHEME else ""


def _names_of(certificate: Any) -> set[str]:
    """Returns the names in a caller's certificate: its alternative names, else the common one."""
    for kind in ("x509_subject_alternative_name", "x509_common_name"):
        if names := certificate.get(kind):
            return {name.decode(errors="replace") for name in names}
    return set()
