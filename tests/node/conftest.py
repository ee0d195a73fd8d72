"""Stores to test on: the same tests on SQLite and on PostgreSQL."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from vidfed.node.records.store import RecordStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
