"""What to tell of a service that is not reached, in place of gRPC's words for it.

This module knows nothing of calls, nor of which error carries the sentence.
"""

import re
from urllib.parse import unquote

from foredraft.tls_faults import tls_fault

# gRPC writes an address as ipv4:10.0.0.6:50052 or ipv6:%5B::1%5D:50052, and a name as it was given.
_PEER = re.compile(r"(?:ipv4|ipv6|unix):(\S+?): ")
_NAME = re.compile(r"(?:errors resolving|DNS resolution failed for) ([^\s:]+)")
_NO_GRPC = ("Failed parsing HTTP/2", "http1.x server")
_FAILED = ("connections to all", "failed to connect", "Failed to connect")
_LOST = ("Socket closed", "Broken pipe", "Connection reset", "End of TCP stream", "ping timeout")


def unreached(details: str) -> str:
    """Returns what happened and what to do about it.

    What is not gRPC's own, such as a service's word that it stops, is returned unchanged.
    """
    if fault := tls_fault(details):
        return f"no connection to the service: {fault}"
    peer = _PEER.search(details)
    where = unquote(peer[1]) if peer else "the address"
    if name := _NAME.match(details):
        return f"there is no host {name[1]}, or no name server knows it; check the address"
    if any(words in details for words in _NO_GRPC):
        return (
            f"what answers at {where} is not gRPC; give the address that the target service was "
            "given as --listen, and not one of metrics or of health"
        )
    if "Connection refused" in details:
        return f"nothing listens at {where}; start a target service there, or give another address"
    if details.startswith(_FAILED):
        reason = details.rpartition(": ")[2].rstrip(".")
        return f"{where} cannot be reached ({reason}); check the address and the network"
    if details.startswith(_LOST):
        return f"the connection to the service was lost ({details})"
    return details
