"""A member's request on its way to the administrators: altered, or written to mislead whoever reads it."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from tuf.api.metadata import Metadata

from vidfed.node.cli.node import node
from vidfed.node.operations.check import Checks, FindingState
from vidfed.security.cli.trust import trust
from vidfed.security.crypto.envelope import Envelope
from vidfed.security.crypto.keys import SigningKey
from vidfed.security.errors import DirectoryError
from vidfed.security.identity.directory import MEMBER_REQUEST_TYPE, Member
from vidfed.security.member.rotation import OwnEntry
from vidfed.security.trust.describe import changes, entry_lines
from vidfed.security.trust.entry import Entry
from vidfed.security.trust.metadata_rules import Standing, TufSigning

if TYPE_CHECKING:
    from pathlib import Path

    from tests.security.trust.world import World
    from vidfed.security.member.home import MemberHome

FORGED = "lusab-babad-gutih-tugad-mudof-sakat"
NO_ENDPOINTS = (
    "https://node.example",
    "node.example",
    "node.example:",
    ":7443",
    "node.example:0",
    "node.example:99999",
    "node.example:07443",
    "node.example:٣",
    "no de.example:7443",
    "-node.example:7443",
    "node..example:7443",
    "node.example:7443/path",
    "user@node.example:7443",
    "192.0.2.999:7443",
    "[fe80::1%eth0]:7443",
    "[2001:db8::1:7443",
    "2001:db8::1:7443",
    "node.example:7443\n",
    "n\udc80de.example:7443",
    "node\x1b[2K.example:7443",
    f"{'n' * 64}.example:7443",
    f"{'node.' * 60}example:7443",
)


def sealed(entry: Entry, **parts: Any) -> bytes:  # noqa: ANN401 - parts of JSON
    """Return the file of an entry with parts of it replaced, without any check."""
    return json.dumps(json.loads(entry.to_json()) | parts).encode()


def signed_over(metadata: Metadata[Any], signer: SigningKey) -> dict[str, Any]:
    """Return the role's metadata as a thief signs it."""
    stolen = Metadata[Any].from_dict(metadata.to_dict())
    stolen.sign(TufSigning(signer))
    return stolen.to_dict()


def test_entry_key_swapped_in_transit_changes_the_words(world: World) -> None:
    """Whoever holds the entry key speaks for the member from then on: a courier's must not come in under the words that are read out."""
    honest, thief = world.entry("fr"), SigningKey.generate()
    with pytest.raises(DirectoryError):
        Entry.from_json(sealed(honest, entry_key=thief.public.text, metadata=signed_over(honest.metadata, thief)))
    with pytest.raises(DirectoryError):
        Entry.from_json(sealed(honest, metadata=signed_over(honest.metadata, thief)))
    # With a member's file that names the thief's entry key, what the member's own keys signed no longer holds ...
    request = json.loads(base64.b64decode(json.loads(honest.files["member.json"])["payload"])) | {"entry_key": thief.public.text}
    with pytest.raises(DirectoryError, match="no signature by the expected key"):
        Entry.make("test", honest.member, (thief,), {}, thief, 1, world.clock())
    assert request["member"]["signing_keys"] == [world.units["fr"].signing.public.text]
    # ... and with keys that are all the thief's own, the words are others.
    listed = replace(honest.member, signing_keys=(thief.public,), audit_keys=(thief.public,))
    forged = Entry.from_json(Entry.make("test", listed, (thief,), {}, thief, 1, world.clock()).to_json())
    assert forged.words != honest.words


def test_federation_swapped_in_transit_changes_the_words(world: World) -> None:
    honest, unit = world.entry("fr"), world.units["fr"]
    with pytest.raises(DirectoryError):
        Entry.from_json(sealed(honest, federation="other"))
    other = Entry.make("other", honest.member, (unit.signing, unit.audit), {}, unit.entry, 1, world.clock())
    assert other.words != honest.words
    with pytest.raises(DirectoryError, match="made for federation 'other'"):
        world.folder.propose_members([other], Standing.QUARANTINE)


def test_entry_made_for_another_federation_is_left_out(world: World) -> None:
    """Published all the same, say by a publisher that does not look: each reader looks."""
    honest, unit = world.entry("nl", 2), world.units["nl"]
    other = Entry.make("other", honest.member, (unit.signing, unit.audit), {}, unit.entry, 2, world.clock())
    with pytest.raises(DirectoryError, match="the entry of nl was made for federation other"):
        world.folder.accept(other)
    assert world.folder.repository.entry_version("nl") == 1


def test_check_names_an_entry_key_that_is_not_this_member_s(world: World, home: MemberHome) -> None:
    tests = dict(Checks(home).points())
    assert Checks(home).run("keys", tests["keys"]).state is FindingState.OK
    listed = home.entry_signer.public
    OwnEntry(home, clock=world.clock).replace_entry_key()  # a backup restored, or the other one is a thief's
    finding = Checks(home).run("keys", dict(Checks(home).points())["keys"])
    assert finding.state is FindingState.FAILED
    assert f"delegated to the entry key {listed.key_id}" in finding.said


@pytest.mark.parametrize(
    "text",
    [
        f"desk\nwords     {FORGED}",
        f"desk\r\x1b[2Kwords     {FORGED}",
        f"desk\x9b2K{FORGED}",
        f"\u202e{FORGED}",
        f"desk{' ' * 70}words     {FORGED}",
        f"desk\u2028words {FORGED}",
        "desk\x00",
        "d\u3164sk",
        "e" + "\u0301" * 20,
        "\u0301desk",
        " desk",
        "",
        "d" * 201,
        "d\udc80",
    ],
)
def test_entry_s_texts_cannot_imitate_the_words(world: World, text: str) -> None:
    unit = world.unit("fr")
    fields = world.entry("fr").member.to_fields()
    for name in ("contact", "name"):
        with pytest.raises(DirectoryError) as raised:
            Member.from_fields(fields | {name: text})
        assert str(raised.value).isprintable()
        listed = replace(world.entry("fr").member, **{name: text})  # type: ignore[arg-type]  # a text, both
        with pytest.raises(DirectoryError):
            Entry.make("test", listed, (unit.signing, unit.audit), {}, unit.entry, 1, 0)


def test_entry_s_longest_texts_begin_no_line_of_their_own(world: World) -> None:
    """A terminal wraps where it likes: what a text says must not come to stand where a line of the program begins."""
    contact = ("desk " * 9 + f"words {FORGED} ")[:199].strip() + " end"
    entry = world.entry("fr", contact=contact, name="Unit " + "n" * 95)
    lines = list(entry_lines(entry))
    assert lines[0] == f"words     {entry.words}"
    assert [line for line in lines if line.startswith("words")] == lines[:1]
    assert max(map(len, lines)) < 80
    (change,) = changes(world.folder.propose_members([entry], Standing.MEMBER))
    assert change.startswith(f"fr joins with the standing member; words {entry.words}, endpoint ")


def test_a_request_shown_before_signing_hides_nothing(world: World, tmp_path: Path) -> None:
    """Even a text that the grammar would one day let through is made visible by the terminal's border."""
    world.keys["anna"].save(tmp_path / "anna.key")
    (tmp_path / "member.json").write_bytes(world.entry("fr").to_json())
    name = tmp_path / "a\x1b[2K\nwords.json"
    name.write_bytes(b"{}")
    result = CliRunner().invoke(trust, ["propose", "add-member", str(world.folder.folder), str(name)])
    assert result.exit_code == 1
    assert r"a\x1b[2K\nwords.json" in result.stderr
    assert "\x1b" not in result.output


@pytest.mark.parametrize("endpoint", NO_ENDPOINTS)
def test_endpoint_that_is_no_text(world: World, tmp_path: Path, endpoint: str) -> None:
    """At the end that writes it, at the one that takes it in, and at each that reads it."""
    anchor = tmp_path / "anchor.json"
    world.folder.anchor.save(anchor)
    home = tmp_path / "home"
    options = ["--member", "fr", "--name", "Unit", "--contact", "desk", "--anchor", str(anchor), "--endpoint", endpoint]
    result = CliRunner().invoke(node, ["init", str(home), *options])
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    assert "--endpoint" in result.stderr
    assert not home.exists()
    unit = world.unit("fr")
    fields = world.entry("fr").member.to_fields() | {"endpoint": endpoint}
    with pytest.raises(DirectoryError, match="endpoint"):
        Member.from_fields(fields)
    asked = {"federation": "test", "entry_key": unit.entry.public.text, "member": fields}
    envelope = Envelope(MEMBER_REQUEST_TYPE, json.dumps(asked).encode()).signed_by(unit.signing, unit.audit)
    files = {"member.json": base64.b64encode(envelope.to_json()).decode()}
    with pytest.raises(DirectoryError, match="endpoint"):
        Entry.from_json(sealed(world.entry("fr"), files=files))


@pytest.mark.parametrize("endpoint", ["node.example:7443", "n:1", "192.0.2.1:65535", "[2001:db8::1]:7443", "xn--nde-sna.example:7443"])
def test_endpoints_as_they_are_written(world: World, endpoint: str) -> None:
    assert Entry.from_json(world.entry("fr", endpoint=endpoint).to_json()).member.endpoint == endpoint


@pytest.mark.parametrize("name", ["--name", "--contact", "--listen", "--gateway-listen"])
def test_init_refuses_a_text_that_is_none(world: World, tmp_path: Path, name: str) -> None:
    anchor = tmp_path / "anchor.json"
    world.folder.anchor.save(anchor)
    options = {"--member": "fr", "--name": "Unit", "--contact": "desk", "--anchor": str(anchor), "--endpoint": "node.example:7443"}
    options |= {name: "d\udc80\nx"}
    result = CliRunner().invoke(node, ["init", str(tmp_path / "home"), *(text for option in options.items() for text in option)])
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    assert name in result.stderr


@pytest.mark.parametrize("version", [0, -1, 10**9, 10**30, 10**300])
def test_entry_of_an_endless_version(world: World, version: int) -> None:
    """A version of ten digits has no file name that a reader would ask for: published, it would stop everybody."""
    signed = world.entry("nl").metadata.to_dict()
    signed["signed"]["version"] = version
    metadata = signed_over(Metadata[Any].from_dict(signed), world.units["nl"].entry) if version > 0 else signed
    with pytest.raises(DirectoryError):
        Entry.from_json(sealed(world.entry("nl"), metadata=metadata))


@pytest.mark.parametrize("days", [-1, 0, 400])
def test_entry_that_has_expired_or_never_does_is_not_published(world: World, days: int) -> None:
    entry, unit = world.entry("nl", 2), world.units["nl"]
    entry.metadata.signed.expires += timedelta(days=days - 365)
    entry.metadata.signatures.clear()
    entry.metadata.sign(TufSigning(unit.entry))
    with pytest.raises(DirectoryError, match="has expired, or would live longer"):
        world.folder.accept(Entry.from_json(entry.to_json()))
    assert world.folder.repository.entry_version("nl") == 1
