"""What was told is kept true: from a change of a record to the person who was told, through both members' stores and logs."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.casework_members import ASKER, OWNER, World
from vidfed.casework.news import noticing, storage
from vidfed.casework.news.book import NewsBook
from vidfed.casework.reading import read_news_of
from vidfed.casework.storage import told as told_store
from vidfed.wire import envelope as wire_envelope
from vidfed.wire.news import Change, News
from vidfed.wire.values import HandlingCode, Ternary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vidfed.casework.news.storage import Notice
    from vidfed.security.crypto.envelope import Envelope

REFERENCE = "FR-0001"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with contextlib.closing(World(tmp_path)) as made:
        made.owner.records.put(REFERENCE, series="Blue", victim_identified=Ternary.NO, case_contact="fr desk")
        tell(made)
        yield made


def tell(world: World, number: int = 1, version: int | None = None, pseudonym: str = "nl-7") -> None:
    """Let a record be told, as an answer does that was computed at a version of the records."""
    answer = told_store.Told(
        bytes([number]) * 32,
        bytes([number, len(pseudonym)]) * 16,
        ASKER,
        pseudonym,
        world.federation.clock(),
        (f"FR-{number:04}",),
        world.owner.records.version if version is None else version,
    )
    with world.owner.database.writing() as connection:
        told_store.note(connection, [answer])


async def news_for(world: World, pseudonym: str = "nl-7") -> list[News]:
    """Let the owner look and deliver; return all that has arrived for a person, as the person believes it."""
    await world.owner.news_courier.round()
    return read_news_of(world.asker.core.news(pseudonym), world.federation.directory(), ASKER, pseudonym)


def unconfirmed(world: World) -> list[Notice]:
    with world.owner.database.reading() as connection:
        return storage.unconfirmed(connection)


async def test_nothing_is_said_of_a_record_that_stays_as_it_was_told(world: World) -> None:
    await news_for(world)
    world.owner.records.put(REFERENCE)
    assert await news_for(world) == []


async def test_who_was_told_hears_that_the_victim_was_identified(world: World) -> None:
    assert await news_for(world) == []
    world.owner.records.put(REFERENCE, victim_identified=Ternary.YES)
    (news,) = await news_for(world)
    (item,) = news.items
    assert (item.reference, item.changes) == (REFERENCE, (Change.STATUS,))
    assert item.record is not None
    assert item.record.victim_identified is Ternary.YES
    assert item.told[0].lookup_digest == bytes([1]) * 32
    assert unconfirmed(world) == []


@pytest.mark.parametrize(
    ("values", "change"),
    [
        ({"series": "Green"}, Change.SERIES),
        ({"handling_code": HandlingCode.H2}, Change.HANDLING),
        ({"category": "2"}, Change.CORRECTED),
    ],
)
async def test_each_thing_that_matters_is_said_by_its_name(world: World, values: dict[str, Any], change: Change) -> None:
    await news_for(world)
    world.owner.records.put(REFERENCE, **values)
    assert [news.items[0].changes for news in await news_for(world)] == [(change,)]


@pytest.mark.parametrize(("state", "change"), [("retracted", Change.RETRACTED), ("erased", Change.ERASED)])
async def test_what_was_taken_back_is_said_without_a_field_of_it(world: World, state: str, change: Change) -> None:
    await news_for(world)
    world.owner.records.put(REFERENCE, state)
    (news,) = await news_for(world)
    assert [(item.changes, item.record) for item in news.items] == [((change,), None)]


async def test_record_that_changed_while_it_was_being_told_is_news(world: World) -> None:
    world.owner.records.put(REFERENCE, victim_identified=Ternary.YES)
    await news_for(world)
    tell(world, version=1, pseudonym="nl-77")  # computed before, logged after
    (news,) = await news_for(world, "nl-77")
    assert news.items[0].changes == (Change.CORRECTED,)


async def test_several_changes_that_wait_become_one(world: World) -> None:
    await news_for(world)
    world.network.down.add(ASKER)
    for values in ({"series": "Green"}, {"victim_identified": Ternary.YES}):
        world.owner.records.put(REFERENCE, **values)
        assert await news_for(world) == []
    assert [notice.trouble for notice in unconfirmed(world)] == ["nl: nobody answers"]
    world.network.down.clear()
    world.pass_days(1)
    (news,) = await news_for(world)
    assert news.items[0].changes == (Change.STATUS, Change.SERIES)


async def test_who_has_not_confirmed_is_known_until_the_receipt_is_here(world: World) -> None:
    await news_for(world)
    world.owner.records.put(REFERENCE, "retracted")
    world.network.lose_answers = 1
    await news_for(world)
    assert [(notice.member, notice.pseudonym) for notice in unconfirmed(world)] == [(ASKER, "nl-7")]
    world.pass_days(1)
    await news_for(world)
    assert unconfirmed(world) == []


async def test_narrowing_goes_by_a_person_s_decision_alone(world: World) -> None:
    await news_for(world)
    world.withheld.add((ASKER, REFERENCE))
    assert await news_for(world) == []
    assert world.owner.noticing.narrow([REFERENCE]) == 1
    (news,) = await news_for(world)
    assert [(item.changes, item.record) for item in news.items] == [((Change.NARROWED,), None)]


async def test_narrowing_never_keeps_a_correction_back(world: World) -> None:
    await news_for(world)
    world.withheld.add((ASKER, REFERENCE))
    world.owner.records.put(REFERENCE, category="9", victim_identified=Ternary.YES)
    (news,) = await news_for(world)
    assert [(item.changes, item.record) for item in news.items] == [((Change.CORRECTED,), None)]


async def test_news_used_to_learn_of_withheld_records_tells_nothing_of_them(world: World) -> None:
    """A record that was never told, and one that is withheld since: no field of either travels."""
    world.owner.records.put("FR-0002", series="Never told")
    await news_for(world)
    world.withheld.add((ASKER, REFERENCE))
    world.owner.records.put("FR-0002", "retracted")
    world.owner.records.put(REFERENCE, series="Secret", victim_identified=Ternary.YES)
    assert await news_for(world) == []
    assert [notice.trouble[:15] for notice in unconfirmed(world)] == ["today's policy "]


async def test_status_kept_back_by_a_typo_in_the_policy_goes_out_once_it_is_mended(world: World) -> None:
    await news_for(world)
    world.withheld.add((ASKER, REFERENCE))
    world.owner.records.put(REFERENCE, victim_identified=Ternary.YES)
    await news_for(world)
    world.withheld.clear()
    world.pass_days(1)
    assert [news.items[0].changes for news in await news_for(world)] == [(Change.STATUS,)]


async def test_many_records_taken_back_at_once_wait_for_a_person(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noticing, "MAX_REMOVALS_AT_ONCE", 3)
    for number in range(2, 7):
        world.owner.records.put(f"FR-{number:04}")
        tell(world, number)
    await news_for(world)
    for number in range(2, 7):
        world.owner.records.put(f"FR-{number:04}", "retracted")
    assert await news_for(world) == []
    assert {notice.held for notice in unconfirmed(world)} == {True}
    with world.owner.database.writing() as connection:
        assert storage.release_held(connection, world.federation.clock()) == 5
    (news,) = await news_for(world)
    assert len(news.items) == 5


async def test_records_put_back_from_a_copy_are_compared_with_what_was_told(world: World) -> None:
    await news_for(world)
    world.owner.records.history = "another"
    world.owner.records.version = 0
    world.owner.records.put(REFERENCE, victim_identified=Ternary.YES)
    assert [news.items[0].changes for news in await news_for(world)] == [(Change.STATUS,)]


async def test_news_is_taken_once_however_often_it_comes(world: World) -> None:
    await news_for(world)
    world.owner.records.put(REFERENCE, series="Green")
    (news,) = await news_for(world)
    envelope = storage_envelope(world)
    again = world.network.news[ASKER].notify(envelope, OWNER)
    assert again.payload == world.network.news[ASKER].notify(envelope, OWNER).payload
    assert await news_for(world) == [news]


def storage_envelope(world: World) -> Envelope:
    """Return the newest news that arrived, as it was signed."""
    return wire_envelope.from_message(world.asker.core.news("nl-7")[-1].news)


async def test_news_of_another_member_s_records_is_refused(world: World) -> None:
    await news_for(world)
    world.owner.records.put(REFERENCE, series="Green")
    await news_for(world)
    receipt = world.network.news[ASKER].notify(storage_envelope(world), "de")
    assert b"signature" in receipt.payload


async def test_only_the_person_who_was_told_is_given_the_news(world: World) -> None:
    await news_for(world)
    world.owner.records.put(REFERENCE, series="Green")
    assert await news_for(world, "nl-8") == []
    kept = world.asker.core.news("nl-7")
    assert read_news_of(kept, world.federation.directory(), ASKER, "nl-8") == []  # nor does another one believe it to be theirs


async def test_both_logs_say_what_was_told_and_no_field_of_it(world: World) -> None:
    await news_for(world)
    world.owner.records.put(REFERENCE, series="Green Series")
    await news_for(world)
    said = {"records": [REFERENCE], "details": {"kind": "news", "changes": "series"}}
    for member, event, outcomes in (
        (world.owner, "casework-sent", ["SIGNED", "TAKEN"]),
        (world.asker, "casework-received", ["TAKEN"]),
    ):
        entries = [each for each in member.log() if each["event"] == event]
        assert [each["outcome"] for each in entries] == outcomes
        assert all({name: each[name] for name in said} == said for each in entries)
        assert "Green" not in str(entries)


async def test_kit_keeps_what_became_of_each_record(world: World, tmp_path: Path) -> None:
    await news_for(world)
    book = NewsBook(tmp_path)
    world.owner.records.put(REFERENCE, victim_identified=Ternary.YES)
    book.take(await news_for(world), 1, world.federation.clock())
    assert book.all()[(OWNER, REFERENCE)].changes == (Change.STATUS,)
    world.federation.clock.advance(1000)
    world.owner.records.put(REFERENCE, "erased")
    book.take(await news_for(world), 2, world.federation.clock())
    kept = book.all()[(OWNER, REFERENCE)]
    assert (kept.taken_back, kept.changes) == (True, (Change.STATUS, Change.ERASED))


async def test_erased_record_is_forgotten_once_everybody_told_has_confirmed(world: World) -> None:
    await news_for(world)
    world.owner.records.put(REFERENCE, "erased")
    await news_for(world)
    with world.owner.database.writing() as connection:
        storage.forget_unneeded(connection, 0)
        assert told_store.told_of(connection, [REFERENCE]) == {}
        assert storage.seen_of(connection, [REFERENCE]) == {}
