"""What an address of a service has to look like, for the SDK and for flags of services."""

import ipaddress
import re

_HOST_PORT = re.compile(r"(\[[^\]\s]+\]|[^:\s\[\]]+)(?::(.*))?")


def address_fault(address: object) -> str:
    """Returns what is wrong with an address, nothing if it is one."""
    if not isinstance(address, str) or not address.strip():
        return "is no address"
    if scheme := re.match(r"https?://", address):
        return f"begins with {scheme[0]}, and gRPC has no such addresses"
    if re.match(r"(unix|unix-abstract|vsock|ipv4|ipv6|xds):", address):
        return ""  # gRPC's own forms
    name = address.removeprefix("dns:").rpartition("/")[2] if address[:4] == "dns:" else address
    if "/" in name:
        return "has a path"
    if not (parts := _HOST_PORT.fullmatch(name)):
        return "has an IPv6 address without brackets" if name.count(":") > 1 else "names no host"
    if not (port := parts[2]):
        return "has no port"
    return "" if port.isdecimal() and 0 < int(port) < 65536 else f"has {port!r} for a port"


def is_loopback(address: str) -> bool:
    """Whether an address says by itself that it is this machine's own; no name is looked up."""
    if re.match(r"unix(-abstract)?:", address):
        return True
    written = re.sub(r"^(dns:(///)?|ipv[46]:)", "", address)
    host = written.rpartition(":")[0].removeprefix("[").removesuffix("]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
