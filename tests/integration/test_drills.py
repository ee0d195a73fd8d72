"""Drills of docs/recovery.md that need more than its transcript: a server put back to a moment, and keys that somebody else has."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from click.testing import CliRunner

from tests.integration.test_recovery import CODES, Place
from tests.support.administrators import Administrators
from tests.support.postgresql import programs
from tests.support.sockets import SocketFederation
from vidfed.cli.root import root
from vidfed.security.clock import system_clock
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.crypto.passphrase import SERVICE_PASSPHRASE
from vidfed.security.errors import HomeError, KeyFileError, PeerError
from vidfed.security.identity.tls import verify_peer
from vidfed.security.member.rotation import OwnEntry
from vidfed.security.trust.federation import FederationFolder

if TYPE_CHECKING:
    from collections.abc import Iterator


class ArchivingServer:
    """A PostgreSQL server of its own that copies its journal away, as docs/recovery.md says."""

    def __init__(self, folder: Path) -> None:
        self._programs = programs()
        self._who = pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        self.data, self.base, self.wal = folder / "data", folder / "base", folder / "wal"
        for path in (folder, self.wal):
            path.mkdir(mode=0o700, exist_ok=True)
            os.chown(path, self._who.pw_uid, self._who.pw_gid)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"postgresql://vidfed@127.0.0.1:{self.port}/postgres"
        self._run("initdb", "-D", str(self.data), "-A", "trust", "-U", "vidfed", "-E", "UTF8", "--no-sync")
        with (self.data / "postgresql.conf").open("a") as config:
            config.write(
                f"listen_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = ''\nshared_buffers = 32MB\n"
                f"archive_mode = on\narchive_command = 'test ! -f {self.wal}/%f && cp %p {self.wal}/%f'\n"
            )

    def _run(self, program: str, *arguments: str) -> None:
        who = {"user": self._who.pw_uid, "group": self._who.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        command = (f"{self._programs}/{program}", *arguments)
        done = subprocess.run(  # type: ignore[call-overload]
            command, cwd=self.data.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, **who
        )
        assert done.returncode == 0, command

    def start(self) -> None:
        self._run("pg_ctl", "-D", str(self.data), "-l", str(self.data.parent / "log"), "-w", "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self.data), "-m", "fast", "-w", "stop")

    def back_up(self) -> None:
        arguments = ("--pgdata", str(self.base), "--wal-method", "none", "--checkpoint", "fast")
        self._run("pg_basebackup", "-h", "127.0.0.1", "-p", str(self.port), "-U", "vidfed", *arguments)

    def now(self) -> str:
        """Return the server's time, and have what was written up to now copied away."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            found = connection.execute("select now()::text").fetchone()
            connection.execute("select pg_switch_wal()")
        assert found
        return str(found[0])

    def put_back_to(self, moment: str) -> None:
        self.stop()
        shutil.move(self.data, self.data.with_name("lost"))
        shutil.copytree(self.base, self.data, copy_function=shutil.copy2)
        with (self.data / "postgresql.conf").open("a") as config:
            config.write(
                f"restore_command = 'cp {self.wal}/%f %p'\nrecovery_target_time = '{moment}'\nrecovery_target_action = 'promote'\n"
            )
        (self.data / "recovery.signal").touch()
        for path in (self.data, *self.data.rglob("*")):
            os.chown(path, self._who.pw_uid, self._who.pw_gid)
        self.start()
        with psycopg.connect(self.url, autocommit=True) as connection:
            while connection.execute("select pg_is_in_recovery()").fetchone() == (True,):  # ends with the server's own recovery
                connection.execute("select pg_sleep(0.05)")


@pytest.fixture
def archiving() -> Iterator[ArchivingServer]:
    with tempfile.TemporaryDirectory(prefix="vidfed-pg-") as folder:  # pytest's own folders are closed to the server's user
        server = ArchivingServer(Path(folder))
        server.start()
        yield server
        server.stop()


@pytest.mark.exhaustive
def test_a_server_put_back_to_a_moment_is_adopted_and_what_was_erased_since_stays_so(archiving: ArchivingServer, tmp_path: Path) -> None:
    (tmp_path / "member").mkdir()
    place = Place(tmp_path / "member", archiving.url)
    archiving.back_up()
    erased, *left = place.references()
    moment = archiving.now()
    place.run("node", "records", "erase", erased, "--yes")
    later = tmp_path / "later.csv"
    later.write_text("md5\n5d41402abc4b2a76b9719d911017c592\n")
    place.run("node", "import", str(later))
    archiving.now()
    assert len(place.references()) == len(CODES)

    archiving.put_back_to(moment)
    refused = place.invoke("node", "records", "list")
    assert (refused.exit_code, "older copy" in refused.output) == (1, True), refused.output
    place.run("audit", "new-epoch", "--alone", "--reason", "put back to 14:00")  # first: nothing is done that cannot be logged
    assert "1 records that were erased" in place.run("node", "adopt-store", "--reason", "put back to 14:00")
    assert place.references() == left, "the moment was missed, or what was erased since came back"
    place.run("audit", "verify")
    place.run("node", "import", str(later))
    assert len(place.references()) == len(CODES)


async def test_keys_that_somebody_else_has_end_when_the_administrators_sign_the_new_ones(tmp_path: Path) -> None:
    async with SocketFederation(tmp_path, "nl", "fr") as federation:
        home = federation.homes["nl"]
        certificate, signing, entry = home.node_tls().certificate, home.signer.public, home.entry_signer.public
        before = federation.administrators.directory()
        verify_peer(certificate, before, system_clock())
        federation.administrators.sign_and_publish(federation.administrators.folder.propose_removal("nl"))
        with pytest.raises(PeerError, match="no member"):
            verify_peer(certificate, federation.administrators.directory(), system_clock())

        OwnEntry(home).begin_signing_key()  # was half done when it happened: the thief has that one too
        made = OwnEntry(home).replace_everything()
        with pytest.raises(HomeError, match="no rotation"):
            OwnEntry(home).finish_signing_key()
        after = federation.administrators.admit(made)
        member = after.member("nl")
        assert member.signing_keys == (home.signer.public,)
        assert signing in member.retired_keys
        assert signing not in member.signing_keys
        assert member.entry_key not in {entry, None}
        assert member.audit_keys[1:] == before.member("nl").audit_keys, "what the old log was signed with can no longer be verified"
        with pytest.raises(PeerError):
            verify_peer(certificate, after, system_clock())
        verify_peer(home.node_tls().certificate, after, system_clock())


@pytest.mark.exhaustive  # argon2id, seven times
def test_who_copies_a_publisher_s_disk_cannot_confirm_anything_without_the_passphrase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Administrators(tmp_path / "federation", "example").folder
    phrase = tmp_path / "phrase"
    phrase.write_text("four words drawn by lot\n")
    phrase.chmod(0o600)
    command = ["trust", "passphrase", str(folder.folder), "--passphrase-file", str(phrase)]
    closed = CliRunner().invoke(root, command)
    assert (closed.exit_code, "Closed online.key" in closed.output) == (0, True), closed.output
    with pytest.raises(KeyFileError, match="closed with a passphrase"):
        FederationFolder(folder.folder).renew_timestamp()
    monkeypatch.setenv(SERVICE_PASSPHRASE, str(phrase))
    FederationFolder(folder.folder).renew_timestamp()
    FederationFolder(folder.folder).propose_online_key()
    following = folder.folder / "online-next.key"
    with pytest.raises(KeyFileError, match="closed with a passphrase"):
        SigningKey.load(following)
    assert CliRunner().invoke(root, [*command, "--open"]).exit_code == 0
    SigningKey.load(following)
