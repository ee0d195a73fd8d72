"""Lists without a header: one hash a line, sums as the usual programs write them, hashdeep."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from vidfed.formats import values as read
from vidfed.formats.entries import FileEntry, FormatError, Skip

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vidfed.formats.source import Source

HASHDEEP_MARK = "%%%% HASHDEEP-"
_COMMENTS = ("#", "//", ";", "%%%%")
_BSD = re.compile(r"\\?([A-Za-z0-9-]+) ?\(.*\) ?= ?([0-9A-Fa-f]+)")
_HEX = re.compile(r"[0-9A-Fa-f]+")
_SEPARATORS = re.compile(r"[,;\t]")
_UNAMBIGUOUS = {32: "md5", 40: "sha1", 192: "photodna", 288: "photodna"}  # characters
_BY_DIGITS = {2 * length: names for length, names in ((8, "phash, dhash, ahash or whash"), (32, "sha256 or pdq"))}
_LENGTHS = {16, 32, 40, 64, 192, 288}
_HASH_CHARACTERS = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+/=")
_PHOTODNA_NUMBERS = re.compile(r"\[?(?:\s*\d{1,3}\s*[,; ]){143}\s*\d{1,3}\s*\]?")


def is_comment(line: str) -> bool:
    """Return whether a line of a list says nothing."""
    text = line.strip()
    return not text or text.startswith(_COMMENTS)


def is_hash_line(text: str) -> bool:
    """Return whether a line is one of a list of hashes."""
    if digests_of_line(text) or _PHOTODNA_NUMBERS.fullmatch(text):
        return True
    prefix, colon, rest = text.partition(":")
    value = _first(rest if colon and read.algorithm_name(prefix) else text)
    plain = value.strip("{}").removeprefix("0x").replace("-", "")
    return len(plain) in _LENGTHS and plain.isascii() and not set(plain) - _HASH_CHARACTERS


def algorithm_of(value: str, algorithm: str | None) -> str | None:
    """Return the algorithm that a hash's length tells; where it may be several, the one that the caller says.

    Args:
        value: of a hash, without what is around it.
        algorithm: the caller's word.

    Raises:
        ValueError: it may be several, and the caller does not say.
    """
    length = len(value)
    if (name := _UNAMBIGUOUS.get(length)) is not None:
        return name
    if algorithm is None and length in _BY_DIGITS and _HEX.fullmatch(value):
        raise ValueError(f"{length} hex digits may be {_BY_DIGITS[length]}: say which with --algorithm")
    return algorithm


def read_list(source: Source, algorithm: str | None) -> Iterator[FileEntry | Skip]:
    """Yield the entries of a list: one hash a line, or `algorithm:hash`; what follows a hash after a space is passed over.

    Args:
        source: the file.
        algorithm: name of the algorithm; None: told by the length, where that tells it.

    Raises:
        FormatError: the length does not tell the algorithm.
    """
    for line, text in enumerate(source.lines(), 1):
        if is_comment(text):
            continue
        stripped = text.strip()
        if several := digests_of_line(stripped):
            yield _entry(line, several)
            continue
        prefix, colon, rest = stripped.partition(":")
        named = read.algorithm_name(prefix) if colon else None
        value = rest if named else stripped
        if not named and _PHOTODNA_NUMBERS.fullmatch(value):
            named = "photodna"
        value = value if named else _first(value)
        try:
            name = named or algorithm_of(value, algorithm)
        except ValueError as error:
            raise FormatError(f"{source.path}: line {line}: {error}") from None
        if name is None:
            yield Skip(line, f"{len(value)} characters: the length of no hash")
            continue
        yield _entry(line, {name: value if name == "photodna" else _first(value)})


def read_hashdeep(source: Source, notes: list[str]) -> Iterator[FileEntry | Skip]:
    """Yield the entries of a list by hashdeep: a line names the columns, the last of which, the file's name, may hold commas.

    Raises:
        FormatError: no line names the columns.
    """
    columns: list[str] = []
    for line, text in enumerate(source.lines(), 1):
        stripped = text.strip()
        if stripped.startswith("%%%% ") and not stripped.startswith(HASHDEEP_MARK):
            columns = stripped[5:].split(",")
            unknown = [name for name in columns if name not in {"size", "filename"} and read.algorithm_name(name) is None]
            if unknown:
                notes.append(f"columns passed over: {', '.join(f'{name!r:.60}' for name in unknown)}")
            continue
        if not stripped or stripped.startswith(("##", "%%%%")):
            continue
        if not columns:
            raise FormatError(f"{source.path}: line {line}: hashdeep's line that names the columns (`%%%% size,md5,...`) is missing")
        cells = stripped.split(",", len(columns) - 1)
        if len(cells) != len(columns):
            yield Skip(line, f"{len(cells)} values for {len(columns)} columns")
            continue
        row = dict(zip(columns, cells, strict=True))
        entry = _entry(line, {name: cell for key, cell in row.items() if (name := read.algorithm_name(key))})
        if isinstance(entry, FileEntry):
            try:
                entry.values["size_bytes"] = read.whole_number(row.get("size", ""))
            except ValueError as error:
                entry.notes.append(f"size: {error}; left out")
        yield entry


def _entry(line: int, texts: dict[str, str]) -> FileEntry | Skip:
    entry = FileEntry(line, {}, {})
    for name, text in texts.items():
        try:
            entry.codes[name] = read.read_code(name, text)
        except read.EmptyFileError as error:
            return Skip(line, str(error))
        except ValueError as error:
            entry.notes.append(str(error))
    return entry if entry.codes else Skip(line, "; ".join(entry.notes))


def digests_of_line(text: str) -> dict[str, str]:
    """Return the digests of a line of BSD's `MD5 (file) = digest` or of `md5,sha1` without a header; empty if it is neither."""
    if (said := _BSD.fullmatch(text)) is not None:
        name = read.algorithm_name(said[1])
        return {name: said[2]} if name else {}
    cells = [cell.strip(' "') for cell in _SEPARATORS.split(text)]
    lengths = [len(cell) for cell in cells if _HEX.fullmatch(cell)]
    if len(cells) < 2 or lengths not in ([32, 40], [40, 32]) or len(lengths) != len(cells):  # noqa: PLR2004 - MD5 and SHA-1 in hex
        return {}
    return {_UNAMBIGUOUS[len(cell)]: cell for cell in cells}


def _first(text: str) -> str:
    words: Sequence[str] = text.strip().split(None, 1)
    return words[0].strip('\\",;*') if words else ""
