"""Enrolling: a person's machine makes the keys, the member certifies their public halves, and nobody else ever has the private ones.

1. `request` (the person's machine) makes Ed25519, X25519 and TLS keys in the kit's folder, and asks for them to be certified: with an
   invitation, or with a credential that still holds, which is then renewed.
2. `certify` (the member's machine) checks the request and issues credential and certificate.
3. `install` (the person's machine) verifies what came back, from the anchor, and puts it in its place.

Request and reply go through the gateway, or by hand as files. A kit that is enrolled again for the same person keeps its signing and
sealing keys, its history and its receipts; the TLS key is made anew each time.
"""

from __future__ import annotations

import base64
import json
import secrets
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vidfed.security.clock import DAY_MS, MINUTE_MS, Clock, as_text, system_clock
from vidfed.security.crypto.certificates import TlsIdentity, check_identity
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.crypto.keys import PublicKey, SigningKey
from vidfed.security.crypto.sealing_key import load_sealing_key, make_sealing_key, save_sealing_key, sealing_public_key
from vidfed.security.documents import read_document
from vidfed.security.errors import EnrolmentError, EnvelopeError, HomeError, KeyFileError, SignatureError
from vidfed.security.files import read_private, write_private
from vidfed.security.identity.credentials import SEALING_KEY_BYTES, Credential, verify_credential
from vidfed.security.identity.tls import (
    INVESTIGATOR_ROLE,
    Peer,
    certify_investigator,
    claimed_peer,
    make_tls_key,
    tls_public_key,
)
from vidfed.security.member.invitation import Invitation, files_of, invite, proven
from vidfed.security.member.issued import Issued, changing, invitations, issued_kits, write_invitations, write_issued
from vidfed.security.member.kit import KIT_FILE, Kit, identity_file, kit_file
from vidfed.security.member.rotation import OwnEntry
from vidfed.security.trust.anchor import Anchor
from vidfed.security.trust.client import TufDirectory
from vidfed.security.trust.mirrors import FilesMirror

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from vidfed.security.crypto.keys import Signer
    from vidfed.security.member.home import MemberHome

CREDENTIAL_LIFE_DAYS = 30
MAX_REQUEST_BYTES = 32 * 1024
"""Of a request: it has 2 KiB."""
OFFICER_ROLE = "release-officer"
FIRST_OFFICERS = 2
"""Come with the accession; every further one needs the signature of one of those there are."""
ENROLMENT_TYPE = "application/vnd.vidfed.enrolment.v1+json"
_REQUEST_KIND = "vidfed-enrolment/1"
_REPLY_KIND = "vidfed-enrolled/1"
_REQUEST_FORM = {"kind": str, "envelope": str, "proof": str}
_REPLY_FORM = {"kind": str, "credential": str, "tls_certificate": str, "directory": dict}
_STATEMENT_FORM = {
    "federation": str,
    "member": str,
    "pseudonym": str,
    "roles": list,
    "invitation": str,
    "renews": str,
    "signing_key": str,
    "sealing_key": str,
    "tls_key": str,
    "made_ms": int,
}
_OLDEST_MS = 7 * DAY_MS  # of a request that travels by hand
_AHEAD_MS = 5 * MINUTE_MS
_PENDING = "enrolling"


@dataclass(frozen=True, slots=True)
class Statement:
    """What a person's machine asks to have certified.

    Attributes:
        federation, member: by whom.
        pseudonym, roles: as what; must be what the invitation, or the credential that is renewed, says.
        invitation: its id; empty where a credential is renewed without one.
        renews: serial of the credential that is renewed; empty for a first one.
        signing_key: Ed25519.
        sealing_key: X25519, 32 bytes.
        tls_key: public key on P-256, PEM.
        made_ms: when it was made.
    """

    federation: str
    member: str
    pseudonym: str
    roles: tuple[str, ...]
    invitation: str
    renews: str
    signing_key: PublicKey
    sealing_key: bytes
    tls_key: bytes
    made_ms: int

    def to_payload(self) -> bytes:
        """Write the payload that `read` takes."""
        fields = {
            "federation": self.federation,
            "member": self.member,
            "pseudonym": self.pseudonym,
            "roles": list(self.roles),
            "invitation": self.invitation,
            "renews": self.renews,
            "signing_key": self.signing_key.text,
            "sealing_key": base64.b64encode(self.sealing_key).decode(),
            "tls_key": self.tls_key.decode(),
            "made_ms": self.made_ms,
        }
        return json.dumps(fields, sort_keys=True).encode()

    @classmethod
    def read(cls, payload: bytes) -> Statement:
        """Read a payload.

        Raises:
            EnrolmentError: malformed.
        """
        fields = read_document(payload, _STATEMENT_FORM, EnrolmentError, "request")
        try:
            signing_key = PublicKey.parse(fields["signing_key"])
            sealing_key = base64.b64decode(fields["sealing_key"], validate=True)
            tls_key = fields["tls_key"].encode()
        except (KeyFileError, ValueError):
            raise EnrolmentError("request: a key is malformed") from None
        if len(sealing_key) != SEALING_KEY_BYTES or not all(isinstance(role, str) for role in fields["roles"]):
            raise EnrolmentError("request: a key or a role is malformed")
        parts = {"signing_key": signing_key, "sealing_key": sealing_key, "tls_key": tls_key, "roles": tuple(fields["roles"])}
        return cls(**{**fields, **parts})


@dataclass(frozen=True, slots=True)
class Request:
    """A statement, signed with the key it names (and by an officer, for another one), and what proves the invitation."""

    statement: Statement
    envelope: Envelope
    proof: str = ""

    @property
    def id(self) -> str:
        """SHA-256 of what is signed, hex: the same request again is the same."""
        return self.envelope.digest.hex()

    def to_json(self) -> bytes:
        """Write the file that `from_json` reads."""
        return json.dumps({"kind": _REQUEST_KIND, "envelope": self.envelope.to_json().decode(), "proof": self.proof}).encode() + b"\n"

    @classmethod
    def from_json(cls, content: bytes) -> Request:
        """Read a request and check that the key it names signed it.

        Raises:
            EnrolmentError: it is none, or its signature does not hold.
        """
        if len(content) > MAX_REQUEST_BYTES:
            raise EnrolmentError(f"request: {len(content)} bytes, at most {MAX_REQUEST_BYTES} are read")
        fields = read_document(content, _REQUEST_FORM, EnrolmentError, "request")
        if fields["kind"] != _REQUEST_KIND:
            raise EnrolmentError("request: not one of this version")
        try:
            envelope = Envelope.from_json(fields["envelope"].encode())
            statement = Statement.read(envelope.payload)
            envelope.verify(ENROLMENT_TYPE, [statement.signing_key])
        except (EnvelopeError, SignatureError, ValueError) as error:
            raise EnrolmentError(f"request: {error}") from None
        return cls(statement, envelope, fields["proof"])

    def signed_by(self, officer: Signer) -> Request:
        """Return the request with an officer's signature, which another officer's credential needs."""
        return replace(self, envelope=self.envelope.signed_by(officer))


def request(folder: Path, invitation: Invitation | None = None, *, clock: Clock = system_clock) -> Request:
    """Make keys in `folder`, or take those of the kit in it, and ask for them to be certified.

    Interrupted, it can be repeated: an invitation can be used once, so the same request is made again.

    Args:
        folder: a kit's, or empty, or absent.
        invitation: what the unit handed over; None renews the kit by its own credential.
        clock: gives the time.

    Raises:
        HomeError: the folder holds something else, or no kit that could be renewed.
    """
    kit = Kit(folder) if (folder / KIT_FILE).exists() else None
    if invitation is None and kit is None:
        raise HomeError(f"{folder}: no kit that could be renewed; your unit makes an invitation with `vidfed trust issue-investigator`")
    if kit is None and folder.exists() and any(path.name != _PENDING for path in folder.iterdir()):
        raise HomeError(f"{folder}: exists and is not empty; a kit is never overwritten")
    pending = folder / _PENDING
    if (pending / "request.json").exists():
        made = Request.from_json(read_private(pending / "request.json"))
        if made.statement.invitation == (invitation.id if invitation else ""):
            return made
        shutil.rmtree(pending)
    if kit is not None:
        credential = kit.holder
        named = invitation or credential
        if (kit.federation, kit.member, kit.pseudonym) != (named.federation, named.member, named.pseudonym):
            raise HomeError(f"{folder}: holds the kit of {kit.pseudonym} of {kit.member}; install this one in another folder (--to)")
        signer, sealing = kit.signer, kit.sealing_key
    else:
        signer, sealing = SigningKey.generate(), make_sealing_key()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    pending.mkdir(mode=0o700, exist_ok=True)
    tls_key = make_tls_key()
    source: Any = invitation or (kit.holder if kit else None)
    statement = Statement(
        source.federation,
        source.member,
        source.pseudonym,
        tuple(source.roles),
        invitation.id if invitation else "",
        kit.holder.serial if kit else "",
        signer.public,
        sealing_public_key(sealing),
        tls_public_key(tls_key),
        clock(),
    )
    envelope = Envelope(ENROLMENT_TYPE, statement.to_payload()).signed_by(signer)
    made = Request(statement, envelope, invitation.prove(envelope.payload) if invitation else "")
    signer.save(pending / "signing.key")
    save_sealing_key(pending / "sealing.key", sealing)
    write_private(pending / "tls.key", tls_key)
    if invitation is not None:
        for name, content in files_of(invitation).items():
            write_private(pending / name, content)
    write_private(pending / "request.json", made.to_json())  # last: with it the rest is whole
    return made


def certify(
    home: MemberHome, content: bytes, source: TufDirectory, *, caller: Peer | None = None, clock: Clock = system_clock
) -> tuple[bytes, Issued]:
    """Check a request and issue credential and certificate. The same request again is given the same again.

    Args:
        home: the member's folder, with its signing key and CA.
        content: the request.
        source: the member's trust directory, which the person gets along with it.
        caller: who brought it through the gateway; None by hand.
        clock: gives the time.

    Returns:
        The reply, and what was issued.

    Raises:
        EnrolmentError: it is refused; the message says why.
        SecurityError: keys or directory cannot be used.
    """
    asked = Request.from_json(content)
    statement, now_ms = asked.statement, clock()
    if (statement.federation, statement.member) != (home.federation, home.member):
        raise EnrolmentError(f"the request is to {statement.member} in {statement.federation}")
    if caller is not None and caller.serial != (statement.invitation if caller.role != INVESTIGATOR_ROLE else statement.renews):
        raise EnrolmentError("the request is another's than the certificate it came with")
    source.current()
    with changing(home):
        kits, revoked = issued_kits(home), OwnEntry(home).present().revoked
        done = next((kit for kit in kits if kit.request == asked.id), None)
        if done is None:
            renewed = _check_renewal(asked, kits, revoked, now_ms)
            if statement.invitation:
                _check_invitation(home, asked, now_ms)
            elif renewed is None:
                raise EnrolmentError("the request names neither an invitation nor a credential to renew")
            _check_key(statement, kits, revoked)
            _check_officer(asked, kits, revoked, now_ms)
            done = _issue(home, asked, kits, renewed, now_ms)
        elif done.serial in revoked:
            raise EnrolmentError("what was certified by this request has been revoked")
    return _reply(home, done, source), done


def install(folder: Path, reply: bytes, *, clock: Clock = system_clock) -> Kit:
    """Verify what the member gave, from the anchor, and put it in its place; what the kit holds besides stays.

    Raises:
        HomeError: nothing was asked for here.
        EnrolmentError: it is not what was asked for.
        SecurityError: it does not hold.
    """
    pending = folder / _PENDING
    if not (pending / "request.json").exists():
        raise HomeError(f"{folder}: nothing was asked for here")
    statement = Request.from_json(read_private(pending / "request.json")).statement
    fields = read_document(reply, _REPLY_FORM, EnrolmentError, "reply")
    if fields["kind"] != _REPLY_KIND:
        raise EnrolmentError("reply: not one of this version")
    try:
        directory = {str(name): base64.b64decode(data, validate=True) for name, data in fields["directory"].items()}
        certificate, credential = fields["tls_certificate"].encode(), Envelope.from_json(fields["credential"].encode())
    except (ValueError, TypeError, EnvelopeError):
        raise EnrolmentError("reply: damaged") from None
    invited = pending / "invitation.json"
    if invited.exists():
        invitation = Invitation.read(read_private(invited), str(invited))
        anchor, gateway = invitation.anchor, invitation.gateway
    else:
        kit = Kit(folder)
        anchor, gateway = Anchor.load(folder / "anchor.json"), kit.gateway
    known = TufDirectory(folder / "trust", anchor, [FilesMirror("the reply", directory)], clock=clock).current()
    member = known.member(statement.member)
    holder = verify_credential(
        credential,
        federation=anchor.federation,
        member=member.id,
        member_keys=member.signing_keys,
        now_ms=clock(),
        revoked=member.revoked,
    )
    asked = (statement.signing_key, statement.sealing_key, statement.pseudonym, statement.roles)
    if (holder.key, holder.sealing_key, holder.pseudonym, holder.roles) != asked:
        raise EnrolmentError("reply: certifies something else than was asked for")
    tls = TlsIdentity(read_private(pending / "tls.key"), certificate)
    check_identity(tls)
    if claimed_peer(certificate) != (anchor.federation, Peer(member.id, INVESTIGATOR_ROLE, holder.pseudonym, holder.serial)):
        raise EnrolmentError("reply: the certificate is another's than the credential")
    if not (folder / "signing.key").exists():
        save_sealing_key(folder / "sealing.key", load_sealing_key(pending / "sealing.key"))
        SigningKey.load(pending / "signing.key").save(folder / "signing.key")
    if not (folder / "anchor.json").exists():
        write_private(folder / "anchor.json", anchor.content)
    write_private(folder / "identity.json", identity_file(credential, tls))
    write_private(folder / KIT_FILE, kit_file(anchor.federation, member.id, holder.pseudonym, gateway))  # last: with it the kit is whole
    shutil.rmtree(pending)
    return Kit(folder)


def _check_renewal(asked: Request, kits: list[Issued], revoked: Mapping[str, int], now_ms: int) -> Issued | None:
    """Return the credential that the request renews, if it may."""
    statement = asked.statement
    if not statement.renews:
        return None
    kit = next((kit for kit in kits if kit.serial == statement.renews), None)
    if kit is None or kit.pseudonym != statement.pseudonym:
        raise EnrolmentError("the credential to be renewed is not one of this person")
    if kit.serial in revoked:
        raise EnrolmentError("the credential to be renewed was revoked; a new invitation into an empty folder is needed")
    if any(other.renews == kit.serial for other in kits) and not statement.invitation:
        raise EnrolmentError("the credential was renewed already; the newer one renews itself")
    try:
        asked.envelope.verify(ENROLMENT_TYPE, [PublicKey.parse(kit.key)])
    except (SignatureError, EnvelopeError):
        raise EnrolmentError("the request is not signed by the key of the credential to be renewed") from None
    if not statement.invitation:
        if kit.not_after_ms <= now_ms:
            raise EnrolmentError(f"the credential ended at {as_text(kit.not_after_ms)}; a new invitation renews it in its place")
        if statement.roles != kit.roles:
            raise EnrolmentError("a renewal changes no roles; that takes an invitation")
        if not now_ms - _OLDEST_MS <= statement.made_ms <= now_ms + _AHEAD_MS:
            raise EnrolmentError(f"the request was made at {as_text(statement.made_ms)}: make it anew, and compare the clocks")
    return kit


def _check_invitation(home: MemberHome, asked: Request, now_ms: int) -> None:
    """Check the invitation, and note that it is used."""
    statement = asked.statement
    listed = invitations(home)
    one = next((one for one in listed if one.id == statement.invitation), None)
    if one is None or not proven(one, asked.envelope.payload, asked.proof):
        raise EnrolmentError("the request proves no invitation of this member")
    if one.used and one.used != asked.id:
        raise EnrolmentError(
            f"the invitation was used at {as_text(one.used_ms)}, by another machine or other keys: if that was not you, somebody else "
            "has it; call your unit, which revokes what was issued"
        )
    if one.expires_ms <= now_ms:
        raise EnrolmentError(f"the invitation ended at {as_text(one.expires_ms)}; ask your unit for another")
    if (statement.pseudonym, statement.roles) != (one.pseudonym, one.roles):
        raise EnrolmentError("the request asks for something else than the invitation grants")


def _check_key(statement: Statement, kits: list[Issued], revoked: Mapping[str, int]) -> None:
    for kit in kits:
        if kit.key == statement.signing_key.text and (kit.serial in revoked or kit.pseudonym != statement.pseudonym):
            raise EnrolmentError("this key was revoked, or is another person's: enrol into an empty folder, with new keys")


def _check_officer(asked: Request, kits: list[Issued], revoked: Mapping[str, int], now_ms: int) -> None:
    """Check that an officer who is there already has signed for a new one: who hands out kits does not release by it."""
    statement = asked.statement
    if OFFICER_ROLE not in statement.roles:
        return
    ever = {kit.pseudonym for kit in kits if OFFICER_ROLE in kit.roles}
    if statement.pseudonym in ever and statement.renews:
        return
    if len(ever) < FIRST_OFFICERS:
        return
    there = [
        PublicKey.parse(kit.key)
        for kit in kits
        if OFFICER_ROLE in kit.roles and kit.serial not in revoked and kit.not_after_ms > now_ms and kit.pseudonym != statement.pseudonym
    ]
    try:
        asked.envelope.verify(ENROLMENT_TYPE, there)
    except (SignatureError, EnvelopeError):
        raise EnrolmentError(
            "a further officer needs the signature of one there is: save the request (vidfed enrol --request FILE), and let an officer "
            "sign it (vidfed enrol --cosign FILE)"
        ) from None


def _issue(home: MemberHome, asked: Request, kits: list[Issued], renewed: Issued | None, now_ms: int) -> Issued:
    """Issue and list; the caller has checked everything, and holds the lock."""
    statement = asked.statement
    serial = secrets.token_hex(16)
    not_after_ms = now_ms + CREDENTIAL_LIFE_DAYS * DAY_MS
    credential = Credential(
        home.federation,
        home.member,
        serial,
        statement.pseudonym,
        statement.signing_key,
        statement.sealing_key,
        now_ms - 5 * MINUTE_MS,
        not_after_ms,
        statement.roles,
    )
    holder = Peer(home.member, INVESTIGATOR_ROLE, statement.pseudonym, serial)
    try:
        certificate = certify_investigator(home.ca, home.federation, holder, statement.tls_key)
    except KeyFileError as error:
        raise EnrolmentError(f"request: {error}") from None
    issued = Issued(
        serial,
        statement.pseudonym,
        not_after_ms,
        statement.roles,
        statement.signing_key.text,
        renewed.serial if renewed else "",
        asked.id,
        statement.made_ms,
    )
    parts = {"credential": credential.to_envelope(home.signer).to_json().decode(), "tls_certificate": certificate.decode()}
    _certified_path(home, serial).parent.mkdir(mode=0o700, exist_ok=True)
    write_private(_certified_path(home, serial), json.dumps(parts).encode())
    write_issued(home, [*kits, issued])
    if statement.invitation:
        used = [replace(one, used=asked.id, used_ms=now_ms) if one.id == statement.invitation else one for one in invitations(home)]
        write_invitations(home, used)
    return issued


def _reply(home: MemberHome, issued: Issued, source: TufDirectory) -> bytes:
    try:
        parts = json.loads(read_private(_certified_path(home, issued.serial)))
    except (KeyFileError, ValueError):
        raise EnrolmentError("what was certified by this request is no longer here; ask for another invitation") from None
    directory = {name: base64.b64encode(content).decode() for name, content in source.files().items()}
    return json.dumps({"kind": _REPLY_KIND, **parts, "directory": directory}).encode() + b"\n"


def _certified_path(home: MemberHome, serial: str) -> Path:
    """Return where credential and certificate are kept, for a reply that was lost on its way. Both are public."""
    return home.state_file("certified") / f"{serial}.json"


def issue_kit(
    home: MemberHome,
    folder: Path,
    *,
    gateway: str,
    pseudonym: str | None = None,
    roles: tuple[str, ...] = (),
    clock: Clock = system_clock,
) -> Kit:
    """Invite, request, certify and install in one go, on one machine: for a first look, and for tests.

    Raises:
        HomeError: the folder is in use, or something named is malformed.
        SecurityError: keys or directory cannot be used.
    """
    if folder.exists() and any(folder.iterdir()):
        raise HomeError(f"{folder}: exists and is not empty; a kit is never overwritten")
    source = home.directory_source(clock)
    source.current()
    asked = request(folder, invite(home, gateway=gateway, pseudonym=pseudonym, roles=roles, clock=clock), clock=clock)
    return install(folder, certify(home, asked.to_json(), source, clock=clock)[0], clock=clock)
