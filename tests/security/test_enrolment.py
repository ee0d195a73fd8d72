"""A person's keys are made on the person's machine, and certified by whoever may be."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from vidfed.security.clock import DAY_MS, MINUTE_MS
from vidfed.security.errors import DirectoryError, EnrolmentError, HomeError, KeyFileError, SecurityError
from vidfed.security.identity.officers import OFFICER_ROLE
from vidfed.security.identity.tls import Peer
from vidfed.security.member.enrolment import certify, install, issue_kit, request
from vidfed.security.member.invitation import INVITATION_DAYS, Invitation, invite
from vidfed.security.member.issued import Standing, descendants, invitations, issued_kits
from vidfed.security.member.kit import Kit
from vidfed.security.member.rotation import OwnEntry
from vidfed.security.trust.describe import changes
from vidfed.security.trust.entry import Entry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.security.trust.world import World
    from vidfed.security.crypto.keys import SigningKey
    from vidfed.security.identity.enrolment_request import Request
    from vidfed.security.member.home import MemberHome

PHRASE = b"four words drawn by lot"


class Unit:
    """fr's unit, and what its people do."""

    def __init__(self, world: World, home: MemberHome) -> None:
        self.world, self.home = world, home

    def invite(self, **terms: object) -> Invitation:
        return invite(self.home, gateway="gateway.example:7444", clock=self.world.clock, **terms)  # type: ignore[arg-type]

    def certify(self, asked: Request, caller: Peer | None = None, *, introduce: bool = False) -> bytes:
        source = self.home.directory_source(self.world.clock)
        return certify(self.home, asked.to_json(), source, caller=caller, introduce=introduce, clock=self.world.clock)[0]

    def revoke(self, kit: Kit) -> None:
        accepted = self.world.directory().members["fr"].officers.rounds
        own = OwnEntry(self.home, clock=self.world.clock)
        own.revoke(kit.holder.serial, officers=[kit.signer.public], accepted=accepted)

    def ask(self, folder: Path, invitation: Invitation | None = None) -> Request:
        return request(folder, invitation, clock=self.world.clock)

    def enrol(self, folder: Path, invitation: Invitation | None = None, *officers: SigningKey) -> Kit:
        asked = self.ask(folder, invitation)
        for officer in officers:
            asked = asked.signed_by(officer)
        return install(folder, self.certify(asked), clock=self.world.clock)


@pytest.fixture
def unit(world: World, home: MemberHome) -> Unit:
    return Unit(world, home)


def test_no_file_of_the_unit_holds_a_person_s_private_key(unit: Unit, tmp_path: Path) -> None:
    """Nor what could be sent back through it: neither request nor reply has any."""
    folder = tmp_path / "kit"
    asked = unit.ask(folder, unit.invite(pseudonym="inv-7"))
    reply = unit.certify(asked)
    kit = install(folder, reply, clock=unit.world.clock)
    secrets = {
        json.loads((folder / "signing.key").read_bytes())["seed"].encode(),
        json.loads((folder / "sealing.key").read_bytes())["secret"].encode(),
        b"".join(kit.tls.key.split(b"\n")[1:-2])[:60],
    }
    assert all(len(secret) > 40 for secret in secrets)
    held = [path.read_bytes() for path in unit.home.folder.rglob("*") if path.is_file()]
    held += [path.read_bytes() for path in unit.world.folder.folder.rglob("*") if path.is_file()] + [asked.to_json(), reply]
    assert not [secret for secret in secrets for content in held if secret in content.replace(b"\\n", b"").replace(b"\n", b"")]


def test_an_invitation_becomes_a_kit_that_is_private_and_holds(unit: Unit, tmp_path: Path) -> None:
    kit = unit.enrol(tmp_path / "kit", unit.invite(pseudonym="inv-7", roles=("analyst",)))
    holder = kit.holder
    assert (kit.pseudonym, kit.gateway, holder.roles) == ("inv-7", "gateway.example:7444", ("analyst",))
    assert (holder.key, len(holder.sealing_key)) == (kit.signer.public, 32)
    assert kit.folder.stat().st_mode & 0o777 == 0o700
    assert not (kit.folder / "enrolling").exists()
    assert set(kit.directory_source(unit.world.clock).current().members) == {"nl", "fr"}


def test_invitation_used_twice(unit: Unit, tmp_path: Path) -> None:
    """Whoever comes second is refused, and told that somebody else was first."""
    invitation = unit.invite()
    unit.enrol(tmp_path / "thief", invitation)
    with pytest.raises(EnrolmentError, match=r"was used at .* somebody else has it"):
        unit.enrol(tmp_path / "kit", invitation)
    assert len(issued_kits(unit.home)) == 1


def test_a_reply_lost_on_its_way_is_given_again(unit: Unit, tmp_path: Path) -> None:
    invitation = unit.invite()
    unit.certify(unit.ask(tmp_path / "kit", invitation))
    kit = unit.enrol(tmp_path / "kit", invitation)
    assert [issued.serial for issued in issued_kits(unit.home)] == [kit.holder.serial]


@pytest.mark.parametrize("what", ["secret", "id", "other keys", "pseudonym", "roles", "expired"])
def test_a_request_that_is_not_what_the_invitation_grants_is_refused(unit: Unit, tmp_path: Path, what: str) -> None:
    invitation = unit.invite(pseudonym="inv-7")
    changes = {
        "secret": {"secret": b"x" * 32},
        "id": {"id": "ab" * 16},
        "pseudonym": {"pseudonym": "inv-8"},
        "roles": {"roles": ("prosecutor",)},
    }
    asked = unit.ask(tmp_path / "kit", replace(invitation, **changes.get(what, {})))  # type: ignore[arg-type]
    if what == "other keys":  # a courier's, under the proof of the person
        asked = replace(unit.ask(tmp_path / "thief", replace(invitation, secret=b"x" * 32)), proof=asked.proof)
    if what == "expired":
        unit.world.clock.now_ms += (INVITATION_DAYS + 1) * DAY_MS
        unit.world.folder.renew_timestamp()
    with pytest.raises(SecurityError):
        unit.certify(asked)
    assert issued_kits(unit.home) == []


def test_renewal_in_place_keeps_receipts_history_and_mailbox_keys(unit: Unit, tmp_path: Path) -> None:
    kit = unit.enrol(tmp_path / "kit", unit.invite(pseudonym="inv-7"))
    kept = {"receipts/1.json": b"receipt", "lookups/own.db": b"history", "notes.txt": b"own"}
    for name, content in kept.items():
        (kit.folder / name).parent.mkdir(exist_ok=True)
        (kit.folder / name).write_bytes(content)
    unit.world.clock.now_ms += DAY_MS // 2
    serial = kit.holder.serial
    renewed = unit.enrol(kit.folder)
    assert renewed.holder.serial != serial
    assert (renewed.signer.public, renewed.sealing_key) == (kit.signer.public, kit.sealing_key)
    assert renewed.tls.key != kit.tls.key
    assert {name: (kit.folder / name).read_bytes() for name in kept} == kept
    first, second = issued_kits(unit.home)
    assert second.renews == first.serial
    assert Standing(unit.home).owner(second.serial) == first.serial  # what is kept for the one is handed on to the other


def test_an_expired_kit_is_renewed_in_its_place_by_an_invitation_alone(unit: Unit, tmp_path: Path) -> None:
    kit = unit.enrol(tmp_path / "kit", unit.invite(pseudonym="inv-7"))
    serial = kit.holder.serial
    for _ in range(70):
        unit.world.clock.now_ms += DAY_MS // 2
        unit.world.folder.renew_timestamp()
    with pytest.raises(EnrolmentError, match="a new invitation renews it in its place"):
        unit.enrol(kit.folder)
    renewed = unit.enrol(kit.folder, unit.invite(pseudonym="inv-7"))
    assert renewed.signer.public == kit.signer.public
    assert Standing(unit.home).owner(renewed.holder.serial) == serial
    with pytest.raises(HomeError, match="in another folder"):
        unit.ask(kit.folder, unit.invite(pseudonym="inv-8"))


def test_a_revoked_kit_renews_nothing_and_takes_what_it_renewed_with_it(unit: Unit, tmp_path: Path) -> None:
    kit = unit.enrol(tmp_path / "kit", unit.invite(pseudonym="inv-7"))
    serial = kit.holder.serial
    renewed = unit.enrol(kit.folder)
    assert descendants(issued_kits(unit.home), serial) == [serial, Kit(kit.folder).holder.serial]
    OwnEntry(unit.home, clock=unit.world.clock).revoke(*descendants(issued_kits(unit.home), serial))
    assert Standing(unit.home).revoked() == {serial, Kit(renewed.folder).holder.serial}
    with pytest.raises(EnrolmentError, match="was revoked"):
        unit.enrol(kit.folder)
    with pytest.raises(EnrolmentError, match="was revoked"):  # by an invitation neither, with keys that are somebody else's now
        unit.enrol(kit.folder, unit.invite(pseudonym="inv-7"))
    assert unit.enrol(tmp_path / "new", unit.invite(pseudonym="inv-7")).signer.public != kit.signer.public


def test_a_new_kit_of_the_same_name_inherits_nothing(unit: Unit, tmp_path: Path) -> None:
    first = unit.enrol(tmp_path / "one", unit.invite(pseudonym="inv-7"))
    second = unit.enrol(tmp_path / "two", unit.invite(pseudonym="inv-7"))
    standing = Standing(unit.home)
    assert standing.owner(first.holder.serial) != standing.owner(second.holder.serial)


def test_a_request_brought_by_another_than_it_speaks_of_is_refused(unit: Unit, tmp_path: Path) -> None:
    asked = unit.ask(tmp_path / "kit", unit.invite())
    for caller in (Peer("fr", "invitation", serial="ab" * 16), Peer("fr", "investigator", "inv-7", "ab" * 16)):
        with pytest.raises(EnrolmentError, match="another's than the certificate"):
            unit.certify(asked, caller)
    assert unit.certify(asked, Peer("fr", "invitation", serial=asked.statement.invitation))


def test_a_further_officer_needs_the_signature_of_one_there_is(unit: Unit, tmp_path: Path) -> None:
    """The administrators accept the first ones; then, who hands out kits does not release by it."""
    one, two = (unit.enrol(tmp_path / name, unit.invite(pseudonym=name, roles=(OFFICER_ROLE,))) for name in ("one-1", "two-2"))
    unit.world.accept_officers(unit.home)
    third = unit.invite(pseudonym="three-3", roles=(OFFICER_ROLE,))
    with pytest.raises(EnrolmentError, match="needs the signature of one there is"):
        unit.enrol(tmp_path / "three", third)
    nobody = unit.enrol(tmp_path / "nobody", unit.invite(pseudonym="inv-9"))
    with pytest.raises(EnrolmentError, match="needs the signature of one there is"):
        unit.enrol(tmp_path / "three", third, nobody.signer)
    unit.revoke(one)
    with pytest.raises(EnrolmentError, match="needs the signature of one there is"):
        unit.enrol(tmp_path / "three", third, one.signer)
    assert OFFICER_ROLE in unit.enrol(tmp_path / "three", third, two.signer).holder.roles
    assert unit.enrol(two.folder).holder.roles == (OFFICER_ROLE,)  # renewing needs nobody
    unit.world.folder.accept(Entry.load(unit.home.entry_path))
    listed = unit.world.directory().members["fr"].officers
    assert [(each.pseudonym, each.by) for each in listed.present] == [("two-2", ""), ("three-3", "two-2")]
    assert [each.pseudonym for each in listed.former] == ["one-1"]


def test_a_unit_whose_officers_have_lost_their_kits_has_others_accepted_anew(unit: Unit, tmp_path: Path) -> None:
    """By the threshold of the administrators, named as that; nobody who was there before decides any more."""
    one = unit.enrol(tmp_path / "one", unit.invite(pseudonym="one-1", roles=(OFFICER_ROLE,)))
    unit.world.accept_officers(unit.home)
    unit.revoke(one)
    asked = unit.ask(tmp_path / "two", unit.invite(pseudonym="two-2", roles=(OFFICER_ROLE,)))
    with pytest.raises(EnrolmentError, match="certify --introduce"):
        unit.certify(asked)
    install(tmp_path / "two", unit.certify(asked, introduce=True), clock=unit.world.clock)
    unit.world.folder.accept(Entry.load(unit.home.entry_path))
    waiting = unit.world.directory().members["fr"].officers
    assert (waiting.present, [each.pseudonym for each in waiting.waiting]) == ((), ["two-2"])
    draft = unit.world.folder.propose_officers("fr")
    (said,) = changes(draft)
    assert "ACCEPTED ANEW, without the signature of one there was; those before decide no more: two-2, whose key has the words" in said
    with pytest.raises(DirectoryError, match="0 of 2 signatures"):
        unit.world.folder.publish()
    listed = unit.world.sign_and_publish(draft).members["fr"].officers
    assert [each.pseudonym for each in listed.present] == ["two-2"]


def test_a_reply_for_other_keys_or_of_another_is_not_installed(unit: Unit, tmp_path: Path) -> None:
    unit.ask(tmp_path / "kit", unit.invite())
    other = unit.certify(unit.ask(tmp_path / "other", unit.invite()))
    for reply in (other, b"", b"{}", json.dumps({**json.loads(other), "credential": "{}"}).encode()):
        with pytest.raises(SecurityError):
            install(tmp_path / "kit", reply, clock=unit.world.clock)
    assert not (tmp_path / "kit/kit.json").exists()
    with pytest.raises(HomeError, match="nothing was asked for"):
        install(tmp_path / "empty", other)


def test_an_invitation_travels_closed(unit: Unit, tmp_path: Path) -> None:
    invitation = unit.invite(pseudonym="inv-7")
    path = tmp_path / "anna.invitation"
    path.write_bytes(invitation.close(PHRASE))
    assert b"inv-7" not in path.read_bytes()
    assert Invitation.open(path, lambda _: PHRASE) == invitation
    assert invitation.secret.hex() not in repr(invitation)
    with pytest.raises(KeyFileError, match="another passphrase"):
        Invitation.open(path, lambda _: b"not the right one")
    (listed,) = invitations(unit.home)
    assert invitation.secret.hex() not in repr(listed)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"kind": "vidfed-invitation-closed/1"}', b'{"kind": "other"}'])
def test_what_is_no_invitation_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "invitation").write_bytes(content)
    with pytest.raises(HomeError):
        Invitation.open(tmp_path / "invitation", lambda _: PHRASE)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[1]", b"\xff", b'{"kind": "vidfed-enrolment/1", "envelope": "{}", "proof": ""}', b" " * 40_000]
)
def test_what_is_no_request_is_refused(unit: Unit, content: bytes) -> None:
    with pytest.raises(EnrolmentError):
        certify(unit.home, content, unit.home.directory_source(unit.world.clock), clock=unit.world.clock)


def test_an_interrupted_request_is_made_again_the_same(unit: Unit, tmp_path: Path) -> None:
    invitation = unit.invite()
    asked = unit.ask(tmp_path / "kit", invitation)
    assert unit.ask(tmp_path / "kit", invitation) == asked
    assert unit.ask(tmp_path / "kit", unit.invite()) != asked


def test_a_gateway_s_own_list_of_the_revoked_cannot_be_missing(unit: Unit, tmp_path: Path) -> None:
    standing = Standing(unit.home)
    kit = issue_kit(unit.home, tmp_path / "kit", gateway="127.0.0.1:1", clock=unit.world.clock)
    assert kit.holder.serial not in standing.revoked()
    unit.home.entry_path.unlink()
    with pytest.raises(SecurityError, match="missing"):
        standing.revoked()


@pytest.mark.parametrize(
    ("off_ms", "taken"), [(7 * DAY_MS, True), (7 * DAY_MS + 1, False), (-5 * MINUTE_MS, True), (-5 * MINUTE_MS - 1, False)]
)
def test_a_renewal_asked_for_long_ago_or_ahead_of_the_clock_is_refused(unit: Unit, tmp_path: Path, off_ms: int, taken: bool) -> None:
    """Seven days for one that travels by hand, five minutes for a clock that is wrong."""
    unit.enrol(tmp_path / "kit", unit.invite(pseudonym="inv-1"))
    asked = request(tmp_path / "kit", None, clock=lambda: unit.world.clock() - off_ms)
    if taken:
        assert unit.certify(asked)
    else:
        with pytest.raises(EnrolmentError, match="make it anew"):
            unit.certify(asked)
