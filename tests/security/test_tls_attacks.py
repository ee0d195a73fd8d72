"""Attacks on who is at the other end of a connection, by name. `verify_peer` is what trust rests on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.support.memory import FEDERATION, MemoryFederation
from tests.support.memory.members import investigator_tls
from vidfed.security.clock import DAY_MS, MINUTE_MS
from vidfed.security.crypto.certificates import TlsIdentity, are_cas
from vidfed.security.errors import KeyFileError, PeerError
from vidfed.security.identity import tls
from vidfed.security.identity.directory import Directory
from vidfed.security.identity.tls import Peer, claimed_peer, leaf_expires_ms, make_ca, make_invitation_leaf, make_node_leaf, verify_peer


@pytest.fixture(scope="module")
def federation() -> MemoryFederation:
    made = MemoryFederation()
    made.add("nl", "fr")
    return made


def test_a_member_s_node_is_known_by_its_certificate(federation: MemoryFederation) -> None:
    leaf = federation.members["nl"].tls.certificate
    assert verify_peer(leaf, federation.directory(), federation.clock()) == Peer("nl", "node")


def test_a_member_s_investigator_is_known_by_its_certificate(federation: MemoryFederation) -> None:
    holder = Peer("nl", "investigator", "inv-1", "ab" * 16)
    leaf = investigator_tls(federation.members["nl"].ca, FEDERATION, holder).certificate
    assert verify_peer(leaf, federation.directory(), federation.clock()) == holder


def test_an_invitation_is_known_by_its_certificate_and_is_no_investigator(federation: MemoryFederation) -> None:
    leaf = make_invitation_leaf(federation.members["nl"].ca, FEDERATION, "nl", "cd" * 16).certificate
    assert verify_peer(leaf, federation.directory(), federation.clock()) == Peer("nl", "invitation", serial="cd" * 16)


def test_member_a_s_ca_naming_member_b(federation: MemoryFederation) -> None:
    forged = make_node_leaf(federation.members["fr"].ca, FEDERATION, "nl")
    with pytest.raises(PeerError, match="not issued by the CA of the member it names"):
        verify_peer(forged.certificate, federation.directory(), federation.clock())


def test_a_ca_of_the_same_name_but_another_key(federation: MemoryFederation) -> None:
    forged = make_node_leaf(make_ca(FEDERATION, "nl"), FEDERATION, "nl")
    with pytest.raises(PeerError):
        verify_peer(forged.certificate, federation.directory(), federation.clock())


def test_wrong_federation(federation: MemoryFederation) -> None:
    leaf = make_node_leaf(federation.members["nl"].ca, "elsewhere", "nl")
    with pytest.raises(PeerError, match="another federation"):
        verify_peer(leaf.certificate, federation.directory(), federation.clock())


def test_removed_member(federation: MemoryFederation) -> None:
    leaf = federation.members["nl"].tls.certificate
    verify_peer(leaf, federation.directory(), federation.clock())
    without = Directory(FEDERATION, 9, 0, 2**62, MappingProxyType({"fr": federation.members["fr"].entry}))
    with pytest.raises(PeerError, match="no member"):
        verify_peer(leaf, without, federation.clock())


def test_member_with_a_new_ca_drops_the_old_one_at_once() -> None:
    federation = MemoryFederation()
    federation.add("nl")
    old = federation.members["nl"].tls.certificate
    verify_peer(old, federation.directory(), federation.clock())
    federation.add("nl")
    with pytest.raises(PeerError):
        verify_peer(old, federation.directory(), federation.clock())


def test_expired_leaf(federation: MemoryFederation) -> None:
    leaf = federation.members["nl"].tls.certificate
    verify_peer(leaf, federation.directory(), leaf_expires_ms(leaf) - 1)
    with pytest.raises(PeerError, match="outside its validity"):
        verify_peer(leaf, federation.directory(), leaf_expires_ms(leaf))


def test_a_leaf_that_is_not_valid_yet(federation: MemoryFederation) -> None:
    leaf = federation.members["nl"].tls.certificate
    with pytest.raises(PeerError, match="outside its validity"):
        verify_peer(leaf, federation.directory(), federation.clock() - 10 * MINUTE_MS)


def test_a_leaf_does_not_outlive_its_ca(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "CA_LIFE", timedelta(days=10))
    federation = MemoryFederation()
    federation.add("nl")
    leaf = federation.members["nl"].tls.certificate
    assert leaf_expires_ms(leaf) > federation.clock() + 20 * DAY_MS
    with pytest.raises(PeerError, match="outside its validity"):
        verify_peer(leaf, federation.directory(), federation.clock() + 11 * DAY_MS)


def test_the_ca_itself_is_no_peer(federation: MemoryFederation) -> None:
    with pytest.raises(PeerError):
        verify_peer(federation.members["nl"].ca.certificate, federation.directory(), federation.clock())


@pytest.mark.parametrize("content", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_names_nobody(federation: MemoryFederation, content: bytes) -> None:
    with pytest.raises(PeerError):
        verify_peer(content, federation.directory(), federation.clock())


def leaf_named(ca: TlsIdentity, *names: str, is_ca: bool = False, usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH) -> bytes:
    """A leaf with any URIs, which a dishonest member's CA can make."""
    ca_key = serialization.load_pem_private_key(ca.key, None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    issuer = x509.load_pem_x509_certificate(ca.certificate)
    now = datetime.now(UTC)
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")]))
        .issuer_name(issuer.subject)
        .public_key(ec.generate_private_key(ec.SECP256R1()).public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(n) for n in names]), critical=False)
    return builder.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(
    "names",
    [
        (),
        ("https://nl/node",),
        ("vidfed://memory/nl/node", "vidfed://memory/fr/node"),
        ("vidfed://memory/nl/administrator",),
        ("vidfed://memory/nl/node/extra",),
        ("vidfed://memory/nl/investigator",),
        ("vidfed://memory/nl/investigator/",),
        ("vidfed://memory/nl/investigator/inv-1",),
        ("vidfed://memory/nl/investigator/inv-1/AB",),
        (f"vidfed://memory/nl/investigator//{'ab' * 16}",),
        ("vidfed://memory/nl/invitation/x",),
        ("vidfed://memory/nl",),
        ("vidfed://memory//node",),
        ("vidfed:///nl/node",),
        ("vidfed://memory/nl/NODE",),
    ],
)
def test_a_leaf_whose_name_is_not_exactly_ours_is_refused(federation: MemoryFederation, names: tuple[str, ...]) -> None:
    leaf = leaf_named(federation.members["nl"].ca, *names)
    with pytest.raises(PeerError):
        verify_peer(leaf, federation.directory(), federation.clock())


def test_a_well_made_leaf_of_this_helper_would_pass(federation: MemoryFederation) -> None:
    leaf = leaf_named(federation.members["nl"].ca, "vidfed://memory/nl/node")
    assert verify_peer(leaf, federation.directory(), federation.clock()) == Peer("nl", "node")


def test_a_leaf_for_another_use_is_refused(federation: MemoryFederation) -> None:
    leaf = leaf_named(federation.members["nl"].ca, "vidfed://memory/nl/node", usage=ExtendedKeyUsageOID.CODE_SIGNING)
    with pytest.raises(PeerError):
        verify_peer(leaf, federation.directory(), federation.clock())


def test_a_ca_below_the_ca_is_refused(federation: MemoryFederation) -> None:
    leaf = leaf_named(federation.members["nl"].ca, "vidfed://memory/nl/node", is_ca=True)
    with pytest.raises(PeerError):
        verify_peer(leaf, federation.directory(), federation.clock())


def test_a_claim_is_only_a_claim(federation: MemoryFederation) -> None:
    forged = make_node_leaf(federation.members["fr"].ca, FEDERATION, "nl")
    assert claimed_peer(forged.certificate) == (FEDERATION, Peer("nl", "node"))


def test_a_tls_key_is_in_no_text(federation: MemoryFederation) -> None:
    identity = federation.members["nl"].tls
    assert "PRIVATE" not in f"{identity!r} {identity}"
    assert "PRIVATE" not in repr(federation.members["nl"])


def test_a_damaged_ca_cannot_issue(federation: MemoryFederation) -> None:
    with pytest.raises(KeyFileError, match="damaged"):
        make_node_leaf(TlsIdentity(b"garbage", federation.members["nl"].ca.certificate), FEDERATION, "nl")


def test_a_ca_beside_a_leaf_is_no_pair_of_cas() -> None:
    """gRPC would take the leaf for an authority, or stumble over it."""
    ca = make_ca("test", "fr")
    leaf = make_node_leaf(ca, "test", "fr").certificate
    assert are_cas(ca.certificate)
    assert are_cas(ca.certificate + make_ca("test", "fr").certificate)
    assert not are_cas(ca.certificate + leaf)
    assert not are_cas(leaf)
