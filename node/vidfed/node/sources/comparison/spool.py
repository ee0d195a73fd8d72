"""What a run found and has not yet written: kept on disk, so that it survives a crash between reading and writing.

One JSON object a line: `begin`, then `rows` (statements), `gone` (numbers of records) and `page` (where a broken look may go on), and at
last `end`. It holds hashes; it is readable by its owner alone and removed as soon as it is written into the store.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import IO, TYPE_CHECKING, Any

from vidfed.node.sources.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IDS_A_LINE = 10_000


class Spool:
    """One source's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def begin(self, **about: object) -> None:
        """Begin anew.

        Raises:
            SourceError: it cannot be written.
        """
        self.close()
        with self._guarded():
            self._file = os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8")
        self.add(begin=about)

    def go_on(self, upto_bytes: int) -> None:
        """Go on with what is there, forgetting what stands after `upto_bytes`."""
        with self._guarded():
            self._file = self.path.open("r+", encoding="utf-8")
            self._file.truncate(upto_bytes)
            self._file.seek(upto_bytes)

    def add(self, *, durable: bool = False, **message: object) -> None:
        """Add a line.

        Args:
            durable: return only when everything is on the disk.
            message: of one name.

        Raises:
            SourceError: it cannot be written: is the disk full?
        """
        assert self._file is not None  # noqa: S101 - begin or go_on comes first
        with self._guarded():
            self._file.write(json.dumps(message, ensure_ascii=False, separators=(",", ":")) + "\n")
            if durable:
                self._file.flush()
                os.fsync(self._file.fileno())

    def messages(self) -> Iterator[tuple[dict[str, Any], int]]:
        """Yield each whole line, with the number of bytes up to its end; a line that a crash cut ends it."""
        done = 0
        try:
            with self.path.open("rb") as file:
                for line in file:
                    if not line.endswith(b"\n"):
                        return
                    done += len(line)
                    yield json.loads(line), done
        except (FileNotFoundError, ValueError):
            return
        except OSError as error:
            raise SourceError(f"{self.path}: {error.strerror}") from None

    def is_complete(self) -> bool:
        """Return whether its last line says so."""
        try:
            with self.path.open("rb") as file:
                file.seek(-min(1 << 16, file.seek(0, os.SEEK_END)), os.SEEK_END)
                last = file.read().splitlines(keepends=True)[-1:]
                return bool(last) and last[0].startswith(b'{"end":') and last[0].endswith(b"}\n")
        except OSError:
            return False

    @property
    def is_open(self) -> bool:
        """Whether lines can be added."""
        return self._file is not None

    def close(self) -> None:
        """Close it, leaving it where it is."""
        if self._file is not None:
            with self._guarded():
                self._file.close()
            self._file = None

    def remove(self) -> None:
        """Remove it."""
        with contextlib.suppress(SourceError):
            self.close()
        self.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SourceError(f"{self.path}: {error.strerror}; nothing was changed") from None
