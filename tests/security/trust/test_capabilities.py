"""What members say they understand, read by programs of other versions than theirs."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from vidfed.security.crypto.envelope import Envelope
from vidfed.security.errors import DirectoryError
from vidfed.security.identity.capabilities import CASEWORK, FILMS, PROTOCOL, all_speak, hashes
from vidfed.security.identity.directory import MAX_SPOKEN, MEMBER_REQUEST_TYPE, Member, MemberRequest
from vidfed.security.trust.entry import Entry

if TYPE_CHECKING:
    from tests.security.trust.world import World
    from vidfed.security.crypto.keys import Signer


def test_newer_member_is_understood_by_an_older_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def as_a_later_version_writes_it(request: MemberRequest, *signers: Signer) -> Envelope:
        later = {"speaks": [PROTOCOL, "protocol/2", FILMS, "smells", "Not A Name", {"form": 2}], "post_quantum_keys": [{"kty": "AKP"}]}
        member = request.member.to_fields() | later
        fields = {"federation": request.federation, "entry_key": request.entry_key.text, "member": member, "deputies": ["fr"]}
        return Envelope(MEMBER_REQUEST_TYPE, json.dumps(fields).encode()).signed_by(*signers)

    with monkeypatch.context() as later:
        later.setattr(MemberRequest, "to_envelope", as_a_later_version_writes_it)
        content = world.entry("fr").to_json()
    world.admit(Entry.from_json(content))
    directory = world.folder.directory()
    assert not directory.left_out
    assert directory.member("fr").speaks == {PROTOCOL, "protocol/2", FILMS, "smells"}
    assert directory.member("fr").endpoint == "127.0.0.1:1"
    assert all_speak(directory, ["fr"], FILMS, PROTOCOL)
    assert not all_speak(directory, ["fr", "nl"], FILMS)


def test_a_member_that_says_nothing_of_what_it_speaks_is_a_member_and_speaks_nothing(world: World) -> None:
    silent = world.entry("fr").member.to_fields()
    del silent["speaks"]
    assert Member.from_fields(silent).speaks == frozenset()
    assert Member.from_fields(silent | {"speaks": {"a later": "form"}}).speaks == frozenset()


def test_an_audience_speaks_what_each_of_it_speaks(world: World) -> None:
    world.admit(world.entry("fr", speaks=frozenset({CASEWORK, hashes("pdq")})), world.entry("be", speaks=frozenset({CASEWORK})))
    directory = world.folder.directory()
    assert all_speak(directory, ["fr", "be"], CASEWORK)
    assert not all_speak(directory, ["fr", "be"], CASEWORK, hashes("pdq"))
    assert not all_speak(directory, ["fr", "xx"], CASEWORK)


def test_names_without_an_end_are_refused(world: World) -> None:
    listed = world.entry("fr").member
    assert len(Member.from_fields(replace(listed, speaks=frozenset(f"x{n}" for n in range(MAX_SPOKEN))).to_fields()).speaks) == MAX_SPOKEN
    with pytest.raises(DirectoryError, match="at most 256"):
        Member.from_fields(replace(listed, speaks=frozenset(f"x{n}" for n in range(MAX_SPOKEN + 1))).to_fields())
