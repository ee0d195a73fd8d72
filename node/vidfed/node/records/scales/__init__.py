"""Category scales and the mappings between them: tables with a version, supplied by who knows. Nothing is inferred.

A record keeps the raw value it came with, its scale and its region. A value of one scale is shown in another only where a mapping names it.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidfed.node.errors import NodeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vidfed.node.records.record import Record

_SHIPPED = Path(__file__).with_name("shipped.toml")


class ScaleError(NodeError):
    """A table of scales is not what it should be."""


@dataclass(frozen=True, slots=True)
class Scale:
    """A named set of values; `region` is empty where it holds everywhere."""

    name: str
    version: str
    region: str
    source: str
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Translation:
    """From the values of one scale in one region to those of another scale. What is not in `table` has no counterpart."""

    from_scale: str
    from_region: str
    to_scale: str
    version: str
    source: str
    table: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Scales:
    """All the tables of one node."""

    scales: Mapping[str, Scale]
    translations: tuple[Translation, ...]

    def translate(self, record: Record, to_scale: str) -> str | None:
        """Return a record's category in another scale, or None where nothing says what it is there.

        Scale and region must both be those of the mapping: the same number means something else in another region.
        """
        if record.category and record.category_scale == to_scale:
            return record.category
        for translation in self.translations:
            if (translation.from_scale, translation.from_region, translation.to_scale) == (
                record.category_scale,
                record.category_region,
                to_scale,
            ):
                return translation.table.get(record.category)
        return None


def load_scales(paths: Sequence[Path] = ()) -> Scales:
    """Read the shipped tables and the operator's own.

    Raises:
        ScaleError: a file is missing or wrong, a name is given twice, or a mapping leads to a value that its scale does not have.
    """
    scales: dict[str, Scale] = {}
    translations: dict[tuple[str, str, str], Translation] = {}
    for path in (_SHIPPED, *paths):
        document = _read(path)
        for table in document.get("scale", []):
            fields = _fields(path, table, ("name", "version", "region", "source"), "values")
            scale = Scale(**fields)
            if scale.name in scales:
                raise ScaleError(f"{path}: the scale {scale.name!r} is given twice")
            scales[scale.name] = scale
        for table in document.get("mapping", []):
            fields = _fields(path, table, ("from_scale", "from_region", "to_scale", "version", "source"), "table")
            translation = Translation(**fields)
            key = (translation.from_scale, translation.from_region, translation.to_scale)
            if key in translations:
                raise ScaleError(f"{path}: the mapping from {key[0]} ({key[1] or 'no region'}) to {key[2]} is given twice")
            translations[key] = translation
    for translation in translations.values():
        target = scales.get(translation.to_scale)
        if target is None:
            raise ScaleError(f"a mapping leads to the scale {translation.to_scale!r}, which no table describes")
        if unknown := sorted(set(translation.table.values()) - target.values.keys()):
            raise ScaleError(f"a mapping leads to {unknown[0]!r}, which the scale {target.name} does not have")
    return Scales(scales, tuple(translations.values()))


def _read(path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ScaleError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ScaleError(f"{path}: {error}") from None
    if unknown := sorted(document.keys() - {"scale", "mapping"}):
        raise ScaleError(f"{path}: {unknown[0]!r} is unknown; write [[scale]] and [[mapping]]")
    return document


def _fields(path: Path, table: object, texts: tuple[str, ...], values: str) -> dict[str, Any]:
    if not isinstance(table, dict) or set(table) != {*texts, values}:
        raise ScaleError(f"{path}: a table must have exactly: {', '.join((*texts, values))}")
    inner = table[values]
    if not all(isinstance(table[name], str) for name in texts) or not isinstance(inner, dict):
        raise ScaleError(f"{path}: {', '.join(texts)} must be texts and {values} a table of texts")
    if not all(isinstance(value, str) for value in inner.values()):
        raise ScaleError(f"{path}: {values} must be a table of texts")
    return dict(table)
