"""Reading of the small JSON documents that are signed.

Strict, every field of the stated type, no field more, none less, but for a member's entry: what an older program does not know of a newer
member's entry must not end what the two have in common.
"""

from __future__ import annotations

import ipaddress
import json
import re
from typing import TYPE_CHECKING, Any

from vidfed.cli.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

MEMBER_ID = re.compile(r"[a-z][a-z0-9-]{1,31}")
FEDERATION_ID = re.compile(r"[a-z0-9][a-z0-9.-]{1,62}")
PSEUDONYM = re.compile(r"[a-z0-9][a-z0-9-]{1,39}")
"""The only name by which other members know a person."""
SERIAL = re.compile(r"[0-9a-f]{32}")
"""What a revocation names a credential by."""

MAX_NAME_CHARS = 100
"""Of a unit's or an administrator's name: the longest official name of a national police force has 80."""
MAX_CONTACT_CHARS = 200
"""Of a contact: an office, a telephone number and an address for mail."""
MAX_ENDPOINT_CHARS = 260
"""Of `host:port`: the longest name that DNS knows, and five digits."""
MAX_PORT = 65535

_HOST = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_MAX_HOST_CHARS = 253

ROLES = ("investigator", "analyst", "duty-officer", "prosecutor", "trainee", "release-officer")
"""What a person may be, by the member's word. A closed list, so that the other members' policies mean the same everywhere."""


def read_document(payload: bytes, form: Mapping[str, type], refuse: type[Exception], what: str) -> dict[str, Any]:
    """Parse a JSON object that has exactly the fields of `form`, each of its type.

    Raises:
        refuse: anything else; the message starts with `what`.
    """
    return read_object(_parsed(payload, refuse, what), form, refuse, what)


def read_open_document(payload: bytes, form: Mapping[str, type], refuse: type[Exception], what: str) -> dict[str, Any]:
    """Parse a JSON object that has at least the fields of `form`, each of its type; others are left alone: a later version's.

    Raises:
        refuse: anything else; the message starts with `what`.
    """
    return read_open_object(_parsed(payload, refuse, what), form, refuse, what)


def read_object(fields: object, form: Mapping[str, type], refuse: type[Exception], what: str) -> dict[str, Any]:
    """Check one JSON object inside a document against `form`, as `read_document` does for the whole."""
    found = read_open_object(fields, form, refuse, what)
    if unknown := found.keys() - form.keys():
        raise refuse(f"{what}: unknown fields: {', '.join(sorted(map(repr, unknown))):.200}")
    return found


def read_open_object(fields: object, form: Mapping[str, type], refuse: type[Exception], what: str) -> dict[str, Any]:
    """Check one JSON object inside a document against `form`, as `read_open_document` does for the whole."""
    if not isinstance(fields, dict):
        raise refuse(f"{what}: not a JSON object")
    if missing := form.keys() - fields.keys():
        raise refuse(f"{what}: missing fields: {', '.join(sorted(map(repr, missing))):.200}")
    for name, kind in form.items():
        if type(fields[name]) is not kind:
            raise refuse(f"{what}: {name} must be {kind.__name__}")
    return fields


def _parsed(payload: bytes, refuse: type[Exception], what: str) -> object:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        raise refuse(f"{what}: not JSON") from None


def check_id(value: str, pattern: re.Pattern[str], refuse: type[Exception], what: str) -> str:
    """Return `value` if it is an id of the given form.

    Raises:
        refuse: it is not.
    """
    if not pattern.fullmatch(value):
        raise refuse(f"{what} {value!r:.50}: only lower-case letters, digits and hyphens, starting with a letter or digit")
    return value


def check_line(value: str, most: int, refuse: type[Exception], what: str) -> str:
    """Return `value` if it is a text for people: 1 to `most` characters on one line, none of which hides or moves another.

    Raises:
        refuse: it is not.
    """
    if not 1 <= len(value) <= most:
        raise refuse(f"{what}: has {len(value)} characters, must be 1 to {most}")
    if printable(value, most) != value:
        raise refuse(f"{what} {printable(value, 60)!r}: one line of printable characters, without blanks at its ends or two in a row")
    return value


def check_endpoint(value: str, refuse: type[Exception], what: str, *, any_port: bool = False) -> str:
    """Return `value` if it is `host:port`: a DNS name, an IPv4 address or an IPv6 address in brackets, and a port from 1 to 65535.

    With `any_port` the port may be 0: an address to listen on, of which the system chooses the port.

    Raises:
        refuse: it is not.
    """
    host, colon, port = value.rpartition(":")
    if not colon or not _is_host(host) or len(value) > MAX_ENDPOINT_CHARS:
        raise refuse(f"{what} {printable(value, 60)!r}: must be host:port, as node.example.org:7443, 192.0.2.1:7443 or [2001:db8::1]:7443")
    if not (any_port and port == "0") and (not _PORT.fullmatch(port) or int(port) > MAX_PORT):
        raise refuse(f"{what} {printable(value, 60)!r}: the port must be a number from 1 to {MAX_PORT}")
    return value


def _is_host(host: str) -> bool:
    try:
        if host.startswith("[") and host.endswith("]"):
            return ipaddress.IPv6Address(host[1:-1]).scope_id is None
        if host.rpartition(".")[2].isdecimal():  # no domain ends in digits alone: it is meant as an address
            return str(ipaddress.IPv4Address(host)) == host
    except ValueError:
        return False
    return len(host) <= _MAX_HOST_CHARS and _HOST.fullmatch(host) is not None
