"""A person's sealing key, in the kit: made on the person's machine the first time it is needed, and never anywhere else."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from vidfed.casework.errors import SealError
from vidfed.casework.sealing import SealingKey
from vidfed.security.files import read_private, write_private

if TYPE_CHECKING:
    from pathlib import Path

_FILE = "sealing.key"
_KIND = "vidfed-x25519-private/1"


def sealing_key(kit_folder: Path) -> SealingKey:
    """Return the key of the kit in this folder, made now if there is none.

    Raises:
        SealError: the file is damaged: what was sealed to it can be read by nobody; the other readers can hand it on.
        KeyFileError: it is readable by others.
        OSError: it cannot be written.
    """
    path = kit_folder / _FILE
    if not path.exists():
        key = SealingKey.generate()
        fields = {"kind": _KIND, "private": base64.b64encode(key.private).decode()}
        write_private(path, json.dumps(fields, indent=1).encode() + b"\n")
        return key
    try:
        fields = json.loads(read_private(path))
        if fields["kind"] != _KIND:
            raise SealError(f"{path}: not a sealing key of this version")
        return SealingKey(base64.b64decode(fields["private"], validate=True))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SealError(f"{path}: damaged; have what was sealed to it handed on, or released again, and delete it") from None
