"""Databases of a unit to follow: the same tests on PostgreSQL, MariaDB and SQLite."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import sqlalchemy as sa

from tests.support import mariadb

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_databases = itertools.count()


class Unit(NamedTuple):
    """A unit's database: the URL its node reads by, and a connection of the unit's own for changing it."""

    url: str
    engine: sa.Engine

    def run(self, *statements: str, values: Sequence[dict[str, Any]] | None = None) -> None:
        with self.engine.begin() as connection:
            for statement in statements:
                connection.execute(sa.text(statement), values or {})


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[str]:
    with mariadb.server() as url:
        yield url


def _mariadb(server: str) -> Unit:
    admin = server.replace("mysql://reader", "mysql+pymysql://writer")
    engine = sa.create_engine(admin)
    with engine.begin() as connection:
        for (table,) in connection.execute(sa.text("SHOW TABLES")).all():
            connection.execute(sa.text(f"DROP TABLE `{table}`"))
    return Unit(server, engine)


@pytest.fixture(params=["postgresql", "mariadb", "sqlite"])
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Unit]:
    """An empty database of each kind."""
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql_url")
        made = Unit(url, sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://")))
    elif request.param == "mariadb":
        made = _mariadb(request.getfixturevalue("mariadb_server"))
    else:
        url = f"sqlite:///{tmp_path / 'cases.db'}"
        made = Unit(url, sa.create_engine(url))
        made.run("PRAGMA journal_mode=WAL")
    yield made
    made.engine.dispose()
