"""Whole cases: seizures and lists asked about as streams, paused, resumed, also after the desk or the machine was restarted.

Each has a folder of its own in the kit, with what was asked (`request.json`), the store of the lookup, and the result files.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidfed.cli.printable import printable
from vidfed.desk.shell.errors import FormError, GoneError
from vidfed.desk.shell.language import LANGUAGES, language
from vidfed.federation.bulk.result_files import report_name
from vidfed.federation.bulk.run import BulkRun
from vidfed.federation.bulk.sources import SourceReader, entry_label, picture_reader, read_file
from vidfed.federation.bulk.store import BulkStore
from vidfed.federation.lookup.errors import FederationError
from vidfed.federation.lookup.question import Justification
from vidfed.formats.entries import FormatError
from vidfed.index.find import find_files
from vidfed.security.clock import system_clock
from vidfed.security.errors import SecurityError
from vidfed.security.files import write_private
from vidfed.wire.values import Purpose, Urgency

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vidfed.federation.bulk.result import BulkResult
    from vidfed.security.member.kit import Kit

REQUEST = "request.json"
CLOSING = "closing.json"
_PRIVATE = 0o700
_PURPOSES = {purpose.code: purpose for purpose in Purpose}


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked, as it is kept.

    Attributes:
        source: path of a folder, a picture or a list of hashes on this machine.
        is_list: True if it is a list of hashes (VICS, CSV and what else a node imports).
        case, purpose, legal_basis, offence, urgent: why.
        ask: members to ask; all if empty.
        begun_ms: when it was first asked.
        stamp: size in bytes and time of change of a list, by which it is known again.
    """

    source: str
    is_list: bool
    case: str
    purpose: str
    legal_basis: str
    offence: str
    urgent: bool
    ask: tuple[str, ...]
    begun_ms: int
    stamp: tuple[int, int] = (0, 0)

    @property
    def justification(self) -> Justification:
        """Why it is asked."""
        urgency = Urgency.LIFE_AT_RISK if self.urgent else Urgency.ROUTINE
        return Justification(_PURPOSES[self.purpose], self.legal_basis, self.case, self.offence, urgency)


@dataclass(slots=True)
class WholeCase:
    """One of them.

    Attributes:
        id: in the address of its page.
        folder: everything about it.
        request: what is asked.
        members: whose answers are needed, once that is known.
        waits: why it waits, if it does.
        error: why it stopped, if it did by itself.
        result: once everything was asked.
        verdict: of the last run that came to its end, with `lines`, what there is to say by language; both kept over restarts.
    """

    id: str
    folder: Path
    request: Request
    kit: Kit
    members: Sequence[str] = ()
    waits: str = ""
    error: str = ""
    result: BulkResult | None = None
    verdict: str = ""
    lines: Mapping[str, str] = field(default_factory=dict)
    store: BulkStore | None = None
    _task: asyncio.Task[None] | None = None
    _skipped: dict[str, str] = field(default_factory=dict)

    @property
    def under_way(self) -> bool:
        """True while it is being asked."""
        return self._task is not None and not self._task.done()

    @property
    def progress(self) -> dict[str, int]:
        """How many items each member has answered."""
        return {member: len(ranges) for member, ranges in self.store.answered(self.members).items()} if self.store else {}

    @property
    def count(self) -> int:
        """How many different items there are, as far as they were read."""
        return self.store.count if self.store else 0

    def open(self) -> BulkStore:
        """Return its store.

        Raises:
            QuestionError: what is in its folder is damaged.
        """
        if self.store is None:
            self.store = BulkStore(self.folder, self._run().scope(source=self._source_scope()))
            self.members = self.store.members(())
            self._run().supersede(self.store, self.members)
        return self.store

    def resume(self) -> None:
        """Begin, or go on.

        Raises:
            FormError: what was asked about is not there any more.
            QuestionError: as `open`.
        """
        if self.under_way:
            return
        source = Path(self.request.source)
        if not source.exists() or (self.request.is_list and _stamp(source) != self.request.stamp):
            raise FormError("What was asked about is not there any more, or was changed: begin a new one.")
        self.open()
        self.waits = self.error = ""
        self._task = asyncio.create_task(self._go())

    async def pause(self) -> None:
        """Stop asking. What was answered stays."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def close(self) -> None:
        """Stop asking, and let go of the store."""
        await self.pause()
        if self.store is not None:
            self.store.__exit__()
            self.store = None

    def files(self) -> list[str]:
        """Return the names of the result files that are there."""
        return [name for name in _FILES if (self.folder / name).is_file()]

    def _run(self) -> BulkRun:
        return BulkRun(self.kit, {}, self.request.justification, self.request.ask)

    def _source_scope(self) -> list[object]:
        return [self.request.source, *self.request.stamp] if self.request.is_list else [self.request.source]

    async def _go(self) -> None:
        store, run = self.open(), self._run()
        source = Path(self.request.source)
        try:
            reading = SourceReader(None)
            if self.request.is_list:
                await asyncio.to_thread(self._read_list, store, source)
            else:
                reading = picture_reader(store, find_files([source]), any_quality=False)
            heard = await run.go(store, reading, on_members=self._meet, on_wait=self._wait, on_progress=self._heard)
            listed = source if self.request.is_list else None
            languages = [language(code) for code in LANGUAGES]
            skipped = self._skipped if listed else None
            finish = partial(run.finish, self.folder, store, heard, skipped=skipped, source=listed, languages=languages)
            result, _ = await asyncio.to_thread(finish)
            self.result = result
            self.verdict = result.closing.verdict.value
            self.lines = {spoken.code: result.closing.said(spoken.say) for spoken in languages}
            said = {"verdict": self.verdict, "lines": self.lines}
            await asyncio.to_thread(write_private, self.folder / CLOSING, json.dumps(said).encode())
        except (FederationError, SecurityError, FormatError, OSError) as error:
            self.error = printable(error)

    def _read_list(self, store: BulkStore, source: Path) -> None:
        self._skipped.clear()
        read_file(
            store,
            source,
            algorithm=None,
            on_skip=lambda number, why: self._skipped.update({entry_label(number): why}),
            on_read=lambda _done, _entries: None,
        )

    def _meet(self, members: Sequence[str]) -> None:
        self.members = members

    def _wait(self, text: str) -> None:
        self.waits = text

    def _heard(self) -> None:
        self.waits = ""


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


_FILES = (
    *(report_name(each) for each in LANGUAGES),
    "result.csv",
    "annotated.vics.json",
    "result.json",
    "unseen.csv",
    "unseen-in-part.csv",
    "weak.csv",
)


class WholeCases:
    """All of one kit."""

    def __init__(self, folder: Path, kit: Kit) -> None:
        """Find those that were begun; none goes on by itself.

        Args:
            folder: of theirs; made if absent.
            kit: who asks.
        """
        self._folder, self._kit = folder, kit
        folder.mkdir(mode=_PRIVATE, exist_ok=True)
        self._cases: dict[str, WholeCase] = {}
        for path in sorted(folder.iterdir()):
            try:
                fields: dict[str, Any] = json.loads((path / REQUEST).read_text(encoding="utf-8"))
                request = Request(**fields | {"ask": tuple(fields["ask"]), "stamp": tuple(fields["stamp"])})
            except (OSError, ValueError, TypeError, KeyError):
                continue  # begun and not written, or not ours
            case = WholeCase(path.name, path, request, self._kit)
            try:
                said = json.loads((path / CLOSING).read_text(encoding="utf-8"))
                case.lines = {code: str(said["lines"][code]) for code in LANGUAGES}
                case.verdict = str(said["verdict"])
            except (OSError, ValueError, TypeError, KeyError):
                pass
            self._cases[path.name] = case

    def __iter__(self) -> Iterator[WholeCase]:
        return iter(sorted(self._cases.values(), key=lambda case: -case.request.begun_ms))

    def get(self, named: str) -> WholeCase:
        """Return one.

        Raises:
            GoneError: there is none.
        """
        if named not in self._cases:
            raise GoneError("There is no such whole case in this kit.")
        return self._cases[named]

    def begin(self, source: str, justification: Justification, *, is_list: bool, ask: Sequence[str]) -> WholeCase:
        """Begin one.

        Raises:
            FormError: there is nothing at that path.
        """
        path = Path(source).expanduser()
        if not path.is_absolute() or not path.exists():
            raise FormError("There is no such file or folder on this machine: write its whole path.")
        if is_list and not path.is_file():
            raise FormError("A list of hashes is a file.")
        request = Request(
            str(path),
            is_list,
            justification.case_reference,
            justification.purpose.code,
            justification.legal_basis,
            justification.offence_type,
            justification.urgency is Urgency.LIFE_AT_RISK,
            tuple(ask),
            system_clock(),
            _stamp(path) if is_list else (0, 0),
        )
        folder = self._folder / f"{request.begun_ms}-{secrets.token_hex(4)}"
        folder.mkdir(mode=_PRIVATE)
        write_private(folder / REQUEST, json.dumps(asdict(request), ensure_ascii=False).encode())
        case = WholeCase(folder.name, folder, request, self._kit)
        self._cases[case.id] = case
        case.resume()
        return case

    async def close(self) -> None:
        """Pause all of them."""
        for case in self._cases.values():
            await case.close()
