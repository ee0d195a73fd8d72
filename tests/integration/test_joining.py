"""`vidfed join`: from a folder with a request in it to a member that the others know, with one address and one telephone call."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from tests.support.sockets import SocketFederation
from vidfed.cli.root import root
from vidfed.node.operations.joining import Join
from vidfed.rpc.trust import TrustServicer
from vidfed.security.clock import system_clock
from vidfed.security.member.home import MemberHome
from vidfed.security.member.rotation import OwnEntry
from vidfed.security.trust.entry import Entry
from vidfed.v1 import trust_pb2_grpc as trust_rpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import grpc


class Newcomer:
    """Member `be`: its folder, the anchor, and the address of nl's node, which publishes."""

    def __init__(self, federation: SocketFederation, folder: Path, address: str) -> None:
        self.federation, self.administrators = federation, federation.administrators
        self.folder, self.stick, self.address = folder / "be", folder / "stick", address
        self.stick.mkdir(parents=True)
        made = self.run(
            *("node", "init", str(self.folder), "--member", "be", "--name", "Unit BE", "--contact", "desk@be.example"),
            *("--anchor", str(self.administrators.folder.anchor_path), "--endpoint", "127.0.0.1:7459"),
        )
        assert made.exit_code == 0, made.output

    @property
    def entry(self) -> Entry:
        return Entry.load(self.folder / "member.json")

    @staticmethod
    def run(*arguments: str) -> Result:
        return CliRunner().invoke(root, list(arguments))

    async def join(self, *options: str, words: str = "") -> Result:
        command = ("join", self.address, "--words", words or self.administrators.anchor.words, "--home", str(self.folder))
        return await asyncio.to_thread(self.run, *command, "--carry", str(self.stick), *options)


@pytest.fixture
async def newcomer(tmp_path: Path) -> AsyncIterator[Newcomer]:
    async with SocketFederation(tmp_path, "nl") as federation:
        source = federation.homes["nl"].directory_source()
        source.current()
        service = TrustServicer(source, lambda _peer: True, system_clock, federation.administrators.folder)

        def register(server: grpc.aio.Server) -> None:
            trust_rpc.add_TrustServiceServicer_to_server(service, server)

        yield Newcomer(federation, tmp_path / "newcomer", await federation.serve("nl", register, source))


async def test_a_newcomer_lays_out_its_request_reads_two_lines_aloud_and_is_told_when_it_is_in(newcomer: Newcomer) -> None:
    waiting = await newcomer.join("--no-wait")
    assert waiting.exit_code == 3, waiting.output
    aloud = re.findall(r"\[ \] (THEY|YOU) read to .*?((?:[a-z]{5}-){5}[a-z]{5})", waiting.output)
    assert aloud == [("THEY", newcomer.administrators.anchor.words), ("YOU", newcomer.entry.words)]
    carried = Entry.load(newcomer.stick / "be.json")
    assert carried.words == newcomer.entry.words

    newcomer.administrators.admit(carried)
    joined = await newcomer.join()
    assert "be is in the directory, standing: member" in joined.output
    assert "directory" in joined.output.split("standing: member")[1], "the protocol of the accession is not run"
    assert "read to" not in joined.output, "what is over is asked for again"


async def test_a_request_waits_until_the_administrators_have_signed(newcomer: Newcomer) -> None:
    paused: list[float] = []

    def sign_meanwhile(seconds: float) -> None:
        paused.append(seconds)
        if len(paused) == 2:
            newcomer.administrators.admit(newcomer.entry)

    joining = Join(MemberHome(newcomer.folder), newcomer.address)
    standing = await asyncio.to_thread(joining.wait, sign_meanwhile, lambda: None)
    joining.close()
    assert (standing, len(paused)) == ("member", 2)


async def test_what_changed_while_they_signed_is_handed_in(newcomer: Newcomer) -> None:
    newcomer.administrators.admit(newcomer.entry)
    OwnEntry(MemberHome(newcomer.folder)).renew(endpoint="127.0.0.1:7460")
    joining = Join(MemberHome(newcomer.folder), newcomer.address)
    assert await asyncio.to_thread(joining.look) == "member"
    assert "hand" in await asyncio.to_thread(joining.submit), "nobody publishes here, and it is not told"
    accept, directory = newcomer.administrators.folder.accept_submitted, joining._source.current()
    with pytest.MonkeyPatch.context() as patch:  # as if nl's node published, and were where it is listed
        patch.setattr(joining._source, "current", lambda: replace(directory, publisher="nl"))
        patch.setattr("vidfed.node.operations.joining.submit_entry", lambda entry, *_: accept(Entry.from_json(entry, "entry")))
        assert "published by the node of nl" in await asyncio.to_thread(joining.submit)
    assert newcomer.administrators.directory().member("be").endpoint == "127.0.0.1:7460"
    await asyncio.to_thread(joining.look)
    assert not await asyncio.to_thread(joining.submit), "the same is handed in twice"
    joining.close()


async def test_another_anchor_than_the_one_that_was_read_aloud_sends_nothing(newcomer: Newcomer) -> None:
    refused = await newcomer.join(words="babab-babab-babab-babab-babab-babab")
    assert refused.exit_code == 1
    assert "not those read to you" in refused.output
    assert not list(newcomer.stick.iterdir())


async def test_a_request_of_somebody_else_under_one_s_name_is_an_alarm(newcomer: Newcomer, tmp_path: Path) -> None:
    impostor = Newcomer(newcomer.federation, tmp_path / "else", newcomer.address)
    newcomer.administrators.admit(impostor.entry)
    config = newcomer.folder / "vidfed.toml"  # a copy of the directory, on a stick: no node would talk to it
    published = newcomer.administrators.published
    config.write_text(config.read_text().replace('directory_folder = ""', f'directory_folder = "{published}"'))
    told = await newcomer.join("--no-wait")
    assert told.exit_code == 1
    assert "a request that is not yours was signed" in told.output


@pytest.mark.parametrize(
    ("listens", "kit", "warned"),
    [
        ("127.0.0.1:7444", "gateway.be.example:7444", True),
        ("[::1]:7444", "10.77.0.1:7444", True),
        ("0.0.0.0:7444", "gateway.be.example:7444", False),
        ("127.0.0.1:7444", "localhost:7444", False),
    ],
)
def test_a_kit_for_an_address_that_the_gateway_does_not_listen_on_is_told(tmp_path: Path, listens: str, kit: str, warned: bool) -> None:
    home = SocketFederation(tmp_path, "nl", gateway=listens).homes["nl"]
    (tmp_path / "phrase").write_text("four words drawn by lot\n")
    (tmp_path / "phrase").chmod(0o600)
    options = ("--home", str(home.folder), "--gateway", kit, "--passphrase-file", str(tmp_path / "phrase"))
    made = Newcomer.run("trust", "issue-investigator", str(tmp_path / "invitation"), *options)
    assert made.exit_code == 0, made.output
    assert ("which only this machine reaches" in made.output) is warned
