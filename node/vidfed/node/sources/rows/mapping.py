"""From a row of a source to a statement: which column is which field of a record, in which words. Pure; nothing here reads anything."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import uuid
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from vidfed.formats import values as read
from vidfed.formats.fields import FIELDS, LISTS, field_value
from vidfed.index import Algorithm
from vidfed.node.records.record import Sharing, to_column
from vidfed.node.sources.errors import SourceSettingsError
from vidfed.node.sources.rows.statement import MAX_KEY, Kind, Statement, shorten
from vidfed.wire.values import Ternary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MAX_CACHED = 10_000
"""Values of one column whose reading is remembered: categories and flags repeat, references do not."""
_ALGORITHMS = {algorithm.value: algorithm.code_bytes for algorithm in Algorithm}
_PERCEPTUAL = frozenset(algorithm.value for algorithm in Algorithm if algorithm.is_perceptual)
COLUMNS = (*_ALGORITHMS, *(name for name in FIELDS if name != "source_id"))
"""What a column can be mapped to; `source_id` is the key's."""
_SEVERAL = frozenset({*_ALGORITHMS, *LISTS})  # fields that several columns may make up
_MOST_DIGITS = 40  # of a number: Oracle's largest has 38
_NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class RowMapping:
    """How a source's rows become statements.

    Attributes:
        columns: names of the source's columns by field, in the order of preference where several may carry it. Of a perceptual hash the
            first that is there is the record's; others become its further codes, of the kind `view:N` for the Nth column named.
        constants: what is true of every record, by field, as text; a column's word goes before it.
        values: for a field, what each of the source's words means; a word that is not in it is a problem that is named.
        key: columns that together name an item, for ever.
        deleted: column that says an item was taken back; empty: there is none.
    """

    columns: Mapping[str, Sequence[str]]
    key: Sequence[str]
    constants: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    deleted: str = ""

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        Raises:
            SourceSettingsError: the message names the setting.
        """
        for setting, named in (("columns", self.columns), ("constants", self.constants)):
            for name in named:
                if name not in COLUMNS:
                    raise SourceSettingsError(f"{setting}: {name!r} is no field of a record; known are {', '.join(COLUMNS)}")
        if not self.key or not all(self.key):
            raise SourceSettingsError("key: name the column, or columns, that name an item and never change")
        self._check_columns()
        for name, said in self.constants.items():
            if name in _ALGORITHMS:
                raise SourceSettingsError(f"constants: {name}: a hash is no constant: it would make every record the same file")
            _checked("constants", name, said)
        self._check_values()

    def _check_columns(self) -> None:
        if not any(name in _ALGORITHMS for name in self.columns):
            raise SourceSettingsError('columns: none of them is a hash; name at least one, such as md5 = "md5_column"')
        for name, sources in self.columns.items():
            if not sources or not all(sources):
                raise SourceSettingsError(f"columns: {name}: names no column")
            if len(sources) > 1 and name not in _SEVERAL:
                raise SourceSettingsError(f"columns: {name}: only one column can be {name}")

    def _check_values(self) -> None:
        for name, table in self.values.items():
            if name != "deleted" and name not in self.columns:
                raise SourceSettingsError(f"values.{name}: no column is mapped to {name}")
            if name in _ALGORITHMS:
                raise SourceSettingsError(f"values.{name}: hashes have no value table")
            for said in table.values():
                _checked(f"values.{name}", "victim_identified" if name == "deleted" else name, said)

    @property
    def needed(self) -> tuple[str, ...]:
        """The source's columns that a row must hold, each once, in the order in which `Reader` takes them."""
        named = [*self.key, *(column for columns in self.columns.values() for column in columns), *filter(None, [self.deleted])]
        return tuple(dict.fromkeys(named))


def _checked(setting: str, name: str, said: str) -> object:
    try:
        value = field_value(name, said)
        if name == "sharing":
            Sharing.parse(str(value))
    except ValueError as error:
        raise SourceSettingsError(f"{setting}: {name}: {error}") from None
    return value


class Reader:
    """Turns rows into statements. Remembers what it has read of columns whose values repeat."""

    def __init__(self, mapping: RowMapping) -> None:
        at = {name: position for position, name in enumerate(mapping.needed)}
        self._key = tuple(at[name] for name in mapping.key)
        self._codes = [(name, [at[each] for each in mapping.columns[name]]) for name in mapping.columns if name in _ALGORITHMS]
        self._fields = [
            (name, [(at[each], each) for each in mapping.columns[name]], _field_reader(name, mapping.values.get(name)))
            for name in mapping.columns
            if name not in _ALGORITHMS
        ]
        self._deleted = at[mapping.deleted] if mapping.deleted else None
        self._is_deleted = _deleted_reader(mapping.values.get("deleted"))
        self._constants = {name: to_column(_checked("constants", name, said)) for name, said in mapping.constants.items()}

    def statement(self, row: Sequence[Any]) -> Statement | str:
        """Return what a row says, or why it cannot even be named.

        Args:
            row: the values of `RowMapping.needed`, in its order, as a database driver gives them.
        """
        try:
            key = key_text([row[position] for position in self._key])
        except ValueError as error:
            return str(error)
        notes: list[str] = []
        if self._deleted is not None:
            try:
                if self._is_deleted(row[self._deleted]):
                    return Statement(key, Kind.DELETED)
            except ValueError as error:
                return Statement(key, Kind.UNUSABLE, notes=shorten([f"the flag of deletion: {error}"]))
        try:
            codes, further = self._read_codes(row, notes)
        except read.EmptyFileError as error:
            return Statement(key, Kind.UNUSABLE, notes=[str(error)])
        if not codes:
            return Statement(key, Kind.UNUSABLE, notes=shorten(["no usable hash", *notes]))
        values = dict(self._constants)
        for name, sources, reader in self._fields:
            self._read_field(row, name, sources, reader, values, notes)
        return Statement(key, Kind.LIVE, codes, values, shorten(notes), further=further)

    def _read_codes(self, row: Sequence[Any], notes: list[str]) -> tuple[dict[str, bytes], list[tuple[str, bytes, str]]]:
        """Return a row's codes and further codes; what cannot be read goes into the notes.

        Raises:
            EmptyFileError: it is the empty file.
        """
        codes: dict[str, bytes] = {}
        further: list[tuple[str, bytes, str]] = []
        for name, positions in self._codes:
            for number, position in enumerate(positions, 1):
                raw = row[position]
                if raw is None or raw == "":
                    continue
                try:
                    code = code_of(name, raw)
                except read.EmptyFileError:
                    raise
                except ValueError as error:
                    words = str(error)
                    notes.append(f"{words if words.startswith(name) else f'{name}: {words}'}; left out")
                    continue
                if code is None or codes.setdefault(name, code) == code:
                    continue
                if name in _PERCEPTUAL and all(code != known for algorithm, known, _ in further if algorithm == name):
                    further.append((name, code, f"view:{number}"))
        return codes, further

    @staticmethod
    def _read_field(
        row: Sequence[Any], name: str, sources: Sequence[tuple[int, str]], reader: _FieldReader, values: dict[str, Any], notes: list[str]
    ) -> None:
        texts: list[str] = []
        for position, column in sources:
            raw = row[position]
            if raw is None:
                continue
            try:
                value = reader.read(raw)
            except ValueError as error:
                notes.append(f"{column}: {error}; left out")
                if name in {"sharing", "handling_code"}:  # what limits sharing and cannot be read must not be shared
                    values["sharing"] = _NOBODY
                    notes.append("shared with nobody until it can be read")
                continue
            if value is None:
                continue
            if name in LISTS:
                texts.extend(value)
            elif not (name == "sharing" and values.get("sharing") == _NOBODY):
                values[name] = value
        if texts:
            values[name] = to_column(tuple(dict.fromkeys(texts))[:100])


class _FieldReader:
    """Reads one field's values; what repeats is read once. `read` returns None where the source leaves it open."""

    def __init__(self, name: str, table: Mapping[str, str] | None) -> None:
        self._name = name
        self._table = {word.strip().casefold(): meaning for word, meaning in table.items()} if table else None
        self._cache: dict[object, Any] = {}

    def read(self, raw: object) -> Any:  # noqa: ANN401 - of the column's type
        """Return the value in its column's form (several texts: a tuple), or None.

        Raises:
            ValueError: it cannot be read, or is not in the value table.
        """
        kind = (type(raw), raw) if type(raw) in {str, int, bool} else None  # True == 1 would share a place otherwise
        if kind in self._cache:
            return self._cache[kind]
        said = plain(raw)
        if self._table is not None:
            word = str(said).strip()
            if not word:
                return None
            try:
                said = self._table[word.casefold()]
            except KeyError:
                raise ValueError(f"{word!r:.40} is not in the value table of {self._name}") from None
        value = None if said == "" else field_value(self._name, said)
        if self._name == "sharing" and value is not None:
            Sharing.parse(str(value))
        if value is Ternary.UNKNOWN or value in ("", ()):
            value = None
        elif value is not None and self._name not in LISTS:
            value = to_column(value)
        if kind is not None and len(self._cache) < MAX_CACHED:
            self._cache[kind] = value
        return value


def _field_reader(name: str, table: Mapping[str, str] | None) -> _FieldReader:
    return _FieldReader(name, table)


def _deleted_reader(table: Mapping[str, str] | None) -> Callable[[object], bool]:
    flag = _FieldReader("victim_identified", table)

    def is_deleted(raw: object) -> bool:
        if raw is None:
            return False
        if isinstance(raw, dt.date):  # when it was deleted
            return True
        try:
            return bool(flag.read(raw) == Ternary.YES.value)
        except ValueError:
            if table is None and isinstance(raw, str):
                read.moment_ms(raw)  # a time as text, or the ValueError that says what it is not
                return True
            raise

    return is_deleted


def key_text(parts: Sequence[object]) -> str:
    """Return a key as text: its parts with `/` between them; `%` and `/` within a part are written %25 and %2F.

    Raises:
        ValueError: a part is missing, or the whole is longer than MAX_KEY.
    """
    texts = []
    for part in parts:
        text = str(plain(part)) if part is not None else ""
        if not text.strip():
            raise ValueError("the key is empty")
        if len(parts) > 1:
            text = text.replace("%", "%25").replace("/", "%2F")
        texts.append(text)
    key = "/".join(texts)
    if len(key) > MAX_KEY or not key.isprintable():
        raise ValueError(f"the key is longer than {MAX_KEY} characters, or holds characters that cannot be printed")
    return key


def plain(raw: object) -> object:
    """Return a driver's value as a text, a number or a bool.

    Raises:
        ValueError: it is none of them, nor a date, a time or a UUID.
    """
    if isinstance(raw, str | int | float):
        return raw
    if isinstance(raw, Decimal):
        if not raw.is_finite() or raw.adjusted() > _MOST_DIGITS:
            raise ValueError("a number beyond all sense")
        return int(raw) if raw == raw.to_integral_value() else str(raw)
    if isinstance(raw, dt.date):  # and datetime
        return raw.isoformat()
    if isinstance(raw, uuid.UUID):
        return str(raw)
    if isinstance(raw, bytes | bytearray | memoryview):
        octets = bytes(raw)
        if octets in (b"\0", b"\1"):  # BIT(1) of MySQL
            return int.from_bytes(octets)
        return octets.hex()
    if isinstance(raw, list | tuple):
        return [plain(each) for each in raw]
    raise ValueError(f"a value of the type {type(raw).__name__}, which cannot be read")


def code_of(name: str, raw: object) -> bytes | None:
    """Return the code of the algorithm `name` in a driver's value, or None where there is none.

    Binary columns hold the code itself or its text; PostgreSQL's `uuid` holds an MD5; texts are those that files hold, or base64.

    Raises:
        ValueError: it is none of these.
    """
    length = _ALGORITHMS[name]
    if type(raw) is str and len(raw) == 2 * length:  # nearly always
        return read.read_code(name, raw)
    if isinstance(raw, bytes | bytearray | memoryview):
        octets = bytes(raw)
        if len(octets) == length:
            return read.read_code(name, octets.hex())
        try:
            raw = octets.decode("ascii")
            if not raw.strip().isprintable():
                raise UnicodeError
        except UnicodeError:
            raise ValueError(f"{name}: {len(octets)} bytes, expected {length}") from None
    elif isinstance(raw, uuid.UUID):
        raw = raw.hex
    if not isinstance(raw, str):
        raise ValueError(f"{name}: a value of the type {type(raw).__name__} is no hash")  # noqa: TRY004 - a wrong value, to the caller
    text = raw.strip()
    if not text:
        return None
    if len(text) == (length + 2) // 3 * 4 and len(text) != 2 * length:
        try:
            return read.read_code(name, base64.b64decode(text, validate=True).hex())
        except binascii.Error:
            pass
    return read.read_code(name, text)
