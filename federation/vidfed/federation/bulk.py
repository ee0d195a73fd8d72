"""Looking up everything in a file or folder: in parts, resumable, every answer kept as soon as it has come.

What was asked and answered is kept in a journal in the result folder. Run again with the same folder, items that every node has answered
are not asked again; those that some node did not answer are.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from vidfed.federation.errors import QuestionError
from vidfed.federation.outcome import Outcome
from vidfed.federation.question import Item, split
from vidfed.federation.result_json import hit_fields
from vidfed.formats.entries import Entry
from vidfed.formats.recognise import open_hash_file
from vidfed.index import Algorithm

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from vidfed.federation.client import FederationClient
    from vidfed.federation.outcome import LookupResult
    from vidfed.federation.question import Justification, Part

JOURNAL = "journal.jsonl"
RATE_WAIT_S = 61.0  # a node counts by the minute
_RATE_TRIES = 5
_GATHER = 20_000  # items read ahead: enough to fill many lookups, little memory


@dataclass(slots=True)
class BulkResult:
    """What is known after a bulk lookup.

    Attributes:
        asked: items in all.
        known: items with at least one hit.
        unseen: items that every node asked says, signed, it does not know.
        open: items without a hit that some node did not answer; what those nodes hold is not known.
        partial: items, with or without a hit, that some node did not answer.
        skipped: entries that could not be asked about.
        nodes: for each member asked in this run, in how many parts it answered and did not, and why it last did not.
    """

    asked: int = 0
    known: int = 0
    unseen: int = 0
    open: int = 0
    partial: int = 0
    skipped: int = 0
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """True if every node answered everything."""
        return self.asked > 0 and self.partial == 0


class Journal:
    """The answers so far. One line an item, appended and on disk before the next part is asked."""

    def __init__(self, folder: Path, question: Mapping[str, object]) -> None:
        """Open the journal of a folder, or begin it.

        Args:
            folder: for the results; made if absent.
            question: what must be the same when it is resumed.

        Raises:
            QuestionError: the folder holds the results of another question.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / JOURNAL
        self.answers: dict[bytes, dict[str, Any] | None] = {}
        self._salt = secrets.token_bytes(16)
        stated = json.loads(json.dumps(question))
        if self._path.exists():
            self._load(stated)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._file = os.fdopen(descriptor, "a", encoding="utf-8")
        if self._file.tell() == 0:
            self._write({"question": stated, "salt": self._salt.hex()})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def key(self, item: Item) -> bytes:
        """Return by what an item is recognised; salted, so that the journal holds no digest of a hash."""
        digest = hashlib.blake2b(key=self._salt, digest_size=12)
        for algorithm, codes in sorted(item.codes.items(), key=lambda pair: pair[0].value):
            digest.update(algorithm.value.encode() + b"".join(codes))
        return digest.digest()

    def answered(self, key: bytes) -> bool:
        """True if every node asked has answered about this item."""
        answer = self.answers.get(key, {"open": True})
        return answer is None or not answer["open"]

    def keep(self, answers: Mapping[bytes, dict[str, Any]]) -> None:
        """Write the answers of one part."""
        for key, answer in answers.items():
            self.answers[key] = answer if answer["hits"] or answer["open"] else None
            self._file.write(json.dumps({"key": key.hex()} | answer, ensure_ascii=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _write(self, line: object) -> None:
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()

    def _load(self, question: Mapping[str, object]) -> None:
        content = self._path.read_text(encoding="utf-8")
        whole, _, torn = content.rpartition("\n")
        if torn:  # the last line of a run that was cut off
            self._path.write_text(f"{whole}\n" if whole else "", encoding="utf-8")
        lines = whole.splitlines()
        if not lines:
            return
        head = json.loads(lines[0])
        if head["question"] != question:
            raise QuestionError(f"{self._path.parent}: holds the results of another question; name another --out")
        self._salt = bytes.fromhex(head["salt"])
        for line in lines[1:]:
            answer = json.loads(line)
            kept = {"hits": answer["hits"], "open": answer["open"]}
            self.answers[bytes.fromhex(answer["key"])] = kept if kept["hits"] or kept["open"] else None


def items_of_file(path: Path, *, algorithm: str | None, on_skip: Callable[[int, str], None]) -> Iterator[tuple[int, Item]]:
    """Yield (number of the entry, item) for each entry of a file of hashes, in any format that a node imports.

    Raises:
        FormatError: the file cannot be used as a whole.
    """
    for entry in open_hash_file(path, algorithm=algorithm).entries():
        if isinstance(entry, Entry) and not entry.retracts:
            codes = {Algorithm(name): (code,) for name, code in entry.codes.items()}
            yield entry.number, Item(f"entry {entry.number}", codes)
        elif not isinstance(entry, Entry):
            on_skip(entry.number, entry.reason)


async def ask_all(
    client: FederationClient,
    items: Iterable[Item],
    distances: Mapping[Algorithm, int],
    justification: Justification,
    journal: Journal,
    *,
    ask: Sequence[str],
    deadline_s: float,
    on_progress: Callable[[int], None],
    on_wait: Callable[[str], None],
    rate_wait_s: float = RATE_WAIT_S,
) -> BulkResult:
    """Ask about every item that the journal has no whole answer for.

    Args:
        client: of the investigator.
        items: in any number.
        distances: maximum distance (inclusive) where it is not the algorithm's default.
        justification: why.
        journal: gets the answers.
        ask: members to ask; all if empty.
        deadline_s: how long each part waits for the slowest node.
        on_progress: called with the number of items done.
        on_wait: called with a text when a node's rate limit makes us wait.
        rate_wait_s: how long that is.

    Raises:
        GatewayError, GatewayRefusedError: what was answered before is in the journal.
    """
    result = BulkResult()
    keys: set[bytes] = set()
    async for part in _parts(items, journal, distances, result, keys, on_progress):
        for attempt in range(_RATE_TRIES):
            found = await client.lookup(part, justification, ask=ask, deadline_s=deadline_s)
            limited = [node.member for node in found.nodes if node.outcome is Outcome.RATE_LIMITED]
            if not limited or attempt == _RATE_TRIES - 1:
                break
            on_wait(f"{', '.join(limited)}: rate limit reached; asking again in {rate_wait_s:.0f} s")
            await asyncio.sleep(rate_wait_s)
        _keep(found, journal, result)
        on_progress(result.asked)
    for key in keys:
        answer = journal.answers.get(key)
        result.known += bool(answer and answer["hits"])
        result.open += bool(answer and not answer["hits"])
        result.partial += bool(answer and answer["open"])
        result.unseen += answer is None
    return result


async def _parts(
    items: Iterable[Item],
    journal: Journal,
    distances: Mapping[Algorithm, int],
    result: BulkResult,
    keys: set[bytes],
    on_progress: Callable[[int], None],
) -> AsyncIterator[Part]:
    pending: list[Item] = []
    for item in items:
        result.asked += 1
        key = journal.key(item)
        if key in keys:
            continue
        keys.add(key)
        if journal.answered(key):
            if not result.asked % 1000:
                on_progress(result.asked)
            continue
        pending.append(item)
        if len(pending) >= _GATHER:
            for part in split(pending, distances):
                yield part
            pending.clear()
    for part in split(pending, distances):
        yield part


def _keep(found: LookupResult, journal: Journal, result: BulkResult) -> None:
    still_open = sorted(node.member for node in found.nodes if not node.outcome.answered)
    answers: dict[bytes, dict[str, Any]] = {journal.key(item): {"hits": [], "open": still_open} for item in found.items}
    for hit in found.hits:
        answers[journal.key(found.items[hit.item])]["hits"].append(hit_fields(hit))
    journal.keep(answers)
    for node in found.nodes:
        counts = result.nodes.setdefault(node.member, {"answered": 0, "unanswered": 0, "detail": ""})
        counts["answered" if node.outcome.answered else "unanswered"] += 1
        if not node.outcome.answered:
            counts["detail"] = f"{node.outcome.value} {node.detail}".strip()
