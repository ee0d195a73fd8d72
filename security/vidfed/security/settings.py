"""Strict reading of the configuration file: a section is a frozen dataclass, and what it does not know is an error, not a shrug."""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from vidfed.security.errors import HomeError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Section = TypeVar("Section")
_LISTEN = re.compile(r"(\[[^\[\]]+\]|[^\[\]:]+):(?P<port>[0-9]{1,5})")
_PORTS = 65_535


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

    What the types do not say, the dataclass checks when it is made, with a ValueError that begins with the setting's name.

    Raises:
        HomeError: a setting is missing, unknown, or of another type, or makes no sense; the message names file, section and setting.
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
    try:
        return kind(**values)
    except ValueError as error:
        raise HomeError(f"{path}: [{name}] {error}") from None


def check_above_zero(section: object, *settings: str) -> None:
    """Raise ValueError if one of a section's numbers is not above 0."""
    for setting in settings:
        if getattr(section, setting) <= 0:
            raise ValueError(f"{setting} must be above 0")


def check_not_below_zero(section: object, *settings: str) -> None:
    """Raise ValueError if one of a section's numbers is below 0."""
    for setting in settings:
        if getattr(section, setting) < 0:
            raise ValueError(f"{setting} must not be below 0")


def check_listen(section: object, *settings: str) -> None:
    """Raise ValueError if one of a section's texts is no `host:port`; whoever binds it would take another port without a word."""
    for setting in settings:
        address: str = getattr(section, setting)
        parts = _LISTEN.fullmatch(address)
        if parts is None or int(parts["port"]) > _PORTS:
            raise ValueError(f"{setting} must be host:port, such as 0.0.0.0:7443 or [::]:7443, not {address!r}")


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
