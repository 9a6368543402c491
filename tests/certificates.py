"""Certificates for tests: authorities, and what they issue, in files."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Files:
    """A certificate and its key."""

    cert: str
    key: str

    def replace(self, other: "Files") -> None:
        """Puts another certificate and key in the place of these."""
        for path, its in ((self.cert, other.cert), (self.key, other.key)):
            Path(path).write_bytes(Path(its).read_bytes())


def trust(path: Path, *authorities: "Authority") -> None:
    """Writes the certificates of authorities, and of no others, to a file."""
    path.write_text("".join(Path(authority.ca).read_text() for authority in authorities))


class Authority:
    """A CA whose certificates are files in a folder."""

    def __init__(self, folder: Path, name: str = "tests") -> None:
        self._folder, self._name = folder, _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._number = 0
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        own = _builder(self._name, self._name, self._key.public_key(), datetime.now(UTC) + _DAY)
        signed = own.add_extension(constraints, critical=True).sign(self._key, hashes.SHA256())
        self.ca = str(folder / f"{name}.pem")
        """The path of its own certificate."""
        Path(self.ca).write_bytes(signed.public_bytes(Encoding.PEM))

    def issue(
        self, host: str = "127.0.0.1", lasts: timedelta = _DAY, password: bytes = b""
    ) -> Files:
        """Issues a certificate for a host, or for the name of a caller."""
        key = ec.generate_private_key(ec.SECP256R1())
        ends = datetime.now(UTC) + lasts
        builder = _builder(_name(host), self._name, key.public_key(), ends)
        try:
            named: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            named = x509.DNSName(host)
        alternative = x509.SubjectAlternativeName([named])
        signed = builder.add_extension(alternative, critical=False).sign(self._key, hashes.SHA256())
        self._number += 1
        stem = f"{Path(self.ca).stem}-{self._number}"
        files = Files(*(str(self._folder / f"{stem}.{kind}") for kind in ("crt", "key")))
        Path(files.cert).write_bytes(signed.public_bytes(Encoding.PEM))
        hidden = BestAvailableEncryption(password) if password else NoEncryption()
        text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden)
        Path(files.key).write_bytes(text)
        return files


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - 7 * _DAY)
        .not_valid_after(ends)
    )
