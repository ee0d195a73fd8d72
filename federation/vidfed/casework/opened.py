"""One entry, opened to an overseer: a file that is checked with the federation's anchor and no key at all."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidfed.casework.carriage.verification import verify
from vidfed.casework.errors import SealError
from vidfed.casework.sealing import check_opening
from vidfed.security.clock import Clock, system_clock
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.documents import read_document
from vidfed.security.errors import EnvelopeError
from vidfed.security.trust.reader import read_as_issued
from vidfed.v1 import casework_pb2 as pb
from vidfed.wire import envelope as wire_envelope
from vidfed.wire.casework import read_entry
from vidfed.wire.statuses import WireError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vidfed.casework.core.conversation import Entry
    from vidfed.security.trust.anchor import Anchor
    from vidfed.wire.casework_values import Content

MAX_OPENED_BYTES = 64 * 1024 * 1024
"""Of a file: mostly the trust directory, 194 members of at most a few hundred KiB each in practice 5 MiB."""
_FORM = {"kind": str, "entry": str, "credentials": list, "content": str, "overseer": str, "directory": dict}
_KIND = "vidfed-opened-entry/1"


@dataclass(frozen=True, slots=True)
class OpenedEntry:
    """What a party gives to an overseer.

    Attributes:
        entry: header, with all signatures.
        credentials: its authors'.
        content: what was sealed, salt included.
        overseer: to whom it was opened, as the party's log has it.
        directory: a complete trust directory, by the names it is published under: whose keys those are.
    """

    entry: Envelope
    credentials: tuple[Envelope, ...]
    content: bytes
    overseer: str
    directory: Mapping[str, bytes]

    def to_json(self) -> bytes:
        """Write the file that `from_json` reads."""
        fields = {
            "kind": _KIND,
            "entry": self.entry.to_json().decode(),
            "credentials": [each.to_json().decode() for each in self.credentials],
            "content": base64.b64encode(self.content).decode(),
            "overseer": self.overseer,
            "directory": {name: base64.b64encode(content).decode() for name, content in self.directory.items()},
        }
        return json.dumps(fields, indent=1).encode() + b"\n"

    @classmethod
    def from_json(cls, content: bytes, what: str = "opened entry") -> OpenedEntry:
        """Read a file; `check` judges it.

        Raises:
            SealError: it is none.
        """
        if len(content) > MAX_OPENED_BYTES:
            raise SealError(f"{what}: {len(content)} bytes, at most {MAX_OPENED_BYTES} are read")
        fields = read_document(content, _FORM, SealError, what)
        if fields["kind"] != _KIND:
            raise SealError(f"{what}: not an opened entry of this version")
        try:
            credentials = tuple(Envelope.from_json(str(each).encode()) for each in fields["credentials"])
            directory = {str(name): base64.b64decode(data, validate=True) for name, data in fields["directory"].items()}
            opened = base64.b64decode(fields["content"], validate=True)
            return cls(Envelope.from_json(fields["entry"].encode()), credentials, opened, fields["overseer"], directory)
        except (ValueError, TypeError, EnvelopeError):
            raise SealError(f"{what}: damaged") from None

    def check(self, anchor: Anchor, *, clock: Clock = system_clock) -> tuple[Entry, Content]:
        """Return entry and content, if the entry's authors and their member signed for exactly this content.

        Args:
            anchor: the federation's first root, which the overseer has from the administrators.
            clock: the time.

        Raises:
            SealError: the content is not what was signed.
            RefusedError, LaterError: a signature does not hold.
            DirectoryError: the trust directory in the file does not lead from the anchor, or does not know the writer.
        """
        directory = read_as_issued(self.directory, anchor, "the directory that came with the entry")
        try:
            writer = read_entry(self.entry.payload).writer
        except WireError as error:
            raise SealError(f"the entry cannot be read: {error}") from None
        delivery = pb.Delivery(
            entry=wire_envelope.to_message(self.entry), credentials=[wire_envelope.to_message(each) for each in self.credentials]
        )
        entry = verify(delivery, directory, writer, clock(), history=True).entry
        return entry, check_opening(entry.header, self.content)
