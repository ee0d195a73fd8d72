"""What the commands of a ceremony share: signing a draft, publishing it, and saying what comes next."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vidfed.cli.terminal import note, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from vidfed.security.crypto.keys import PublicKey, Signer
    from vidfed.security.crypto.passphrase import Passphrase
    from vidfed.security.identity.directory import Directory
    from vidfed.security.trust.draft import Draft
    from vidfed.security.trust.federation import FederationFolder


def sign_and_publish(
    folder: FederationFolder,
    draft: Draft,
    signing: tuple[Path, ...],
    passphrases: Sequence[Passphrase],
    *,
    at_once: bool,
    ask: bool = False,
    as_json: bool,
) -> None:
    """Sign a draft with these keys, publish it if asked to, and say what comes next."""
    from vidfed.security.trust.describe import draft_lines

    if ask and signing:
        for line in draft_lines(draft):
            note(line)
        click.confirm("Are these the words that were compared by telephone, and shall this be signed?", abort=True, err=True)
    names = []
    for path, passphrase in zip(signing, passphrases, strict=True):
        with signer(path, passphrase) as held:
            draft = folder.sign(held)
            names.append(draft.holder(held.public))
    if at_once:
        print_published(folder, folder.publish(), as_json=as_json)
        return
    for line in draft_lines(draft):
        note(line)
    say_next(draft, folder.draft_path, as_json=as_json, signed_by=names)


def signer(path: Path, passphrase: Passphrase) -> AbstractContextManager[Signer]:
    """Return the key in a file, or the one in a token that is named instead of a file."""
    from vidfed.security.crypto.keys import SigningKey
    from vidfed.security.crypto.pkcs11 import PREFIX, TokenKey

    if str(path).startswith(PREFIX):
        return TokenKey(str(path), passphrase)
    return contextlib.nullcontext(SigningKey.load(path, passphrase))


def make_in_token(name: str, pin: Passphrase) -> dict[str, str]:
    """Make a key in a hardware token and write its public half."""
    from vidfed.security.crypto.pkcs11 import TokenKey, TokenName
    from vidfed.security.files import write_whole
    from vidfed.security.trust.fingerprint import fingerprint

    label = TokenName.parse(name).label
    with TokenKey(name, pin, make=True) as key:
        write_whole(Path(f"{label}.pub"), f"{key.public.text} {label}\n".encode())
        return {"key": name, "public": f"{label}.pub", "words": fingerprint(key.public.raw)}


def say_next(draft: Draft, path: Path, *, as_json: bool, signed_by: Sequence[str] = ()) -> None:
    """Say who has just signed a draft, and what it still needs."""
    from vidfed.security.trust.describe import draft_document, still_to_sign

    if as_json:
        print_json({"schema": "vidfed.draft/1", **draft_document(draft)})
    said = f"Signed as {' and '.join(signed_by)}. " if signed_by else ""
    if draft.complete:
        note(f"{said}Enough have signed. Carry {path} back to whoever publishes: vidfed trust publish FOLDER {path.name}")
        return
    for each in still_to_sign(draft):
        note(f"{said}{each}")
        said = ""
    note(f"Carry {path} on; each of them: vidfed trust sign {path.name} --key KEYFILE")


def public_key(path: Path) -> tuple[str, PublicKey]:
    """Read an administrator's public key file: the holder's name and the key.

    Raises:
        KeyFileError: it is not one, or the name is no name.
    """
    from vidfed.security.crypto.keys import PublicKey
    from vidfed.security.documents import MAX_NAME_CHARS, check_line
    from vidfed.security.errors import KeyFileError

    try:
        text, _, name = path.read_text(encoding="utf-8").strip().partition(" ")
    except UnicodeDecodeError:
        raise KeyFileError(f"{path}: not a public key file") from None
    return check_line(name or path.stem, MAX_NAME_CHARS, KeyFileError, f"{path}: the holder's name"), PublicKey.parse(text)


def print_published(folder: FederationFolder, directory: Directory, *, as_json: bool) -> None:
    """Say what was published."""
    from vidfed.security.clock import as_text
    from vidfed.security.trust.describe import show_document

    if as_json:
        print_json(show_document(folder))
    names = ", ".join(sorted(directory.members)) or "nobody yet"
    note(f"Published version {directory.version}: {names}; to be confirmed before {as_text(directory.expires_ms)}.")
    note(f"Members follow {folder.repository.folder}; newcomers start from {folder.anchor_path}, words {folder.anchor.words}.")
