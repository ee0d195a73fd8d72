"""A conversation's life during which a member's process dies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.casework import ASK, RELEASE
from tests.support.casework_members import Killed, World, failing_at
from vidfed.wire.casework_values import Body, Close, Disposition, Note

if TYPE_CHECKING:
    from vidfed.casework.writing import Hit, Person


async def live_through(world: World, hit: Hit, member: str, statement: int) -> bool:
    """Let a conversation run its course while a member dies once, and starts again; tell whether it died."""
    steps: list[tuple[Person, Body, str]] = [
        (world.holder, ASK, "ask"),
        (world.officer, RELEASE, "release"),
        (world.holder, Note(), "note"),
        (world.holder, Close(Disposition.USEFUL), "close"),
    ]
    died = False
    for person, body, text in steps:
        signed = world.compose(person, hit, body, text)  # a person whose call broke hands the same in again
        for _ in range(2):
            try:
                with failing_at(world.members[member].database, 0 if died else statement) as count:
                    world.members[person.member].core.send(signed, person.pseudonym)
                    await world.carry()
            except Killed:
                died = True
                world.members[member].restart()
                continue
            statement -= count()
            break
        await world.settle()
    return died
