"""Strict reading of the configuration file: a section is a frozen dataclass, and what it does not know is an error, not a shrug."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from vidfed.security.errors import HomeError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Section = TypeVar("Section")


def read_settings(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        HomeError: it is missing or not TOML; the message names file and line.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise HomeError(f"{path}: not found; `vidfed node init` makes a member's folder") from None
    except OSError as error:
        raise HomeError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise HomeError(f"{path}: {error}") from None


def read_section(settings: Mapping[str, Any], name: str, kind: type[Section], path: Path) -> Section:
    """Return section `[name]` as a `kind`: a dataclass whose fields are str, int, float, bool or tuple[str, ...].

    Raises:
        HomeError: a setting is missing, unknown, or of another type; the message names file, section and setting.
    """
    table = settings.get(name, {})
    if not isinstance(table, dict):
        raise HomeError(f"{path}: {name} must be a section, written [{name}]")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]  # every caller passes a dataclass
    hints = get_type_hints(kind)
    if unknown := sorted(table.keys() - fields.keys()):
        raise HomeError(f"{path}: [{name}] has no setting {unknown[0]!r}; known are {', '.join(fields)}")
    values = {setting: _value(value, hints[setting], f"{path}: [{name}] {setting}") for setting, value in table.items()}
    for setting, field in fields.items():
        if setting not in values and field.default is dataclasses.MISSING:
            raise HomeError(f"{path}: [{name}] lacks the setting {setting!r}")
    return kind(**values)


def _value(value: object, hint: object, where: str) -> object:
    if hint == tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            raise HomeError(f"{where} must be a list of texts")
        return tuple(value)
    if hint is float and type(value) in {int, float}:
        if not math.isfinite(number := float(value)):  # type: ignore[arg-type]  # a number, by the line above
            raise HomeError(f"{where} must be a finite number")
        return number
    if type(value) is not hint:
        raise HomeError(f"{where} must be of type {getattr(hint, '__name__', hint)}, not {type(value).__name__}")
    return value
