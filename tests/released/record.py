"""Records what a release leaves behind: `python -m tests.released.record` in a checkout of it, once, with the release.

The members of a federation of three with what they keep (records, codes, logs, receipts, a conversation, a watch), the federation's own
folder, a kit of each role, and one of each kind of signed message. Later versions must read all of it: test_released.py.
"""

from __future__ import annotations

import io
import json
import lzma
import subprocess
import sys
import tarfile
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.casework import next_header
from tests.wire.test_casework import ASKED, BODIES
from tests.wire.test_lookup_messages import ANSWER, REQUEST
from vidfed.synthetic.federation import LocalFederation
from vidfed.wire.casework import write_content, write_entry, write_receipt
from vidfed.wire.casework_values import Content, Receipt, ReceiptStatus, Side

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent
MEMBERS = {"nl": "Unit NL", "fr": "Unit FR", "be": "Unit BE"}
KNOWN, UNKNOWN = "5d" * 16, "e7" * 16
WHY = ("--case", "2026-17", "--purpose", "identification", "--legal-basis", "Police Data Act, art. 10")
PORTS = range(19_171, 19_177)
"""Below those that the tests take at random: what is recorded cannot choose anew."""
_PATIENCE_S = 60.0


def main() -> None:
    """Record this version."""
    folder = HERE / version("vidfed")
    folder.mkdir(exist_ok=True)
    (folder / "messages.json").write_text(json.dumps(messages(), indent=1) + "\n")
    with tempfile.TemporaryDirectory() as made:
        base = Path(made) / "released"
        base.mkdir()
        _federation(base)
        held = io.BytesIO()
        with tarfile.open(fileobj=held, mode="w") as archive:
            archive.add(base, "released")
    (folder / "federation.tar.xz").write_bytes(lzma.compress(held.getvalue(), preset=9))
    sys.stdout.write(f"{folder}: {sum(path.stat().st_size for path in folder.iterdir()):,} bytes\n")


def messages() -> dict[str, list[str]]:
    """Return one message of each kind, in hex, by the kind."""
    entries = [write_entry(next_header(ASKED, Side.ASKER, body)) for body in BODIES]
    content = Content("What we know of it.\nCall us.", case_number="FR-1")
    return {
        "request": [REQUEST.SerializeToString().hex()],
        "answer": [ANSWER.SerializeToString().hex()],
        "entry": [each.hex() for each in entries],
        "content": [write_content(content, bytes(32)).hex()],
        "receipt": [write_receipt(Receipt("f", "fr", "nl", b"e" * 32, ReceiptStatus.TAKEN, 7, 2, "why")).hex()],
    }


def vidfed(arguments: Sequence[str | Path], status: int = 0) -> str:
    """Run a command line and return what it printed."""
    done = subprocess.run([sys.executable, "-m", "vidfed.cli", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode != status:
        raise RuntimeError(f"vidfed {' '.join(map(str, arguments))}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def _federation(base: Path) -> None:
    with LocalFederation(base, vidfed) as federation:
        federation.create(MEMBERS, PORTS)
        for number, (member, place) in enumerate(federation.places.items(), 1):
            rows = [KNOWN] if member == "fr" else [f"{number:02x}" * 16]
            (base / "list.csv").write_text("md5,series,victim_identified\n" + "".join(f"{row},Tulip,no\n" for row in rows))
            vidfed(["node", "import", base / "list.csv", "--home", place.folder])
        for pseudonym, member, roles in (("inv-1", "nl", ()), ("inv-2", "nl", ()), ("off-1", "fr", ("release-officer",))):
            federation.issue_kit(member, base / pseudonym, pseudonym, roles)
        federation.accept_officers("fr")
        federation.start(*MEMBERS)
        federation.start("nl", "fr", service="gateway")
        for pseudonym in ("inv-2", "off-1"):
            vidfed(["inbox", "--kit", base / pseudonym])  # so that what is asked can be sealed to somebody
        asked = json.loads(vidfed(["lookup", "--hash", f"md5:{KNOWN}", "--kit", base / "inv-1", *WHY, "--json"]))
        (base / "text").write_text("Who is it?\n")
        about = [asked["hits"][0]["reference"], "--member", "fr", "--want", "victim-identity", "--deputy", "inv-2", "--offence", "abuse"]
        vidfed(["cases", "ask", *about, "--file", base / "text", "--kit", base / "inv-1"])
        vidfed(["watch", "add", "--hash", f"md5:{UNKNOWN}", *WHY, "--days", "20", "--kit", base / "inv-1"])
        deadline = time.monotonic() + _PATIENCE_S
        while "from nl" not in vidfed(["requests", "list", "--kit", base / "off-1"]) and time.monotonic() < deadline:
            pass  # it is delivered in its own time
    for log in base.glob("*/*.log"):
        log.unlink()
    (base / "where").write_text(str(base))


if __name__ == "__main__":
    main()
