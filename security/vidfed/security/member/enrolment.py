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
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vidfed.security.clock import DAY_MS, MINUTE_MS, Clock, as_text, system_clock
from vidfed.security.crypto.certificates import TlsIdentity, check_identity
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.crypto.keys import PublicKey, SigningKey
from vidfed.security.crypto.sealing_key import load_sealing_key, make_sealing_key, save_sealing_key, sealing_public_key
from vidfed.security.documents import read_document
from vidfed.security.errors import DirectoryError, EnrolmentError, EnvelopeError, HomeError, KeyFileError, SignatureError
from vidfed.security.files import read_private, write_private
from vidfed.security.identity.credentials import Credential, verify_credential
from vidfed.security.identity.enrolment_request import ENROLMENT_TYPE, Request, Statement
from vidfed.security.identity.officers import OFFICER_ROLE, cosigner
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

    from vidfed.security.identity.directory import Directory
    from vidfed.security.member.home import MemberHome

CREDENTIAL_LIFE_DAYS = 30
_REPLY_KIND = "vidfed-enrolled/1"
_REPLY_FORM = {"kind": str, "credential": str, "tls_certificate": str, "directory": dict}
_OLDEST_MS = 7 * DAY_MS  # of a request that travels by hand
_AHEAD_MS = 5 * MINUTE_MS
_PENDING = "enrolling"


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
    home: MemberHome,
    content: bytes,
    source: TufDirectory,
    *,
    caller: Peer | None = None,
    introduce: bool = False,
    clock: Clock = system_clock,
) -> tuple[bytes, Issued]:
    """Check a request and issue credential and certificate. The same request again is given the same again.

    An officer's request is listed in the member's own entry too, which others believe once it is published.

    Args:
        home: the member's folder, with its signing key and CA.
        content: the request.
        source: the member's trust directory, which the person gets along with it.
        caller: who brought it through the gateway; None by hand.
        introduce: the administrators are to accept this officer anew, since none is left who could sign.
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
    directory = source.current()
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
            if OFFICER_ROLE in statement.roles:
                _list_officer(home, asked, directory, kits, revoked, now_ms, introduce=introduce)
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


def _list_officer(
    home: MemberHome,
    asked: Request,
    directory: Directory,
    kits: list[Issued],
    revoked: Mapping[str, int],
    now_ms: int,
    *,
    introduce: bool,
) -> None:
    """List an officer in the own entry: by the signature of one there, or for the administrators to accept."""
    own, statement = OwnEntry(home, clock=lambda: now_ms), asked.statement
    published = directory.members.get(home.member)
    accepted = published.officers.rounds if published is not None else ()
    officers = own.officers(accepted)
    if officers.find(statement.pseudonym, statement.signing_key) is not None:
        return  # renews
    if any((each.pseudonym, each.key) == (statement.pseudonym, statement.signing_key) for each in officers.waiting):
        return
    hold = {kit.key for kit in kits if kit.serial not in revoked and kit.not_after_ms > now_ms}
    there = [each for each in officers.present if each.key.text in hold]
    try:
        if accepted and cosigner(asked, there) is not None:
            own.add_officer(asked, accepted)
        elif introduce or not accepted:
            own.introduce_officer(asked, accepted)
        else:
            raise EnrolmentError(
                "a further officer needs the signature of one there is: save the request (vidfed enrol --request FILE), and let an officer "
                "sign it (vidfed enrol --cosign FILE); if none is left who could: vidfed trust certify --introduce, and the administrators "
                "accept the officers anew"
            )
    except DirectoryError as error:
        raise EnrolmentError(f"{statement.pseudonym} cannot be listed as an officer: {error}") from None


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
