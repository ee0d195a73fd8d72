"""What an investigator's kit remembers of its own lookups, so that their answers can be fetched and checked later.

KIT/lookups/ID/0000.json ... hold, for each part of a lookup, the question as it was signed, the items' labels, and the private key its
replies are sealed for. Mode 0600, like the kit's keys. Written before anything is asked, so that a killed program loses nothing; deleting
a folder makes what the gateway keeps of that lookup unreadable for everybody.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from vidfed.federation.lookup.errors import MailboxError, QuestionError
from vidfed.federation.lookup.outcome import NodeOutcome, Outcome, not_asked
from vidfed.federation.lookup.question import Item, Part
from vidfed.federation.lookup.sealing import new_key
from vidfed.federation.lookup.verification import SignedPart
from vidfed.security.clock import DAY_MS
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.errors import EnvelopeError
from vidfed.security.files import read_private, write_private
from vidfed.wire.requests import read_request
from vidfed.wire.statuses import WireError
from vidfed.wire.values import REQUEST_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from vidfed.index import Algorithm
    from vidfed.security.identity.directory import Directory
    from vidfed.wire.values import LookupRequest

KEEP_DAYS = 30  # what a kit remembers of a lookup is deleted after this; a credential does not live longer either
_KIND = "vidfed-own-lookup/1"
_BESIDE = "b"  # sorts behind its part; see `PartPlace.beside`
_ID = re.compile(r"[0-9a-f]{8}")


class PartPlace(NamedTuple):
    """A part's place in an own lookup.

    Attributes:
        lookup: its id.
        number: of the part.
        last: no part comes after it.
        without_frames: of films it asks the digests alone.
        beside: another request asks other members about the same items, with the frames.
    """

    lookup: str
    number: int
    last: bool
    without_frames: bool = False
    beside: bool = False


class DamagedLookupError(MailboxError):
    """What the kit remembers of a lookup cannot be read."""


@dataclass(frozen=True, slots=True)
class PastPart:
    """One part of a lookup: what was asked, and how its replies can be opened."""

    asked: SignedPart[Part]
    private_key: bytes
    not_asked: tuple[NodeOutcome, ...] = ()
    """The members that were not asked then, and why."""
    without_frames: bool = False
    beside: bool = False
    """Both as in `PartPlace`."""

    def not_asked_by(self, directory: Directory) -> tuple[NodeOutcome, ...]:
        """Return the members not asked, also those that the directory names only since then."""
        then = {node.member: node for node in self.not_asked}
        audience = self.asked.request.header.audience
        return tuple(then.get(node.member, node) for node in not_asked(directory, audience, chosen=False))


@dataclass(frozen=True, slots=True)
class PastLookup:
    """One lookup as the kit remembers it."""

    id: str
    parts: tuple[PastPart, ...]
    whole: bool
    """False if it was broken off before its last part was asked."""

    @property
    def items(self) -> tuple[Item, ...]:
        """All that was asked about, in order."""
        return tuple(item for part in self.parts if not part.beside for item in part.asked.part.items)

    @property
    def asked_ms(self) -> int:
        """When it was asked, in ms since the epoch."""
        return min(part.asked.request.header.issued_ms for part in self.parts)


class History:
    """The lookups a kit remembers."""

    def __init__(self, folder: Path) -> None:
        """Use this folder, which need not exist yet."""
        self._folder = folder

    def begin(self) -> str:
        """Return a new id: 8 hex digits."""
        return secrets.token_hex(4)

    def remember(self, place: PartPlace, signed: Envelope, items: Iterable[Item], not_asked: Iterable[NodeOutcome] = ()) -> bytes:
        """Write one part down, signed, before it is asked, and return the public key its replies are to be sealed for."""
        private, public = new_key()
        fields = {
            "kind": _KIND,
            "question": base64.b64encode(signed.to_json()).decode(),
            "private_key": base64.b64encode(private).decode(),
            "last": place.last,
            "without_frames": place.without_frames,
            "beside": place.beside,
            "items": [{"label": item.label, **item.to_fields()} for item in items],
            "not_asked": [[node.member, node.outcome.name, node.detail] for node in not_asked],
        }
        write_private(self._folder / place.lookup / f"{place.number:04}{_BESIDE if place.beside else ''}.json", json.dumps(fields).encode())
        return public

    def ids(self) -> list[str]:
        """Return the ids of all lookups remembered."""
        if not self._folder.is_dir():
            return []
        return sorted(path.name for path in self._folder.iterdir() if _ID.fullmatch(path.name))

    def load(self, lookup: str) -> PastLookup:
        """Read one lookup.

        Raises:
            QuestionError: not an id.
            MailboxError: this kit remembers no such lookup; DamagedLookupError, what it has of it is damaged.
            KeyFileError: others could read the file.
        """
        if not _ID.fullmatch(lookup):
            raise QuestionError(f"{lookup!r:.40} is no lookup's id: 8 hex digits, as `vidfed lookups list` shows them")
        paths = sorted((self._folder / lookup).glob("[0-9]*.json"))
        if not paths:
            raise MailboxError(f"this kit remembers no lookup {lookup}; `vidfed lookups list` shows those it does")
        parts, last = zip(*map(_load_part, paths), strict=True)
        return PastLookup(lookup, parts, whole=last[-1])

    def forget(self, lookup: str) -> None:
        """Delete one lookup, and with its keys what anybody keeps of it."""
        if _ID.fullmatch(lookup):
            shutil.rmtree(self._folder / lookup, ignore_errors=True)

    def prune(self, now_ms: int) -> None:
        """Delete lookups older than KEEP_DAYS."""
        for lookup in self.ids():
            changed_ms = int((self._folder / lookup).stat().st_mtime * 1000)
            if now_ms - changed_ms > KEEP_DAYS * DAY_MS:
                self.forget(lookup)


def _load_part(path: Path) -> tuple[PastPart, bool]:
    """Read one part, and whether it is the last."""
    content = read_private(path)
    try:
        fields: Mapping[str, Any] = json.loads(content)
        if fields["kind"] != _KIND:
            raise DamagedLookupError(f"{path}: not of this version; forget this lookup with `vidfed lookups forget`")
        signed = Envelope.from_json(base64.b64decode(fields["question"], validate=True))
        request = read_request(signed.payload)
        items = [_item(entry, request, number) for number, entry in enumerate(fields["items"])]
        if signed.payload_type != REQUEST_TYPE or len(items) != request.item_count:
            raise DamagedLookupError(f"{path}: damaged; forget this lookup with `vidfed lookups forget`")
        private_key = base64.b64decode(fields["private_key"], validate=True)
        asked = SignedPart(Part(tuple(items), request.columns), request, signed.digest)
        left_out = tuple(NodeOutcome(str(member), Outcome[name], str(why)) for member, name, why in fields["not_asked"])
        return PastPart(asked, private_key, left_out, bool(fields["without_frames"]), bool(fields["beside"])), bool(fields["last"])
    except (ValueError, KeyError, TypeError, AttributeError, EnvelopeError, WireError, RecursionError):
        raise DamagedLookupError(f"{path}: damaged; forget this lookup with `vidfed lookups forget`") from None


def _item(entry: Mapping[str, Any], request: LookupRequest, number: int) -> Item:
    codes: dict[Algorithm, tuple[bytes, ...]] = {}
    for column in request.columns:
        if own := tuple(bytes(code) for code, item in zip(column.codes, column.items, strict=True) if int(item) == number):
            codes[column.algorithm] = own
    return Item.from_fields(str(entry["label"]), codes, entry)
