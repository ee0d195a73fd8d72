"""An invitation: what a unit hands to a person so that the person's own machine can make the keys and have them certified.

One file, closed with a passphrase that reaches the person by another way. In it: where trust starts, where the gateway is, what the person
will be, a one-time secret, and a certificate with which the gateway can be called for nothing but to enrol. The unit keeps a key that
proves the secret, not the secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vidfed.security.clock import DAY_MS, Clock, system_clock
from vidfed.security.crypto.certificates import TlsIdentity
from vidfed.security.crypto.passphrase import close, open_closed
from vidfed.security.documents import PSEUDONYM, ROLES, check_endpoint, read_document
from vidfed.security.errors import HomeError
from vidfed.security.identity.tls import make_invitation_leaf
from vidfed.security.member.issued import Invited, changing, invitations, write_invitations
from vidfed.security.trust.anchor import Anchor

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from vidfed.security.crypto.passphrase import Passphrase
    from vidfed.security.member.home import MemberHome

INVITATION_DAYS = 7
_KEPT_DAYS = 90  # how long a used or expired invitation stays listed, so that a second use is recognised
_KIND = "vidfed-invitation-closed/1"
_FORM = {
    "federation": str,
    "member": str,
    "gateway": str,
    "pseudonym": str,
    "roles": list,
    "id": str,
    "secret": str,
    "anchor": str,
    "ca": str,
    "tls_key": str,
    "tls_certificate": str,
    "expires_ms": int,
}


@dataclass(frozen=True, slots=True)
class Invitation:
    """What is in the file.

    Attributes:
        federation, member: who invites.
        gateway: `host:port` of the member's gateway.
        pseudonym, roles: what the person will be.
        id: 32 hex digits.
        secret: 32 bytes, for one use.
        anchor: where trust starts.
        ca: PEM of the member's CA, by which the gateway is recognised.
        tls: to call the gateway with, to enrol.
        expires_ms: until when it can be used.
    """

    federation: str
    member: str
    gateway: str
    pseudonym: str
    roles: tuple[str, ...]
    id: str
    secret: bytes
    anchor: Anchor
    ca: bytes
    tls: TlsIdentity
    expires_ms: int

    def __repr__(self) -> str:
        return f"<Invitation {self.id}>"  # the secret must not reach a log or a traceback

    def to_fields(self) -> dict[str, Any]:
        """Return the JSON object that `read` takes."""
        return {
            "federation": self.federation,
            "member": self.member,
            "gateway": self.gateway,
            "pseudonym": self.pseudonym,
            "roles": list(self.roles),
            "id": self.id,
            "secret": base64.b64encode(self.secret).decode(),
            "anchor": self.anchor.content.decode(),
            "ca": self.ca.decode(),
            "tls_key": self.tls.key.decode(),
            "tls_certificate": self.tls.certificate.decode(),
            "expires_ms": self.expires_ms,
        }

    @classmethod
    def read(cls, payload: bytes, what: str) -> Invitation:
        """Read the object.

        Raises:
            HomeError: it is none.
            DirectoryError: its anchor does not hold.
        """
        fields = read_document(payload, _FORM, HomeError, what)
        try:
            tls = TlsIdentity(fields.pop("tls_key").encode(), fields.pop("tls_certificate").encode())
            secret = base64.b64decode(fields["secret"], validate=True)
            anchor, ca = Anchor.read(fields["anchor"].encode(), what), fields["ca"].encode()
        except ValueError:
            raise HomeError(f"{what}: damaged, or not an invitation") from None
        return cls(**{**fields, "roles": tuple(fields["roles"]), "secret": secret, "anchor": anchor, "ca": ca, "tls": tls})

    def close(self, passphrase: bytes) -> bytes:
        """Return the file, closed with a passphrase."""
        return json.dumps({"kind": _KIND, **close(json.dumps(self.to_fields()).encode(), passphrase)}).encode() + b"\n"

    @classmethod
    def open(cls, path: Path, passphrase: Passphrase) -> Invitation:
        """Open the file.

        Raises:
            HomeError: it is no invitation.
            KeyFileError: another passphrase, or damaged.
        """
        try:
            fields = json.loads(path.read_bytes())
            if fields["kind"] != _KIND:
                raise HomeError(f"{path}: not an invitation of this version")
            return cls.read(open_closed(fields, passphrase(str(path)), str(path)), str(path))
        except OSError as error:
            raise HomeError(f"{path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise HomeError(f"{path}: damaged, or not an invitation") from None

    def prove(self, statement: bytes) -> str:
        """Return what shows that who made this statement holds the invitation; see `proven`."""
        return _proof(hashlib.sha256(self.secret).digest(), statement)


def proven(invited: Invited, statement: bytes, proof: str) -> bool:
    """Tell whether who made this statement holds the invitation."""
    return hmac.compare_digest(_proof(bytes.fromhex(invited.proof_key), statement), proof)


def invite(
    home: MemberHome, *, gateway: str, pseudonym: str | None = None, roles: tuple[str, ...] = (), clock: Clock = system_clock
) -> Invitation:
    """Make an invitation, valid for INVITATION_DAYS, and enter it in the member's list.

    Args:
        home: the member's folder.
        gateway: `host:port` of the member's gateway.
        pseudonym: 2 to 40 lower-case letters, digits and hyphens; random if not given.
        roles: of `ROLES`; what other members' policies may ask for.
        clock: gives the time the validity starts from.

    Raises:
        HomeError: pseudonym, role or gateway is malformed.
    """
    pseudonym = pseudonym or f"inv-{secrets.token_hex(4)}"
    if not PSEUDONYM.fullmatch(pseudonym):
        raise HomeError(f"pseudonym {pseudonym!r:.50}: 2 to 40 lower-case letters, digits and hyphens")
    if unknown := [role for role in roles if role not in ROLES]:
        raise HomeError(f"the role {unknown[0]!r:.40} is unknown; known are {', '.join(ROLES)}")
    check_endpoint(gateway, HomeError, "gateway")
    now_ms, secret = clock(), secrets.token_bytes(32)
    made = Invitation(
        home.federation,
        home.member,
        gateway,
        pseudonym,
        roles,
        secrets.token_hex(16),
        secret,
        Anchor.load(home.anchor_path),
        home.ca.certificate,
        TlsIdentity(b"", b""),
        now_ms + INVITATION_DAYS * DAY_MS,
    )
    tls = make_invitation_leaf(home.ca, home.federation, home.member, made.id)
    made = Invitation(**{name: getattr(made, name) for name in made.__slots__ if name != "tls"}, tls=tls)
    listed = Invited(made.id, pseudonym, roles, hashlib.sha256(secret).hexdigest(), made.expires_ms)
    with changing(home):
        kept = [one for one in invitations(home) if one.expires_ms > now_ms - _KEPT_DAYS * DAY_MS]
        write_invitations(home, [*kept, listed])
    return made


def files_of(invitation: Invitation) -> Mapping[str, bytes]:
    """Return the invitation as a file of an installed folder that waits for its certificate."""
    return {"invitation.json": json.dumps(invitation.to_fields()).encode()}


def _proof(key: bytes, statement: bytes) -> str:
    return hmac.new(key, statement, hashlib.sha256).hexdigest()
