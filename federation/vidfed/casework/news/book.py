"""What a kit knows has become of records that its person was told: kept beside it, so that old results are shown as what they are now.

KIT/news.json, mode 0600. Only what an owner signed gets in.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vidfed.casework.errors import CaseworkStoreError
from vidfed.security.clock import DAY_MS
from vidfed.security.files import read_private, write_private
from vidfed.v1 import lookup_pb2 as lookup_pb
from vidfed.wire.news import Change
from vidfed.wire.records import read_record, write_record
from vidfed.wire.statuses import WireError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from vidfed.wire.news import News
    from vidfed.wire.values import RecordView

NEWS_FILE = "news.json"
KEEP_DAYS = 400  # a result older than this has been looked up again, or should be
_KIND = "vidfed-news/1"


@dataclass(frozen=True, slots=True)
class RecordNews:
    """What became of one record since it was told.

    Attributes:
        member: the owner.
        reference: of the record.
        changes: all that the owner has said, in the order of their numbers.
        since_ms: when the owner said the last of it.
        record: as it is told now; None: it is not any more.
    """

    member: str
    reference: str
    changes: tuple[Change, ...]
    since_ms: int
    record: RecordView | None

    @property
    def taken_back(self) -> bool:
        """True if the record may not be relied on any more."""
        return self.record is None and any(change.takes_back for change in self.changes)

    @property
    def text(self) -> str:
        """What it is, for people."""
        words = ", ".join(change.code for change in self.changes)
        return f"{self.member} {self.reference}: {words}"


class NewsBook:
    """What one kit knows. Nothing is read or written before it is needed."""

    def __init__(self, folder: Path) -> None:
        """Use the kit in this folder."""
        self._path = folder / NEWS_FILE

    def all(self) -> dict[tuple[str, str], RecordNews]:
        """Return what is known, by member and reference.

        Raises:
            CaseworkStoreError: the file is damaged.
            KeyFileError: others could read it.
        """
        return self._read()[1]

    def position(self) -> int:
        """Return up to where the gateway's news is in here.

        Raises:
            CaseworkStoreError, KeyFileError: as `all`.
        """
        return self._read()[0]

    def take(self, found: Iterable[News], position: int, now_ms: int) -> None:
        """Take news in, and forget what is old.

        Raises:
            CaseworkStoreError, KeyFileError: as `all`.
            OSError: it cannot be written.
        """
        _, known = self._read()
        for news in found:
            for item in news.items:
                key = (news.issuer, item.reference)
                before = known.get(key)
                changes = set(item.changes) | set(before.changes if before else ())
                latest = before is None or news.issued_ms >= before.since_ms
                if latest and item.record is not None:
                    changes -= {change for change in changes if change.takes_back}
                known[key] = RecordNews(
                    *key,
                    tuple(sorted(changes, key=lambda change: int(change.value))),
                    news.issued_ms if latest or before is None else before.since_ms,
                    item.record if latest or before is None else before.record,
                )
        fields = [_fields(each) for each in known.values() if each.since_ms > now_ms - KEEP_DAYS * DAY_MS]
        write_private(self._path, json.dumps({"kind": _KIND, "position": position, "records": fields}).encode())

    def _read(self) -> tuple[int, dict[tuple[str, str], RecordNews]]:
        if not self._path.exists():
            return 0, {}
        try:
            fields = json.loads(read_private(self._path))
            if fields["kind"] != _KIND:
                raise CaseworkStoreError(f"{self._path}: not of this version; delete it, the gateway has all of it")
            records = [_news(each) for each in fields["records"]]
            return int(fields["position"]), {(each.member, each.reference): each for each in records}
        except (ValueError, KeyError, TypeError, WireError):
            raise CaseworkStoreError(f"{self._path}: damaged; delete it, the gateway has all of it") from None


def _fields(news: RecordNews) -> dict[str, Any]:
    record = base64.b64encode(write_record(news.record).SerializeToString()).decode() if news.record else None
    changes = [change.name for change in news.changes]
    return {"member": news.member, "reference": news.reference, "changes": changes, "since_ms": news.since_ms, "record": record}


def _news(fields: dict[str, Any]) -> RecordNews:
    record = fields["record"]
    view = read_record(lookup_pb.RecordView.FromString(base64.b64decode(record, validate=True))) if record else None
    changes = tuple(Change[name] for name in fields["changes"])
    return RecordNews(str(fields["member"]), str(fields["reference"]), changes, int(fields["since_ms"]), view)
