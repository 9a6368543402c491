"""TLS of a service: who may call it, and as whom it calls another one.

This module knows nothing of what is served.
"""

import grpc

from foredraft_serving.certificates import (
    CertificateFiles,
    Certificates,
    CertificateTexts,
    watched_certificates,
)
from foredraft_serving.service_settings import AccessFlags
from foredraft_serving.settings import SettingsError


def server_certificates(settings: AccessFlags) -> Certificates | None:
    """Returns the certificates that a service shows and asks for; None is plain text.

    Raises:
        SettingsError: a file cannot be used, or a flag needs another one.
    """
    files = CertificateFiles(
        ("--tls-cert", settings.tls_cert),
        ("--tls-key", settings.tls_key),
        ("--client-ca", settings.client_ca),
    )
    if not files.given:
        return None
    if "--tls-cert" not in files.given:
        raise SettingsError("--client-ca needs --tls-cert and --tls-key: callers show certificates")
    return watched_certificates(files)


def server_credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """Returns the credentials of a server, which look at the files at each handshake."""
    first = certificates.current()
    configured = first

    def configuration() -> grpc.ServerCertificateConfiguration | None:
        nonlocal configured
        texts = certificates.current()
        if texts == configured:
            return None  # gRPC takes it as: nothing has changed
        configured = texts
        return _configuration(texts)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(first),
        configuration,  # type: ignore[arg-type]  # its type does not know of None
        require_client_authentication=first.ca is not None,
    )


def channel_credentials(texts: CertificateTexts) -> grpc.ChannelCredentials:
    """Returns the credentials of a channel to a service whose CA is in the texts."""
    return grpc.ssl_channel_credentials(texts.ca, texts.key, texts.cert)


def _configuration(texts: CertificateTexts) -> grpc.ServerCertificateConfiguration:
    assert texts.key is not None, "a server has a key"
    assert texts.cert is not None, "a server has a certificate"
    return grpc.ssl_server_certificate_configuration([(texts.key, texts.cert)], texts.ca)
