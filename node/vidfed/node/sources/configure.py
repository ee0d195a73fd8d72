"""Adding a source to the configuration file and taking it out again, leaving every other line as it is."""

from __future__ import annotations

import json
import re
import tomllib
from typing import TYPE_CHECKING, Any

from vidfed.node.sources.errors import SourceSettingsError
from vidfed.node.sources.settings import parse_sources
from vidfed.security.files import PRIVATE_MODE, write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from vidfed.node.sources.settings import SourceSettings

_HEADER = re.compile(r"\s*\[\[?\s*([^\[\]]+?)\s*\]\]?\s*(#.*)?")


def add_source(path: Path, name: str, settings: Mapping[str, Any]) -> SourceSettings:
    """Append `[source.NAME]` to a configuration file.

    Args:
        path: the file.
        name: the source's.
        settings: as TOML would give them: texts, numbers, lists of texts, and tables `columns`, `constants` and `values`.

    Raises:
        SourceSettingsError: the settings make no sense, or there is a source of this name.
    """
    text = path.read_text(encoding="utf-8")
    if name in tomllib.loads(text).get("source", {}):
        raise SourceSettingsError(f"{path} has a [source.{name}] already: change it there, or remove it first")
    made = parse_sources({name: settings}, path)[name]
    added = "\n".join(_lines(f"source.{name}", settings))
    whole = f"{text.rstrip()}\n\n{added}\n"
    if tomllib.loads(whole)["source"][name] != json.loads(json.dumps(settings)):
        raise SourceSettingsError(f"{path}: the source cannot be written as TOML; write [source.{name}] by hand")
    write_whole(path, whole.encode(), mode=_mode(path))
    return made


def remove_source(path: Path, name: str) -> None:
    """Take `[source.NAME]` and its tables out of a configuration file.

    Raises:
        SourceSettingsError: it is not written as a section of its own, so that a person must do it.
    """
    text = path.read_text(encoding="utf-8")
    kept, inside = [], False
    for line in text.splitlines(keepends=True):
        if header := _HEADER.fullmatch(line.rstrip("\r\n")):
            names = [part.strip().strip("\"'") for part in header[1].split(".")]
            inside = names[:2] == ["source", name]
        if not inside:
            kept.append(line)
    left = "".join(kept)
    before, after = tomllib.loads(text), tomllib.loads(left)
    before.get("source", {}).pop(name, None)
    if {key: value for key, value in before.items() if value != {}} != {key: value for key, value in after.items() if value != {}}:
        raise SourceSettingsError(f"{path}: [source.{name}] is not written as a section of its own; take it out by hand")
    write_whole(path, left.encode(), mode=_mode(path))


def _lines(title: str, table: Mapping[str, Any]) -> list[str]:
    plain = [f"{_key(key)} = {_value(value)}" for key, value in table.items() if not isinstance(value, dict)]
    lines = [f"[{title}]", *plain]
    for key, value in table.items():
        if isinstance(value, dict) and value:
            nested = all(isinstance(each, dict) for each in value.values())
            if nested:
                for inner, words in value.items():
                    lines += ["", *_lines(f"{title}.{key}.{_key(inner)}", words)]
            else:
                lines += ["", *_lines(f"{title}.{key}", value)]
    return lines


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False)  # texts, numbers and lists of texts are written alike in TOML


def _mode(path: Path) -> int:
    return (path.stat().st_mode & 0o777) or PRIVATE_MODE
