"""Who makes a call: in whose turns it is served, and with which calls it shares what is kept.

This module knows nothing of what a call asks for.
"""

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from foredraft_serving.access.account import Account
from foredraft_serving.access.api_tokens import NO_LIMITS, Limits

_HEADER, _CERTIFICATE = "authorization", "x509_pem_cert"
_NOBODY = Account()


@dataclass(frozen=True, slots=True)
class Identity:
    """Two digests, as hexadecimal digits: who is served, and who may meet what is kept."""

    owner: str
    """Names the credential in whose turns the call is served; all calls without one share its turns
    and have an empty one.
    """
    scope: str
    """Names the calls that reuse each other's rows: those with the same credential. A call without
    one has a scope of its own.
    """
    limits: Limits = NO_LIMITS
    """What the caller's token allows."""


def identify(
    metadata: Iterable[tuple[str, str | bytes]] | None,
    auth_context: Mapping[str, Iterable[bytes]],
    share_anonymous: bool,
    account: Account = _NOBODY,
) -> Identity:
    """Returns who makes a call.

    A credential is what the caller's `authorization` header and its certificate say together; a
    certificate is there only where `--client-ca` has verified it.

    Args:
        metadata: the headers of the call.
        auth_context: what gRPC knows of the connection.
        share_anonymous: whether all calls without a credential share one scope.
        account: for whom it is made. A token that was checked stands for the header, which can be
            written in several ways.
    """
    header = next((value for name, value in metadata or () if name == _HEADER), "")
    header = account.token_digest or header
    shown = [header.encode() if isinstance(header, str) else header]
    shown += auth_context.get(_CERTIFICATE, ())
    if any(shown):
        digest = _digest(*shown)
        return Identity(digest, digest, account.limits)
    return Identity("", _digest() if share_anonymous else secrets.token_hex(16))


def _digest(*parts: bytes) -> str:
    whole = b"".join(hashlib.sha256(part).digest() for part in parts)
    return hashlib.sha256(whole).hexdigest()[:32]
