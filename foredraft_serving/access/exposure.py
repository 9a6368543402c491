"""Who reaches a service, by its flags: checked before it starts, and told when it does.

A service that other machines reach has to know its callers, by tokens or by certificates, and to
hide what is said by TLS, or its operator says that the network sees to both. This module knows
nothing of what is served.
"""

import logging

from foredraft.wire.addresses import is_loopback
from foredraft_serving.service_settings import AccessFlags
from foredraft_serving.settings import SettingsError

log = logging.getLogger(__name__)


def check_exposure(settings: AccessFlags) -> None:
    """Refuses to serve other machines without a protection, unless the operator insists.

    Raises:
        SettingsError: a flag is missing.
    """
    missing = []
    if not settings.tls_cert:
        missing.append("what is sent is in plain text (give --tls-cert and --tls-key)")
    if not settings.client_ca and not settings.api_tokens:
        missing.append("everybody is served (give --api-tokens or --client-ca)")
    if missing and not settings.insecure and not is_loopback(settings.listen):
        raise SettingsError(
            f"--listen {settings.listen} is for other machines, but {' and '.join(missing)}; "
            "--insecure starts it nevertheless, for a network that lets nobody else in"
        )


def log_exposure(settings: AccessFlags, address: str) -> None:
    """Logs in one line who is served at an address, and who can listen."""
    asked = {
        f"an API token of {settings.api_tokens}": settings.api_tokens,
        f"a certificate from a CA of {settings.client_ca}": settings.client_ca,
        f"one of the names {settings.client_names} in it": settings.client_names,
    }
    whom = " and ".join(words for words, value in asked.items() if value)
    is_open = not is_loopback(settings.listen)
    served = f"callers with {whom}" if whom else "everybody who reaches it"
    how = "by TLS" if settings.tls_cert else "in plain text"
    where = "on the network" if is_open else "on this machine alone"
    if is_open and not settings.tls_cert:
        how += ", which others on the way can read and change"
    is_risky = is_open and not (whom and settings.tls_cert)
    log.log(
        logging.WARNING if is_risky else logging.INFO,
        "%s%s serves %s, %s, %s",
        *("--insecure: " if is_risky else "", address, served, where, how),
    )
