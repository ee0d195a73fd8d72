"""Connecting to a unit's database: which driver, how long is waited, and an error without statement or password."""

from __future__ import annotations

from typing import Any, Protocol
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import event

from vidfed.cli.parts import how_to_add
from vidfed.node.sources.errors import SourceSettingsError

DRIVERS = {
    "postgresql": ("postgresql+psycopg", "psycopg", "postgresql"),
    "mysql": ("mysql+pymysql", "pymysql", "mysql"),
    "mariadb": ("mariadb+pymysql", "pymysql", "mysql"),
    "sqlite": ("sqlite", "sqlite3", ""),
    "mssql": ("mssql+pyodbc", "pyodbc", "mssql"),  # not run here: no server at hand
    "oracle": ("oracle+oracledb", "oracledb", "oracle"),  # not run here: no server at hand
}
"""By the beginning of a URL: SQLAlchemy's dialect with its driver, the driver's module, and what installs it."""


class Place(Protocol):
    """A database to connect to: its URL without a password, the password or an empty text, and how long may be waited."""

    @property
    def url(self) -> str:
        """SQLAlchemy's."""

    @property
    def password(self) -> str:
        """Or empty."""

    @property
    def connect_s(self) -> float:
        """For a connection."""

    @property
    def silence_s(self) -> float:
        """For an answer."""


def engine_of(query: Place, *, writes: bool = False) -> sa.Engine:
    """Return an engine that connects to a unit's database by the driver for its kind.

    Args:
        query: which database.
        writes: whether anything may be changed there; where the database cannot be told, its own rights decide.

    Raises:
        SourceSettingsError: the URL is of no known kind, or its driver is not installed.
    """
    try:
        url = sa.make_url(query.url)
    except sa.exc.ArgumentError:
        raise SourceSettingsError("url is no database URL; write such as postgresql://reader@host/database") from None
    backend = url.drivername.partition("+")[0]
    if backend not in DRIVERS:
        raise SourceSettingsError(f"url: {backend} is not supported; known are {', '.join(DRIVERS)}")
    drivername, module, extra = DRIVERS[backend]
    url = url.set(drivername=drivername)
    if query.password:
        url = url.set(password=query.password)
    seconds = max(1, round(query.connect_s))
    options: dict[str, dict[str, Any]] = {
        "postgresql": {"connect_timeout": seconds, "application_name": "vidfed"},
        "mysql": {"connect_timeout": seconds, "read_timeout": max(1, round(query.silence_s)), "charset": "utf8mb4"},
        "mssql": {"timeout": seconds},
    }
    arguments = options.get("mysql" if backend == "mariadb" else backend, {})
    if backend == "sqlite":
        if not url.database:
            raise SourceSettingsError("url: name a file, such as sqlite:////srv/cases.db")
        # mode: a file that is not there is an error, not a new empty database; with ro nothing in it can be changed.
        url = sa.make_url("sqlite://").set(database=f"file:{quote(url.database)}", query={"mode": "rw" if writes else "ro", "uri": "true"})
        arguments = {"timeout": query.connect_s}
    try:
        engine = sa.create_engine(url, connect_args=arguments, poolclass=sa.pool.NullPool, hide_parameters=True)
    except ModuleNotFoundError:
        raise SourceSettingsError(f"the driver {module} is not installed: {how_to_add(extra)}") from None
    if backend == "sqlite":
        event.listen(engine, "connect", _plain_transactions if writes else _read_only_transactions)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine


def _plain_transactions(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's
    connection.isolation_level = None  # the driver would begin no transaction for a SELECT, and so see no single moment


def _read_only_transactions(connection: Any, record: object) -> None:  # noqa: ANN401 - the driver's
    _plain_transactions(connection, record)
    connection.execute("PRAGMA query_only=ON")


def cause_of(error: Exception) -> str:
    """Return the database's own words, first line; drivers put numbers and texts into a tuple."""
    original = getattr(error, "orig", None) or error
    parts = [str(part) for part in getattr(original, "args", ()) if isinstance(part, str | int)] or [str(original)]
    return " ".join(" ".join(parts).split("\n")[0].split())[:300]
