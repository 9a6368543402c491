"""What gRPC says of a TLS connection that did not come about, in words that say what to mend.

This module knows nothing of calls.
"""

import re

_CLOSED = "(connections to all backends failing|failed to connect to all addresses).*Socket closed"
_MEANINGS = {
    "CERTIFICATE_VERIFY_FAILED: certificate has expired": "the certificate that it shows has "
    "expired",
    "CERTIFICATE_VERIFY_FAILED: certificate is not yet valid": "the certificate that it shows is "
    "not valid yet; is the clock right?",
    "CERTIFICATE_VERIFY_FAILED": "the certificate that it shows is not from a CA that is trusted "
    "here; give its CA",
    "not in peer certificate|Hostname Verification": "the certificate that it shows is for another "
    "name; use a name or an address that is in it",
    "WRONG_VERSION_NUMBER": "it speaks plain text and no TLS",
    _CLOSED: "it closes each new connection; does it want TLS, or a certificate from its CA that "
    "has not expired? Its log says",
}


def tls_fault(details: str) -> str:
    """Returns what is wrong with a connection, with gRPC's own words; empty if TLS is not."""
    for sign, meaning in _MEANINGS.items():
        if re.search(sign, details, re.DOTALL):
            return f"{meaning} ({details})"
    return ""
