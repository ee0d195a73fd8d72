"""`vidfed demo`: three members on this machine, real processes and real commands, synthetic pictures. Doubles as the end-to-end check."""

from __future__ import annotations

import io
import shlex
import signal
import tempfile
from contextlib import nullcontext, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vidfed.cli.root import root
from vidfed.cli.terminal import note
from vidfed.synthetic.federation import LocalFederation
from vidfed.synthetic.films import film_frames, write_film
from vidfed.synthetic.modifications import mirrored, resized
from vidfed.synthetic.pictures import Family, frames, picture

if TYPE_CHECKING:
    from collections.abc import Sequence

MEMBERS = {"nl": "Netherlands, synthetic unit", "fr": "France, synthetic unit", "br": "Brazil, synthetic unit"}
_WHY = ["--case", "DEMO-2026-17", "--purpose", "identification", "--legal-basis", "Police Data Act, art. 10 (demo)"]
_INCOMPLETE = 3


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
        self._federation = federation
        self._pictures = base / "pictures"
        self._asked = base / "asked"
        self._kit = base / "kit"

    def tell(self, *, stay: bool) -> None:
        """Set up, ask, break, ask again."""
        self._set_up()
        self._say("1. An exact copy of a picture that nl has identified, and that br holds too")
        self._look_up("exact.png")
        self._say("2. The same picture, recompressed as JPEG 60 and shrunk to 70 %: a near copy")
        self._look_up("recompressed.jpg")
        self._say("3. Mirrored, as pictures often are before they are passed on")
        self._look_up("mirrored.jpg")
        self._say("4. A picture nobody knows: every node says so, signed")
        self._look_up("unknown.png")
        self._say("5. A seized folder, asked in one go")
        self._look_up("folder")
        self._say("6. A film on the seized telephone, recompressed, which fr knows a part of; and a still of it")
        self._look_up("film.mp4")
        self._look_up("still.png")
        self._say("7. The node of br is killed. The same question as before is now incomplete, and names who is missing")
        self._federation.kill("br")
        self._look_up("recompressed.jpg", expect=_INCOMPLETE)
        if stay:
            self._stay()
        note()
        note("Stopping what was started. Next: README.md, section 'A federation of your own'.")

    def _set_up(self) -> None:
        self._say(f"Setting up three members in {self._base}: keys, certificates, a signed directory of members")
        self._federation.create(MEMBERS)
        self._draw()
        self._say("Each unit hashes its pictures into its own records; no picture is kept")
        for member, options in (
            ("nl", ["--series", "Tulip", "--case", "NL-2025-0341", "--victim-identified", "yes", "--offender-identified", "yes"]),
            ("fr", ["--series", "Lavande", "--case", "FR-2026-0007", "--victim-identified", "no", "--handling", "H2"]),
            ("br", ["--series", "Ipe", "--case", "BR-2026-1022"]),
        ):
            self._command("node", "ingest", str(self._pictures / member), "--home", str(self._federation.places[member].folder), *options)
        self._federation.issue_kit("nl", self._kit)
        self._say("Starting three nodes, and the gateway of nl through which its investigator will ask")
        self._federation.start(*MEMBERS)
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
        film = list(film_frames(7, 12))
        write_film(self._pictures / "fr/film.mp4", film[16:72])
        self._asked.mkdir(parents=True, exist_ok=True)
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

    def _look_up(self, name: str, expect: int = 0) -> None:
        self._command("lookup", str(self._asked / name), "--kit", str(self._kit), *_WHY, expect=expect)

    def _stay(self) -> None:
        self._federation.start("br")
        command = shlex.join(["vidfed", "lookup", "PICTURE", "--kit", str(self._kit), *_WHY])
        for line in ("", "The federation is running, br again too. In another terminal:", "", f"  {command}", "", "Ctrl-C ends it."):
            note(line)
        with suppress(KeyboardInterrupt):
            signal.pause()

    def _say(self, text: str) -> None:
        click.secho(f"\n== {text}", bold=True)

    def _command(self, *arguments: str, expect: int = 0) -> None:
        """Show a command as one would type it, and run it."""
        shown = shlex.join(argument.replace(str(self._base), "DEMO") for argument in arguments)
        click.secho(f"$ vidfed {shown}", fg="cyan")
        status = _run(arguments)
        if status != expect:
            raise DemoError(f"vidfed {shlex.join(arguments)}: exit status {status}, expected {expect}")


def _run(arguments: Sequence[str]) -> int:
    try:
        root.main(args=list(arguments), prog_name="vidfed")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)


def run_quietly(arguments: Sequence[str]) -> None:
    """Run a setting-up command; what it says is of use only if it fails."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        status = _run(arguments)
    if status:
        raise DemoError(f"vidfed {shlex.join(arguments)}: exit status {status}\n{said.getvalue()}")
