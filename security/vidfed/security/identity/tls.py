"""Mutual TLS between members: each member is its own CA, and a peer is judged by *that member's* CA and nothing else.

A leaf names its holder in a URI: `vidfed://FEDERATION/MEMBER/node` or `vidfed://FEDERATION/MEMBER/investigator/PSEUDONYM/SERIAL`,
or `vidfed://FEDERATION/MEMBER/invitation/ID`.
gRPC can only be given one merged set of roots for incoming connections, by which member A's CA could name member B; so
`verify_peer` checks every call again.
Keys are ECDSA P-256: gRPC refuses Ed25519 leaves.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store

from vidfed.security.clock import SECOND_MS
from vidfed.security.crypto.certificates import TlsIdentity
from vidfed.security.documents import SERIAL
from vidfed.security.errors import KeyFileError, PeerError

if TYPE_CHECKING:
    from vidfed.security.identity.directory import Directory

NODE_ROLE = "node"
INVESTIGATOR_ROLE = "investigator"
INVITATION_ROLE = "invitation"
CA_LIFE = timedelta(days=3650)
LEAF_LIFE = timedelta(days=30)  # renewed by the services themselves when a third is left
MAX_LEAF_BYTES = 8 * 1024
"""Of a certificate in PEM; ours have 1 KiB. It comes from whoever calls, signed by its own CA, and is kept in memory once it was read."""
_KEPT = 1_024  # certificates that were read: at most 8 MiB
_BACKDATE = timedelta(minutes=5)  # a peer's clock may be a little behind


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a connection, as its certificate says and its member's CA confirms.

    Attributes:
        member: whose CA.
        role: NODE_ROLE, INVESTIGATOR_ROLE or INVITATION_ROLE.
        pseudonym: of an investigator.
        serial: of an investigator's credential, or the invitation's id.
    """

    member: str
    role: str
    pseudonym: str = ""
    serial: str = ""


def node_server_name(federation: str, member: str) -> str:
    """Return the DNS name in a node's certificate, which clients insist on whatever address they dial."""
    return f"node.{member}.{federation}.vidfed"


def make_ca(federation: str, member: str) -> TlsIdentity:
    """Make a member's certification authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"vidfed {federation} {member} CA")
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        _builder(name, name, key.public_key(), CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )
    return _identity(key, builder.sign(key, hashes.SHA256()))


def node_name(leaf_der: bytes) -> str:
    """Return the DNS name in a node's certificate, unverified; empty if it has none."""
    try:
        names = x509.load_der_x509_certificate(leaf_der).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return ""
    found = names.get_values_for_type(x509.DNSName)
    return found[0] if len(found) == 1 else ""


def make_node_leaf(ca: TlsIdentity, federation: str, member: str) -> TlsIdentity:
    """Issue the certificate with which a member's node and gateway serve, and with which its gateway calls others."""
    names: list[x509.GeneralName] = [
        x509.UniformResourceIdentifier(f"vidfed://{federation}/{member}/{NODE_ROLE}"),
        x509.DNSName(node_server_name(federation, member)),
    ]
    return _leaf(ca, f"{member} node", names, [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])


def make_tls_key() -> bytes:
    """Make a private key for TLS, PEM; its certificate comes from whoever has the member's CA."""
    return _private_pem(ec.generate_private_key(ec.SECP256R1()))


def tls_public_key(private_pem: bytes) -> bytes:
    """Return the public half of a private key, PEM.

    Raises:
        KeyFileError: it is none.
    """
    try:
        key = serialization.load_pem_private_key(private_pem, password=None)
    except ValueError:
        raise KeyFileError("the TLS key is damaged") from None
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def certify_investigator(ca: TlsIdentity, federation: str, holder: Peer, public_pem: bytes) -> bytes:
    """Issue the certificate with which an investigator calls the own member's gateway, for a key made on the person's machine; PEM.

    Raises:
        KeyFileError: the public key is not on the curve P-256, or the CA is damaged.
    """
    try:
        key = serialization.load_pem_public_key(public_pem)
    except ValueError:
        raise KeyFileError("the TLS public key is damaged") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KeyFileError("the TLS public key is not on the curve P-256")
    uri = f"vidfed://{federation}/{holder.member}/{INVESTIGATOR_ROLE}/{holder.pseudonym}/{holder.serial}"
    return _certify(ca, f"{holder.member} investigator", [x509.UniformResourceIdentifier(uri)], [ExtendedKeyUsageOID.CLIENT_AUTH], key)


def make_invitation_leaf(ca: TlsIdentity, federation: str, member: str, invitation: str) -> TlsIdentity:
    """Issue the certificate with which the holder of an invitation enrols at the gateway, and can do nothing else there."""
    uri = x509.UniformResourceIdentifier(f"vidfed://{federation}/{member}/{INVITATION_ROLE}/{invitation}")
    return _leaf(ca, f"{member} invitation", [uri], [ExtendedKeyUsageOID.CLIENT_AUTH])


def verify_peer(leaf_pem: bytes, directory: Directory, now_ms: int) -> Peer:
    """Return who presented this certificate, if the CA of the member it names issued it and it is valid now.

    Raises:
        PeerError: it names no member of this federation, or that member's CA does not stand behind it.
    """
    federation, peer = claimed_peer(leaf_pem)
    if federation != directory.federation:
        raise PeerError("certificate of another federation")
    if peer.member not in directory.members:
        raise PeerError(f"{peer.member!r:.50} is no member of this federation")
    not_before_ms, not_after_ms = _verified(leaf_pem, directory.members[peer.member].tls_ca)
    if not not_before_ms <= now_ms < not_after_ms:
        raise PeerError(f"certificate of {peer.member} is outside its validity")
    return peer


def leaf_expires_ms(certificate: bytes) -> int:
    """Return when a PEM certificate ends, in ms since the epoch."""
    return _moment_ms(x509.load_pem_x509_certificate(certificate).not_valid_after_utc)


@functools.lru_cache(maxsize=_KEPT)  # one entry per connection's certificate: every call is checked, each chain is verified once
def _verified(leaf_pem: bytes, ca_pem: bytes) -> tuple[int, int]:
    """Check a leaf against the CA that issued it, of one or two of a member, apart from time; return its validity in ms."""
    try:
        leaf = x509.load_pem_x509_certificate(leaf_pem)
        authorities = x509.load_pem_x509_certificates(ca_pem)
    except Exception:  # noqa: BLE001 - a peer writes it, and what the library raises at it has no common root (InvalidVersion, say)
        raise PeerError("certificate not issued by the CA of the member it names") from None
    for authority in authorities:
        inside = max(leaf.not_valid_before_utc, authority.not_valid_before_utc)
        try:
            PolicyBuilder().store(Store([authority])).time(inside).build_client_verifier().verify(leaf, [])
        except Exception:  # noqa: BLE001, S112 - as above: whatever it is, this authority does not stand behind it
            continue
        return _moment_ms(inside), _moment_ms(min(leaf.not_valid_after_utc, authority.not_valid_after_utc))
    raise PeerError("certificate not issued by the CA of the member it names")


def claimed_peer(leaf_pem: bytes) -> tuple[str, Peer]:
    """Return (federation, peer) as a leaf claims them, unverified: `verify_peer` is what trust may rest on.

    Raises:
        PeerError: it names nobody, or is larger than MAX_LEAF_BYTES.
    """
    if len(leaf_pem) > MAX_LEAF_BYTES:
        raise PeerError(f"certificate of more than {MAX_LEAF_BYTES} bytes")
    return _claimed(leaf_pem)


@functools.lru_cache(maxsize=_KEPT)
def _claimed(leaf_pem: bytes) -> tuple[str, Peer]:
    try:
        leaf = x509.load_pem_x509_certificate(leaf_pem)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except Exception:  # noqa: BLE001 - as in `_verified`
        raise PeerError("certificate without a vidfed name") from None
    if len(uris) != 1 or not uris[0].startswith("vidfed://"):
        raise PeerError("certificate without exactly one vidfed name")
    match uris[0].removeprefix("vidfed://").split("/"):
        case [federation, member, role] if role == NODE_ROLE:
            return federation, Peer(member, NODE_ROLE)
        case [federation, member, role, pseudonym, serial] if role == INVESTIGATOR_ROLE and pseudonym and SERIAL.fullmatch(serial):
            return federation, Peer(member, INVESTIGATOR_ROLE, pseudonym, serial)
        case [federation, member, role, invitation] if role == INVITATION_ROLE and SERIAL.fullmatch(invitation):
            return federation, Peer(member, INVITATION_ROLE, serial=invitation)
    raise PeerError("certificate with a malformed vidfed name")


def _leaf(ca: TlsIdentity, common_name: str, names: list[x509.GeneralName], usages: list[x509.ObjectIdentifier]) -> TlsIdentity:
    key = ec.generate_private_key(ec.SECP256R1())
    return TlsIdentity(_private_pem(key), _certify(ca, common_name, names, usages, key.public_key()))


def _certify(
    ca: TlsIdentity,
    common_name: str,
    names: list[x509.GeneralName],
    usages: list[x509.ObjectIdentifier],
    public: ec.EllipticCurvePublicKey,
) -> bytes:
    try:
        ca_key = serialization.load_pem_private_key(ca.key, password=None)
        ca_certificate = x509.load_pem_x509_certificate(ca.certificate)
    except ValueError:
        raise KeyFileError("the CA's key or certificate is damaged") from None
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
        raise KeyFileError("the CA's key is not an elliptic curve key")
    issuer_id = ca_certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        _builder(_name(common_name), ca_certificate.subject, public, LEAF_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id), critical=False)
    )
    return builder.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, life: timedelta) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + life)
    )


def _key_usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        key_cert_sign=certificates,
        crl_sign=certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _identity(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> TlsIdentity:
    return TlsIdentity(_private_pem(key), certificate.public_bytes(serialization.Encoding.PEM))


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _moment_ms(moment: datetime) -> int:
    return int(moment.timestamp() * SECOND_MS)
