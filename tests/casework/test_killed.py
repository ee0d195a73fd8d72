"""A member's process dies at any statement of any transaction: nothing is lost, nothing doubled."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.support.casework_deaths import live_through
from tests.support.casework_members import ASKER, OWNER, World
from tests.support.postgresql import server
from vidfed.casework.core.state import Phase
from vidfed.wire.casework_values import Side

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


STEP = 9  # of every so many statements one is tried; the exhaustive run tries each


async def check_everywhere(world: World, step: int) -> int:
    """Let each member die at every `step`-th statement of a conversation's life; return how often one did."""
    deaths = 0
    for member in (ASKER, OWNER):
        statement, died = 1, True
        while died:
            number = len(world.owner.log()) * 1000 + statement + (500 if member == OWNER else 0)
            hit = world.hit(number)
            died = await live_through(world, hit, member, statement)
            held = [world.members[name].conversation(hit.conversation) for name in (ASKER, OWNER)]
            assert held[0] == held[1], f"{member} died at statement {statement}"
            assert world.asker.state(hit.conversation).phase is Phase.CLOSED
            assert world.read(world.holder, hit, Side.ASKER) == ["ask", "note", "close"]
            assert world.read(world.holder, hit, Side.OWNER) == ["release"]
            assert all(not each.waiting() for each in world.members.values())
            deaths += died
            statement += step
    return deaths


async def test_member_killed_at_any_statement_loses_and_doubles_nothing(world: World) -> None:
    assert await check_everywhere(world, STEP) > 8


@pytest.mark.exhaustive
async def test_member_killed_at_every_statement_loses_and_doubles_nothing(world: World) -> None:
    assert await check_everywhere(world, 1) > 60


@pytest.fixture
def postgresql_world(tmp_path: Path) -> Iterator[World]:
    with server() as url:
        import sqlalchemy as sa  # noqa: PLC0415

        engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for member in (ASKER, OWNER):
                connection.execute(sa.text(f"CREATE DATABASE {member}"))
        engine.dispose()
        locations = {member: url.rpartition("/")[0] + f"/{member}" for member in (ASKER, OWNER)}
        with contextlib.closing(World(tmp_path, locations)) as made:
            yield made


async def test_the_same_on_postgresql(postgresql_world: World) -> None:
    assert await check_everywhere(postgresql_world, 12) > 5
