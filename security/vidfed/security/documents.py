"""Strict reading of the small JSON documents that are signed: every field of the stated type, no field more, none less."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

MEMBER_ID = re.compile(r"[a-z][a-z0-9-]{1,31}")
FEDERATION_ID = re.compile(r"[a-z0-9][a-z0-9.-]{1,62}")
ROLES = ("investigator", "analyst", "duty-officer", "prosecutor", "trainee", "release-officer")
"""What a person may be, by the member's word. A closed list, so that the other members' policies mean the same everywhere."""


def read_document(payload: bytes, form: Mapping[str, type], refuse: type[Exception], what: str) -> dict[str, Any]:
    """Parse a JSON object that has exactly the fields of `form`, each of its type.

    Raises:
        refuse: anything else; the message starts with `what`.
    """
    try:
        fields = json.loads(payload)
    except (ValueError, RecursionError):
        raise refuse(f"{what}: not JSON") from None
    return read_object(fields, form, refuse, what)


def read_object(fields: object, form: Mapping[str, type], refuse: type[Exception], what: str) -> dict[str, Any]:
    """Check one JSON object inside a document against `form`, as `read_document` does for the whole."""
    if not isinstance(fields, dict):
        raise refuse(f"{what}: not a JSON object")
    if fields.keys() != form.keys():
        odd = ", ".join(sorted(map(repr, fields.keys() ^ form.keys())))
        raise refuse(f"{what}: missing or unknown fields: {odd:.200}")
    for name, kind in form.items():
        if type(fields[name]) is not kind:
            raise refuse(f"{what}: {name} must be {kind.__name__}")
    return fields


def check_id(value: str, pattern: re.Pattern[str], refuse: type[Exception], what: str) -> str:
    """Return `value` if it is an id of the given form.

    Raises:
        refuse: it is not.
    """
    if not pattern.fullmatch(value):
        raise refuse(f"{what} {value!r:.50}: only lower-case letters, digits and hyphens, starting with a letter or digit")
    return value
