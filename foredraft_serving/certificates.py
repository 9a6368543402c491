"""Certificates on disk: checked when a service starts, and read again while it runs.

Whoever renews them replaces the files. A connection that is made afterwards gets the new ones, and
those that are open go on. Files that cannot be used leave the last good ones in force, because a
certificate and its key are often replaced one after the other.

This module knows nothing of gRPC.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from foredraft_serving.last_good import LastGood
from foredraft_serving.settings import SettingsError


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where the files are, by the flags that name them; an empty path is none."""

    cert: tuple[str, str]
    """The flag, and the path of a certificate with the ones between it and its CA."""
    key: tuple[str, str]
    """The flag, and the path of the certificate's private key."""
    ca: tuple[str, str]
    """The flag, and the path of the CAs that the other side's certificate may come from."""

    def __post_init__(self) -> None:
        for (flag, path), (other, there) in ((self.cert, self.key), (self.key, self.cert)):
            if path and not there:
                raise SettingsError(f"{flag} needs {other}: give both files, or neither")

    @property
    def given(self) -> Mapping[str, str]:
        """The paths that are given, by flag."""
        return {flag: path for flag, path in (self.cert, self.key, self.ca) if path}


@dataclass(frozen=True, slots=True)
class CertificateTexts:
    """What is in the files, as PEM; None where there is no file."""

    cert: bytes | None
    key: bytes | None
    ca: bytes | None


Certificates = LastGood[CertificateTexts, CertificateTexts]


def watched_certificates(files: CertificateFiles) -> Certificates:
    """Returns what the files hold, read again at each use.

    Raises:
        SettingsError: a file is missing, is not what it should be, has expired, or does not belong
            to another. The message names the flag.
    """
    named = ", ".join(f"{flag} {path}" for flag, path in files.given.items())
    of_role = (files.cert, files.key, files.ca)
    return LastGood(
        named,
        lambda: CertificateTexts(*(_content(*file) for file in of_role)),
        partial(_checked, files),
    )


def _content(flag: str, path: str) -> bytes | None:
    try:
        return Path(path).read_bytes() if path else None
    except OSError as error:
        raise SettingsError(f"{flag} {path}: {error.strerror or error}") from error


def _checked(files: CertificateFiles, texts: CertificateTexts) -> CertificateTexts:
    """Returns the texts if a connection can be made with them.

    Raises:
        SettingsError: the message names the flag.
    """
    if texts.ca is not None:
        _chain(*files.ca, texts.ca)
    if texts.cert is None or texts.key is None:
        return texts
    own, now = _chain(*files.cert, texts.cert)[0], datetime.now(UTC)
    if now > own.not_valid_after_utc:
        raise SettingsError(f"{' '.join(files.cert)}: it expired at {own.not_valid_after_utc}")
    if now < own.not_valid_before_utc:
        raise SettingsError(
            f"{' '.join(files.cert)}: it is valid from {own.not_valid_before_utc} on; is the clock "
            "right?"
        )
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if _public_key(*files.key, texts.key) != own.public_key().public_bytes(*form):
        raise SettingsError(
            f"{' '.join(files.key)} is not the key of {' '.join(files.cert)}: they do not belong "
            "together"
        )
    return texts


def _chain(flag: str, path: str, text: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(text)
    except ValueError as error:
        raise SettingsError(f"{flag} {path}: it holds no certificate in PEM") from error


def _public_key(flag: str, path: str, text: bytes) -> bytes:
    try:
        key = load_pem_private_key(text, password=None)
    except TypeError as error:  # this is how cryptography says that a password is needed
        raise SettingsError(
            f"{flag} {path}: it is encrypted; give a key without a password, which only the "
            "service can read"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SettingsError(f"{flag} {path}: it holds no private key in PEM") from error
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
