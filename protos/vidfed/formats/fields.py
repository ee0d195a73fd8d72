"""The fields of a record, once: from this table follow VICS, CSV and JSON, the columns of the store and the options of the commands.

A field is also an attribute of `Record` and, if other members may be told it, of `RecordView` and of the message on the wire: those are
written out, so that they can be read and type-checked, and tests keep them equal to this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, unique
from typing import TYPE_CHECKING, Any

from vidfed.formats import values as read
from vidfed.formats.vpdq import other_hashes
from vidfed.wire.values import HandlingCode, Ternary

if TYPE_CHECKING:
    from collections.abc import Callable


@unique
class Kind(Enum):
    """What a field holds. Its value when nothing is known: empty, or None for the last three."""

    TEXT = "text"
    TEXTS = "texts"
    TERNARY = "ternary"
    HANDLING = "handling"
    SMALL_NUMBER = "small number"
    NUMBER = "number"
    MOMENT = "moment"

    @property
    def absent(self) -> object:
        """What a field of this kind holds when nothing is known."""
        return _ABSENT[self]


_ABSENT: dict[Kind, object] = {Kind.TEXT: "", Kind.TEXTS: (), Kind.TERNARY: Ternary.UNKNOWN, Kind.HANDLING: HandlingCode.H0}
_ABSENT |= dict.fromkeys((Kind.SMALL_NUMBER, Kind.NUMBER, Kind.MOMENT))


@dataclass(frozen=True, slots=True)
class Option:
    """How a command says it about all records it takes in or edits: `--NAME`, its help, and the only values, if there are few."""

    name: str
    help: str = ""
    choices: tuple[str, ...] = ()
    metavar: str | None = None


@dataclass(frozen=True, slots=True)
class RecordField:
    """One field of a record.

    Attributes:
        name: of the attribute, the column, the CSV column and the JSON key.
        kind: what it holds.
        read: reads it from a file or the command line; raises ValueError.
        is_told: other members may be told it; it is then a field of `RecordView` on the wire.
        vics: key of a VICS media object that holds it; empty: it goes under our own extra key.
        aliases: other names of its CSV column.
        option: of the commands that import and edit; None: there is none.
    """

    name: str
    kind: Kind
    read: Callable[[object], Any]
    is_told: bool = True
    vics: str = ""
    aliases: tuple[str, ...] = ()
    option: Option | None = None


_YES_NO = ("yes", "no", "unknown")
_HANDLING_CODES = tuple(code.name for code in HandlingCode)
_SOURCE_GRADINGS = ("A", "B", "C", "X")
_INFORMATION_GRADINGS = ("1", "2", "3", "4")

FIELDS: dict[str, RecordField] = {
    field.name: field
    for field in (
        RecordField("pdq_quality", Kind.SMALL_NUMBER, lambda value: read.whole_number(value, 100), is_told=False),
        RecordField("size_bytes", Kind.NUMBER, read.whole_number, is_told=False, vics="MediaSize", aliases=("size",)),
        RecordField("mime_type", Kind.TEXT, read.text, is_told=False, vics="MimeType", aliases=("media_type", "mimetype")),
        RecordField(
            "series",
            Kind.TEXT,
            read.text,
            vics="Series",
            aliases=("series_name",),
            option=Option("series", "Series the pictures belong to."),
        ),
        RecordField("tags", Kind.TEXTS, read.tags, vics="Tags", option=Option("tags", "Tags, with commas.")),
        RecordField(
            "victim_identified", Kind.TERNARY, read.ternary, vics="VictimIdentified", option=Option("victim-identified", choices=_YES_NO)
        ),
        RecordField(
            "offender_identified",
            Kind.TERNARY,
            read.ternary,
            vics="OffenderIdentified",
            option=Option("offender-identified", choices=_YES_NO),
        ),
        RecordField(
            "distributed",
            Kind.TERNARY,
            read.ternary,
            vics="IsDistributed",
            aliases=("is_distributed",),
            option=Option("distributed", "Is it passed around?", _YES_NO),
        ),
        RecordField(
            "case_reference",
            Kind.TEXT,
            read.text,
            aliases=("case",),
            option=Option("case", "Reference of the case they come from."),
        ),
        RecordField(
            "case_contact",
            Kind.TEXT,
            read.text,
            aliases=("contact",),
            option=Option("contact", "Whom to call about them.  [default: the member's contact]"),
        ),
        RecordField(
            "handling_code", Kind.HANDLING, read.handling, option=Option("handling", "Handling code.  [default: H0]", _HANDLING_CODES)
        ),
        RecordField("handling_note", Kind.TEXT, read.text, option=Option("handling-note", "The limits that H3 stands for.")),
        RecordField("category", Kind.TEXT, read.text),
        RecordField("category_scale", Kind.TEXT, read.text),
        RecordField("category_region", Kind.TEXT, read.text),
        RecordField(
            "source_grading",
            Kind.TEXT,
            read.one_of(*_SOURCE_GRADINGS),
            option=Option("source-grading", "How reliable the source is.", _SOURCE_GRADINGS),
        ),
        RecordField(
            "information_grading",
            Kind.TEXT,
            read.one_of(*_INFORMATION_GRADINGS),
            option=Option("information-grading", "How sure it is.", _INFORMATION_GRADINGS),
        ),
        RecordField(
            "sharing",
            Kind.TEXT,
            read.sharing,
            is_told=False,
            option=Option("sharing", "Who may see it, within the policy: nobody, only:fr,nl or not:de."),
        ),
        RecordField("votes", Kind.TEXTS, read.texts, is_told=False),
        RecordField("other_hashes", Kind.TEXTS, other_hashes, is_told=False, aliases=("tmk", "tmk_pdqf", "tmkpdqf")),
        RecordField("method", Kind.TEXT, read.text, is_told=False),
        RecordField("source_id", Kind.TEXT, read.text, is_told=False),
        RecordField(
            "review_ms",
            Kind.MOMENT,
            read.moment_ms,
            is_told=False,
            aliases=("review_date", "reviewdate"),
            option=Option("review", "When it must be reviewed.", metavar="DATE"),
        ),
    )
}
"""By name, in the order of columns in CSV."""

LISTS = frozenset(field.name for field in FIELDS.values() if field.kind is Kind.TEXTS)
"""Fields of several texts."""

ALIASES = {alias: field.name for field in FIELDS.values() for alias in field.aliases}
_READERS = {name: field.read for name, field in FIELDS.items()}


RESTRICTING = frozenset(("sharing", "handling_code", "handling_note"))
"""An item of which one of these cannot be read is left out: without it more would be told than its owner said."""


class UnreadableLimitError(ValueError):
    """A field of RESTRICTING cannot be read."""


def field_value(name: str, value: object) -> object:
    """Read a record's field.

    Raises:
        ValueError: it is not of the field's form; the message names the field.
    """
    try:
        return _READERS[name](value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def field_text(name: str, value: object) -> str:
    """Write a record's field so that `field_value` reads it back."""
    if isinstance(value, Ternary):
        return value.code
    if isinstance(value, HandlingCode):
        return value.name
    if isinstance(value, tuple):
        return (";" if name in {"votes", "other_hashes"} else ",").join(value)
    if FIELDS[name].kind is Kind.MOMENT and isinstance(value, int):
        return datetime.fromtimestamp(value / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    return "" if value is None else str(value)
