"""Who would be an officer of a member without one of its officers, or the administrators, having signed for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from vidfed.security.crypto.envelope import Envelope
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.crypto.sealing_key import make_sealing_key, sealing_public_key
from vidfed.security.errors import DirectoryError
from vidfed.security.identity.enrolment_request import ENROLMENT_TYPE, Request, Statement
from vidfed.security.identity.officers import OFFICER_ROLE, Accepted, Added, Line, OfficerList, Removed
from vidfed.security.trust.entry import Entry

if TYPE_CHECKING:
    from tests.security.trust.world import World
    from vidfed.security.identity.directory import Directory

ONE, TWO, THREE, INVENTED = (SigningKey.generate() for _ in range(4))


def asked(key: SigningKey, pseudonym: str, *, by: SigningKey | None = None, member: str = "fr", role: str = OFFICER_ROLE) -> Request:
    """Return a person's request, perhaps signed by an officer."""
    sealing = sealing_public_key(make_sealing_key())
    statement = Statement("test", member, pseudonym, (role,), "", "", key.public, sealing, b"", 0)
    request = Request.of(Envelope(ENROLMENT_TYPE, statement.to_payload()).signed_by(key))
    return request.signed_by(by) if by else request


FIRST = Accepted((asked(ONE, "fr-1"), asked(TWO, "fr-2")))
THIRD = Added(asked(THREE, "fr-3", by=ONE))


def entry(world: World, *lines: Line, member: str = "fr") -> Entry:
    """Return a member's next entry with this list: what its operator, who has all keys of the unit, can make."""
    unit, version = world.units[member], world.folder.repository.entry_version(member) + 1
    listed = world.entry(member).member
    holding = (unit.signing, unit.audit)
    made = Entry.make("test", listed, holding, {}, unit.entry, version, world.clock(), OfficerList(lines))
    return Entry.from_json(made.to_json())


def publish(world: World, *lines: Line) -> list[str]:
    """Publish a list; return who are officers by it."""
    return names(world.folder.accept(entry(world, *lines)))


def names(directory: Directory) -> list[str]:
    return [each.pseudonym for each in directory.members["fr"].officers.present]


@pytest.fixture
def accepted(world: World) -> World:
    """A federation in which fr-1 and fr-2 came with the accession of fr."""
    world.unit("fr")
    world.add("nl")
    world.admit(entry(world, FIRST))
    assert names(world.directory()) == ["fr-1", "fr-2"]
    return world


def test_first_officers_decide_nothing_before_the_administrators_accept_them(world: World) -> None:
    world.add("fr")
    assert publish(world, FIRST) == []
    assert [each.pseudonym for each in world.directory().members["fr"].officers.waiting] == ["fr-1", "fr-2"]
    assert names(world.sign_and_publish(world.folder.propose_officers("fr"))) == ["fr-1", "fr-2"]


def test_officer_signed_for_by_one_there_is_believed_by_all(accepted: World) -> None:
    assert publish(accepted, FIRST, THIRD) == ["fr-1", "fr-2", "fr-3"]
    assert names(accepted.source(accepted.mirror()).current()) == ["fr-1", "fr-2", "fr-3"]


INVENTIONS = {
    "an operator's invented officer": (FIRST, Added(asked(INVENTED, "fr-9"))),
    "who signs for himself": (FIRST, Added(asked(INVENTED, "fr-9", by=INVENTED))),
    "signed for by an investigator": (FIRST, Added(asked(INVENTED, "fr-9", by=THREE))),
    "in the place of those accepted": (Accepted((asked(INVENTED, "fr-9"),)),),
    "among those accepted": (Accepted((*FIRST.requests, asked(INVENTED, "fr-9"))),),
    "accepted by nobody, and signs for another": (FIRST, Accepted((asked(INVENTED, "fr-9"),)), Added(asked(THREE, "fr-3", by=INVENTED))),
    "a co-signature replayed from another member": (FIRST, Added(asked(INVENTED, "fr-9", by=ONE, member="nl"))),
    "a co-signature for an investigator": (FIRST, Added(asked(INVENTED, "fr-9", by=ONE, role="investigator"))),
    "an entry that drops an officer and adds another": (FIRST, Removed(ONE.public), Removed(TWO.public), Added(asked(INVENTED, "fr-9"))),
    "a revoked officer who co-signs": (FIRST, Removed(ONE.public), Added(asked(INVENTED, "fr-9", by=ONE))),
    "a revoked officer who comes back": (FIRST, Removed(ONE.public), Added(asked(ONE, "fr-1", by=TWO))),
    "a second key of an officer's name": (FIRST, Added(asked(INVENTED, "fr-1", by=TWO))),
    "a name that is none": (FIRST, Added(asked(INVENTED, "fr-9\x1b[2K", by=TWO))),
    "no list at all": (),
}


def test_officer_whom_neither_officer_nor_administrators_signed_for(accepted: World) -> None:
    for lines in INVENTIONS.values():
        with pytest.raises(DirectoryError, match="list of officers"):
            publish(accepted, *lines)
    assert names(accepted.directory()) == ["fr-1", "fr-2"]


def test_reader_leaves_out_a_member_whose_invented_officer_a_publisher_lets_through(
    accepted: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has the online key publishes it all the same: everybody reads for himself."""
    before = accepted.directory().members["fr"].officers
    with monkeypatch.context() as lenient:
        lenient.setattr(OfficerList, "judge", lambda *_: before)
        publish(accepted, *INVENTIONS["an operator's invented officer"])
    read = accepted.source(accepted.mirror()).current()
    assert list(read.members) == ["nl"]
    assert "no officer who was there has signed for fr-9" in read.left_out["fr"]


def test_co_signature_put_under_another_key_or_name(accepted: World) -> None:
    """It covers all that the request says, so it cannot be moved."""
    signed, other = THIRD.request.envelope, asked(INVENTED, "fr-9").envelope
    moved = Envelope(ENROLMENT_TYPE, other.payload, (*other.signatures, *signed.signatures))
    with pytest.raises(DirectoryError, match="no officer who was there has signed for fr-9"):
        publish(accepted, FIRST, Added(Request.of(moved)))
    altered = Envelope(ENROLMENT_TYPE, signed.payload.replace(b"fr-3", b"fr-8"), signed.signatures)
    line = json.dumps({"kind": "vidfed-officers/1", "lines": [{"added": json.loads(altered.to_json())}]}).encode()
    with pytest.raises(DirectoryError, match="no signature"):
        OfficerList.from_json(line)


GONE_BACK = {
    "the removal left out, and the removed one signs": (FIRST, THIRD, Added(asked(INVENTED, "fr-9", by=THREE))),
    "another removed instead": (FIRST, THIRD, Removed(TWO.public)),
}


@pytest.mark.parametrize("lines", GONE_BACK.values(), ids=GONE_BACK.keys())
def test_list_that_goes_back_behind_what_was_published(accepted: World, lines: tuple[Line, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these would have held: so the publisher refuses it, and whoever saw the longer one leaves the member out."""
    assert publish(accepted, FIRST, THIRD, Removed(THREE.public)) == ["fr-1", "fr-2"]
    mirror = accepted.mirror()
    reader = accepted.source(mirror)
    assert names(reader.current()) == ["fr-1", "fr-2"]
    with pytest.raises(DirectoryError, match="a list only grows"):
        publish(accepted, *lines)
    with monkeypatch.context() as lenient:
        lenient.setattr("vidfed.security.trust.repository.check_continues", lambda *_: None)
        accepted.folder.accept(entry(accepted, *lines))
    mirror.now_gives(accepted.published_files())
    for each in (reader, accepted.again(accepted.mirror())):  # and after a restart
        each.refresh()
        read = each.current()
        assert list(read.members) == ["nl"]
        assert "a list only grows" in read.left_out["fr"]


def test_member_that_left_comes_back_with_whom_the_administrators_see(accepted: World) -> None:
    reader = accepted.source(accepted.mirror())
    assert names(reader.current()) == ["fr-1", "fr-2"]
    accepted.remove("fr")
    new = Accepted((asked(THREE, "fr-3"),))
    accepted.admit(entry(accepted, new))
    assert names(accepted.again(accepted.mirror()).current()) == ["fr-3"]


def test_standing_and_entry_key_change_nothing_about_whom_the_administrators_accepted(accepted: World) -> None:
    from vidfed.security.trust.metadata_rules import Standing  # noqa: PLC0415

    accepted.sign_and_publish(accepted.folder.propose_standing("fr", Standing.QUARANTINE))
    assert names(accepted.directory()) == ["fr-1", "fr-2"]
    forgotten = entry(accepted)
    with pytest.raises(DirectoryError, match="does not name the officers whom the administrators accepted"):
        accepted.folder.propose_members([forgotten], Standing.MEMBER)
    accepted.admit(entry(accepted, FIRST))
    assert names(accepted.directory()) == ["fr-1", "fr-2"]


def test_entry_published_while_the_administrators_sign_is_not_lost(world: World) -> None:
    world.add("fr")
    publish(world, FIRST)
    draft = world.folder.propose_officers("fr")
    publish(world, FIRST)
    version = world.folder.repository.entry_version("fr")
    assert names(world.sign_and_publish(draft)) == ["fr-1", "fr-2"]
    assert world.folder.repository.entry_version("fr") == version
