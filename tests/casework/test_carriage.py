"""Entries between two members with true signatures, stores and logs, over a network that fails as the test says."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.support.casework import ASK, PARTIAL, RELEASE
from tests.support.casework_members import ASKER, OWNER, World
from vidfed.casework.core.state import Phase
from vidfed.casework.errors import MovedOnError
from vidfed.casework.storage.outbox import MAX_PAUSE_MS, MAX_URGENT_PAUSE_MS
from vidfed.casework.writing import cosign
from vidfed.wire.casework_values import (
    Acknowledge,
    AskUrgency,
    Close,
    Disposition,
    HandOver,
    Note,
    Reader,
    Side,
    Withdraw,
)

if TYPE_CHECKING:
    from pathlib import Path


async def test_ask_and_release_are_read_by_those_they_are_for(world: World) -> None:
    hit = await world.asked(released=True)
    assert world.asker.state(hit.conversation) == world.owner.state(hit.conversation)
    assert world.asker.state(hit.conversation).phase is Phase.RELEASED
    for person in (world.holder, world.deputy):
        assert world.read(person, hit, Side.OWNER) == ["Anna Example"]
    for officer in (world.officer, world.second):
        assert world.read(officer, hit, Side.ASKER) == ["who is she?"]
    assert [header.body.kind for header in world.owner.alarms] == ["ask"]


async def test_no_file_of_either_member_holds_a_text(world: World) -> None:
    hit = world.hit()
    secrets = {world.holder: "Marnix-Ask-Facts", world.officer: "Anna-Example-Lyon", world.deputy: "Deputy-Note-Words"}
    world.say(world.holder, hit, ASK, secrets[world.holder])
    await world.carry()
    world.say(world.officer, hit, RELEASE, secrets[world.officer])
    await world.carry()
    world.say(world.deputy, hit, Note(), secrets[world.deputy])
    await world.carry()
    assert world.read(world.officer, hit, Side.ASKER)[1] == secrets[world.deputy]
    files = [path for path in world.folder.rglob("*") if path.is_file()]
    assert len(files) >= 4
    for path in files:
        content = path.read_bytes()
        assert not [text for text in secrets.values() if text.encode() in content], path


async def test_both_logs_hold_digests_and_types_and_no_text(world: World) -> None:
    hit = await world.asked(released=True)
    digests = {entry.digest.hex() for side in Side for entry in world.owner.conversation(hit.conversation).side(side)}
    for member in (world.asker, world.owner):
        found = member.log()
        assert {fields["request"] for fields in found} == digests
        assert {fields["operation"] for fields in found} == {"disclosure"}
        assert {fields["details"]["kind"] for fields in found} == {"ask", "release"}


async def test_lost_receipt_is_given_again_and_is_the_same(world: World) -> None:
    hit = world.hit()
    world.say(world.holder, hit, ASK)
    world.network.lose_answers = 1
    await world.settle()
    assert len(world.network.delivered) == 2
    entry = world.owner.conversation(hit.conversation).asker[0]
    one, other = (member.view(person, hit.conversation) for member, person in ((world.asker, world.holder), (world.owner, world.officer)))
    assert one.receipts == other.receipts
    assert set(one.receipts) == {entry.digest}


async def test_member_that_was_away_for_a_week_gets_everything_in_order(world: World) -> None:
    hit = world.hit()
    world.network.down.add(OWNER)
    world.say(world.holder, hit, ASK)
    for number in range(5):
        world.say(world.holder, hit, Note(), f"note {number}")
        await world.carry()
        world.pass_days(1.5)
    assert world.owner.conversation(hit.conversation).asker == ()
    (oldest, *_) = world.asker.waiting()
    assert (oldest.member, oldest.attempts > 0, "nobody answers" in oldest.trouble) == (OWNER, True, True)
    world.network.down.clear()
    await world.settle()
    assert world.read(world.officer, hit, Side.ASKER) == ["", *(f"note {number}" for number in range(5))]
    assert world.asker.waiting() == []


@pytest.mark.parametrize("urgency", [AskUrgency.ROUTINE, AskUrgency.LIFE_AT_RISK])
async def test_pauses_grow_and_are_short_where_a_life_is_at_risk(world: World, urgency: AskUrgency) -> None:
    from dataclasses import replace  # noqa: PLC0415

    world.network.down.add(OWNER)
    world.say(world.holder, world.hit(), replace(ASK, urgency=urgency))
    pauses = []
    for _ in range(14):
        await world.asker.courier.round()
        (waiting,) = world.asker.waiting()
        pauses.append(waiting.next_ms - world.federation.clock())
        world.federation.clock.advance(pauses[-1])
    longest = MAX_URGENT_PAUSE_MS if urgency is AskUrgency.LIFE_AT_RISK else MAX_PAUSE_MS
    assert 1_500 <= pauses[0] <= 2_500
    assert pauses[3] > pauses[0]
    assert longest * 0.75 <= pauses[-1] <= longest * 1.25


async def test_conversations_do_not_wait_for_each_other(world: World) -> None:
    first, second = world.hit(1, told=False), world.hit(2)
    world.say(world.holder, first, ASK)
    world.say(world.holder, second, ASK)
    await world.carry()
    assert world.owner.state(second.conversation).phase is Phase.ASKED


async def test_member_that_lost_its_last_day_gets_what_it_had_written_back_from_the_other(world: World, tmp_path: Path) -> None:
    hit = await world.asked()
    backup = tmp_path / "backup.db"
    world.asker.close()
    shutil.copy(world.asker.folder / "casework.db", backup)
    world.asker.open()
    world.say(world.holder, hit, Note(), "written after the backup")
    await world.carry()
    world.asker.close()
    for path in world.asker.folder.glob("casework.db*"):
        path.unlink()
    shutil.copy(backup, world.asker.folder / "casework.db")
    world.asker.open()
    assert len(world.asker.conversation(hit.conversation).asker) == 1
    world.say(world.officer, hit, Acknowledge())
    await world.carry()
    for lost in tuple(world.asker.receiver.lost):  # as the service does after each call
        await world.asker.courier.recover(*lost, world.asker.receiver.sought)
    await world.settle()
    assert world.asker.conversation(hit.conversation) == world.owner.conversation(hit.conversation)
    assert world.read(world.holder, hit, Side.ASKER) == ["who is she?", "written after the backup"]


async def test_entry_written_on_a_restored_backup_makes_room_for_the_one_that_was_lost(world: World, tmp_path: Path) -> None:
    hit = await world.asked()
    world.asker.close()
    backup = tmp_path / "backup.db"
    shutil.copy(world.asker.folder / "casework.db", backup)
    world.asker.open()
    world.say(world.holder, hit, Note(), "lost")
    await world.carry()
    world.asker.close()
    for path in world.asker.folder.glob("casework.db*"):
        path.unlink()
    shutil.copy(backup, world.asker.folder / "casework.db")
    world.asker.open()
    world.say(world.holder, hit, Note(), "another at the same number")
    await world.settle()
    assert world.asker.conversation(hit.conversation) == world.owner.conversation(hit.conversation)
    view = world.asker.view(world.holder, hit.conversation)
    assert [(refused.status.code, refused.header.number) for refused in view.refused] == [("fork", 2)]
    world.say(world.holder, hit, Note(), "another, anew")
    await world.settle()
    assert world.read(world.officer, hit, Side.ASKER) == ["who is she?", "lost", "another, anew"]


async def test_receiver_that_lost_its_last_day_is_sent_all_of_it_again(world: World, tmp_path: Path) -> None:
    hit = await world.asked()
    world.owner.close()
    backup = tmp_path / "backup.db"
    shutil.copy(world.owner.folder / "casework.db", backup)
    world.owner.open()
    world.say(world.holder, hit, Note(), "one")
    await world.carry()
    world.owner.close()
    for path in world.owner.folder.glob("casework.db*"):
        path.unlink()
    shutil.copy(backup, world.owner.folder / "casework.db")
    world.owner.open()
    world.say(world.holder, hit, Note(), "two")
    await world.settle()
    assert world.read(world.officer, hit, Side.ASKER) == ["who is she?", "one", "two"]


async def test_officer_who_looked_before_the_withdrawal_came_has_to_look_again(world: World) -> None:
    hit = await world.asked()
    draft = world.compose(world.officer, hit, RELEASE, "Anna Example")
    world.say(world.holder, hit, Withdraw())
    await world.carry()
    with pytest.raises(MovedOnError, match="read what came"):
        world.owner.core.send(draft, world.officer.pseudonym)
    assert world.owner.state(hit.conversation).releases == ()


async def test_second_of_two_officers_who_write_at_once_has_to_look_again(world: World) -> None:
    hit = await world.asked()
    one, other = (world.compose(person, hit, RELEASE) for person in (world.officer, world.second))
    world.owner.core.send(one, world.officer.pseudonym)
    with pytest.raises(MovedOnError):
        world.owner.core.send(other, world.second.pseudonym)


async def test_release_by_two_officers_goes_out_when_the_second_has_signed(world: World) -> None:
    hit = await world.asked()
    world.owner.officers_needed = 2
    world.owner.restart()
    draft = world.compose(world.officer, hit, RELEASE, "Anna Example", cosigner=world.second)
    assert world.owner.core.send(draft, world.officer.pseudonym).draft
    await world.carry()
    assert world.asker.state(hit.conversation).phase is Phase.ASKED
    (waiting,) = world.owner.view(world.second, hit.conversation).drafts
    assert not world.owner.core.send(cosign(waiting, world.second), world.second.pseudonym).draft
    await world.carry()
    (told,) = world.asker.state(hit.conversation).releases
    assert world.asker.conversation(hit.conversation).owner[told.number - 1].header.authors == ("fr-1", "fr-2")


async def test_same_entry_handed_in_twice_is_sent_once(world: World) -> None:
    hit = world.hit()
    ask = world.compose(world.holder, hit, ASK)
    sent = [world.asker.core.send(ask, world.holder.pseudonym) for _ in range(2)]
    assert sent[0] == sent[1]
    await world.settle()
    assert len(world.owner.conversation(hit.conversation).asker) == 1


async def test_case_handed_over_is_read_by_its_new_holder_from_the_beginning(world: World) -> None:
    hit = await world.asked(released=True)
    colleague = world.person(ASKER, "nl-9")
    reader = Reader(colleague.pseudonym, colleague.sealing.public)
    world.say(world.holder, hit, HandOver(reader, Reader(world.deputy.pseudonym, world.deputy.sealing.public)), "yours")
    from vidfed.casework.sealing import wrap_for  # noqa: PLC0415
    from vidfed.v1 import casework_pb2 as pb  # noqa: PLC0415

    view = world.asker.view(world.holder, hit.conversation)
    for side in Side:
        for entry in view.conversation.side(side):
            wrap = wrap_for(entry.header, view.sealed[entry.digest], world.holder.sealing, colleague.sealing.public)
            made = [pb.Wrap(key_id=wrap.key_id, sealed_key=wrap.sealed_key)]
            world.asker.core.hand_on(entry.digest, made, world.holder.pseudonym, ())
    assert world.read(colleague, hit, Side.OWNER) == ["Anna Example"]
    assert world.read(colleague, hit, Side.ASKER) == ["who is she?", "yours"]
    world.say(colleague, hit, Close(Disposition.VICTIM_IDENTIFIED))
    await world.settle()
    assert world.owner.state(hit.conversation).disposition is Disposition.VICTIM_IDENTIFIED


async def test_contents_are_deleted_at_both_ends_and_the_chain_still_verifies(world: World) -> None:
    from vidfed.casework.storage import conversations as store  # noqa: PLC0415

    hit = await world.asked(released=True)
    world.say(world.holder, hit, Close(Disposition.USEFUL))
    await world.settle()
    before = world.asker.state(hit.conversation)
    for member in (world.asker, world.owner):
        with member.database.writing() as connection:
            assert store.delete_contents(connection, closed_before_ms=world.federation.clock() + 1, begun_before_ms=0) == 3
    view = world.asker.view(world.holder, hit.conversation)
    assert (view.problems, set(view.sealed.values())) == ([], {b""})
    assert world.asker.state(hit.conversation) == before


async def test_part_of_the_answer_leaves_the_rest_open(world: World) -> None:
    hit = await world.asked()
    world.say(world.officer, hit, PARTIAL)
    await world.carry()
    assert world.asker.state(hit.conversation).phase is Phase.PARTLY_RELEASED
