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
from vidfed.node.records.lifecycle import BEFORE_RESTORE, take_out_again
from vidfed.node.records.schema import REVISION
from vidfed.node.records.store import RecordStore
from vidfed.security.files import PRIVATE_MODE
from vidfed.security.sqlite import connect, connect_read_only

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from vidfed.node.records.known import StoreMemory
    from vidfed.node.records.store import Removal

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


def restore(location: Path | str, backup: Path, index_folder: Path, memory: StoreMemory, *, now_ms: int) -> int:
    """Put a backup in the place of the store; the node must not run. What was erased or retracted since does not come back with it.

    A SQLite store is made ready beside the present one and takes its place by one rename; the present one stays as `.before-restore`.
    Interrupted at any moment, the node has the one or the other, or refuses to answer until this was run again.

    Args:
        location: of the store.
        backup: made by `back_up`.
        index_folder: of the search index, which is a cache and may be newer than the backup: it is removed.
        memory: what the node knows of its store, and what was taken out of it.
        now_ms: time of the change.

    Returns:
        How many records of the backup were taken out of it again.

    Raises:
        StoreError: the backup is damaged, the store cannot be written, or nothing is remembered; what was there is as it was.
    """
    with contextlib.suppress(StoreError), contextlib.closing(RecordStore(location, make=False)) as present:
        memory.check(present)
        memory.note(present)  # what was taken out of it a moment ago
    removals = memory.removals()
    try:
        if isinstance(location, str):
            _run("pg_restore", "--clean", "--if-exists", "--single-transaction", "--no-owner", str(backup), location=location)
            removed = _take_out(location, removals, now_ms=now_ms)
        else:
            _verify_sqlite(backup)
            removed = _replace_sqlite(location, backup, memory, removals, now_ms=now_ms)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{backup}: could not be restored: {error}") from None
    with contextlib.closing(RecordStore(location, make=False)) as restored:
        memory.adopt(restored)
    for folder in index_folder.iterdir() if index_folder.is_dir() else ():
        if folder.is_dir():
            shutil.rmtree(folder)
    return removed


def _take_out(location: Path | str, removals: Sequence[Removal], *, now_ms: int) -> int:
    """Erase and retract in a restored store what was erased and retracted in the one before it."""
    with contextlib.closing(RecordStore(location, make=False)) as store:
        return take_out_again(store, removals, now_ms=now_ms)


def copy_sqlite(source: Path, target: Path) -> None:
    """Write a consistent copy of any SQLite file that others may be writing to.

    Raises:
        StoreError: it is damaged.
    """
    try:
        with contextlib.closing(connect_read_only(source, busy_s=30)) as here, contextlib.closing(connect(target)) as there:
            here.backup(there, pages=-1)
            there.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as error:
        raise StoreError(f"{source}: could not be copied: {error}") from None


def dump_postgresql(location: str, target: Path) -> None:
    """Dump a whole database: here the records, the audit log and what else of the member lies there, all of one moment.

    Raises:
        StoreError: it cannot be dumped.
    """
    _run("pg_dump", "--format=custom", f"--file={target}", location=location)


def load_postgresql(location: str, dump: Path) -> None:
    """Put a dump of a whole database into an empty one.

    Raises:
        StoreError: it is not empty, or cannot be written; it is as it was.
    """
    _run("pg_restore", "--single-transaction", "--no-owner", str(dump), location=location)


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


def _replace_sqlite(store: Path, backup: Path, memory: StoreMemory, removals: Sequence[Removal], *, now_ms: int) -> int:
    """Make the backup ready beside the store, and give it the store's name. Nothing of it is left if that fails."""
    fresh = store.with_name(f".{store.name}.restoring")
    try:
        for path in _with_journals(fresh):
            path.unlink(missing_ok=True)
        os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE_MODE))
        with backup.open("rb") as source, fresh.open("wb") as target:
            shutil.copyfileobj(source, target)
        removed = _take_out(fresh, removals, now_ms=now_ms)
        _merge_journal(fresh)
        _sync(fresh)
        with contextlib.closing(RecordStore(fresh, make=False)) as ready:
            memory.expect(ready)
        _merge_journal(fresh)
        _set_aside(store)
        fresh.replace(store)
        _sync(store.parent)
    finally:
        for path in _with_journals(fresh):
            path.unlink(missing_ok=True)
    return removed


def _set_aside(store: Path) -> None:
    """Give the present store a second name. It keeps the first one until the restored one takes it."""
    aside = store.with_name(f"{store.name}{BEFORE_RESTORE}")
    if store.exists():
        try:
            _merge_journal(store)
        except sqlite3.Error:  # damaged: that may be why it is replaced. SQLite would read its journal into the restored one.
            for path in _with_journals(store)[1:]:
                if path.exists():
                    path.replace(path.with_name(f"{path.name}{BEFORE_RESTORE}"))
        for path in _with_journals(aside):
            path.unlink(missing_ok=True)
        aside.hardlink_to(store)
    for path in _with_journals(store)[1:]:
        path.unlink(missing_ok=True)


def _merge_journal(path: Path) -> None:
    """Bring a database's write-ahead log into its file, and do without one until it is opened again."""
    with contextlib.closing(connect(path, busy_s=1)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute("PRAGMA journal_mode=DELETE")


def _with_journals(path: Path) -> list[Path]:
    return [path, *(path.with_name(f"{path.name}{suffix}") for suffix in ("-wal", "-shm", "-journal"))]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
