"""A member's folder and an investigator's kit: made whole, private, never overwritten; refused when something is wrong."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.support.administrators import Administrators
from tests.support.memory import SettableClock
from vidfed.node.config import render_config
from vidfed.security import files
from vidfed.security.clock import DAY_MS
from vidfed.security.crypto import passphrase
from vidfed.security.crypto.certificates import check_identity
from vidfed.security.errors import DirectoryError, HomeError, KeyFileError, SecurityError
from vidfed.security.files import write_private
from vidfed.security.identity.credentials import verify_credential
from vidfed.security.identity.tls import Peer, make_node_leaf, verify_peer
from vidfed.security.member.enrolment import issue_kit
from vidfed.security.member.home import MemberHome, create_home
from vidfed.security.member.kit import Kit
from vidfed.security.member.rotation import renew_leaf
from vidfed.security.trust.entry import Entry

if TYPE_CHECKING:
    from pathlib import Path

FILES_OF_A_KIT = {"kit.json", "signing.key", "sealing.key", "identity.json", "anchor.json"}


def config(member: str = "nl", federation: str = "test", directory: str = "") -> str:
    return render_config(
        federation=federation,
        member=member,
        name="Unit",
        contact="desk",
        listen="127.0.0.1:0",
        gateway_listen="127.0.0.1:0",
        directory_folder=directory,
    )


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
def administrators(tmp_path: Path, clock: SettableClock) -> Administrators:
    return Administrators(tmp_path / "federation", "test", clock=clock)


@pytest.fixture
def home(tmp_path: Path, administrators: Administrators) -> MemberHome:
    text = config(directory=str(administrators.published))
    made = create_home(tmp_path / "nl", config=text, endpoint="127.0.0.1:7443", anchor=administrators.anchor)
    administrators.admit(Entry.load(made.entry_path))
    return made


def test_a_new_home_is_whole_and_private(home: MemberHome, clock: SettableClock) -> None:
    assert home.folder.stat().st_mode & 0o077 == 0
    for path in (home.folder / "keys").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    directory = home.directory_source(clock).current()
    assert directory.member("nl").signing_keys == (home.signer.public,)
    assert verify_peer(home.node_tls().certificate, directory, clock()) == Peer("nl", "node")


def test_a_home_is_never_overwritten(home: MemberHome, administrators: Administrators) -> None:
    before = home.signer.public
    with pytest.raises(HomeError, match="never overwritten"):
        create_home(home.folder, config=config(), endpoint="127.0.0.1:7443", anchor=administrators.anchor)
    assert MemberHome(home.folder).signer.public == before


def test_a_home_that_cannot_be_made_leaves_nothing_behind(tmp_path: Path, administrators: Administrators) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    with pytest.raises(DirectoryError, match="host:port"):
        create_home(folder / "fr", config=config("fr"), endpoint="nowhere", anchor=administrators.anchor)
    assert list(folder.iterdir()) == []


def test_a_federation_is_never_overwritten(administrators: Administrators) -> None:
    with pytest.raises(DirectoryError, match="never overwritten"):
        Administrators(administrators.folder.folder, "test")


@pytest.mark.parametrize("member", ["NL", "", "a/b", "x" * 33, "nl "])
def test_a_member_id_of_another_form_is_refused(tmp_path: Path, administrators: Administrators, member: str) -> None:
    with pytest.raises(HomeError):
        create_home(tmp_path / "home", config=config(member), endpoint="127.0.0.1:7443", anchor=administrators.anchor)


def test_an_unknown_section_is_named(home: MemberHome) -> None:
    home.config_path.write_text(home.config_path.read_text() + "\n[polcy]\n")
    with pytest.raises(HomeError, match=r"unknown section \[polcy\]; known are"):
        MemberHome(home.folder)


def test_an_anchor_of_another_federation_is_refused(home: MemberHome) -> None:
    home.config_path.write_text(home.config_path.read_text().replace('federation = "test"', 'federation = "other"'))
    with pytest.raises(HomeError, match="but the anchor is of 'test'"):
        MemberHome(home.folder).directory_source()


@pytest.mark.parametrize("name", ["keys/signing.key", "keys/node.key", "keys/ca.key"])
def test_a_key_of_a_home_that_others_can_read_is_refused(home: MemberHome, name: str) -> None:
    (home.folder / name).chmod(0o644)
    reopened = MemberHome(home.folder)
    with pytest.raises(KeyFileError, match="chmod 600"):
        _ = (reopened.signer, reopened.ca, reopened.node_tls())


def test_a_missing_certificate_is_a_key_file_error(home: MemberHome) -> None:
    (home.folder / "keys/node.key").unlink()
    with pytest.raises(KeyFileError, match=r"node\.key"):
        home.node_tls()


@pytest.mark.parametrize("damage", ["cut before the certificate", "another key", "junk"])
def test_half_renewed_certificate_is_made_anew_at_the_next_start(home: MemberHome, clock: SettableClock, damage: str) -> None:
    path = home.folder / "keys/node.key"
    content = path.read_bytes()
    key, begin, certificate = content.partition(b"-----BEGIN CERTIFICATE-----")
    other = make_node_leaf(home.ca, home.federation, home.member)
    write_private(path, {"cut before the certificate": key, "another key": other.key + begin + certificate, "junk": b"junk\n"}[damage])
    with pytest.raises(KeyFileError):
        check_identity(home.node_tls())

    assert renew_leaf(home, clock())

    check_identity(home.node_tls())
    assert not renew_leaf(home, clock())


def test_key_and_certificate_are_replaced_in_one_step(home: MemberHome, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []

    def noted(path: Path, content: bytes) -> None:
        written.append(path)
        files.write_private(path, content)

    monkeypatch.setattr(passphrase, "write_private", noted)
    home.keys.save_tls("node", make_node_leaf(home.ca, home.federation, home.member))
    assert written == [home.folder / "keys/node.key"]
    check_identity(home.node_tls())


def test_a_kit_is_whole_private_and_of_this_person(home: MemberHome, tmp_path: Path, clock: SettableClock) -> None:
    kit = issue_kit(home, tmp_path / "kit", gateway="127.0.0.1:7444", pseudonym="inv-7", clock=clock)
    assert {path.name for path in kit.folder.iterdir()} == FILES_OF_A_KIT | {"trust"}
    assert kit.folder.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in kit.folder.iterdir() if path.is_file())
    directory = kit.directory_source(clock).current()
    assert verify_peer(kit.tls.certificate, directory, clock()) == Peer("nl", "investigator", "inv-7", kit.holder.serial)
    held = verify_credential(
        kit.credential, federation="test", member="nl", member_keys=directory.member("nl").signing_keys, now_ms=clock()
    )
    assert (held.pseudonym, held.key) == ("inv-7", kit.signer.public)
    assert kit.signer.public != home.signer.public


def test_a_kit_is_never_overwritten(home: MemberHome, tmp_path: Path) -> None:
    issue_kit(home, tmp_path / "kit", gateway="127.0.0.1:7444")
    with pytest.raises(HomeError, match="never overwritten"):
        issue_kit(home, tmp_path / "kit", gateway="127.0.0.1:7444")


def test_two_kits_have_two_pseudonyms(home: MemberHome, tmp_path: Path) -> None:
    kits = [issue_kit(home, tmp_path / name, gateway="127.0.0.1:7444") for name in ("one", "two")]
    assert kits[0].pseudonym != kits[1].pseudonym


@pytest.mark.parametrize("pseudonym", ["Jane Doe", "x", "a/b", "inv\n1", "-a", "x" * 41])
def test_a_pseudonym_of_another_form_is_refused(home: MemberHome, tmp_path: Path, pseudonym: str) -> None:
    with pytest.raises(HomeError, match="pseudonym"):
        issue_kit(home, tmp_path / "kit", gateway="127.0.0.1:7444", pseudonym=pseudonym)
    assert not (tmp_path / "kit").exists()


def test_no_kit_is_made_from_an_expired_directory(home: MemberHome, tmp_path: Path, clock: SettableClock) -> None:
    clock.advance(2 * DAY_MS)
    with pytest.raises(DirectoryError, match="expired"):
        issue_kit(home, tmp_path / "kit", gateway="127.0.0.1:7444", clock=clock)
    assert not (tmp_path / "kit").exists()


@pytest.mark.parametrize("name", sorted(FILES_OF_A_KIT - {"anchor.json"}))
@pytest.mark.parametrize("damage", ["missing", "open", "garbage"])
def test_a_kit_with_a_bad_file_is_refused_by_name(home: MemberHome, tmp_path: Path, name: str, damage: str) -> None:
    issue_kit(home, tmp_path / "kit", gateway="127.0.0.1:7444")
    path = tmp_path / "kit" / name
    if damage == "missing":
        path.unlink()
    elif damage == "open":
        path.chmod(0o640)
    else:
        path.write_bytes(b"\x00garbage")

    def use() -> tuple[object, ...]:
        kit = Kit(tmp_path / "kit")
        return kit.signer, kit.sealing_key, kit.credential, kit.tls

    with pytest.raises(SecurityError):
        use()


def test_a_folder_without_a_kit_says_who_makes_one(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="issue-investigator"):
        Kit(tmp_path)


def test_a_request_of_somebody_else_s_key_is_refused(home: MemberHome, tmp_path: Path) -> None:
    path = tmp_path / "member.json"
    shutil.copy(home.entry_path, path)
    path.write_text(path.read_text().replace('"sig": "', '"sig": "AAAA'))
    with pytest.raises(DirectoryError):
        Entry.load(path)


def test_nothing_secret_is_in_the_texts_of_home_and_kit(home: MemberHome, tmp_path: Path) -> None:
    kit = issue_kit(home, tmp_path / "kit", gateway="127.0.0.1:7444")
    shown = f"{home!r}{vars(home)!r}{kit!r}{home.signer!r}{home.ca!r}{home.node_tls()!r}{kit.signer!r}{kit.tls!r}{vars(kit)!r}"
    assert "PRIVATE" not in shown
    assert "seed" not in shown
    assert kit.sealing_key.hex() not in shown
