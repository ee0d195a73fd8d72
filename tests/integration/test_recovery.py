"""Recovery drills: everything is backed up sealed, the folder is lost, and put back by whoever holds the offline key."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from tests.support.sockets import SocketFederation
from vidfed.cli.root import root
from vidfed.node.records.known import open_store
from vidfed.security.crypto.sealed_file import CHUNK_BYTES, OpeningReader, SealingWriter, make_recipient, read_recipient
from vidfed.security.crypto.sealing_key import load_sealing_key
from vidfed.security.errors import SealedFileError
from vidfed.security.member.home import MemberHome

if TYPE_CHECKING:
    from pathlib import Path

CODES = [bytes([number]) * 16 for number in range(0xA0, 0xA3)]


class Place:
    """A member with three records, and the key that its backups are sealed to."""

    def __init__(self, folder: Path, url: str = "") -> None:
        self.base = folder
        self.folder = SocketFederation(folder, "nl", "fr").homes["nl"].folder
        if url:
            config = self.folder / "vidfed.toml"
            lines = config.read_text().splitlines()
            at = next(number for number, line in enumerate(lines) if line == "[store]")
            lines = [line for line in lines if not line.startswith("url =")]
            lines.insert(at + 1, f'url = "{url}"')
            config.write_text("\n".join(lines))
            self.run("node", "adopt-store", "--make", "--reason", "moved")
        self.private, self.public = folder / "safe.json", folder / "backup.pub"
        self.run("node", "backup-key", str(self.private), str(self.public), home=False)
        listed = folder / "hashes.csv"
        listed.write_text("md5\n" + "".join(f"{code.hex()}\n" for code in CODES))
        self.run("node", "import", str(listed))

    def invoke(self, *arguments: str, home: bool = True) -> Result:
        return CliRunner().invoke(root, [*arguments, *(["--home", str(self.folder)] if home else [])])

    def run(self, *arguments: str, home: bool = True) -> str:
        result = self.invoke(*arguments, home=home)
        assert result.exit_code == 0, result.output
        return result.output

    def references(self) -> list[str]:
        with open_store(MemberHome(self.folder), reads_only=True) as store, store.database.engine.connect() as connection:
            rows = connection.exec_driver_sql("SELECT reference FROM records WHERE erased_ms IS NULL ORDER BY id")
            return [row[0] for row in rows]

    def lose(self) -> None:
        self.folder.rename(self.base / "the lost disk")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_all_that_was_lost_comes_back_but_for_what_was_erased_since(place: Place) -> None:
    sealed, register = str(place.base / "all.sealed"), str(place.base / "register.sealed")
    place.run("node", "backup", sealed, "--to", str(place.public))
    erased, *left = place.references()
    place.run("node", "records", "erase", erased, "--yes")
    place.run("node", "backup", register, "--to", str(place.public), "--register-only")
    keys = {path.name: path.read_bytes() for path in (place.folder / "keys").iterdir()}
    place.lose()

    said = place.run("node", "restore", sealed, "--key", str(place.private), "--register", register)
    assert "1 records that were erased or retracted" in said
    assert "WITHHELD" not in said
    assert place.references() == left
    assert {path.name: path.read_bytes() for path in (place.folder / "keys").iterdir()} == keys
    assert all(path.stat().st_mode & 0o077 == 0 for path in place.folder.rglob("*") if path.is_file())
    assert "NOBODY ELSE VOUCHES" in place.run("audit", "verify")
    assert not list(place.base.glob(".nl.*"))


def test_without_a_register_what_was_put_back_stays_withheld(place: Place) -> None:
    sealed = str(place.base / "all.sealed")
    place.run("node", "backup", sealed, "--to", str(place.public))
    place.lose()
    assert "WITHHELD" in place.run("node", "restore", sealed, "--key", str(place.private))
    listed = place.invoke("node", "records", "list")
    assert (listed.exit_code, "withheld" in listed.output) == (1, True)
    place.run("node", "adopt-store", "--reason", "nothing was erased last week")
    assert len(place.references()) == len(CODES)


def test_everything_on_postgresql_comes_back(tmp_path: Path, postgresql_url: str) -> None:
    place = Place(tmp_path, postgresql_url)
    sealed, register = str(place.base / "all.sealed"), str(place.base / "register.sealed")
    place.run("node", "backup", sealed, "--to", str(place.public))
    erased, *left = place.references()
    place.run("node", "records", "erase", erased, "--yes")
    place.run("node", "backup", register, "--to", str(place.public), "--register-only")
    place.lose()
    refused = place.invoke("node", "restore", sealed, "--key", str(place.private), "--register", register)
    assert (refused.exit_code, "already exists" in refused.output, place.folder.exists()) == (1, True, False)
    _empty(postgresql_url)
    place.run("node", "restore", sealed, "--key", str(place.private), "--register", register)
    assert place.references() == left
    place.run("audit", "verify")


def test_a_database_put_back_to_a_moment_brings_nothing_back_when_it_is_adopted(place: Place) -> None:
    store = place.folder / "store/records.db"
    shutil.copy(store, place.base / "older.db")
    erased, *left = place.references()
    place.run("node", "records", "erase", erased, "--yes")
    for journal in ("records.db-wal", "records.db-shm"):
        (store.parent / journal).unlink(missing_ok=True)
    shutil.copy(place.base / "older.db", store)
    refused = place.invoke("node", "records", "list")
    assert (refused.exit_code, "older copy" in refused.output) == (1, True)
    assert "1 records that were erased" in place.run("node", "adopt-store", "--reason", "put back to 14:00")
    assert place.references() == left


def test_backups_into_a_folder_are_named_by_time_and_the_older_ones_go(place: Place) -> None:
    folder = place.base / "backups"
    folder.mkdir()
    for day in (1, 2, 3):
        (folder / f"vidfed-all-nl-2026010{day}T000000Z.sealed").write_bytes(b"")
    (folder / "vidfed-register-nl-20260101T000000Z.sealed").write_bytes(b"")
    place.run("node", "backup", str(folder), "--to", str(place.public), "--keep", "2")
    names = sorted(path.name for path in folder.iterdir())
    assert names[0] == "vidfed-all-nl-20260103T000000Z.sealed"
    assert [len(names), names[2]] == [3, "vidfed-register-nl-20260101T000000Z.sealed"]


@pytest.mark.parametrize("damage", ["flipped in the first line", "flipped", "cut at a piece", "cut", "added", "another key"])
def test_a_sealed_file_that_is_not_as_it_was_written_is_refused(tmp_path: Path, damage: str) -> None:
    private, public, sealed = tmp_path / "private", tmp_path / "public", tmp_path / "file.sealed"
    make_recipient(private, public)
    content = bytes(range(256)) * (CHUNK_BYTES // 128)
    with sealed.open("wb") as file:
        writer = SealingWriter(file, read_recipient(public))
        for at in range(0, len(content), 70_000):
            writer.write(content[at : at + 70_000])
        writer.finish()
    assert content[:64] not in sealed.read_bytes()
    with sealed.open("rb") as file:
        assert OpeningReader(sealed, file, load_sealing_key(private)).readall() == content
    whole = bytearray(sealed.read_bytes())
    head = whole.index(b"\n") + 1
    key = load_sealing_key(private)
    if damage == "another key":
        make_recipient(tmp_path / "other", tmp_path / "other.pub")
        key = load_sealing_key(tmp_path / "other")
    elif damage == "added":
        whole += b"\0"
    elif damage == "cut":
        del whole[-1:]
    elif damage == "cut at a piece":
        del whole[head + CHUNK_BYTES + 17 :]
    else:
        whole[20 if "line" in damage else -CHUNK_BYTES // 2] ^= 1
    sealed.write_bytes(whole)
    with sealed.open("rb") as file, pytest.raises(SealedFileError):
        OpeningReader(sealed, file, key).readall()


def _empty(url: str) -> None:
    import psycopg  # noqa: PLC0415

    with contextlib.closing(psycopg.connect(url, autocommit=True)) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
        connection.execute("DROP SCHEMA vidfed_audit CASCADE")
