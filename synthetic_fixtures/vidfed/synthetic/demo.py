"""`vidfed demo`: three members on this machine, real processes and real commands, synthetic pictures. Doubles as the end-to-end check."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import shlex
import shutil
import signal
import tempfile
import time
from contextlib import nullcontext, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vidfed.cli.root import root
from vidfed.cli.terminal import note, say
from vidfed.federation.client.receipt_store import RECEIPTS_FILE, ReceiptStore
from vidfed.security.member.home import CONFIG_FILE
from vidfed.synthetic.federation import LocalFederation
from vidfed.synthetic.films import film_frames, write_film
from vidfed.synthetic.modifications import mirrored, resized
from vidfed.synthetic.pictures import Family, frames, picture
from vidfed.synthetic.tour import Place, open_desks
from vidfed.wire.answers import read_answer

if TYPE_CHECKING:
    from collections.abc import Sequence

MEMBERS = {"nl": "Netherlands, synthetic unit", "fr": "France, synthetic unit", "br": "Brazil, synthetic unit"}
_WHY = ["--case", "DEMO-2026-17", "--purpose", "identification", "--legal-basis", "Police Data Act, art. 10 (demo)"]
_INCOMPLETE = 3
_PATIENCE_S = 60.0  # what other processes bring takes a second or two; a loaded machine takes longer
_LOOK_AGAIN_S = 0.2
_WATCH_MINUTES = 0.05  # elsewhere 15 at the least; a demo is short
_FACTS = """\
The picture was found on a telephone in Rotterdam in November. We do not know where the child lives, and believe that it goes on.
"""
_DETAILS = """\
text = "Identified in 2025 by her school's uniform. She is safe."
legal_basis = "Law 13.441/2017, art. 190-A (demo)"
conditions = "Not in court without our permission."
contact = "duty-desk@br.example"
case_number = "BR-2026-1022"
authority = "Synthetic unit, Recife"

[victim]
names = "Ana Exemplo (synthetic)"
born = "2014-05-01"
nationality = "BR"
"""


class DemoError(Exception):
    """A command of the demo did not end as it should."""


def run_demo(folder: Path | None, *, stay: bool) -> None:
    """Play the demo.

    Args:
        folder: where to put everything, kept afterwards; a temporary folder, removed afterwards, if None.
        stay: keep the federation running until Ctrl-C, for lookups of one's own.

    Raises:
        DemoError: a command did not end as it should.
    """
    place = tempfile.TemporaryDirectory(prefix="vidfed-demo-") if folder is None else nullcontext(str(folder))
    with place as path:
        base = Path(path)
        base.mkdir(parents=True, exist_ok=True)
        with LocalFederation(base, run_quietly) as federation:
            _Story(base, federation).tell(stay=stay)


class _Story:
    def __init__(self, base: Path, federation: LocalFederation) -> None:
        self._base = base
        self._films = all(map(shutil.which, ("ffmpeg", "ffprobe")))
        self._federation = federation
        self._pictures = base / "pictures"
        self._asked = base / "asked"
        self._kit = base / "kit"
        self._deputy, self._officer = base / "kit-nl-2", base / "kit-br-1"

    def tell(self, *, stay: bool) -> None:
        """Set up, ask, break, ask again."""
        self._set_up()
        self._say("1. An exact copy of a picture that nl holds, and in which br has identified the child")
        self._look_up("exact.png")
        self._say("2. The same picture, recompressed as JPEG 60 and shrunk to 70 %: a near copy")
        self._look_up("recompressed.jpg")
        self._say("3. Mirrored, as pictures often are before they are passed on")
        self._look_up("mirrored.jpg")
        self._say("4. A picture nobody knows: every node says so, signed")
        self._look_up("unknown.png")
        self._say("5. A seized folder, asked in one go")
        self._look_up("folder")
        if self._films:
            self._say("6. A film on the seized telephone, recompressed, which fr knows a part of; and a still of it")
            self._look_up("film.mp4")
            self._look_up("still.png")
        else:
            self._say("6. Left out: films are decoded by ffmpeg, which is not installed here (Debian: apt install ffmpeg)")
        self._converse()
        self._watch()
        self._say("9. The node of br is killed. The same question as before is now incomplete, and names who is missing")
        self._federation.kill("br", service="unit")
        self._look_up("recompressed.jpg", expect=_INCOMPLETE)
        if stay:
            self._stay()
        note()
        note("Stopping what was started. Next: docs/first-federation.md.")

    def _set_up(self) -> None:
        self._say(f"Setting up three members in {self._base}: keys, certificates, a signed directory of members")
        self._federation.create(MEMBERS)
        self._draw()
        self._say("Each unit hashes its pictures into its own records; no picture is kept")
        for member, options in (
            ("nl", ["--series", "Tulip", "--case", "NL-2025-0341", "--victim-identified", "no"]),
            ("fr", ["--series", "Lavande", "--case", "FR-2026-0007", "--victim-identified", "no", "--handling", "H2"]),
            ("br", ["--series", "Ipe", "--case", "BR-2026-1022", "--victim-identified", "yes", "--offender-identified", "yes"]),
        ):
            self._command("node", "ingest", str(self._pictures / member), "--home", str(self._federation.places[member].folder), *options)
        self._federation.issue_kit("nl", self._kit, "nl-1")
        self._federation.issue_kit("nl", self._deputy, "nl-2")
        self._federation.issue_kit("br", self._officer, "br-1", ["release-officer"])
        self._federation.accept_officers("br")
        for place in self._federation.places.values():
            config = place.folder / CONFIG_FILE
            usual = config.read_text(encoding="utf-8")
            config.write_text(re.sub(r"(?m)^watch_minutes = .*$", f"watch_minutes = {_WATCH_MINUTES}", usual), encoding="utf-8")
        self._say("Starting three nodes, the gateway of nl through which its investigator will ask, and br's, where an officer is on duty")
        self._federation.start("nl", "fr")
        self._federation.start("br", service="unit")
        self._federation.start("nl", service="gateway")

    def _draw(self) -> None:
        """Draw each member's pictures, and what the investigator will ask about."""
        known = picture(1)
        for number, member in enumerate(MEMBERS):
            folder = self._pictures / member
            folder.mkdir(parents=True, exist_ok=True)
            for offset in range(8):
                picture(100 * (number + 1) + offset).save(folder / f"{member}-{offset}.png")
        known.save(self._pictures / "nl/known.png")
        known.save(self._pictures / "br/known.png")
        for offset, frame in enumerate(frames(500, 6)):
            frame.save(self._pictures / f"fr/video-frame-{offset}.jpg", quality=90)
        self._asked.mkdir(parents=True, exist_ok=True)
        if self._films:
            film = list(film_frames(7, 12))
            write_film(self._pictures / "fr/film.mp4", film[16:72])
            write_film(self._asked / "film.mp4", film, arguments=("-crf", "34"))
            film[40].save(self._asked / "still.png")
        folder = self._asked / "folder"
        folder.mkdir(parents=True, exist_ok=True)
        known.save(self._asked / "exact.png")
        resized(70)(known).save(self._asked / "recompressed.jpg", quality=60)
        mirrored(known).save(self._asked / "mirrored.jpg", quality=85)
        picture(999).save(self._asked / "unknown.png")
        for offset in range(5):
            resized(80)(picture(100 + offset)).save(folder / f"seized-{offset:03}.jpg", quality=70)
        for offset in range(5, 95):
            picture(1000 + offset, Family.SHAPES, (320, 240)).save(folder / f"seized-{offset:03}.jpg", quality=90)

    def _converse(self) -> None:
        """Ask for details about a hit, as the investigator; give them, as an officer; read them."""
        self._say("7. A hit is a beginning: nl's investigator asks br for the child's identity; a person there decides")
        reference = self._told_by("br")
        for kit in (self._deputy, self._officer):
            run_quietly(["inbox", "--kit", str(kit)])  # makes known to which key that person is written
        facts, details = self._base / "facts.txt", self._base / "details.toml"
        facts.write_text(_FACTS, encoding="utf-8")
        details.write_text(_DETAILS, encoding="utf-8")
        case = [reference, "--want", "victim-identity", "--deputy", "nl-2", "--file", str(facts)]
        self._command("cases", "ask", *case, "--kit", str(self._kit))
        self._say("The officer of br: sealed on the investigator's machine, readable here and at no server")
        self._wait_for("asked routine", "requests", "list", "--kit", str(self._officer))
        self._command("requests", "show", reference, "--kit", str(self._officer))
        release = ["--give", "victim-identity", "--handling", "h1", "--ground", "safeguards", "--file", str(details), "--yes"]
        self._command("requests", "release", reference, *release, "--kit", str(self._officer))
        self._say("The investigator of nl")
        self._wait_for("released routine", "inbox", "--kit", str(self._kit))
        self._command("cases", "show", reference, "--kit", str(self._kit))

    def _watch(self) -> None:
        """Watch a picture that nobody knows, and let a member learn it."""
        self._say("8. The picture that nobody knows is watched: nl's gateway goes on asking, and no other member keeps it")
        every = ["--days", "5", "--every-minutes", str(_WATCH_MINUTES)]
        self._command("watch", "add", str(self._asked / "unknown.png"), "--kit", str(self._kit), *_WHY, *every)
        self._wait_for(f"by {len(MEMBERS)} of {len(MEMBERS)}", "watch", "list", "--kit", str(self._kit))
        later = self._pictures / "fr-later"
        later.mkdir()
        resized(80)(picture(999)).save(later / "found-later.jpg", quality=80)
        self._say("Days later fr adds it, not knowing that anybody looks for it")
        records = ["--series", "Mimosa", "--case", "FR-2026-0031", "--victim-identified", "yes"]
        self._command("node", "ingest", str(later), "--home", str(self._federation.places["fr"].folder), *records)
        self._say("The investigator of nl is told")
        self._wait_for("near: PDQ", "watch", "hits", "--kit", str(self._kit))
        self._command("watch", "stop", "--case", _WHY[1], "--kit", str(self._kit))

    def _told_by(self, member: str) -> str:
        """Return the reference of the record that a member told the investigator of first."""
        with contextlib.closing(ReceiptStore(self._kit / RECEIPTS_FILE)) as receipts:
            for receipt in receipts.all():
                if receipt.member == member and (records := read_answer(receipt.answer.payload).records):
                    return records[0].reference
        raise DemoError(f"{member} told nothing")

    def _wait_for(self, words: str, *arguments: str) -> None:
        """Show a command whose output has these words, as soon as it does: other processes bring what it says."""
        give_up = time.monotonic() + _PATIENCE_S
        while words not in (said := run_quietly(arguments)):
            if time.monotonic() > give_up:
                raise DemoError(f"vidfed {shlex.join(arguments)}: {words!r} never came; the last it said:\n{said}")
            time.sleep(_LOOK_AGAIN_S)
        self._show(*arguments)
        for line in said.splitlines():
            say(line)

    def _look_up(self, name: str, expect: int = 0) -> None:
        self._command("lookup", str(self._asked / name), "--kit", str(self._kit), *_WHY, expect=expect)

    def _stay(self) -> None:
        self._federation.start("br", service="unit")
        command = shlex.join(["vidfed", "lookup", "PICTURE", "--kit", str(self._kit), *_WHY])
        for line in ("", "The federation is running, br again too. In another terminal:", "", f"  {command}"):
            note(line)
        desks = {
            "investigator (nl-1)": Place("--kit", self._kit),
            "release officer (br-1)": Place("--kit", self._officer),
            "operator (br)": Place("--home", self._federation.places["br"].folder),
        }
        if importlib.util.find_spec("starlette") is None:
            note("A desk for each role is opened here too where the packages of the extra desk are installed (docs/install.md).")
            desks = {}
        with suppress(KeyboardInterrupt), open_desks(desks) as addresses:
            for role, address in addresses.items():
                note(f"Desk of the {role}, with exercises; opens once: {address}")
            note(f"Pictures to ask about are in {self._asked}. Ctrl-C ends it.")
            signal.pause()

    def _say(self, text: str) -> None:
        click.secho(f"\n== {text}", bold=True)

    def _command(self, *arguments: str, expect: int = 0) -> None:
        """Show a command as one would type it, and run it."""
        self._show(*arguments)
        status = _run(arguments)
        if status != expect:
            raise DemoError(f"vidfed {shlex.join(arguments)}: exit status {status}, expected {expect}")

    def _show(self, *arguments: str) -> None:
        shown = shlex.join(argument.replace(str(self._base), "DEMO") for argument in arguments)
        click.secho(f"$ vidfed {shown}", fg="cyan")


def _run(arguments: Sequence[str]) -> int:
    try:
        root.main(args=list(arguments), prog_name="vidfed")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)


def run_quietly(arguments: Sequence[str]) -> str:
    """Run a command and return what it says; raise `DemoError` with that if it fails."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        status = _run(arguments)
    if status:
        raise DemoError(f"vidfed {shlex.join(arguments)}: exit status {status}\n{said.getvalue()}")
    return said.getvalue()
