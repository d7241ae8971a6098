"""Certificates: an authority of one's own, and certificates of its members, as PEM files in one folder.

    ca.pem, ca-key.pem        the authority; its key signs, and is needed nowhere else
    NAME.pem, NAME-key.pem    a member: for one node, or for all of them

A member's certificate is good for both sides of a connection, and says ``MEMBER_NAME``, so nodes may come and go at any
address. Keys are of P-256, and readable for this user only. Needs ``cryptography`` (extra ``tls``).
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from raybook.base.tls_files import TlsFiles
from raybook.io.tls import MEMBER_NAME

CA_NAME = "ca"
CA_DAYS = 3_650
SKEW = datetime.timedelta(hours=1)
"""Certificates are good from this long before they are made: clocks differ."""


def make_authority(folder: Path, days: int = CA_DAYS) -> bool:
    """Make one, unless there is one: False then. OSError. ValueError when half of one is there."""
    cert_path, key_path = _paths(folder, CA_NAME)
    if cert_path.exists() != key_path.exists():
        missing = key_path if cert_path.exists() else cert_path
        raise ValueError(
            f"{folder} has half of an authority: {missing.name} is missing. Bring it, or choose another folder."
        )
    if cert_path.exists():
        return False
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"raybook authority {os.urandom(4).hex()}")
    builder = _builder(name, name, key.public_key(), days)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_others=True), critical=True)
    _write(folder, CA_NAME, builder.sign(key, hashes.SHA256()), key)
    return True


def make_member(folder: Path, name: str, hosts: Sequence[str] = (), days: int = 365) -> TlsFiles:
    """A certificate of the folder's authority; the files to use. hosts: names and addresses that it says beside
    ``MEMBER_NAME``, for others than raybook. days: how long it is good; it may be none, or fewer, for tests.
    FileExistsError when that name has one."""
    cert_path, key_path = _paths(folder, name)
    for path in (cert_path, key_path):
        if path.exists():
            raise FileExistsError(
                f"{path} is there already, and was left as it is. Choose another --name, or remove it."
            )
    ca_path, ca_key_path = _paths(folder, CA_NAME)
    authority = x509.load_pem_x509_certificate(ca_path.read_bytes())
    signer = serialization.load_pem_private_key(ca_key_path.read_bytes(), password=None)
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{ca_key_path} was not made by `raybook tls init`, which is all that it can go on with.")
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(_name(name), authority.subject, key.public_key(), days)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_others=False), critical=True)
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    names: list[x509.GeneralName] = [x509.DNSName(MEMBER_NAME), *map(_general_name, hosts)]
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = builder.add_extension(issuer, critical=False)
    _write(folder, name, builder.sign(signer, hashes.SHA256()), key)
    return TlsFiles(str(cert_path), str(key_path), str(ca_path))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.timezone.utc)
    end = now + datetime.timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, end) - SKEW)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(signs_others: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_others,
        key_cert_sign=signs_others,
        crl_sign=signs_others,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _paths(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}.pem", folder / f"{name}-key.pem"


def _write(folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    cert_path, key_path = _paths(folder, name)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # The key first: a certificate without one would stop the next attempt.
    for path, content in ((key_path, private), (cert_path, certificate.public_bytes(serialization.Encoding.PEM))):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
