"""Secret files closed with a passphrase: argon2id stretches it, secretbox (XSalsa20-Poly1305) closes the seed. Both are libsodium's."""

from __future__ import annotations

import base64
import functools
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nacl import pwhash, secret, utils
from nacl.exceptions import CryptoError

from vidfed.security.errors import KeyFileError
from vidfed.security.files import read_private, write_private

if TYPE_CHECKING:
    from collections.abc import Callable

    Passphrase = Callable[[str], bytes]
    """Gives the passphrase of a key when it is needed; the text says of which."""

MIN_PASSPHRASE_BYTES = 12
SERVICE_PASSPHRASE = "VIDFED_PASSPHRASE_FILE"  # noqa: S105 - the name of a variable
"""Environment variable that names the file with the passphrase of a member's keys, for services and commands that nobody sits at."""

_SYSTEMD_CREDENTIAL = "vidfed-passphrase"
_SECRET_KIND = "vidfed-secret-closed/1"  # noqa: S105 - the kind of a file
_OPS = pwhash.argon2id.OPSLIMIT_MODERATE
_MEMORY_BYTES = pwhash.argon2id.MEMLIMIT_MODERATE  # 256 MiB, 0.7 s: opened a few times a year
_LIMITS = (pwhash.argon2id.OPSLIMIT_MAX, pwhash.argon2id.MEMLIMIT_SENSITIVE)  # a file cannot ask for more memory than 1 GiB


def close(seed: bytes, passphrase: bytes, *, ops: int = _OPS, memory_bytes: int = _MEMORY_BYTES) -> dict[str, object]:
    """Return the fields of a closed key file.

    Raises:
        KeyFileError: the passphrase is shorter than MIN_PASSPHRASE_BYTES.
    """
    if len(passphrase) < MIN_PASSPHRASE_BYTES:
        raise KeyFileError(f"a passphrase has at least {MIN_PASSPHRASE_BYTES} bytes; four words drawn by lot make a good one")
    salt = utils.random(pwhash.argon2id.SALTBYTES)
    stretched = pwhash.argon2id.kdf(secret.SecretBox.KEY_SIZE, passphrase, salt, ops, memory_bytes)
    box = secret.SecretBox(stretched).encrypt(seed)
    return {"kdf": "argon2id", "ops": ops, "memory_bytes": memory_bytes, "salt": _text(salt), "box": _text(bytes(box))}


def open_closed(fields: dict[str, Any], passphrase: bytes, what: str) -> bytes:
    """Return the seed in the fields that `close` made.

    Raises:
        KeyFileError: the passphrase is another, or the file is damaged.
    """
    ops, memory_bytes = fields["ops"], fields["memory_bytes"]
    if fields["kdf"] != "argon2id" or not 1 <= ops <= _LIMITS[0] or not pwhash.argon2id.MEMLIMIT_MIN <= memory_bytes <= _LIMITS[1]:
        raise KeyFileError(f"{what}: closed in a way this program does not know")
    salt = base64.b64decode(fields["salt"], validate=True)
    stretched = pwhash.argon2id.kdf(secret.SecretBox.KEY_SIZE, passphrase, salt, ops, memory_bytes)
    try:
        return secret.SecretBox(stretched).decrypt(base64.b64decode(fields["box"], validate=True))
    except CryptoError:
        raise KeyFileError(f"{what}: another passphrase, or damaged") from None


def from_file(path: Path) -> Passphrase:
    """Take the passphrase from the first line of a private file."""
    return lambda _what: _first_line(read_private(path), str(path))


def of_services() -> Passphrase | None:
    """Return where a service takes the passphrase of a member's keys from: SERVICE_PASSPHRASE, or systemd's credential; None if nowhere.

    It is read when a key is opened, and kept, so that the file need not stay.
    """
    if named := os.environ.get(SERVICE_PASSPHRASE):
        path = Path(named)
    elif folder := os.environ.get("CREDENTIALS_DIRECTORY"):
        path = Path(folder) / _SYSTEMD_CREDENTIAL
        if not path.exists():
            return None
    else:
        return None
    return functools.cache(lambda _what: _first_line(read_private(path), str(path)))


def read_secret(path: Path, passphrase: Passphrase | None) -> bytes:
    """Read a secret file that may be closed with a passphrase.

    Raises:
        KeyFileError: missing, readable by others, damaged, or closed with another passphrase or one that is not at hand.
    """
    content = read_private(path)
    if not content.startswith(b"{"):
        return content
    try:
        fields = json.loads(content)
        if fields["kind"] != _SECRET_KIND:
            raise KeyFileError(f"{path}: not a secret of this version")
        if passphrase is None:
            raise KeyFileError(f"{path}: closed with a passphrase; name the file that holds it in {SERVICE_PASSPHRASE}")
        return open_closed(fields, passphrase(str(path)), str(path))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise KeyFileError(f"{path}: damaged") from None


def write_secret(path: Path, content: bytes, passphrase: bytes | None) -> None:
    """Write a secret file with mode 0600, closed if there is a passphrase."""
    if passphrase is not None:
        content = json.dumps({"kind": _SECRET_KIND, **close(content, passphrase)}, indent=1).encode() + b"\n"
    write_private(path, content)


def is_closed(path: Path) -> bool:
    """Tell whether a key file or secret file is closed with a passphrase.

    Raises:
        KeyFileError: it cannot be read.
    """
    return b'"kdf"' in read_private(path)


def from_descriptor(number: int) -> Passphrase:
    """Take the passphrase from the first line of an open file descriptor; it is read once and serves for all keys."""
    known: list[bytes] = []

    def take(_what: str) -> bytes:
        if not known:
            with os.fdopen(number, "rb", closefd=False) as file:
                known.append(_first_line(file.read(4096), f"file descriptor {number}"))
        return known[0]

    return take


def _first_line(content: bytes, what: str) -> bytes:
    line = content.split(b"\n", 1)[0].rstrip(b"\r")
    if not line:
        raise KeyFileError(f"{what}: holds no passphrase")
    return line


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
