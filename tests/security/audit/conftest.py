"""A log with a set clock, and entries to put into it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from vidfed.security.audit import AuditEntry, AuditLog, Event, Operation, log_origin
from vidfed.security.audit.storage.opening import open_database
from vidfed.security.audit.storage.tables import Storage
from vidfed.security.crypto.keys import SigningKey

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

ORIGIN = log_origin("test", "nl")
NOON_MS = 1_700_000_000_000


@dataclass
class Bench:
    """A log's place, key and clock; opens it as often as a test wants."""

    folder: Path
    location: Path | str
    origin: str = ORIGIN
    key: SigningKey = field(default_factory=lambda: SigningKey(b"k" * 32))
    now_ms: int = NOON_MS

    @property
    def path(self) -> Path:
        """The log's file, where it is one."""
        assert not isinstance(self.location, str)
        return self.location

    @property
    def beside(self) -> Path:
        return self.folder / "audit.checkpoint"

    def clock(self) -> int:
        return self.now_ms

    def open(self) -> AuditLog:
        return AuditLog(self.location, self.origin, self.key, beside=self.beside, clock=self.clock)

    def storage(self) -> Storage:
        return Storage(self.location, self.origin, read_only=True)

    def entry(self, number: int = 0, **changed: Any) -> AuditEntry:  # noqa: ANN401 - any of the entry's fields
        values: dict[str, Any] = {
            "time_ms": self.now_ms + number,
            "operation": Operation.DISCLOSURE,
            "event": Event.LOOKUP_ANSWERED,
            "member": "fr",
            "pseudonym": "inv-1",
            "purpose": "identification",
            "legal_basis": "Police Data Act, art. 10",
            "case_reference": f"2026-{number}",
            "request_digest": number.to_bytes(32, "big"),
            "answer_digest": (number + 1).to_bytes(32, "big"),
            "outcome": "ANSWERED",
            "records": ("0123456789abcdef",),
            "details": {"items": 1, "hashes": 9, "hits": 1, "took_ms": 12},
        }
        return AuditEntry(**(values | changed))

    def fill(self, count: int) -> None:
        with closing(self.open()) as log:
            log.append_many([self.entry(number) for number in range(count)])

    def tamper(self, statement: str, values: Sequence[object] = ()) -> None:
        """Change what is stored, as whoever owns the database can."""
        with closing(open_database(self.location)) as database, database.writing() as transaction:
            transaction.execute(statement, values)


@pytest.fixture(params=["sqlite", "postgresql"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    """On both databases."""
    if request.param == "sqlite":
        return Bench(tmp_path, tmp_path / "audit.db")
    return Bench(tmp_path, request.getfixturevalue("postgresql_url"))


@pytest.fixture
def file_bench(tmp_path: Path) -> Bench:
    """On a file, for what can be done to files only."""
    return Bench(tmp_path, tmp_path / "audit.db")


@pytest.fixture
def log(bench: Bench) -> Iterator[AuditLog]:
    with closing(bench.open()) as opened:
        yield opened
