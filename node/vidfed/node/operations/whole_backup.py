"""One backup of all that a member has, sealed to an offline key, and what is put back from it.

A tar archive inside a sealed file: the member's folder but for what is a cache, databases as consistent copies, and dumps of what lies on
PostgreSQL. The records are copied first: what was logged about them since is then in the copy of the log, and what was erased since in that
of the register. Whoever makes it cannot read it: the private key is nowhere near.

Records that are put back may hold what was erased or retracted after the backup was made. The register of that (`state/store.db`) is small
and backed up by itself, often. What is put back without one stays withheld: the node answers nothing until somebody decides.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import secrets
import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from vidfed.casework.settings import casework_location, read_casework_section
from vidfed.node.config import store_location
from vidfed.node.errors import StoreError
from vidfed.node.records.backup import copy_sqlite, dump_postgresql, load_postgresql
from vidfed.node.records.known import STORE_MEMORY_FILE, StoreMemory, store_memory
from vidfed.node.records.lifecycle import BEFORE_RESTORE, take_out_again
from vidfed.node.records.store import RecordStore
from vidfed.security.clock import as_text, system_clock
from vidfed.security.crypto.sealed_file import OpeningReader, SealingWriter
from vidfed.security.documents import read_document
from vidfed.security.files import PRIVATE_MODE, new_file
from vidfed.security.member.home import MemberHome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BACKUP_KIND = "vidfed-whole-backup/1"
REGISTER_KIND = "vidfed-register-backup/1"
SUFFIX = ".sealed"
_COPIES = ".backup-"
_MANIFEST = "manifest.json"
_FORM = {"kind": str, "federation": str, "member": str, "made_ms": int}
_HOME = "home"
_DUMPS = "postgresql"
_REGISTER = f"state/{STORE_MEMORY_FILE}"
_CACHES = frozenset({"index"})
_RUNNING = frozenset({"state/serving", "state/gateway-serving", "state/metrics"})
_SQLITE = b"SQLite format 3\x00"
_JOURNALS = ("-wal", "-shm", "-journal", ".partial", ".lock", BEFORE_RESTORE)
_FOLDER_MODE = 0o700


def back_up_all(home: MemberHome, target: Path, recipient: bytes, *, register_only: bool = False) -> int:
    """Write a sealed backup of all that the member has, while its services run; return how many bytes it has.

    Args:
        home: the member's folder.
        target: a new file; never overwritten.
        recipient: public key, 32 bytes, whose private half is kept elsewhere.
        register_only: only the register of what was erased and retracted, which is small enough to be backed up often.

    Raises:
        StoreError: it cannot be made; no file of that name is left.
    """
    if target.exists():
        raise StoreError(f"{target}: exists; a backup is never overwritten")
    drop_left_copies(home)
    copies = home.state_file(f"{_COPIES}{secrets.token_hex(4)}")  # not sealed yet, so it stays on the member's own disk
    try:
        copies.mkdir(mode=_FOLDER_MODE)
        with _locked(copies), new_file(target) as file:
            writer = SealingWriter(file, recipient)
            with tarfile.open(fileobj=writer, mode="w|", format=tarfile.PAX_FORMAT) as archive:
                fields = {"kind": REGISTER_KIND if register_only else BACKUP_KIND, "federation": home.federation, "member": home.member}
                _add_bytes(archive, _MANIFEST, json.dumps(fields | {"made_ms": system_clock()}).encode())
                if register_only:
                    _add(archive, home.folder / _REGISTER, f"{_HOME}/{_REGISTER}", copies)
                else:
                    _add_all(archive, home, copies)
            writer.finish()
    except OSError as error:
        raise StoreError(f"{target}: the backup could not be made: {error}") from None
    finally:
        shutil.rmtree(copies, ignore_errors=True)
    return target.stat().st_size


def drop_left_copies(home: MemberHome) -> int:
    """Delete the copies that killed backups have left, and return how many backups are being made now."""
    running = 0
    for copies in home.state_file(_COPIES).parent.glob(f"{_COPIES}*"):
        try:
            with _locked(copies):
                shutil.rmtree(copies, ignore_errors=True)
        except BlockingIOError:
            running += 1
        except FileNotFoundError:
            continue
    return running


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, which ends with the process, however that ends."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def backup_name(home: MemberHome, *, register_only: bool) -> str:
    """Return the name of a backup made now. Names of one kind sort by time."""
    return f"{_name_begins(home, register_only=register_only)}{as_text(system_clock()).replace(':', '').replace('-', '')}{SUFFIX}"


def drop_older(home: MemberHome, folder: Path, keep: int, *, register_only: bool) -> int:
    """Delete all but the newest `keep` backups of this member and kind in `folder`; return how many."""
    found = sorted(folder.glob(f"{_name_begins(home, register_only=register_only)}*{SUFFIX}"))
    for path in found[:-keep]:
        path.unlink()
    return len(found[:-keep])


def _name_begins(home: MemberHome, *, register_only: bool) -> str:
    return f"vidfed-{'register' if register_only else 'all'}-{home.member}-"


def restore_all(sealed: Path, private: bytes, folder: Path, register: Path | None) -> tuple[MemberHome, int, bool]:
    """Make a member's folder from its backup. All or nothing: the folder appears when everything is in it.

    Args:
        sealed: made by `back_up_all`.
        private: the recipient's private key, 32 bytes.
        folder: must not be there, or be empty. Databases on PostgreSQL must be empty.
        register: a later backup of the register, of the time of the loss if possible.

    Returns:
        The folder; how many records were taken out again by the register; whether the records are withheld for want of one.

    Raises:
        StoreError: not such a backup, or there is something in its place.
        SealedFileError: damaged, or for another key.
    """
    if folder.exists() and any(folder.iterdir()):
        raise StoreError(f"{folder}: is not empty; move what is left of the old one away, and keep it")
    place = folder.absolute()
    made = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
    try:
        made.mkdir(mode=_FOLDER_MODE, parents=True)
        about = _unpack(sealed, private, made, BACKUP_KIND)
        if register is not None:
            later = _unpack(register, private, made / "register", REGISTER_KIND)
            if (later["federation"], later["member"]) != (about["federation"], about["member"]) or later["made_ms"] < about["made_ms"]:
                raise StoreError(f"{register}: not a register of this member that is later than the backup")
            (made / "register" / _HOME / _REGISTER).replace(made / _HOME / _REGISTER)
        home = MemberHome(made / _HOME)
        _load_dumps(home, made / _DUMPS)
        taken_out = _put_records_right(home, about["made_ms"], withhold=register is None)
        if place.exists():
            place.rmdir()
        (made / _HOME).replace(place)
    except OSError as error:
        raise StoreError(f"{sealed}: could not be put back: {error}") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return MemberHome(folder), taken_out, register is None


def _put_records_right(home: MemberHome, made_ms: int, *, withhold: bool) -> int:
    memory: StoreMemory = store_memory(home)
    with contextlib.closing(RecordStore(store_location(home), make=False)) as store:
        taken_out = take_out_again(store, memory.removals(), now_ms=system_clock())
        memory.adopt(store)
    if withhold:
        memory.withhold(
            f"the records are those of the backup of {as_text(made_ms)}; what was erased or retracted since is not known, and could come "
            "back with them"
        )
    return taken_out


def _add_all(archive: tarfile.TarFile, home: MemberHome, copies: Path) -> None:
    """Add everything, in an order in which nothing is older than what it speaks of."""
    places = {"store": store_location(home), "casework": casework_location(home, read_casework_section(home))}
    files = list(_files(home.folder, home.folder))
    databases = [path for path in files if _is_sqlite(path)]
    records = places["store"]
    first = [records] if isinstance(records, Path) else []
    for path in first:
        _add(archive, path, _name(home, path), copies)
    for path in files:
        if path not in databases:
            _add(archive, path, _name(home, path), copies)
    for what, location in places.items():
        if isinstance(location, str):
            dump = copies / f"{what}.dump"
            dump_postgresql(location, dump)
            archive.add(dump, f"{_DUMPS}/{dump.name}")
            dump.unlink()
    for path in databases:
        if path not in first:
            _add(archive, path, _name(home, path), copies)


def _files(folder: Path, top: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        name = path.relative_to(top).as_posix()
        if path.name.startswith(".") or name in _RUNNING or path.name in _CACHES or path.is_symlink() or path.name.endswith(_JOURNALS):
            continue
        if path.is_dir():
            yield from _files(path, top)
        elif path.is_file():
            yield path


def _name(home: MemberHome, path: Path) -> str:
    return f"{_HOME}/{path.relative_to(home.folder).as_posix()}"


def _is_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def _add(archive: tarfile.TarFile, path: Path, name: str, copies: Path) -> None:
    try:
        if not _is_sqlite(path):
            _add_bytes(archive, name, path.read_bytes())
            return
        copy = copies / "copy.db"
        copy_sqlite(path, copy)
        archive.add(copy, name, filter=_private)
        copy.unlink()
    except FileNotFoundError:
        return  # of a running service, which has just replaced or removed it


def _private(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.mode, entry.uid, entry.gid, entry.uname, entry.gname = PRIVATE_MODE, 0, 0, "", ""
    return entry


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = _private(tarfile.TarInfo(name))
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def _unpack(sealed: Path, private: bytes, folder: Path, kind: str) -> dict[str, Any]:
    """Unpack a sealed archive and return its manifest; what is in `folder` may be used once this has returned."""
    about = None
    with sealed.open("rb") as file:
        reader = io.BufferedReader(OpeningReader(sealed, file, private))
        try:
            with tarfile.open(fileobj=reader, mode="r|") as archive:
                for entry in archive:
                    content = archive.extractfile(entry) if entry.isfile() else None
                    parts = PurePosixPath(entry.name).parts
                    if content is None or ".." in parts or PurePosixPath(entry.name).is_absolute():
                        raise StoreError(f"{sealed}: holds {entry.name!r:.80}, which is no file of a backup")
                    if about is None:
                        about = read_document(content.read(), _FORM, StoreError, f"{sealed}: not a backup")
                        if entry.name != _MANIFEST or about["kind"] != kind:
                            raise StoreError(f"{sealed}: not a backup of this kind, but {about['kind']!r:.60}")
                        continue
                    target = folder.joinpath(*parts)
                    target.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
                    with target.open("xb") as out:
                        target.chmod(PRIVATE_MODE)
                        shutil.copyfileobj(content, out)
        except tarfile.TarError as error:
            raise StoreError(f"{sealed}: {error}") from None
        while reader.read(1 << 20):  # to the end, which is what shows that nothing is missing
            pass
    if about is None:
        raise StoreError(f"{sealed}: empty")
    return about


def _load_dumps(home: MemberHome, dumps: Path) -> None:
    places: dict[str, Callable[[], Path | str]] = {
        "store": lambda: store_location(home),
        "casework": lambda: casework_location(home, read_casework_section(home)),
    }
    loaded: set[str] = set()
    for what, place in places.items():
        dump, location = dumps / f"{what}.dump", place()
        if dump.exists() and isinstance(location, str) and location not in loaded:
            load_postgresql(location, dump)
            loaded.add(location)
