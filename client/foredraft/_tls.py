"""Credentials for TLS, from files."""

import ssl
from os import PathLike
from pathlib import Path

import grpc

from foredraft._errors import InvalidRequestError

FilePath = str | PathLike[str]


def tls(
    *, ca: FilePath | None = None, cert: FilePath | None = None, key: FilePath | None = None
) -> grpc.ChannelCredentials:
    """Returns credentials for a client, from files in PEM: `Client(address, credentials=tls(...))`.

    The files are read once. A client that outlives its certificate has to be made anew.

    Args:
        ca: the CAs that the service's certificate may come from; None trusts those of gRPC.
        cert, key: the certificate to show, with the ones between it and its CA, and its private
            key; for a service that asks for one.

    Raises:
        InvalidRequestError: a file cannot be read or is not what it should be, or certificate and
            key do not belong together. `field` names it.
    """
    if (cert is None) != (key is None):
        missing = "key" if key is None else "cert"
        raise InvalidRequestError(f"{missing}: cert and key go together", field=missing)
    texts = {name: _text(name, path) for name, path in (("ca", ca), ("cert", cert), ("key", key))}
    _check(ca, cert, key)
    return grpc.ssl_channel_credentials(texts["ca"], texts["key"], texts["cert"])


def _text(field: str, path: FilePath | None) -> bytes | None:
    try:
        return None if path is None else Path(path).read_bytes()
    except OSError as error:
        raise InvalidRequestError(
            f"{field}: {path}: {error.strerror or error}", field=field
        ) from error


def _check(ca: FilePath | None, cert: FilePath | None, key: FilePath | None) -> None:
    """Refuses what gRPC would refuse at the first call, in words that say nothing of files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if ca is not None:
            context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise InvalidRequestError(f"ca: {ca} holds no certificate in PEM", field="ca") from error
    if cert is None or key is None:
        return
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            message = f"key: {key} is not the key of {cert}; they do not belong together"
        else:
            message = f"key: {cert} and {key} are no certificate and its key in PEM, unencrypted"
        raise InvalidRequestError(message, field="key") from error


def _no_password() -> str:
    """Keeps OpenSSL from asking a terminal."""
    return ""
