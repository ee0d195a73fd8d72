"""What a member does alone: its entry, its keys, its investigators."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING
from unittest.mock import Mock

import pytest

from vidfed.security.clock import DAY_MS
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.crypto.passphrase import close, from_descriptor, from_file, is_closed, open_closed
from vidfed.security.errors import CredentialError, DirectoryError, HomeError, KeyFileError
from vidfed.security.files import write_private
from vidfed.security.identity.credentials import verify_credential
from vidfed.security.identity.tls import verify_peer
from vidfed.security.member.enrolment import issue_kit
from vidfed.security.member.home import MemberHome
from vidfed.security.member.issued import issued_kits
from vidfed.security.member.rotation import OVERLAP_MS, OwnEntry, renew_leaf
from vidfed.security.trust.entry import Entry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.security.trust.world import World
    from vidfed.security.identity.directory import Directory

PHRASE = b"four words drawn by lot"
CHEAP = {"ops": 1, "memory_bytes": 8192}


def published(world: World, home: MemberHome) -> Directory:
    world.folder.accept(Entry.load(home.entry_path))
    return home.directory_source(world.clock).current()


def test_a_signing_key_is_rotated_with_an_overlap(world: World, home: MemberHome) -> None:
    own, old = OwnEntry(home, clock=world.clock), home.signer.public
    own.begin_signing_key()
    during = published(world, home).member("fr")
    assert len(during.signing_keys) == 2
    assert home.signer.public == old
    with pytest.raises(HomeError, match="others may not know the new signing key yet"):
        own.finish_signing_key()
    world.clock.now_ms += OVERLAP_MS + DAY_MS
    own.finish_signing_key()
    after = published(world, home).member("fr")
    assert after.signing_keys == (home.signer.public,) == (during.signing_keys[1],)
    assert after.retired_keys == (old,)


def test_a_half_finished_rotation_is_remembered_until_it_is_finished(world: World, home: MemberHome) -> None:
    own = OwnEntry(home, clock=world.clock)
    assert own.begun() == {}
    for begin in (own.begin_signing_key, own.begin_audit_key, own.begin_ca):
        begin()
    assert own.begun().keys() == {"signing-key", "audit-key", "ca"}
    world.clock.now_ms = own.begun()["ca"]
    own.finish_ca()
    world.clock.now_ms = own.begun()["signing-key"]
    own.finish_signing_key()
    assert own.begun().keys() == {"audit-key"}
    home.keys.path("audit-next").replace(home.keys.path("audit"))  # a finish that was interrupted half-way
    assert OwnEntry(MemberHome(home.folder), clock=world.clock).begun().keys() == {"audit-key"}


def test_an_audit_key_is_rotated_with_an_overlap_and_the_old_one_stays_for_what_it_signed(world: World, home: MemberHome) -> None:
    own, old = OwnEntry(home, clock=world.clock), home.audit_signer.public
    own.begin_audit_key()
    (_, new) = published(world, home).member("fr").audit_keys
    with pytest.raises(HomeError, match="others may not know the new audit key yet"):
        own.finish_audit_key()
    world.clock.now_ms += OVERLAP_MS + DAY_MS
    own.finish_audit_key()
    assert published(world, home).member("fr").audit_keys == (new, old)
    assert home.audit_signer.public == new


def test_a_new_entry_key_is_accepted_by_a_ceremony_only(world: World, home: MemberHome) -> None:
    OwnEntry(home, clock=world.clock).replace_entry_key()
    with pytest.raises(DirectoryError):
        published(world, home)
    world.admit(Entry.load(home.entry_path))
    assert "fr" in home.directory_source(world.clock).current().members


def test_a_running_service_goes_over_to_a_rotated_key_by_itself(world: World, home: MemberHome) -> None:
    held, own = home.signer, OwnEntry(MemberHome(home.folder), clock=world.clock)
    own.begin_signing_key()
    world.clock.now_ms += OVERLAP_MS + DAY_MS
    (key,) = own.finish_signing_key().member.signing_keys
    assert key.holds(b"x", held.sign(b"x"))


def test_a_damaged_key_file_does_not_silence_a_running_service(home: MemberHome, caplog: pytest.LogCaptureFixture) -> None:
    held, key = home.signer, home.signer.public
    (home.folder / "keys/signing.key").chmod(0o644)
    assert key.holds(b"x", held.sign(b"x"))
    assert "ALARM: the old key signs on" in caplog.text


@pytest.mark.parametrize("what", ["signing_key", "audit_key"])
def test_a_rotation_interrupted_while_it_was_finished_is_finished_again(
    world: World, home: MemberHome, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = OwnEntry(home, clock=world.clock)
    getattr(own, f"begin_{what}")()
    world.clock.now_ms += OVERLAP_MS + DAY_MS
    with monkeypatch.context() as patch:
        patch.setattr(OwnEntry, "_write", Mock(side_effect=OSError("cut off")))
        with pytest.raises(OSError, match="cut off"):
            getattr(own, f"finish_{what}")()
    keys = getattr(getattr(own, f"finish_{what}")().member, f"{what}s")
    assert keys[0] == (home.signer if what == "signing_key" else home.audit_signer).public
    with pytest.raises(HomeError, match="no rotation of the"):
        getattr(own, f"finish_{what}")()


@pytest.fixture
def _cheap_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(close, "__kwdefaults__", CHEAP)


@pytest.mark.usefixtures("_cheap_passphrases")
def test_a_member_s_keys_are_closed_and_what_is_made_new_is_closed_too(world: World, home: MemberHome) -> None:
    before, leaf = home.signer.public, home.node_tls().key
    assert set(MemberHome(home.folder, lambda _: PHRASE).keys.close(PHRASE)) == {
        "audit.key",
        "ca.key",
        "entry.key",
        "node.key",
        "signing.key",
    }
    for path in (home.folder / "keys").iterdir():
        assert b"PRIVATE" not in path.read_bytes()
        assert b"seed" not in path.read_bytes()
    for wrong in (None, lambda _: b"another passphrase"):
        with pytest.raises(KeyFileError, match="passphrase"):
            _ = MemberHome(home.folder, wrong).signer
        with pytest.raises(KeyFileError, match="passphrase"):
            MemberHome(home.folder, wrong).node_tls()
    closed = MemberHome(home.folder, lambda _: PHRASE)
    assert (closed.signer.public, closed.node_tls().key) == (before, leaf)
    own = OwnEntry(closed, clock=world.clock)
    own.begin_signing_key()
    own.begin_ca()
    assert all(is_closed(path) for path in (home.folder / "keys").glob("*.key"))
    closed.keys.open()
    assert MemberHome(home.folder).signer.public == before


@pytest.mark.usefixtures("_cheap_passphrases")
def test_services_take_the_passphrase_from_the_environment(home: MemberHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = home.signer.public
    MemberHome(home.folder, lambda _: PHRASE).keys.close(PHRASE)
    write_private(tmp_path / "vidfed-passphrase", PHRASE + b"\n")
    with monkeypatch.context() as patch:
        patch.setenv("VIDFED_PASSPHRASE_FILE", str(tmp_path / "vidfed-passphrase"))
        assert MemberHome(home.folder).signer.public == before
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert MemberHome(home.folder).signer.public == before


def test_a_retired_key_signs_nothing_that_counts(world: World, home: MemberHome) -> None:
    own, old = OwnEntry(home, clock=world.clock), home.signer.public
    kit = issue_kit(home, world.base / "kit", gateway="127.0.0.1:1", clock=world.clock)
    own.begin_signing_key()
    published(world, home)
    world.clock.now_ms += OVERLAP_MS + DAY_MS
    own.finish_signing_key()
    member = published(world, home).member("fr")
    assert old in member.retired_keys
    with pytest.raises(CredentialError, match="no signature by the expected key"):
        verify_credential(kit.credential, federation="test", member="fr", member_keys=member.signing_keys, now_ms=world.clock())


def test_a_ca_is_rotated_with_both_accepted_meanwhile(world: World, home: MemberHome) -> None:
    own, old = OwnEntry(home, clock=world.clock), home.node_tls().certificate
    own.begin_ca()
    during = published(world, home)
    assert verify_peer(old, during, world.clock()).member == "fr"
    world.clock.now_ms += OVERLAP_MS + DAY_MS
    own.finish_ca()
    new = home.node_tls().certificate
    assert verify_peer(new, during, world.clock()).member == "fr"
    after = published(world, home)
    assert verify_peer(new, after, world.clock()).member == "fr"
    with pytest.raises(Exception, match="not issued by the CA"):
        verify_peer(old, after, world.clock())


def test_a_node_s_certificate_is_renewed_by_the_member_alone_when_a_third_of_its_life_is_left(world: World, home: MemberHome) -> None:
    before = home.node_tls().certificate
    assert not renew_leaf(home, world.clock() + 19 * DAY_MS)
    assert renew_leaf(home, world.clock() + 21 * DAY_MS)
    after = home.node_tls().certificate
    assert after != before
    assert verify_peer(after, home.directory_source(world.clock).current(), world.clock()).member == "fr"


def test_a_revoked_credential_is_refused_everywhere(world: World, home: MemberHome) -> None:
    kit = issue_kit(home, world.base / "kit", gateway="127.0.0.1:1", pseudonym="inv-7", clock=world.clock)
    member = home.directory_source(world.clock).current().member("fr")
    terms = {"federation": "test", "member": "fr", "member_keys": member.signing_keys, "now_ms": world.clock()}
    assert verify_credential(kit.credential, **terms, revoked=member.revoked).pseudonym == "inv-7"  # type: ignore[arg-type]
    (issued,) = issued_kits(home)
    OwnEntry(home, clock=world.clock).revoke(issued.serial)
    revoked = published(world, home).member("fr").revoked
    with pytest.raises(CredentialError, match="revoked by its member"):
        verify_credential(kit.credential, **terms, revoked=revoked)  # type: ignore[arg-type]


def test_an_entry_whose_keys_are_not_all_proven_is_refused(home: MemberHome) -> None:
    fields = json.loads(home.entry_path.read_bytes())
    fields["metadata"]["signatures"][0]["sig"] = "00" * 64
    with pytest.raises(DirectoryError, match="has not signed it"):
        Entry.from_json(json.dumps(fields).encode())


def test_a_closed_key_opens_with_its_passphrase_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidfed.security.crypto.keys.close", lambda seed, phrase: close(seed, phrase, ops=1, memory_bytes=8192))
    key = SigningKey.generate()
    key.save(tmp_path / "a.key", PHRASE)
    assert SigningKey.load(tmp_path / "a.key", lambda _: PHRASE).public == key.public
    with pytest.raises(KeyFileError, match="another passphrase"):
        SigningKey.load(tmp_path / "a.key", lambda _: PHRASE + b"!")
    with pytest.raises(KeyFileError, match="VIDFED_PASSPHRASE_FILE"):
        SigningKey.load(tmp_path / "a.key")


def test_a_short_passphrase_is_refused() -> None:
    with pytest.raises(KeyFileError, match="at least 12 bytes"):
        close(bytes(32), b"short")


@pytest.mark.parametrize(("field", "value"), [("memory_bytes", 1 << 40), ("ops", 0), ("kdf", "none"), ("memory_bytes", 1)])
def test_a_key_file_cannot_ask_for_more_than_is_reasonable(field: str, value: object) -> None:
    fields = close(bytes(32), PHRASE, ops=1, memory_bytes=8192) | {field: value}
    with pytest.raises(KeyFileError, match="in a way this program does not know"):
        open_closed(fields, PHRASE, "key")


def test_a_passphrase_comes_from_a_private_file_or_a_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "phrase"
    path.write_bytes(PHRASE + b"\nsecond line\n")
    with pytest.raises(KeyFileError, match="chmod 600"):
        from_file(path)("key")
    path.chmod(0o600)
    assert from_file(path)("key") == PHRASE
    reading, writing = os.pipe()
    os.write(writing, PHRASE + b"\n")
    os.close(writing)
    source = from_descriptor(reading)
    assert source("first") == source("second") == PHRASE
    os.close(reading)
