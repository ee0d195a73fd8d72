"""Stores to test on: the same tests on SQLite and on PostgreSQL."""

from __future__ import annotations

import itertools
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg
import pytest

from vidfed.node.store import RecordStore

from . import postgresql

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    with postgresql.server() as url:
        yield url


@pytest.fixture
def postgresql_url(postgresql_server: str) -> str:
    """The URL of an empty database."""
    name = f"test{next(_numbers)}"
    with psycopg.connect(postgresql_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgresql_server.rpartition("/")[0] + f"/{name}"


@pytest.fixture(params=["sqlite", "postgresql"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where a store can be made."""
    if request.param == "sqlite":
        return tmp_path / "records.db"
    url: str = request.getfixturevalue("postgresql_url")
    return url


@pytest.fixture
def store(location: Path | str) -> Iterator[RecordStore]:
    with closing(RecordStore(location)) as opened:
        yield opened
