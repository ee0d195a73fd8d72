"""`[source.NAME]` of the configuration file: which databases, folders and feeds a node follows, and how."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from vidfed.node.sources.errors import SourceSettingsError
from vidfed.node.sources.rows.mapping import RowMapping
from vidfed.security.errors import HomeError
from vidfed.security.settings import check_above_zero, check_not_below_zero, read_section

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from vidfed.security.member.home import MemberHome

NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
MIN_EVERY_S = 30.0
"""Seconds between two looks at a source: more often helps nobody and loads the unit's server."""
_DAY_S = 86_400.0
_GRACE_S = 600.0
_TABLES = ("columns", "constants", "values")
NCMEC_ENVIRONMENTS = {
    "industry": "https://report.cybertip.org/hashsharing",
    "npo": "https://hashsharing.ncmec.org/npo",
    "exploitative": "https://hashsharing.ncmec.org/exploitative",
    "test-industry": "https://exttest.cybertip.org/hashsharing",
    "test-npo": "https://hashsharing-test.ncmec.org/npo",
    "test-exploitative": "https://hashsharing-test.ncmec.org/exploitative",
}


def check_database_url(url: str) -> None:
    """Refuse a URL that is none or holds a password; an empty one says nothing.

    Raises:
        ValueError: it is refused.
    """
    if url and "://" not in url:
        raise ValueError("url must be a database URL, such as postgresql://reader@host/database")
    if re.match(r"[^/]+://[^/@]*:[^/@]+@", url):
        raise ValueError("url must hold no password: write it into a file of mode 0600 and name that in password_file")


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """What every kind of source has.

    Attributes:
        kind: `sql`, `folder`, `ncmec`, `list` or `known-good`.
        every_s: seconds from one look to the next, give or take a tenth.
        late_after_s: a source not followed for so many seconds is behind; 0: twice `every_s` and ten minutes.
        ask_above_share: of its live records, what a source may lose in one run, 0 to 1, before a person is asked.
        run_as: user of this machine under which the reading process runs; empty: the node's own.
    """

    kind: str
    every_s: float = 900.0
    late_after_s: float = 0.0
    ask_above_share: float = 0.05
    run_as: str = ""

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if self.every_s < MIN_EVERY_S:
            raise ValueError(f"every_s must be at least {MIN_EVERY_S:.0f}")
        check_not_below_zero(self, "late_after_s")
        if not 0 <= self.ask_above_share <= 1:
            raise ValueError("ask_above_share must be from 0 to 1")

    @property
    def behind_after_s(self) -> float:
        """After how many seconds without a completed run the source is behind."""
        return self.late_after_s or 2 * self.every_s + _GRACE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlSection(Common):
    """A table or query of a database.

    Attributes:
        url: SQLAlchemy's URL, without a password.
        password_file: file with the password alone, readable by its owner alone; relative to the member's folder.
        table: name of a table or view, with its schema before a dot; or
        query: one SELECT without a semicolon.
        key: columns that name a row for ever.
        changed: column with a time or number that grows with every change of a row; empty: every run compares everything.
        changed_overlap: how far back changes are read again, in seconds or numbers: for transactions that commit late.
        deleted: column that says a row was taken back.
        full_every_s: seconds between two full comparisons, which find what vanished.
        page_rows: rows read at a time.
        connect_s, silence_s: seconds a connection may take to come about, and a query to give its first row.
    """

    url: str
    key: tuple[str, ...]
    password_file: str = ""
    table: str = ""
    query: str = ""
    changed: str = ""
    changed_overlap: float = 600.0
    deleted: str = ""
    full_every_s: float = _DAY_S
    page_rows: int = 5_000
    connect_s: float = 10.0
    silence_s: float = 600.0

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        Common.__post_init__(self)
        if bool(self.table) == bool(self.query):
            raise ValueError("table: give either a table or a query")
        if ";" in self.query:
            raise ValueError("query must be one SELECT, without a semicolon")
        if not self.url:
            raise ValueError("url must be a database URL, such as postgresql://reader@host/database")
        check_database_url(self.url)
        check_not_below_zero(self, "changed_overlap")
        check_above_zero(self, "full_every_s", "page_rows", "connect_s", "silence_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderSection(Common):
    """A folder into which a tool puts files of hashes.

    Attributes:
        path: the folder; files move to its subfolders `done` and `failed`.
        complete: how a file is known to be whole: "quiet" (unchanged for `quiet_s`) or "rename" (no name ends in .part, .tmp or the like).
        quiet_s: seconds without a change.
        pattern: of the names that are looked at.
        format, algorithm, region, scale: as the options of `vidfed node import`.
        expect_every_s: a file is expected at least so often; 0: only the folder must be reachable.
    """

    path: str
    complete: str = "quiet"
    quiet_s: float = 60.0
    pattern: str = "*"
    format: str = ""
    algorithm: str = ""
    region: str = ""
    scale: str = ""
    expect_every_s: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        Common.__post_init__(self)
        if self.complete not in {"quiet", "rename"}:
            raise ValueError('complete must be "quiet" or "rename"')
        if "/" in self.pattern:
            raise ValueError("pattern is one of names, without /")
        check_not_below_zero(self, "quiet_s", "expect_every_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpsCommon(Common):
    """What sources over HTTPS have.

    Attributes:
        username: for HTTP basic authentication; empty: none.
        password_file: as for SQL; without a username its content is sent as a bearer token.
        ca_file: PEM file of the only authorities trusted for this address; empty: the system's.
        timeout_s: seconds for a connection, and for each piece of an answer.
        most_mib: of one answer.
    """

    username: str = ""
    password_file: str = ""
    ca_file: str = ""
    timeout_s: float = 60.0
    most_mib: int = 256

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        Common.__post_init__(self)
        if self.username and not self.password_file:
            raise ValueError("password_file: a username needs one")
        check_above_zero(self, "timeout_s", "most_mib")


@dataclass(frozen=True, slots=True, kw_only=True)
class NcmecSection(HttpsCommon):
    """NCMEC Hash Sharing v2.

    Attributes:
        environment: `industry`, `npo`, `exploitative`, or `test-` before one of these; or
        url: the address before `/v2/entries`.
        overlap_s: how far back before the last completed look entries are asked for again.
        since: ISO date of the oldest entries wanted.
    """

    environment: str = ""
    url: str = ""
    overlap_s: float = 3_600.0
    since: str = "2000-01-01T00:00:00Z"

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        HttpsCommon.__post_init__(self)
        if bool(self.environment) == bool(self.url):
            raise ValueError(f"environment: give one of {', '.join(NCMEC_ENVIRONMENTS)}, or a url")
        if self.environment and self.environment not in NCMEC_ENVIRONMENTS:
            raise ValueError(f"environment must be one of {', '.join(NCMEC_ENVIRONMENTS)}")
        check_https(self.address)
        check_not_below_zero(self, "overlap_s")

    @property
    def address(self) -> str:
        """Where to ask, without the version and what follows it."""
        return NCMEC_ENVIRONMENTS.get(self.environment, self.url).rstrip("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListSection(HttpsCommon):
    """A whole list by HTTPS: CSV, or JSON (a list of objects, or one object a line). It is compared in full each time.

    Attributes:
        url: of the list.
        key: columns, or members of the objects, that name an item for ever.
        items: name of the member that holds the list, where the JSON is an object; dots lead further down.
        deleted: column that says an item was taken back.
    """

    url: str
    key: tuple[str, ...]
    items: str = ""
    deleted: str = ""

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        HttpsCommon.__post_init__(self)
        check_https(self.url)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownGoodSection(ListSection):
    """A list of harmless files by HTTPS: it becomes the known-good list of the source's name, and none of it a record."""


Section = SqlSection | FolderSection | NcmecSection | ListSection
KINDS: dict[str, type[Section]] = {
    "sql": SqlSection,
    "folder": FolderSection,
    "ncmec": NcmecSection,
    "list": ListSection,
    "known-good": KnownGoodSection,
}


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """One source of the configuration.

    Attributes:
        name: as in `[source.NAME]`.
        section: its settings.
        mapping: of its columns; None for folders and NCMEC, whose formats say what is what.
        constants: what is true of every record, by field, as text.
    """

    name: str
    section: Section
    mapping: RowMapping | None
    constants: Mapping[str, str] = field(default_factory=dict)


def check_https(url: str) -> None:
    """Raise ValueError unless this is an https address without user, password, query of secrets or fragment."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError("url must be an https:// address")
    if parts.username or parts.password or parts.fragment:
        raise ValueError("url must hold no user, password or fragment: use username and password_file")


def read_sources(home: MemberHome) -> dict[str, SourceSettings]:
    """Return the sources of a member's configuration, by name.

    Raises:
        SourceSettingsError: a setting is missing, unknown or makes no sense; the message names file, section and setting.
    """
    return parse_sources(home.tables("source"), home.config_path)


def parse_sources(tables: object, path: Path) -> dict[str, SourceSettings]:
    """Return the sources that the tables below `source` of a configuration describe.

    Raises:
        SourceSettingsError: as `read_sources`.
    """
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise SourceSettingsError(f"{path}: sources are sections, written [source.NAME]")
    return {name: _source(name, table, path) for name, table in tables.items()}


def _source(name: str, table: Mapping[str, Any], path: Path) -> SourceSettings:
    label = f"source.{name}"
    if NAME.fullmatch(name) is None:
        raise SourceSettingsError(f"{path}: [{label}]: a name has up to 40 of a-z, 0-9 and -, and begins with a letter")
    kind = table.get("kind")
    if kind not in KINDS:
        raise SourceSettingsError(f"{path}: [{label}] kind must be one of {', '.join(KINDS)}")
    plain = {setting: value for setting, value in table.items() if setting not in _TABLES}
    if isinstance(plain.get("key"), str):
        plain["key"] = [plain["key"]]
    try:
        section = read_section({label: plain}, label, KINDS[kind], path)
    except HomeError as error:
        raise SourceSettingsError(str(error)) from None
    try:
        constants = _texts("constants", table.get("constants", {}))
        if isinstance(section, SqlSection | ListSection):
            mapping = RowMapping(
                columns=_columns(table.get("columns", {})),
                key=section.key,
                constants=constants,
                values={field: _texts(f"values.{field}", words) for field, words in _table("values", table.get("values", {})).items()},
                deleted=section.deleted,
            )
            return SourceSettings(name, section, mapping, constants)
        for setting in ("columns", "values"):
            if setting in table:
                raise SourceSettingsError(f"{setting}: a source of kind {kind} has none")
        RowMapping(columns={"md5": ("md5",)}, key=("key",), constants=constants)  # checks the constants
    except SourceSettingsError as error:
        raise SourceSettingsError(f"{path}: [{label}] {error}") from None
    return SourceSettings(name, section, None, constants)


def _columns(table: object) -> dict[str, tuple[str, ...]]:
    columns = {}
    for name, said in _table("columns", table).items():
        listed = [said] if isinstance(said, str) else said
        if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
            raise SourceSettingsError(f"columns: {name} must be a column's name, or a list of them")
        columns[name] = tuple(listed)
    return columns


def _texts(setting: str, table: object) -> dict[str, str]:
    texts = _table(setting, table)
    for name, said in texts.items():
        if not isinstance(said, str):
            raise SourceSettingsError(f"{setting}: {name} must be a text, in quotes")
    return texts


def _table(setting: str, table: object) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise SourceSettingsError(f"{setting} must be a section of its own")
    return table
