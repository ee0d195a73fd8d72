"""Attacks on the trust directory as one signed file, by name; and what it must still do."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

from vidfed.security.clock import DAY_MS
from vidfed.security.directory import (
    DIRECTORY_TYPE,
    MAX_DIRECTORY_BYTES,
    Anchor,
    Directory,
    Member,
    SignedDirectoryFile,
    member_request,
    read_member_request,
)
from vidfed.security.envelope import Envelope
from vidfed.security.errors import DirectoryError, DirectoryExpiredError, UnknownMemberError
from vidfed.security.keys import SigningKey
from vidfed.synthetic.memory import MemoryFederation

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def federation() -> MemoryFederation:
    made = MemoryFederation()
    made.add("nl", "fr")
    return made


@pytest.fixture
def source(federation: MemoryFederation, tmp_path: Path) -> SignedDirectoryFile:
    (tmp_path / "directory.json").write_bytes(federation.signed())
    return SignedDirectoryFile(tmp_path / "directory.json", federation.anchor, clock=federation.clock)


def put(source: SignedDirectoryFile, content: bytes) -> None:
    fresh = source._path.with_suffix(".new")
    fresh.write_bytes(content)
    fresh.replace(source._path)


def altered(made: MemoryFederation, **changes: object) -> bytes:
    """The directory with fields changed, signed by the true key."""
    fields = json.loads(made.directory().to_envelope(made.key).payload) | changes
    return Envelope(DIRECTORY_TYPE, json.dumps(fields).encode()).signed_by(made.key).to_json()


def test_a_signed_directory_is_read(source: SignedDirectoryFile, federation: MemoryFederation) -> None:
    assert source.current() == federation.directory()
    assert source.signed() == federation.signed()


def test_a_newer_file_takes_effect_at_the_next_call(source: SignedDirectoryFile, federation: MemoryFederation) -> None:
    assert set(source.current().members) == {"nl", "fr"}
    federation.remove("fr")
    put(source, federation.signed())
    assert set(source.current().members) == {"nl"}


def test_rollback(source: SignedDirectoryFile, federation: MemoryFederation) -> None:
    old = federation.signed()
    federation.remove("fr")
    put(source, federation.signed())
    source.current()
    put(source, old)
    with pytest.raises(DirectoryError, match="rollback"):
        source.current()
    with pytest.raises(DirectoryError, match="rollback"):
        source.signed()
    put(source, federation.signed())
    assert set(source.current().members) == {"nl"}


def test_rollback_offered(source: SignedDirectoryFile, federation: MemoryFederation) -> None:
    old = federation.signed()
    federation.remove("fr")
    source.accept(federation.signed())
    with pytest.raises(DirectoryError, match="older"):
        source.accept(old)
    assert set(source.current().members) == {"nl"}


def test_rollback_offered_after_restart(source: SignedDirectoryFile, federation: MemoryFederation) -> None:
    old = federation.signed()
    federation.remove("fr")
    source.accept(federation.signed())
    restarted = SignedDirectoryFile(source._path, federation.anchor, clock=federation.clock)
    with pytest.raises(DirectoryError, match="older"):
        restarted.accept(old)


def test_another_directory_of_the_same_version_does_not_replace_the_present_one(
    source: SignedDirectoryFile, federation: MemoryFederation
) -> None:
    before = source.current()
    other = replace(federation.directory(), members=MappingProxyType({}))
    assert source.accept(other.to_envelope(federation.key).to_json()) == before


def test_expired(source: SignedDirectoryFile, federation: MemoryFederation) -> None:
    federation.clock.now_ms = federation.expires_ms - 1
    source.current()
    federation.clock.now_ms = federation.expires_ms
    with pytest.raises(DirectoryExpiredError, match="expired at"):
        source.current()
    with pytest.raises(DirectoryExpiredError):
        source.signed()


def test_expired_offered(source: SignedDirectoryFile, federation: MemoryFederation) -> None:
    before = source.current()
    federation.version += 1
    federation.expires_ms = federation.clock() - 1
    content = federation.directory().to_envelope(federation.key).to_json()
    with pytest.raises(DirectoryExpiredError):
        source.accept(content)
    assert source.current() == before


def test_clock_moved(source: SignedDirectoryFile, federation: MemoryFederation) -> None:
    federation.clock.advance(100 * DAY_MS)
    with pytest.raises(DirectoryExpiredError):
        source.current()
    federation.clock.advance(-100 * DAY_MS)
    assert source.current() == replace(federation.directory(), issued_ms=source.current().issued_ms)


@pytest.mark.parametrize("moment_ms", [2**63, -(2**63), 10**30])
def test_a_moment_no_calendar_knows_is_an_error_of_ours(source: SignedDirectoryFile, federation: MemoryFederation, moment_ms: int) -> None:
    put(source, altered(federation, expires_ms=moment_ms))
    if moment_ms < 0:
        with pytest.raises(DirectoryExpiredError):
            source.current()
    else:
        assert source.current().expires_ms == moment_ms


def test_other_federation(source: SignedDirectoryFile, federation: MemoryFederation) -> None:
    put(source, altered(federation, federation="elsewhere"))
    with pytest.raises(DirectoryError, match="of federation 'elsewhere'"):
        source.current()


def test_signed_by_another_key(source: SignedDirectoryFile, federation: MemoryFederation) -> None:
    put(source, federation.directory().to_envelope(SigningKey.generate()).to_json())
    with pytest.raises(DirectoryError, match=federation.key.public.key_id):
        source.current()


def test_signed_by_a_member(source: SignedDirectoryFile, federation: MemoryFederation) -> None:
    put(source, federation.directory().to_envelope(federation.members["nl"].signer).to_json())
    with pytest.raises(DirectoryError):
        source.current()


def test_unsigned(source: SignedDirectoryFile, federation: MemoryFederation) -> None:
    envelope = federation.directory().to_envelope(federation.key)
    put(source, replace(envelope, signatures=()).to_json())
    with pytest.raises(DirectoryError):
        source.current()


def test_member_twice(source: SignedDirectoryFile, federation: MemoryFederation) -> None:
    entry = federation.members["nl"].entry.to_fields()
    put(source, altered(federation, members=[entry, entry]))
    with pytest.raises(DirectoryError, match="twice"):
        source.current()


def test_a_member_s_request_in_place_of_the_directory(source: SignedDirectoryFile, federation: MemoryFederation) -> None:
    put(source, member_request(federation.members["nl"].entry, federation.key).to_json())
    with pytest.raises(DirectoryError):
        source.current()


def test_endless_data(source: SignedDirectoryFile) -> None:
    with source._path.open("wb") as file:
        file.truncate(MAX_DIRECTORY_BYTES + 1)
    with pytest.raises(DirectoryError, match="larger than"):
        source.current()


def test_endless_data_offered(source: SignedDirectoryFile) -> None:
    with pytest.raises(DirectoryError):
        source.accept(b" " * (MAX_DIRECTORY_BYTES + 1))


@pytest.mark.parametrize("content", [b"", b"{}", b"\x00" * 100, b"[" * 50_000, b"null"])
def test_a_damaged_file_closes(source: SignedDirectoryFile, content: bytes) -> None:
    source.current()
    put(source, content)
    with pytest.raises(DirectoryError):
        source.current()
    with pytest.raises(DirectoryError):
        source.current()  # what was known before does not come back


def test_a_missing_file_closes(source: SignedDirectoryFile) -> None:
    source.current()
    source._path.unlink()
    with pytest.raises(DirectoryError, match="comes from the administrators"):
        source.current()


@pytest.mark.parametrize(
    "changes",
    [
        {"extra": 1},
        {"version": "2"},
        {"version": True},
        {"version": 2.0},
        {"members": {}},
        {"members": [5]},
        {"members": [{}]},
        {"expires_ms": None},
    ],
)
def test_a_directory_of_another_form_is_refused(
    source: SignedDirectoryFile, federation: MemoryFederation, changes: dict[str, object]
) -> None:
    put(source, altered(federation, **changes))
    with pytest.raises(DirectoryError):
        source.current()


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "NL"},
        {"id": "../nl"},
        {"id": ""},
        {"id": "n" * 33},
        {"id": "nl\n"},
        {"endpoint": "no-port"},
        {"endpoint": ":7443"},
        {"endpoint": "host:x"},
        {"signing_keys": []},
        {"signing_keys": ["AAAA"]},
        {"signing_keys": [5]},
        {"tls_ca": 5},
        {"extra": ""},
    ],
)
def test_a_member_of_another_form_is_refused(federation: MemoryFederation, changes: dict[str, object]) -> None:
    with pytest.raises(DirectoryError):
        Member.from_fields(federation.members["nl"].entry.to_fields() | changes)


def test_an_unknown_member_is_an_error_that_names_it(federation: MemoryFederation) -> None:
    with pytest.raises(UnknownMemberError, match="'xx'"):
        federation.directory().member("xx")


def test_many_threads_see_one_version_after_the_other_and_never_a_false_rollback(
    source: SignedDirectoryFile, federation: MemoryFederation
) -> None:
    failures: list[Exception] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            try:
                source.signed()
            except DirectoryError as error:
                failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(60):
        federation.version += 1
        put(source, federation.signed())
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_request_proves_possession_of_each_key_it_names(federation: MemoryFederation) -> None:
    nl = federation.members["nl"]
    assert read_member_request(member_request(nl.entry, nl.signer, nl.audit_signer)) == nl.entry
    stolen = replace(nl.entry, signing_keys=(*nl.entry.signing_keys, federation.members["fr"].signer.public))
    with pytest.raises(DirectoryError, match="no signature"):
        read_member_request(member_request(stolen, nl.signer, nl.audit_signer))


@pytest.mark.parametrize("authority", ["", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "leaf", "two"])
def test_a_request_without_exactly_one_ca_certificate_is_refused(federation: MemoryFederation, authority: str) -> None:
    nl, fr = federation.members["nl"], federation.members["fr"]
    text = {"leaf": nl.tls.certificate, "two": nl.ca.certificate + fr.ca.certificate}.get(authority, authority.encode())
    with pytest.raises(DirectoryError, match="CA"):
        read_member_request(member_request(replace(nl.entry, tls_ca=text), nl.signer, nl.audit_signer))


def test_an_anchor_survives_its_file_and_a_damaged_one_is_named(federation: MemoryFederation, tmp_path: Path) -> None:
    path = tmp_path / "anchor.json"
    federation.anchor.save(path)
    assert Anchor.load(path) == federation.anchor
    path.write_text(path.read_text().replace("vidfed-anchor/1", "vidfed-anchor/2"))
    with pytest.raises(DirectoryError, match=r"anchor\.json"):
        Anchor.load(path)
    path.write_text(json.dumps({"kind": "vidfed-anchor/1", "federation": "memory", "key": "AAAA"}))
    with pytest.raises(DirectoryError, match=r"anchor\.json"):
        Anchor.load(path)
    path.unlink()
    with pytest.raises(DirectoryError, match=r"anchor\.json"):
        Anchor.load(path)


def test_a_directory_is_read_back_as_it_was_signed(federation: MemoryFederation) -> None:
    envelope = federation.directory().to_envelope(federation.key)
    assert Directory.from_envelope(envelope, federation.anchor) == federation.directory()
