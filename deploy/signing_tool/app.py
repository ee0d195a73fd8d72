"""The signing tool of an administrator's laptop that is never online: reads a draft, shows what it changes, signs it. `make signing-tool`.

One file, of this repository's own code for drafts and keys and of python-tuf's for metadata, so that both machines read a draft alike.
It needs Python 3.11 and PyNaCl (Debian: python3-nacl; the bundle has its wheel), no network and no other package.
"""

from __future__ import annotations

import argparse
import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vidfed.cli.printable import printable
from vidfed.security.crypto.keys import PublicKey, SigningKey
from vidfed.security.crypto.passphrase import from_file
from vidfed.security.errors import SecurityError
from vidfed.security.files import write_whole
from vidfed.security.trust.anchor import Anchor
from vidfed.security.trust.describe import draft_lines, still_to_sign
from vidfed.security.trust.draft import Draft
from vidfed.security.trust.fingerprint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vidfed.security.crypto.passphrase import Passphrase


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one command; return the exit status: 0 done, 1 refused, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="vidfed-sign", description="Sign a federation's drafts on a machine that is never online.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, explained in (("show", "show what DRAFT changes, and who has signed"), ("sign", "show, ask, and sign DRAFT")):
        command = commands.add_parser(name, help=explained)
        command.add_argument("draft", type=Path)
        command.add_argument("--anchor", type=Path, help="a root you already trust (default: anchor.json beside the draft)")
    command.add_argument("--key", type=Path, required=True, help="your key file")
    command.add_argument("--yes", action="store_true", help="do not ask; the words were compared by telephone")
    _passphrase_option(command)
    command = commands.add_parser("keygen", help="make a key in the file KEY, closed with a passphrase, and its public half in KEY.pub")
    command.add_argument("key", type=Path)
    _passphrase_option(command)
    command = commands.add_parser("words", help="show the words of a public key file, to be read aloud")
    command.add_argument("public", type=Path)
    given = parser.parse_args(arguments)
    try:
        return {"show": _show, "sign": _sign, "keygen": _keygen, "words": _words}[given.command](given)
    except (SecurityError, OSError) as error:
        print(f"Error: {printable(str(error))}", file=sys.stderr)
        return 1


def _show(given: argparse.Namespace) -> int:
    _read(given)
    return 0


def _sign(given: argparse.Namespace) -> int:
    draft = _read(given)
    if not given.yes and input("Are these the words the others read, and shall this be signed? [y/N] ").strip().lower() != "y":
        print("Not signed.", file=sys.stderr)
        return 1
    key = SigningKey.load(given.key, _passphrase(given.passphrase_file))
    draft = draft.sign(key)
    draft.save(given.draft)
    print(f"Signed as {draft.holder(key.public)}. {' '.join(still_to_sign(draft)) or 'Enough have signed.'} Carry {given.draft} on.")
    return 0


def _read(given: argparse.Namespace) -> Draft:
    """Read, check and show a draft."""
    draft = Draft.load(given.draft)
    beside = given.draft.with_name("anchor.json")
    known = given.anchor or (beside if beside.exists() else None)
    draft.check(Anchor.load(known) if known else None)
    for line in draft_lines(draft):
        print(printable(line))
    if known is None and draft.roots_before:
        print("NOT COMPARED with a root you trust (--anchor): what it says it changes is its own claim.")
    return draft


def _keygen(given: argparse.Namespace) -> int:
    if given.key.exists():
        print(f"Error: {given.key}: exists; a key is never overwritten", file=sys.stderr)
        return 1
    source = _passphrase(given.passphrase_file)
    passphrase = source(str(given.key))
    if given.passphrase_file is None and source(f"{given.key}, again") != passphrase:
        print("Error: not the same twice", file=sys.stderr)
        return 1
    key = SigningKey.generate()
    key.save(given.key, passphrase)
    public = given.key.with_name(f"{given.key.name}.pub")
    write_whole(public, f"{key.public.text} {given.key.stem}\n".encode())
    print(f"Made {given.key}; words of the key: {fingerprint(key.public.raw)}. Hand out {public}.")
    return 0


def _words(given: argparse.Namespace) -> int:
    text = given.public.read_text(encoding="utf-8").split()
    print(fingerprint(PublicKey.parse(text[0] if text else "").raw))
    return 0


def _passphrase_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--passphrase-file", type=Path, help="file (mode 0600) whose first line is the passphrase; asked for otherwise")


def _passphrase(file: Path | None) -> Passphrase:
    if file is not None:
        return from_file(file)
    return lambda what: getpass.getpass(f"Passphrase of {what}: ").encode()


if __name__ == "__main__":
    sys.exit(main())
