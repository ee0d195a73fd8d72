"""What an investigator asks: items with their hashes, and why."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum, unique
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from vidfed.federation.lookup.errors import QuestionError
from vidfed.index import Algorithm, DistanceError
from vidfed.wire.values import (
    MAX_CODES_OF_ITEM,
    MAX_ITEMS,
    MAX_TEXT,
    MAX_WORK,
    FilmTimes,
    HashColumn,
    Purpose,
    Urgency,
    work_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

DEFAULT_OFFENCE = "child-sexual-abuse"


@unique
class Shortfall(Enum):
    """How a file was asked about less than it could have been, so that "no hit" says less of it; its value is the name for scripts."""

    EXACT_ONLY = "exact-only"  # too plain, not decoded, or no picture: changed copies were not looked for
    FRAMES = "frames-cut"  # further frames or pages were not asked about
    PART = "partly-decoded"  # damaged: asked about as far as it could be decoded


@dataclass(frozen=True, slots=True)
class Item:
    """One thing asked about: a picture, a film, or a bare hash.

    Attributes:
        label: what the person calls it: a file name, or the hash as given.
        codes: for each algorithm one or more codes; of PDQ, a picture's eight orientations, as it is shown and as other tools see it.
        views: what each of those codes is the code of, in the same order: "turned 90 degrees", "over black"; empty for a bare hash.
        notes: what the person should know about how it was asked.
        plain: positions of PDQ codes of views too plain for them, asked all the same; what matches them is weak.
        shortfalls: how it is asked about less than it could be; empty for a bare hash, which is all that is there.
        times: of a film, from when until when, in milliseconds, the frame of each PDQ code is shown, rising; empty for anything else.
    """

    label: str
    codes: Mapping[Algorithm, tuple[bytes, ...]]
    views: Mapping[Algorithm, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    plain: tuple[int, ...] = ()
    shortfalls: tuple[Shortfall, ...] = ()
    times: tuple[tuple[int, int], ...] = ()

    def to_fields(self) -> dict[str, Any]:
        """Return all but label and codes as JSON, empty fields left out."""
        fields = {"notes": list(self.notes), "plain": list(self.plain), "views": views_fields(self)}
        if self.times:
            fields["times"] = [moment for span in self.times for moment in span]
        named: dict[str, Any] = {name: value for name, value in fields.items() if value}
        return named | ({"shortfalls": [each.value for each in self.shortfalls]} if self.shortfalls else {})

    @classmethod
    def from_fields(cls, label: str, codes: Mapping[Algorithm, tuple[bytes, ...]], fields: Mapping[str, Any]) -> Self:
        """Read what `to_fields` wrote.

        Raises:
            ValueError: a shortfall of no known name.
        """
        shortfalls = tuple(map(Shortfall, fields.get("shortfalls", ())))
        notes, plain = tuple(map(str, fields.get("notes", ()))), tuple(map(int, fields.get("plain", ())))
        moments = list(map(int, fields.get("times", ())))
        times = tuple(zip(moments[::2], moments[1::2], strict=True))
        return cls(label, codes, views_of_fields(fields.get("views", {})), notes, plain, shortfalls, times)

    @property
    def code_count(self) -> int:
        """How many codes it takes in a lookup."""
        return sum(map(len, self.codes.values()))

    @property
    def work(self) -> int:
        """What it takes of `MAX_WORK` in a lookup."""
        return sum(len(codes) * work_of(algorithm) for algorithm, codes in self.codes.items())

    @property
    def exact_only(self) -> bool:
        """True if it is asked by digests alone, so that changed copies are not found."""
        return all(algorithm.is_digest for algorithm in self.codes)


def views_fields(item: Item) -> dict[str, list[str]]:
    """Return the names of an item's codes as they are kept in JSON."""
    return {algorithm.value: list(names) for algorithm, names in item.views.items()}


def views_of_fields(fields: Mapping[str, Sequence[str]]) -> dict[Algorithm, tuple[str, ...]]:
    """Return the names that `views_fields` wrote.

    Raises:
        ValueError: an algorithm is not known.
    """
    return {Algorithm(name): tuple(map(str, names)) for name, names in fields.items()}


@dataclass(frozen=True, slots=True)
class Justification:
    """Why a question is asked. Every node refuses one that is not complete."""

    purpose: Purpose
    legal_basis: str
    case_reference: str
    offence_type: str = DEFAULT_OFFENCE
    urgency: Urgency = Urgency.ROUTINE

    def __post_init__(self) -> None:
        for name in ("legal_basis", "case_reference", "offence_type"):
            value = getattr(self, name)
            words = name.replace("_", " ")
            if not value.strip():
                raise QuestionError(f"{words} must be stated")
            if len(value) > MAX_TEXT or not value.isprintable():
                raise QuestionError(f"{words}: at most {MAX_TEXT} printable characters")


@dataclass(frozen=True, slots=True)
class Part:
    """As many items as fit into one lookup, with their codes in columns."""

    items: tuple[Item, ...]
    columns: tuple[HashColumn, ...]

    @property
    def films(self) -> tuple[FilmTimes, ...]:
        """The items that are films, as they are asked."""
        return tuple(_film(number, item) for number, item in enumerate(self.items) if item.times)

    def without_frames(self) -> Part:
        """Return the same part for members whose programs do not take films: of these the digests, under the same numbers.

        It has no columns where there is nothing but frames to ask.
        """
        films = np.array([film.item for film in self.films], np.uint32)
        columns = []
        for column in self.columns:
            kept = np.ones(len(column.items), np.bool_) if column.algorithm.is_digest else ~np.isin(column.items, films)
            if kept.any():
                columns.append(replace(column, codes=column.codes[kept], items=column.items[kept]))
        return Part(tuple(_digests_alone(item) if item.times else item for item in self.items), tuple(columns))


@dataclass(slots=True)
class _Columns:
    codes: dict[Algorithm, list[bytes]] = field(default_factory=dict)
    items: dict[Algorithm, list[int]] = field(default_factory=dict)


def split(items: Iterable[Item], distances: Mapping[Algorithm, int]) -> Iterator[Part]:
    """Cut items into lookups of at most `MAX_ITEMS` items and `MAX_WORK`.

    Args:
        items: each with at least one code.
        distances: maximum distance (inclusive) where it is not the algorithm's default.

    Raises:
        QuestionError: an item has no code, one of the wrong length, or more than fit into one lookup; or a distance is not allowed.
    """
    part: list[Item] = []
    room = MAX_WORK
    for item in items:
        if not 0 < item.work <= MAX_WORK:
            raise QuestionError(f"{item.label}: {item.code_count} hashes; between one and {MAX_WORK} of PDQ fit into one lookup")
        for algorithm, codes in item.codes.items():
            if any(len(code) != algorithm.code_bytes for code in codes):
                raise QuestionError(f"{item.label}: a code of {algorithm.label} has {algorithm.code_bytes} bytes")
            if len(codes) > MAX_CODES_OF_ITEM and not (item.times and algorithm is Algorithm.PDQ):
                most = f"at most {MAX_CODES_OF_ITEM} of one picture or file are asked"
                raise QuestionError(f"{item.label}: {len(codes)} hashes of {algorithm.label}; {most}")
        if item.work > room or len(part) == MAX_ITEMS:
            yield _part(part, distances)
            part, room = [], MAX_WORK
        part.append(item)
        room -= item.work
    if part:
        yield _part(part, distances)


def _part(items: Sequence[Item], distances: Mapping[Algorithm, int]) -> Part:
    gathered = _Columns()
    for number, item in enumerate(items):
        for algorithm, codes in item.codes.items():
            gathered.codes.setdefault(algorithm, []).extend(codes)
            gathered.items.setdefault(algorithm, []).extend([number] * len(codes))
    columns = tuple(
        HashColumn(
            algorithm,
            np.frombuffer(b"".join(codes), dtype=np.uint8).reshape(len(codes), algorithm.code_bytes),
            np.array(gathered.items[algorithm], dtype=np.uint32),
            _allowed(algorithm, distances.get(algorithm, algorithm.default_distance)),
        )
        for algorithm, codes in gathered.codes.items()
    )
    return Part(tuple(items), columns)


def _digests_alone(item: Item) -> Item:
    codes = {algorithm: each for algorithm, each in item.codes.items() if algorithm.is_digest}
    return Item(item.label, codes, notes=item.notes, shortfalls=item.shortfalls)


def _film(number: int, item: Item) -> FilmTimes:
    times = np.array(item.times, np.uint32)
    return FilmTimes(number, times[:, 0], times[:, 1])


def _allowed(algorithm: Algorithm, distance: int) -> int:
    try:
        return algorithm.check_distance(distance)
    except DistanceError as error:
        raise QuestionError(str(error)) from None
