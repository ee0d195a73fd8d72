"""Copies of a member's records that can be made while the node serves, and put back."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
from typing import TYPE_CHECKING

from sqlalchemy import URL

from vidfed.node.errors import StoreError
from vidfed.node.records.database import RecordDatabase
from vidfed.node.records.schema import REVISION
from vidfed.security.files import new_file
from vidfed.security.sqlite import connect, connect_read_only

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_PAGES = 10_000  # copied between two looks at the progress


def back_up(location: Path | str, target: Path, on_progress: Callable[[int, int], None] = lambda _done, _total: None) -> None:
    """Write a consistent copy of the store, verified before it gets its name. Others may read and write meanwhile.

    Args:
        location: of the store.
        target: a new file; never overwritten. SQLite: a database file; PostgreSQL: a `pg_dump` archive.
        on_progress: called with (done, total) in pages; not for PostgreSQL.

    Raises:
        StoreError: it cannot be made; no file of that name is left.
    """
    if target.exists():
        raise StoreError(f"{target}: exists; a backup is never overwritten")
    partial = target.with_name(f".{target.name}.partial")
    try:
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        if isinstance(location, str):
            # Not the audit log beside the records: putting records back must not put the log back to what it was then.
            _run("pg_dump", "--format=custom", "--exclude-schema=vidfed_audit", f"--file={partial}", location=location)
            _run("pg_restore", "--list", str(partial))
        else:
            _copy_sqlite(location, partial, on_progress)
            _verify_sqlite(partial)
        partial.rename(target)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{target}: the backup could not be made: {error}") from None
    finally:
        partial.unlink(missing_ok=True)


def restore(location: Path | str, backup: Path, index_folder: Path) -> None:
    """Put a backup in the place of the store; the node must not run. The present store is kept beside it, the index is rebuilt.

    Args:
        location: of the store.
        backup: made by `back_up`.
        index_folder: of the search index, which is a cache and may be newer than the backup: it is removed.

    Raises:
        StoreError: the backup is damaged or the store cannot be written; what was there is as it was.
    """
    try:
        if isinstance(location, str):
            _run("pg_restore", "--clean", "--if-exists", "--single-transaction", "--no-owner", str(backup), location=location)
        else:
            _verify_sqlite(backup)
            _replace_sqlite(location, backup)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{backup}: could not be restored: {error}") from None
    for folder in index_folder.iterdir() if index_folder.is_dir() else ():
        shutil.rmtree(folder)


def _copy_sqlite(source: Path, target: Path, on_progress: Callable[[int, int], None]) -> None:
    if not source.exists():
        raise StoreError(f"{source}: there is no store yet")
    with contextlib.closing(connect(source, busy_s=30)) as here, contextlib.closing(connect(target)) as there:
        # One read transaction for the whole copy: a writer would otherwise make it begin anew again and again.
        here.execute("BEGIN")
        here.execute("SELECT count(*) FROM alembic_version")
        here.backup(there, pages=_PAGES, progress=lambda _status, remaining, total: on_progress(total - remaining, total))
        there.execute("PRAGMA journal_mode=DELETE")


def _verify_sqlite(path: Path) -> None:
    with contextlib.closing(connect_read_only(path)) as database:
        (verdict,) = database.execute("PRAGMA integrity_check(1)").fetchone()
        (revision,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
    if verdict != "ok":
        raise StoreError(f"{path}: damaged: {verdict}")
    if revision > REVISION:
        raise StoreError(f"{path}: of form {revision}, newer than this program knows ({REVISION})")


def _replace_sqlite(store: Path, backup: Path) -> None:
    """Put a copy of the backup where the store is; the old store stays beside it as `.before-restore`."""
    with new_file(store) as fresh, backup.open("rb") as source:
        shutil.copyfileobj(source, fresh)
        if store.exists():
            with contextlib.closing(connect(store, busy_s=1)) as old:  # brings its write-ahead log into the file
                old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                old.execute("PRAGMA journal_mode=DELETE")
            store.rename(store.with_name(f"{store.name}.before-restore"))


def _run(*command: str, location: str | None = None) -> None:
    """Run one of PostgreSQL's programs, on the database at `location` if there is one; no password is among its arguments."""
    environment = dict(os.environ)
    if location is not None:
        with contextlib.closing(RecordDatabase(location)) as database:
            url = database.engine.url.set(drivername="postgresql")
        if url.password is not None:
            environment["PGPASSWORD"] = str(url.password)
            url = URL.create(url.drivername, url.username, None, url.host, url.port, url.database, url.query)
        command = (*command, f"--dbname={url.render_as_string()}")
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)  # noqa: S603 - from the PATH
    except FileNotFoundError:
        raise StoreError(f"{command[0]} is not installed (Debian: apt-get install postgresql-client)") from None
    if done.returncode:
        raise StoreError(f"{command[0]}: {(done.stderr.strip().splitlines() or ['failed'])[0]}")
