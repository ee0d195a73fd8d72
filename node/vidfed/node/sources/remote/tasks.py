"""What the reading process is told: a source's settings, its secret, and from where on to read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidfed.formats.values import moment_ms
from vidfed.node.sources.errors import SourceSettingsError
from vidfed.node.sources.settings import ListSection, NcmecSection, SqlSection
from vidfed.security.errors import SecurityError
from vidfed.security.files import read_private

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vidfed.node.sources.rows.mapping import RowMapping
    from vidfed.node.sources.settings import HttpsCommon, SourceSettings


@dataclass(frozen=True, slots=True)
class Start:
    """From where on a source is read.

    Attributes:
        cursor: what the last completed run left; empty: from the beginning.
        now_ms: this machine's time.
        resume: for a clearing house, the last page of a broken look.
        most: rows at most, for a preview; 0: all.
    """

    cursor: str = ""
    now_ms: int = 0
    resume: Mapping[str, Any] | None = None
    most: int = 0


def reading_task(settings: SourceSettings, folder: Path, start: Start) -> dict[str, Any]:
    """Return the task for the reading process; it holds the source's secret.

    Args:
        settings: the source's; of a kind that the reading process reads.
        folder: the member's, to which file names are relative.
        start: from where on.

    Raises:
        SourceSettingsError: a file named in the settings cannot be used.
    """
    section, mapping = settings.section, settings.mapping
    if isinstance(section, SqlSection):
        assert mapping is not None  # noqa: S101 - by `parse_sources`
        query = {
            "url": section.url,
            "password": secret_of(section.password_file, folder),
            "table": section.table,
            "query": section.query,
            "columns": list(mapping.needed),
            "key": list(section.key),
            "changed": section.changed,
            "page_rows": min(section.page_rows, start.most) if start.most else section.page_rows,
            "connect_s": section.connect_s,
            "silence_s": section.silence_s,
        }
        task = {"task": "sql", "mapping": _fields(mapping), "query": query, "overlap": section.changed_overlap}
        return task | {"since": start.cursor, "most": start.most}
    if isinstance(section, NcmecSection):
        from_ms = int(start.cursor) - round(section.overlap_s * 1000) if start.cursor else moment_ms(section.since)
        task = {"task": "ncmec", "client": _client(section, section.address, folder), "from_ms": max(0, from_ms)}
        return task | {"now_ms": start.now_ms, "resume": start.resume, "most": start.most}
    if isinstance(section, ListSection):
        assert mapping is not None  # noqa: S101 - by `parse_sources`
        task = {"task": "list", "client": _client(section, section.url, folder), "mapping": _fields(mapping)}
        return task | {"items": section.items, "most": start.most}
    raise SourceSettingsError(f"a source of kind {section.kind} is read by no process of its own")


def _fields(mapping: RowMapping) -> dict[str, Any]:
    return {
        "columns": {name: list(columns) for name, columns in mapping.columns.items()},
        "key": list(mapping.key),
        "constants": dict(mapping.constants),
        "values": {name: dict(table) for name, table in mapping.values.items()},
        "deleted": mapping.deleted,
    }


def _client(section: HttpsCommon, address: str, folder: Path) -> dict[str, Any]:
    try:
        ca_pem = (folder / section.ca_file).read_text(encoding="ascii") if section.ca_file else ""
    except (OSError, UnicodeDecodeError) as error:
        raise SourceSettingsError(f"ca_file: {folder / section.ca_file}: {getattr(error, 'strerror', None) or 'no PEM'}") from None
    return {
        "address": address,
        "username": section.username,
        "password": secret_of(section.password_file, folder),
        "ca_pem": ca_pem,
        "timeout_s": section.timeout_s,
        "most_bytes": section.most_mib << 20,
    }


def secret_of(name: str, folder: Path) -> str:
    """Return what a `password_file` of the settings holds; empty where none is named.

    Raises:
        SourceSettingsError: it cannot be read, or others can read it.
    """
    if not name:
        return ""
    path = folder / Path(name)
    try:
        return read_private(path).decode().strip("\r\n")
    except SecurityError as error:
        raise SourceSettingsError(f"password_file: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SourceSettingsError(f"password_file: {path}: {getattr(error, 'strerror', None) or 'no text'}") from None
