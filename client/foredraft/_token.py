"""The API token of a client: where it may be sent, and as what.

This module knows nothing of calls.
"""

from collections.abc import Mapping, Sequence

from foredraft._errors import InvalidRequestError
from foredraft.wire.addresses import is_loopback

_HEADER = "authorization"


def with_token(
    metadata: Mapping[str, str] | None, token: str | None, addresses: Sequence[str], is_tls: bool
) -> Mapping[str, str]:
    """Returns the headers of a call with the token among them.

    Raises:
        InvalidRequestError: there is another header for it, or others could read it on its way.
    """
    headers = dict(metadata or {})
    if token is None:
        return headers
    if not isinstance(token, str) or not token or any(not "!" <= one <= "~" for one in token):
        raise InvalidRequestError("token: takes printable ASCII without blanks", field="token")
    if any(name.lower() == _HEADER for name in headers):
        raise InvalidRequestError(f"token: metadata has {_HEADER!r}, too", field="token")
    for address in addresses:
        if not is_tls and not is_loopback(address):
            raise InvalidRequestError(
                f"token: it would go to {address} in plain text, where others can read it; give "
                "credentials=tls(...). If nobody else is on that network, give the header itself: "
                'metadata={"authorization": "Bearer ..."}',
                field="token",
            )
    return {**headers, _HEADER: f"Bearer {token}"}
