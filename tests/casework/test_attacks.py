"""What a hostile member, gateway, officer or network tries; each test is named after it. docs/casework-protocol.md, part 7."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.casework import ASK, RELEASE
from tests.support.casework_members import ASKER, OWNER, World
from tests.support.memory import FEDERATION
from vidfed.casework.cards import make_card, read_card
from vidfed.casework.carriage.receiving import MAX_BAD_A_MINUTE
from vidfed.casework.core.conversation import Conversation
from vidfed.casework.core.state import Phase
from vidfed.casework.errors import CaseworkError, ConversationError, LaterError, RefusedError
from vidfed.casework.reading import read_inbox
from vidfed.casework.sealing import SealingKey
from vidfed.casework.storage import told as told_store
from vidfed.casework.writing import Hit, cosign, write
from vidfed.security.clock import HOUR_MS, MINUTE_MS
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.identity.officers import OFFICER_ROLE
from vidfed.v1 import casework_pb2 as pb
from vidfed.wire import envelope as wire_envelope
from vidfed.wire.casework import read_entry, read_receipt, write_receipt
from vidfed.wire.casework_values import (
    RECEIPT_TYPE,
    Acknowledge,
    Body,
    Close,
    Content,
    Disposition,
    Note,
    NotTheSame,
    Reader,
    Receipt,
    ReceiptStatus,
    RefusalReason,
    Refuse,
    Side,
    Withdraw,
)

if TYPE_CHECKING:
    from vidfed.casework.writing import Person

STATUS = ReceiptStatus
KNOWN = b"x" * 32


def countersigned(world: World, delivery: pb.Delivery, member: str = ASKER) -> pb.Delivery:
    """Sign with a member's key what its honest gateway would not: what a hostile member sends."""
    envelope = wire_envelope.from_message(delivery.entry).signed_by(world.federation.members[member].signer)
    return pb.Delivery(entry=wire_envelope.to_message(envelope), credentials=delivery.credentials, sealed=delivery.sealed)


def deliver(world: World, delivery: pb.Delivery, peer: str = ASKER, to: str = OWNER) -> Receipt:
    return read_receipt(world.members[to].receiver.deliver(delivery, peer).payload)


def composed(world: World, person: Person, hit: Hit, body: object = ASK, text: str = "", **changes: object) -> pb.Delivery:
    view = world.members[person.member].view(person, hit.conversation)
    return write(
        person,
        hit,
        view.conversation,
        body,  # type: ignore[arg-type]
        Content(text=text),
        **{"officers": world.officer_keys(OWNER), "now_ms": world.federation.clock(), **changes},  # type: ignore[arg-type]
    )


# --- a hostile member asks ---


async def test_member_asks_about_a_record_it_was_not_told(world: World) -> None:
    world.say(world.holder, world.hit(told=False), ASK)
    await world.carry()
    (refused,) = world.asker.view(world.holder, world.hit(told=False).conversation).refused
    assert (refused.status, refused.detail) == (STATUS.UNKNOWN, "no such hit")


def test_withheld_record_and_one_that_was_never_told_are_refused_alike(world: World) -> None:
    withheld, unknown, reported = world.hit(1), world.hit(2, told=False), world.hit(3)
    world.withheld.add((ASKER, withheld.subject.reference))
    world.withheld.add((ASKER, unknown.subject.reference))
    receipts = [deliver(world, countersigned(world, composed(world, world.holder, hit))) for hit in (withheld, unknown)]
    assert replace(receipts[0], entry=b"") == replace(receipts[1], entry=b"")
    assert receipts[0].status is STATUS.UNKNOWN
    assert deliver(world, countersigned(world, composed(world, world.holder, reported))).status is STATUS.TAKEN


@pytest.mark.parametrize("part", ["lookup_digest", "answer_digest", "reference"])
def test_enumeration_of_references_with_a_true_answer(world: World, part: str) -> None:
    hit = world.hit()
    changed = replace(hit, subject=replace(hit.subject, **{part: "FR-0002" if part == "reference" else b"g" * 32}))  # type: ignore[arg-type]
    assert deliver(world, countersigned(world, composed(world, world.holder, changed))).status is STATUS.UNKNOWN


def test_colleague_asks_about_what_another_person_was_told(world: World) -> None:
    hit = world.hit()
    colleague = world.person(ASKER, "nl-9")
    subject = replace(hit.subject, holder=replace(hit.subject.deputy, pseudonym="nl-9", sealing_key=colleague.sealing.public))
    assert deliver(world, countersigned(world, composed(world, colleague, replace(hit, subject=subject)))).status is STATUS.UNKNOWN


def test_another_member_asks_in_the_asker_s_place(world: World) -> None:
    delivery = countersigned(world, composed(world, world.holder, world.hit()))
    assert deliver(world, delivery, peer="de").status is STATUS.LATER  # the signature is not that member's
    stranger = world.person("de", "de-1")
    hit = replace(world.hit(), asker="de")
    own = write(
        stranger,
        replace(hit, subject=replace(hit.subject, holder=Reader("de-1", stranger.sealing.public))),
        Conversation(),
        ASK,
        Content(),
        officers=world.officer_keys(OWNER),
        now_ms=world.federation.clock(),
    )
    assert deliver(world, countersigned(world, own, "de"), peer="de").status is STATUS.UNKNOWN
    assert deliver(world, countersigned(world, own, "de"), peer=ASKER).status is STATUS.LATER


def test_member_signs_an_entry_in_another_member_s_name(world: World) -> None:
    stranger = world.person("de", "nl-7")  # the same pseudonym as the holder's
    hit = world.hit(holder=stranger)
    own = composed(world, world.holder, world.hit())
    header = replace(read_entry(own.entry.payload), subject=hit.subject)
    receipt = deliver(world, signed(world, header, own.sealed, stranger), peer="de")
    assert (receipt.status, "in the name of nl" in receipt.detail) == (STATUS.REFUSED, True)


async def test_release_replayed_into_another_conversation(world: World) -> None:
    first = await world.asked(1, released=True)
    second = await world.asked(2)
    told = world.network.delivered[1][1]
    assert deliver(world, told, peer=OWNER, to=ASKER).status is STATUS.TAKEN  # it is in the first already
    assert world.asker.state(second.conversation).phase is Phase.ASKED
    assert len(world.asker.conversation(first.conversation).owner) == 1


async def test_flood_of_asks_is_put_off_and_honest_members_are_not(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told_store, "MAX_CONVERSATIONS_A_DAY", 3)
    hits = [world.hit(number) for number in range(1, 6)]
    statuses = [deliver(world, countersigned(world, composed(world, world.holder, hit))).status for hit in hits]
    assert statuses == [STATUS.TAKEN] * 3 + [STATUS.LATER] * 2
    world.pass_days(1)
    assert deliver(world, countersigned(world, composed(world, world.holder, hits[4]))).status is STATUS.TAKEN


def test_refused_guesses_are_counted_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told_store, "MAX_CONVERSATIONS_A_DAY", 3)
    hits = [world.hit(number, told=False) for number in range(1, 6)]
    statuses = [deliver(world, countersigned(world, composed(world, world.holder, hit))).status for hit in hits]
    assert statuses == [STATUS.UNKNOWN] * 3 + [STATUS.LATER] * 2


@pytest.mark.parametrize(("limit", "value"), [("MAX_ENTRIES_A_DAY", 2), ("MAX_BYTES_A_DAY", 8_000)])
async def test_flood_of_messages(world: World, monkeypatch: pytest.MonkeyPatch, limit: str, value: int) -> None:
    monkeypatch.setattr(told_store, limit, value)
    hit = await world.asked()
    for _ in range(4):
        world.say(world.holder, hit, Note())
    await world.carry()
    held = len(world.owner.conversation(hit.conversation).asker)
    assert 1 < held < 5
    world.pass_days(1)
    monkeypatch.undo()
    await world.settle()
    assert len(world.owner.conversation(hit.conversation).asker) == 5


def test_nonsense_is_not_even_verified_beyond_a_bound(world: World) -> None:
    bad = composed(world, world.holder, world.hit())  # without the member's signature
    details = {deliver(world, bad).detail for _ in range(MAX_BAD_A_MINUTE + 1)}
    assert "too many entries that do not verify" in details
    good = countersigned(world, composed(world, world.holder, world.hit()))
    assert deliver(world, good).status is STATUS.LATER
    world.federation.clock.advance(MINUTE_MS)
    assert deliver(world, good).status is STATUS.TAKEN


def test_entry_that_names_what_was_never_sent_as_seen(world: World) -> None:
    hit = world.hit()
    ask = countersigned(world, composed(world, world.holder, hit))
    assert deliver(world, ask).status is STATUS.TAKEN
    # A hostile asker that claims to have seen an answer.
    header = world.owner.conversation(hit.conversation).asker[0].header
    forged = replace(header, number=2, previous=world.owner.conversation(hit.conversation).asker[0].digest, subject=None, body=Note())
    forged = replace(forged, seen_number=1, seen=b"n" * 32)
    delivery = signed(world, forged, ask.sealed)
    assert deliver(world, delivery).status is STATUS.LATER
    assert world.owner.receiver.lost == {(ASKER, hit.conversation)}
    world.owner.receiver.sought.add(hit.conversation)  # it was asked for it, and had none
    assert deliver(world, delivery).status is STATUS.REFUSED


def signed(world: World, header: object, sealed: bytes, person: Person | None = None) -> pb.Delivery:
    from vidfed.wire.casework import write_entry  # noqa: PLC0415
    from vidfed.wire.casework_values import ENTRY_TYPE  # noqa: PLC0415

    person = person or world.holder
    envelope = Envelope(ENTRY_TYPE, write_entry(header)).signed_by(person.signer)  # type: ignore[arg-type]
    sent = pb.Delivery(entry=wire_envelope.to_message(envelope), credentials=[wire_envelope.to_message(person.credential)], sealed=sealed)
    return countersigned(world, sent, person.member)


def test_two_entries_at_one_number_are_a_fork_that_is_kept(world: World) -> None:
    hit = world.hit()
    one, other = (countersigned(world, composed(world, world.holder, hit, text=text)) for text in ("one", "other"))
    assert deliver(world, one).status is STATUS.TAKEN
    assert deliver(world, other).status is STATUS.FORK
    from vidfed.casework.core.stored import Place  # noqa: PLC0415
    from vidfed.casework.storage import conversations as store  # noqa: PLC0415

    with world.owner.database.reading() as connection:
        places = [each.place for each in store.stored(connection, hit.conversation)]
    assert places == [Place.CHAIN, Place.FORK]


def test_forks_without_end_do_not_fill_the_disk(world: World) -> None:
    from vidfed.casework.storage import conversations as store  # noqa: PLC0415

    hit = world.hit()
    for number in range(store.MAX_FORKS + 5):
        deliver(world, countersigned(world, composed(world, world.holder, hit, text=str(number))))
    with world.owner.database.reading() as connection:
        assert store.count_forks(connection, hit.conversation) == store.MAX_FORKS


@pytest.mark.parametrize("left_out", ["holder", "deputy", "officers"])
def test_ask_not_sealed_to_whom_it_must_be(world: World, left_out: str) -> None:
    hit = world.hit()
    key = SealingKey.generate().public
    header_hit = hit
    changes: dict[str, Any] = {}
    if left_out == "officers":
        changes["officers"] = [key]
    delivery = composed(world, world.holder, header_hit, **changes)
    if left_out != "officers":
        from vidfed.casework.sealing import seal  # noqa: PLC0415

        other = world.deputy if left_out == "holder" else world.holder
        sealed = seal(Content(), [other.sealing.public, *world.officer_keys(OWNER)])
        header = read_entry(delivery.entry.payload)
        header = replace(header, commitment=sealed.commitment, sealed_digest=sealed.digest)
        delivery = signed(world, header, sealed.payload)
    else:
        delivery = countersigned(world, delivery)
    receipt = deliver(world, delivery)
    assert receipt.status is STATUS.REFUSED
    assert "not sealed to" in receipt.detail


def test_sealed_part_exchanged_on_the_way(world: World) -> None:
    delivery = countersigned(world, composed(world, world.holder, world.hit()))
    delivery.sealed = composed(world, world.holder, world.hit()).sealed
    assert "not the one that is signed for" in deliver(world, delivery).detail


@pytest.mark.parametrize("ahead_ms", [2 * MINUTE_MS, 48 * HOUR_MS])
def test_clock_moved_ahead_is_put_off_and_not_void(world: World, ahead_ms: int) -> None:
    delivery = composed(world, world.holder, world.hit(), now_ms=world.federation.clock() + ahead_ms)
    assert deliver(world, countersigned(world, delivery)).status is STATUS.LATER
    with pytest.raises(LaterError, match="compare the clocks"):
        world.asker.core.send(delivery, world.holder.pseudonym)


def test_clock_moved_back_by_a_person(world: World) -> None:
    hit = world.hit()
    world.federation.clock.advance(HOUR_MS)  # credentials are valid from a minute before the start
    delivery = composed(world, world.holder, hit, now_ms=world.federation.clock() - 2 * MINUTE_MS)
    with pytest.raises(RefusedError, match="compare the clocks"):
        world.asker.core.send(delivery, world.holder.pseudonym)


# --- a hostile owner ---


async def test_owner_dates_its_receipt_so_that_the_clock_begins_late(world: World) -> None:
    hit = world.hit()
    world.say(world.holder, hit, ASK)
    ((waiting, _),) = world.asker.sender.due()
    for shift_ms in (-2 * MINUTE_MS, 2 * MINUTE_MS):
        receipt = Receipt(world.federation.federation, OWNER, ASKER, waiting.digest, STATUS.TAKEN, world.federation.clock() + shift_ms, 2)
        answer = Envelope(RECEIPT_TYPE, write_receipt(receipt)).signed_by(world.federation.members[OWNER].signer)
        world.asker.sender.answered(waiting, answer)
        assert "a time that cannot be" in world.asker.waiting()[0].trouble
    assert world.asker.view(world.holder, hit.conversation).receipts == {}


@pytest.mark.parametrize("field", ["entry", "issuer", "audience", "federation"])
async def test_receipt_for_something_else(world: World, field: str) -> None:
    hit = world.hit()
    world.say(world.holder, hit, ASK)
    ((waiting, _),) = world.asker.sender.due()
    receipt = Receipt(world.federation.federation, OWNER, ASKER, waiting.digest, STATUS.TAKEN, world.federation.clock(), 2)
    other = replace(receipt, **{field: b"o" * 32 if field == "entry" else "de"})  # type: ignore[arg-type]
    world.asker.sender.answered(waiting, Envelope(RECEIPT_TYPE, write_receipt(other)).signed_by(world.federation.members[OWNER].signer))
    assert "another entry or member" in world.asker.waiting()[0].trouble


async def test_refusal_forged_by_somebody_who_is_not_the_owner(world: World) -> None:
    hit = world.hit()
    world.say(world.holder, hit, ASK)
    ((waiting, _),) = world.asker.sender.due()
    receipt = Receipt(world.federation.federation, OWNER, ASKER, waiting.digest, STATUS.REFUSED, world.federation.clock(), 1)
    world.asker.sender.answered(waiting, Envelope(RECEIPT_TYPE, write_receipt(receipt)).signed_by(SigningKey.generate()))
    assert world.asker.state(hit.conversation).phase is Phase.ASKED
    await world.settle()
    assert world.owner.state(hit.conversation).phase is Phase.ASKED


async def test_owner_refuses_what_it_had_receipted(world: World) -> None:
    hit = await world.asked()
    from vidfed.casework.storage import outbox  # noqa: PLC0415

    entry = world.asker.conversation(hit.conversation).asker[0]
    with world.asker.database.writing() as connection:
        outbox.put(connection, entry, world.federation.clock(), urgent=False)
    ((waiting, _),) = world.asker.sender.due()
    receipt = Receipt(world.federation.federation, OWNER, ASKER, waiting.digest, STATUS.UNKNOWN, world.federation.clock(), 1)
    world.asker.sender.answered(waiting, Envelope(RECEIPT_TYPE, write_receipt(receipt)).signed_by(world.federation.members[OWNER].signer))
    assert world.asker.conversation(hit.conversation).asker == (entry,)


async def test_release_by_somebody_who_is_no_officer(world: World) -> None:
    hit = await world.asked()
    clerk = world.person(OWNER, "fr-9", "duty-officer")
    kept = world.owner.core.inbox(clerk.pseudonym, ("duty-officer",), conversation=hit.conversation)
    view = read_inbox(kept, world.federation.directory(), OWNER, world.federation.clock())[hit.conversation]
    delivery = write(clerk, hit, view.conversation, RELEASE, Content(), officers=world.officer_keys(OWNER), now_ms=world.federation.clock())
    with pytest.raises(RefusedError, match="for officers"):
        world.owner.core.send(delivery, clerk.pseudonym)
    receipt = deliver(world, countersigned(world, delivery, OWNER), peer=OWNER, to=ASKER)
    assert (receipt.status, "for officers" in receipt.detail) == (STATUS.REFUSED, True)


async def test_duty_officer_acknowledges(world: World) -> None:
    hit = await world.asked()
    clerk = world.person(OWNER, "fr-9", "duty-officer")
    world.say(clerk, hit, Acknowledge())
    await world.carry()
    assert world.asker.state(hit.conversation).phase is Phase.ACKNOWLEDGED


async def test_officer_revoked_between_draft_and_release(world: World) -> None:
    hit = await world.asked()
    world.owner.officers_needed = 2
    world.owner.restart()
    draft = world.compose(world.officer, hit, RELEASE, cosigner=world.second)
    world.owner.core.send(draft, world.officer.pseudonym)
    world.revoke(world.officer)
    with pytest.raises(RefusedError, match="revoked"):
        world.owner.core.send(cosign(draft, world.second), world.second.pseudonym)


async def test_officer_revoked_while_the_release_is_on_its_way(world: World) -> None:
    hit = await world.asked()
    world.network.down.add(ASKER)
    world.say(world.officer, hit, RELEASE, "Anna Example")
    world.revoke(world.officer)
    world.network.down.clear()
    await world.settle()
    assert world.asker.state(hit.conversation).phase is Phase.ASKED
    (refused,) = world.owner.view(world.second, hit.conversation).refused
    assert "revoked" in refused.detail
    world.say(world.second, hit, RELEASE, "Anna Example")
    await world.settle()
    assert world.asker.state(hit.conversation).phase is Phase.RELEASED


@pytest.mark.parametrize("decision", [RELEASE, Refuse(RefusalReason.ONGOING_INVESTIGATION)], ids=["release", "refusal"])
async def test_operator_s_invented_officer_is_believed_by_nobody(world: World, decision: Body) -> None:
    """The operator of fr has the member's key, its CA and its gateway: a credential with the role, but no line in the list of officers."""
    hit = await world.asked()
    invented = world.person(OWNER, "fr-9", OFFICER_ROLE, listed=False)
    with pytest.raises(RefusedError, match="not in the list that officers or administrators signed"):
        world.say(invented, hit, decision)
    delivery = countersigned(world, composed(world, invented, hit, decision), OWNER)
    world.federation.issued_ms = world.federation.clock() - HOUR_MS  # the directory there could be older than fr's
    assert deliver(world, delivery, peer=OWNER, to=ASKER).status is STATUS.LATER
    world.federation.issued_ms = 0
    receipt = deliver(world, delivery, peer=OWNER, to=ASKER)
    assert (receipt.status, "not in the list" in receipt.detail) == (STATUS.REFUSED, True)
    assert world.asker.state(hit.conversation).phase is Phase.ASKED


async def test_credential_of_an_invented_person_over_an_officer_s_name(world: World) -> None:
    hit = await world.asked()
    twin = world.person(OWNER, world.officer.pseudonym, OFFICER_ROLE, listed=False)
    delivery = countersigned(world, composed(world, twin, hit, RELEASE), OWNER)
    assert deliver(world, delivery, peer=OWNER, to=ASKER).status is STATUS.REFUSED


async def test_officer_taken_out_between_draft_and_release_is_refused_by_the_other_member(world: World) -> None:
    """Its own unit's gateway, older or hostile, lets both signatures pass; the credential still holds. The asker's directory is newer."""
    hit = await world.asked()
    draft = world.compose(world.officer, hit, RELEASE, cosigner=world.second)
    delivery = countersigned(world, cosign(draft, world.second), OWNER)
    world.unlist_officer(OWNER, world.officer)
    receipt = deliver(world, delivery, peer=OWNER, to=ASKER)
    assert (receipt.status, receipt.detail) == (STATUS.REFUSED, "release is for officers alone, and fr-1 is one no more")
    assert world.asker.state(hit.conversation).phase is Phase.ASKED


async def test_what_a_former_officer_released_is_still_read(world: World) -> None:
    hit = await world.asked(released=True)
    await world.settle()
    world.unlist_officer(OWNER, world.officer)
    assert world.read(world.holder, hit, Side.OWNER) == ["Anna Example"]


def test_nothing_is_sealed_to_an_officer_who_is_not_listed_with_that_key(world: World) -> None:
    directory, now_ms = world.federation.directory(), world.federation.clock()
    invented = world.person(OWNER, "fr-9", OFFICER_ROLE, listed=False)
    other_key = replace(world.officer, sealing=world.second.sealing)
    for person, officer in ((world.officer, True), (invented, False), (other_key, False)):
        card = make_card(FEDERATION, OWNER, person.pseudonym, person.signer, person.credential, person.sealing.public, now_ms)
        assert read_card(card, directory, OWNER, now_ms).officer is officer


async def test_nothing_is_released_to_a_kit_that_was_revoked(world: World) -> None:
    hit = await world.asked()
    world.revoke(world.holder)
    with pytest.raises(RefusedError, match="the kit of who holds the case was revoked"):
        world.say(world.officer, hit, RELEASE)
    delivery = countersigned(world, composed(world, world.officer, hit, RELEASE), OWNER)
    assert deliver(world, delivery, peer=OWNER, to=ASKER).status is STATUS.REFUSED


async def test_one_officer_signs_as_two(world: World) -> None:
    hit = await world.asked()
    twin = replace(world.officer, pseudonym="fr-twin")
    made = world.federation.credential(OWNER, twin.signer, "fr-twin", (OFFICER_ROLE,))
    twin = replace(twin, credential=made.to_envelope(world.federation.members[OWNER].signer))
    draft = world.compose(world.officer, hit, RELEASE, cosigner=twin)
    with pytest.raises(RefusedError, match="one key signs for two"):
        world.owner.core.send(draft, world.officer.pseudonym)


async def test_one_signature_of_two_is_missing_on_the_wire(world: World) -> None:
    hit = await world.asked()
    draft = countersigned(world, world.compose(world.officer, hit, RELEASE, cosigner=world.second), OWNER)
    receipt = deliver(world, draft, peer=OWNER, to=ASKER)
    assert (receipt.status, "signature of an author" in receipt.detail) == (STATUS.REFUSED, True)


async def test_one_officer_alone_where_two_must_sign(world: World) -> None:
    hit = await world.asked()
    world.owner.officers_needed = 2
    world.owner.restart()
    with pytest.raises(RefusedError, match="name the other one"):
        world.say(world.officer, hit, RELEASE)


# --- a hostile gateway of the own member ---


async def test_gateway_writes_an_entry_itself(world: World) -> None:
    hit = await world.asked()
    unsigned = composed(world, world.holder, hit, Withdraw())
    del unsigned.entry.signatures[:]
    receipt = deliver(world, countersigned(world, unsigned))
    assert (receipt.status, "signature of an author" in receipt.detail) == (STATUS.REFUSED, True)


async def test_gateway_drops_an_entry_and_the_next_shows_it(world: World) -> None:
    hit = await world.asked()
    for text in ("one", "two"):
        world.say(world.officer, hit, Note(), text)
        await world.carry()
    first, second = (entry.digest for entry in world.owner.conversation(hit.conversation).owner)
    kept = [each for each in world.asker.core.inbox(world.holder.pseudonym, ()) if digest_of(each) != first]
    assert second in {digest_of(each) for each in kept}
    view = read_inbox(kept, world.federation.directory(), ASKER, world.federation.clock())[hit.conversation]
    assert view.conversation.owner == ()
    assert view.problems == ["entry 2 of fr does not follow from what is here"]


def digest_of(kept: pb.KeptEntry) -> bytes:
    return wire_envelope.from_message(kept.delivery.entry).digest


async def test_gateway_reorders_what_it_hands_out(world: World) -> None:
    hit = await world.asked(released=True)
    kept = world.asker.core.inbox(world.holder.pseudonym, ())
    views = [read_inbox(order, world.federation.directory(), ASKER, world.federation.clock()) for order in (kept, kept[::-1])]
    assert views[0] == views[1]
    assert views[0][hit.conversation].problems == []


@pytest.mark.parametrize(("shown", "problem"), [(False, "cannot show it"), (True, "its receipt says taken")])
async def test_gateway_forges_refused(world: World, problem: str, *, shown: bool) -> None:
    hit = await world.asked()
    (kept,) = world.asker.core.inbox(world.holder.pseudonym, ())
    forged = pb.KeptEntry(position=1, delivery=kept.delivery, receipt=kept.receipt if shown else None, void=True)
    view = read_inbox([forged], world.federation.directory(), ASKER, world.federation.clock())[hit.conversation]
    assert (view.refused, len(view.problems)) == ([], 1)
    assert problem in view.problems[0]


async def test_entry_behind_a_refused_one_is_believed_to_be_void(world: World) -> None:
    hit = world.hit(told=False)
    world.say(world.holder, hit, ASK)
    world.say(world.holder, hit, Note())
    await world.settle()
    view = world.asker.view(world.holder, hit.conversation)
    assert [(each.header.number, each.status) for each in view.refused] == [(1, STATUS.UNKNOWN), (2, STATUS.REFUSED)]
    assert view.problems == []


async def test_gateway_forges_a_receipt(world: World) -> None:
    hit = world.hit()
    world.say(world.holder, hit, ASK)
    (kept,) = world.asker.core.inbox(world.holder.pseudonym, ())
    entry = world.asker.conversation(hit.conversation).asker[0]
    receipt = Receipt(world.federation.federation, OWNER, ASKER, entry.digest, STATUS.TAKEN, world.federation.clock(), 2)
    forged = Envelope(RECEIPT_TYPE, write_receipt(receipt)).signed_by(world.federation.members[ASKER].signer)
    kept.receipt.CopyFrom(wire_envelope.to_message(forged))
    view = read_inbox([kept], world.federation.directory(), ASKER, world.federation.clock())[hit.conversation]
    assert (view.receipts, len(view.problems)) == ({}, 1)


async def test_colleague_looks_into_another_s_case(world: World) -> None:
    await world.asked(released=True)
    assert world.asker.core.inbox("nl-99", (OFFICER_ROLE, "duty-officer")) == []


async def test_colleague_gives_somebody_an_entry_to_read(world: World) -> None:
    hit = await world.asked()
    entry = world.asker.conversation(hit.conversation).asker[0]
    wrap = pb.Wrap(key_id=b"x" * 8, sealed_key=b"y" * 80)
    with pytest.raises(ConversationError, match="not one of yours"):
        world.asker.core.hand_on(entry.digest, [wrap], "nl-99", ())
    with pytest.raises(ConversationError, match="only holder, deputy"):
        world.asker.core.hand_on(entry.digest, [wrap], world.holder.pseudonym, ())


@pytest.mark.parametrize("body", [Note(), Withdraw(), Close(Disposition.USEFUL), NotTheSame()], ids=lambda body: body.kind)
async def test_entry_by_somebody_else_of_the_same_member(world: World, body: Body) -> None:
    """Who neither holds the case nor is its deputy: refused by the own gateway, and by the owner if the own gateway passes it on."""
    hit = await world.asked()
    stranger = world.person(ASKER, "nl-9")
    honest = composed(world, world.deputy, hit, body)
    header = replace(read_entry(wire_envelope.from_message(honest.entry).payload), authors=(stranger.pseudonym,))
    forged = signed(world, header, honest.sealed, stranger)
    envelope = wire_envelope.from_message(forged.entry)
    own = pb.Delivery(
        entry=wire_envelope.to_message(replace(envelope, signatures=envelope.signatures[:1])),
        credentials=forged.credentials,
        sealed=forged.sealed,
    )
    with pytest.raises(CaseworkError, match="only who holds the case"):
        world.asker.core.send(own, stranger.pseudonym)
    assert deliver(world, forged).status is STATUS.REFUSED
    assert [each.header.body.kind for each in world.owner.conversation(hit.conversation).asker] == ["ask"]
    world.say(world.deputy, hit, body)
    await world.carry()
    assert len(world.owner.conversation(hit.conversation).asker) == 2


async def test_person_sends_what_somebody_else_signed(world: World) -> None:
    with pytest.raises(RefusedError, match="by somebody else"):
        world.asker.core.send(composed(world, world.holder, world.hit()), world.deputy.pseudonym)


# --- the network ---


async def test_third_member_fetches_a_conversation(world: World) -> None:
    hit = await world.asked(released=True)
    request = pb.FetchRequest(conversation=hit.conversation, side=Side.OWNER.value, from_number=1)
    assert len(world.owner.receiver.fetch(request, ASKER).entries) == 1
    nothing = pb.FetchRequest(conversation=b"n" * 32, side=Side.OWNER.value, from_number=1)
    assert world.owner.receiver.fetch(request, "de") == world.owner.receiver.fetch(nothing, ASKER) == pb.FetchResponse()


@pytest.mark.parametrize("fields", [{}, {"conversation": KNOWN, "side": 9, "from_number": 1}, {"conversation": KNOWN, "side": 1}], ids=str)
def test_fetch_of_nonsense(world: World, fields: dict[str, Any]) -> None:
    assert world.owner.receiver.fetch(pb.FetchRequest(**fields), ASKER) == pb.FetchResponse()


async def test_replayed_delivery_changes_nothing(world: World) -> None:
    hit = await world.asked(released=True)
    before = [member.conversation(hit.conversation) for member in world.members.values()]
    for member, delivery in list(world.network.delivered):
        peer = ASKER if member == OWNER else OWNER
        assert deliver(world, delivery, peer=peer, to=member).status is STATUS.TAKEN
    assert [member.conversation(hit.conversation) for member in world.members.values()] == before
    assert len(world.owner.alarms) == 1


def test_log_that_cannot_be_written_takes_no_entry(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from vidfed.security.errors import AuditError  # noqa: PLC0415

    def full(_: object) -> None:
        raise AuditError("disk full")

    hit = world.hit()
    delivery = countersigned(world, composed(world, world.holder, hit))
    with monkeypatch.context() as patch:
        patch.setattr(type(world.owner.audit), "append_many", lambda _self, entries: full(entries))
        assert deliver(world, delivery).status is STATUS.LATER
    assert world.owner.conversation(hit.conversation).asker == ()
    assert deliver(world, delivery).status is STATUS.TAKEN
