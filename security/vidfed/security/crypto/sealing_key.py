"""A person's X25519 key on disk: what is sealed for this person only this key opens."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from nacl.public import PrivateKey

from vidfed.security.errors import KeyFileError
from vidfed.security.files import read_private, write_private

if TYPE_CHECKING:
    from pathlib import Path

_FILE_KIND = "vidfed-x25519/1"


def make_sealing_key() -> bytes:
    """Make a private key from the system's randomness, 32 bytes."""
    return bytes(PrivateKey.generate())


def sealing_public_key(private: bytes) -> bytes:
    """Return the public half, 32 bytes."""
    return bytes(PrivateKey(private).public_key)


def save_sealing_key(path: Path, private: bytes) -> None:
    """Write a key file with mode 0600."""
    fields = {
        "kind": _FILE_KIND,
        "public": base64.b64encode(sealing_public_key(private)).decode(),
        "secret": base64.b64encode(private).decode(),
    }
    write_private(path, json.dumps(fields, indent=1).encode() + b"\n")


def load_sealing_key(path: Path) -> bytes:
    """Read a key file.

    Raises:
        KeyFileError: missing, readable by others, or not a key file.
    """
    content = read_private(path)
    try:
        fields = json.loads(content)
        private = base64.b64decode(fields["secret"], validate=True)
        sound = fields["kind"] == _FILE_KIND and base64.b64decode(fields["public"], validate=True) == sealing_public_key(private)
    except (ValueError, KeyError, TypeError, RecursionError):
        sound = False
    if not sound:
        raise KeyFileError(f"{path}: damaged, or not a sealing key file of this version")
    return private
