"""Signed notes and log checkpoints: text signed with Ed25519, as specified by C2SP.

Sources: https://c2sp.org/signed-note, https://c2sp.org/tlog-checkpoint, https://c2sp.org/tlog-cosignature (Ed25519, cosignature/v1).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vidfed.security.audit.merkle import HASH_BYTES
from vidfed.security.crypto.keys import SIGNATURE_BYTES
from vidfed.security.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vidfed.security.crypto.keys import PublicKey, Signer

MAX_NOTE_BYTES = 64 * 1024  # 194 cosigning members take 25 KiB
MAX_SIGNATURES = 400  # two for each of the largest federation's members
_ED25519 = 0x01
_COSIGNATURE = 0x04
_KEY_ID_BYTES = 4
_TIME_BYTES = 8
_MIN_LINES = 3
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")  # below 10**19; matched first, because int() itself refuses text of thousands of digits
_MAX_SIZE = 1 << 63
MAX_EPOCH = 9_999  # a log is begun anew after a loss, by hand
_EPOCH = re.compile(r"[1-9][0-9]{0,3}")
_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f]")  # all below the space but the end of a line
_MARK = "\u2014 "  # em dash, space: starts a signature line


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line: the signer's name, the 4-byte key id, and what the algorithm gave."""

    name: str
    key_id: bytes
    value: bytes

    @property
    def line(self) -> str:
        """The line with its final newline."""
        return f"{_MARK}{self.name} {base64.b64encode(self.key_id + self.value).decode()}\n"

    @classmethod
    def parse(cls, line: str) -> NoteSignature:
        """Read one line without its newline.

        Raises:
            CheckpointError: not of that form.
        """
        name, space, encoded = line.removeprefix(_MARK).partition(" ")
        if not line.startswith(_MARK) or not space or not name or "+" in name or any(map(str.isspace, name)):
            raise CheckpointError("a signature line is not of the form '\u2014 NAME BASE64'")
        try:
            content = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raise CheckpointError("a signature line is not base64") from None
        if len(content) <= _KEY_ID_BYTES or base64.b64encode(content).decode() != encoded:
            raise CheckpointError("a signature line is too short or not in canonical base64")
        return cls(name, content[:_KEY_ID_BYTES], content[_KEY_ID_BYTES:])


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A witness's statement: at `time_s` this was the largest consistent state it had seen of the log."""

    name: str
    time_s: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A log's state at one size, and who signed it.

    Attributes:
        origin: the log's name, see `log_origin`.
        size: number of entries.
        root: 32 bytes.
        signatures: as received; nothing is known of them until verified.
    """

    origin: str
    size: int
    root: bytes
    signatures: tuple[NoteSignature, ...] = ()

    @property
    def body(self) -> str:
        """The signed text: origin, size, root, each on its line."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @property
    def text(self) -> str:
        """The whole note."""
        return f"{self.body}\n{''.join(signature.line for signature in self.signatures)}"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read a checkpoint; it is not verified by that.

        Raises:
            CheckpointError: not of the specified form, or with extension lines, which this log never writes.
        """
        try:
            size_bytes = len(text.encode())
        except UnicodeEncodeError:
            raise CheckpointError("checkpoint that is not valid UTF-8") from None
        if size_bytes > MAX_NOTE_BYTES:
            raise CheckpointError(f"checkpoint of more than {MAX_NOTE_BYTES} bytes")
        if _CONTROLS.search(text):
            raise CheckpointError("checkpoint with control characters")
        body, blank, signed = text.rpartition("\n\n")
        lines = body.split("\n")
        if not blank or not signed.endswith("\n") or len(lines) != _MIN_LINES or not lines[0]:
            raise CheckpointError("not a checkpoint: origin, size and root, an empty line, signatures")
        origin, size, root = lines
        if not _SIZE.fullmatch(size) or int(size) >= _MAX_SIZE:
            raise CheckpointError("checkpoint: the size is not a plain number")
        try:
            digest = base64.b64decode(root, validate=True)
        except (binascii.Error, ValueError):
            raise CheckpointError("checkpoint: the root is not base64") from None
        if len(digest) != HASH_BYTES or base64.b64encode(digest).decode() != root:
            raise CheckpointError("checkpoint: the root is not 32 bytes in canonical base64")
        signatures = tuple(NoteSignature.parse(line) for line in signed[:-1].split("\n"))
        if len(signatures) > MAX_SIGNATURES:
            raise CheckpointError(f"checkpoint with {len(signatures)} signatures, at most {MAX_SIGNATURES}")
        return cls(origin, int(size), digest, signatures)

    def signed_by(self, signer: Signer) -> Checkpoint:
        """Return this checkpoint with the log's own signature; the key's name is the origin."""
        value = signer.sign(self.body.encode())
        return replace(
            self, signatures=(*self.signatures, NoteSignature(self.origin, _key_id(self.origin, _ED25519, signer.public), value))
        )

    def cosigned_by(self, name: str, signer: Signer, time_s: int) -> NoteSignature:
        """Return a witness's signature line for this checkpoint."""
        value = time_s.to_bytes(_TIME_BYTES, "big") + signer.sign(_cosigned_text(self.body, time_s))
        return NoteSignature(name, _key_id(name, _COSIGNATURE, signer.public), value)

    def with_signatures(self, added: Iterable[NoteSignature]) -> Checkpoint:
        """Return this checkpoint with more signature lines, each once."""
        return replace(self, signatures=tuple(dict.fromkeys((*self.signatures, *added))))

    def verify(self, origin: str, keys: Iterable[PublicKey]) -> Checkpoint:
        """Return this checkpoint with the signatures of the log `origin` that hold and no others, if there is one by one of its keys.

        Raises:
            CheckpointError: of another log, or no signature by its keys holds. One that claims to be by such a key and does not hold
                spoils the note, as signed-note asks.
        """
        if self.origin != origin:
            raise CheckpointError(f"checkpoint of {self.origin!r:.100}, expected {origin}")
        known = {_key_id(origin, _ED25519, key): key for key in keys}
        holding: list[NoteSignature] = []
        for signature in self.signatures:
            # A key is looked at once: a note of hundreds of lines by one key must not cost hundreds of verifications.
            key = known.pop(signature.key_id, None) if signature.name == origin else None
            if key is None:
                continue
            if not key.holds(self.body.encode(), signature.value):
                raise CheckpointError("the log's signature does not hold")
            holding.append(signature)
        if not holding:
            raise CheckpointError(f"not signed with a key of {origin}")
        return replace(self, signatures=tuple(holding))

    def verify_log(self, federation: str, member: str, keys: Iterable[PublicKey]) -> Checkpoint:
        """Verify that this is a state of a member's log, in whatever epoch; see `verify`.

        Raises:
            CheckpointError: it is not.
        """
        if epoch_of(self.origin, federation, member) is None:
            raise CheckpointError(f"checkpoint of {self.origin!r:.100}, expected {log_origin(federation, member)}")
        return self.verify(self.origin, keys)

    def cosignatures(self, name: str, keys: Iterable[PublicKey]) -> list[Cosignature]:
        """Return a witness's cosignatures that hold, the first line of each key; those of other names and keys are left out."""
        known = {_key_id(name, _COSIGNATURE, key): key for key in keys}
        found = []
        for signature in self.signatures:
            if signature.name != name or len(signature.value) != _TIME_BYTES + SIGNATURE_BYTES:
                continue
            key = known.pop(signature.key_id, None)  # once, as in `verify`
            if key is None:
                continue
            time_s = int.from_bytes(signature.value[:_TIME_BYTES], "big")
            if time_s < 1 << 63 and key.holds(_cosigned_text(self.body, time_s), signature.value[_TIME_BYTES:]):
                found.append(Cosignature(name, time_s))
        return found


def log_origin(federation: str, member: str, epoch: int = 1) -> str:
    """Return the name of a member's log, which is also the name of its key. From the second epoch on it has its number."""
    return f"vidfed/{federation}/{member}/audit{f'/{epoch}' if epoch > 1 else ''}"


def epoch_of(origin: str, federation: str, member: str) -> int | None:
    """Return which epoch of this member's log has the name `origin`, from 1; None if it is no log of this member."""
    return epoch_after(log_origin(federation, member), origin)


def epoch_after(first: str, origin: str) -> int | None:
    """Return which epoch of the log, whose first has the name `first`, is called `origin`; None if none is."""
    number = origin.removeprefix(f"{first}/")
    if origin == first:
        return 1
    return int(number) if number != origin and _EPOCH.fullmatch(number) and number != "1" else None


def witness_name(federation: str, member: str) -> str:
    """Return the name under which a member cosigns."""
    return f"vidfed/{federation}/{member}/witness"


def _key_id(name: str, algorithm: int, key: PublicKey) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + bytes([algorithm]) + key.raw).digest()[:_KEY_ID_BYTES]


def _cosigned_text(body: str, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n{body}".encode()
