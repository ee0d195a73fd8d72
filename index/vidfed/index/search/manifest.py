"""The index's files: immutable, checksummed, and named by one manifest that is replaced in one step.

Every change of the index on disk is: write new files under names never used before, fsync them, write the new manifest under a temporary
name, fsync it, rename it over the old one, fsync the folder. Whoever opens the index reads the manifest and only the files it names, so
that any interruption leaves either the old state or the new one. What no manifest names is litter, swept up by the next writer.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vidfed.index.errors import IndexCorruptError, IndexLockedError, IndexStorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

MANIFEST = "MANIFEST"
_PREFIXES = ("open-", "segment-", "removed-")
_ALIGNMENT_BYTES = 64  # one cache line, so that no array straddles more of them than it must
_CHECKED_BYTES = 1 << 22
_PRIVATE = 0o600  # people can be roughly reconstructed from perceptual hashes: nobody but the node reads them


class Disk:
    """The file operations that make a change durable, one method each, so that a test can stop the world between any two of them."""

    def write(self, path: Path, pieces: Iterable[bytes | memoryview]) -> None:
        """Write a new file, or start an existing one anew."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _PRIVATE)
        with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123 - a descriptor, not a path
            for piece in pieces:
                left = memoryview(piece).cast("B")
                while left:
                    left = left[file.write(left) :]

    def sync(self, path: Path) -> None:
        """Return when the file's contents (or a folder's names) are on the disk."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Replace `target` in one step."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """Remove a file; it may be gone already."""
        path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One immutable file as the manifest names it."""

    name: str
    size_bytes: int
    crc32: int

    def to_json(self) -> dict[str, Any]:
        """The manifest's form."""
        return {"name": self.name, "bytes": self.size_bytes, "crc32": f"{self.crc32:08x}"}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> FileEntry:
        """Read the manifest's form."""
        name = fields["name"]
        if not isinstance(name, str) or not name.startswith(_PREFIXES) or "/" in name:
            raise ValueError("a file name that no index writes")
        return cls(name, int(fields["bytes"]), int(fields["crc32"], 16))


class Folder:
    """The folder of one index."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self.path = path
        self.disk = disk

    def lock(self) -> int:
        """Become the folder's only writer, creating the folder if need be, until the descriptor returned is closed.

        The lock ends with the process, however that ends.

        Raises:
            IndexLockedError: another writer has it.
            IndexStorageError: the folder cannot be written.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path / "LOCK", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise IndexStorageError(f"{self.path}: cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise IndexLockedError(f"{self.path}: another writer has the index open") from None
        return descriptor

    def write_arrays(self, name: str, arrays: dict[str, NDArray[Any]]) -> FileEntry:
        """Write a new file of named arrays: a line of JSON that says what is where, then the arrays, each on a cache line of its own.

        Raises:
            IndexStorageError: the disk refused.
        """
        layout, offset = {}, 0
        for key, array in arrays.items():
            layout[key] = {"dtype": array.dtype.str, "shape": list(array.shape), "offset": offset}
            offset += _padded(array.nbytes)
        head = json.dumps(layout).encode() + b"\n"
        head = head[:-1].ljust(_padded(len(head)) - 1) + b"\n"
        crc32, size_bytes = 0, 0

        def pieces() -> Iterator[bytes | memoryview]:
            nonlocal crc32, size_bytes
            for piece in (head, *(part for array in arrays.values() for part in _pieces(array))):
                crc32 = zlib.crc32(piece, crc32)
                size_bytes += len(piece)
                yield piece

        with self._storage_errors(name):
            self.disk.write(self.path / name, pieces())
        return FileEntry(name, size_bytes, crc32)

    def read_arrays(self, entry: FileEntry, *, check: bool = True) -> dict[str, NDArray[Any]]:
        """Map a file and check every byte of it, unless this process has only just written it.

        The arrays are read-only, and live as long as anyone holds them.

        Raises:
            IndexCorruptError: the file is missing, has another length, or any byte of it changed.
        """
        try:
            with (self.path / entry.name).open("rb") as file:
                if os.fstat(file.fileno()).st_size != entry.size_bytes:
                    raise IndexCorruptError(f"{entry.name}: not the length it was written with")
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise IndexCorruptError(f"{entry.name}: missing") from None
        except OSError as error:
            raise IndexStorageError(f"{entry.name}: cannot be read: {error.strerror}") from error
        if check and zlib.crc32(mapped) != entry.crc32:
            raise IndexCorruptError(f"{entry.name}: checksum does not match, the file was damaged")
        start = mapped.find(b"\n") + 1
        arrays = {}
        for key, form in json.loads(mapped[:start]).items():
            shape, dtype = tuple(form["shape"]), np.dtype(form["dtype"])
            array = np.frombuffer(mapped, dtype, int(np.prod(shape)), start + form["offset"]) if 0 not in shape else np.empty(0, dtype)
            arrays[key] = array.reshape(shape)
        return arrays

    def check_file(self, entry: FileEntry, pause: Callable[[int], None]) -> None:
        """Return if every byte of a file is as it was written.

        Args:
            entry: the file.
            pause: called after each piece with its length in bytes, to leave the disk to others.

        Raises:
            IndexCorruptError: the file is missing, has another length, or any byte of it changed.
            IndexStorageError: it cannot be read.
        """
        crc32 = size_bytes = 0
        try:
            with (self.path / entry.name).open("rb", buffering=0) as file:
                while piece := file.read(_CHECKED_BYTES):
                    crc32, size_bytes = zlib.crc32(piece, crc32), size_bytes + len(piece)
                    pause(len(piece))
        except FileNotFoundError:
            raise IndexCorruptError(f"{entry.name}: missing") from None
        except OSError as error:
            raise IndexStorageError(f"{entry.name}: cannot be read: {error.strerror}") from error
        if (crc32, size_bytes) != (entry.crc32, entry.size_bytes):
            raise IndexCorruptError(f"{entry.name}: checksum does not match, the file was damaged")

    def commit(self, manifest: dict[str, Any], unsynced: Iterable[FileEntry]) -> None:
        """Make `manifest` the state of the index; `unsynced` are the files it names that may not be on the disk yet.

        Raises:
            IndexStorageError: the disk refused; the state before is intact.
        """
        body = json.dumps(manifest, separators=(",", ":")).encode()
        with self._storage_errors(MANIFEST):
            for entry in unsynced:
                self.disk.sync(self.path / entry.name)
            temporary = self.path / f"{MANIFEST}.tmp"
            self.disk.write(temporary, [b"%08x\n" % zlib.crc32(body), body, b"\n"])
            self.disk.sync(temporary)
            self.disk.rename(temporary, self.path / MANIFEST)
            self.disk.sync(self.path)

    def read_manifest(self) -> dict[str, Any] | None:
        """The index's state, or None where no index was ever created.

        Raises:
            IndexCorruptError: the manifest was damaged, or is missing while other files of an index are there.
        """
        try:
            text = (self.path / MANIFEST).read_bytes()
        except FileNotFoundError:
            if any(path.name.startswith(_PREFIXES) for path in self.path.iterdir()):
                raise IndexCorruptError(f"{MANIFEST}: missing, though other files of an index are there") from None
            return None
        crc32, _, body = text.partition(b"\n")
        body = body.removesuffix(b"\n")
        if crc32 != b"%08x" % zlib.crc32(body) or len(text) != len(body) + len(crc32) + 2:
            raise IndexCorruptError(f"{MANIFEST}: checksum does not match, the file was damaged")
        manifest: dict[str, Any] = json.loads(body)
        return manifest

    def stamp(self) -> tuple[int, int, int]:
        """Something that differs whenever the manifest was replaced; cheap enough to ask before every query."""
        try:
            status = os.stat(f"{self.path}/{MANIFEST}")  # noqa: PTH116 - a third of the price of Path.stat
        except FileNotFoundError:
            raise IndexCorruptError(f"{MANIFEST}: missing") from None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def remove_manifest(self) -> None:
        """Forget the state."""
        with self._storage_errors(MANIFEST):
            self.disk.unlink(self.path / MANIFEST)

    def sweep(self, named: set[str]) -> None:
        """Remove what an interrupted or replaced state left behind; `named` are the files still needed."""
        for path in self.litter(named):
            with contextlib.suppress(OSError):  # the next sweep tries again
                self.disk.unlink(path)

    def litter(self, named: set[str]) -> list[Path]:
        """The files of other states than that which needs those `named`."""
        return [
            path
            for path in self.path.iterdir()
            if (path.name.startswith(_PREFIXES) and path.name not in named) or path.name == f"{MANIFEST}.tmp"
        ]

    @contextlib.contextmanager
    def _storage_errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise IndexStorageError(f"{name}: cannot be written: {error.strerror}; what was flushed before is intact") from error


def _padded(size_bytes: int) -> int:
    return -(-size_bytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES


def _pieces(array: NDArray[Any], piece_bytes: int = 1 << 19) -> Iterator[bytes | memoryview]:
    """An array's bytes in pieces that checksum and write while still in the processor's cache, padded to a cache line."""
    if array.nbytes:
        view = np.ascontiguousarray(array).data.cast("B")
        for start in range(0, len(view), piece_bytes):
            yield view[start : start + piece_bytes]
    yield bytes(_padded(array.nbytes) - array.nbytes)
