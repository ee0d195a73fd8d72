"""Reading messages strictly: what this version does not know, or what does not fit, is refused and never skipped."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import DecodeError, Message

from vidfed.wire.statuses import MalformedError, TooLargeError, VersionError

if TYPE_CHECKING:
    from collections.abc import Iterable

AnyEnum = TypeVar("AnyEnum", bound=Enum)
AnyMessage = TypeVar("AnyMessage", bound=Message)


def parse(payload: bytes, message: AnyMessage, max_bytes: int) -> AnyMessage:
    """Return `message`, filled from `payload`.

    Raises:
        TooLargeError: of more than `max_bytes`.
        MalformedError: not of this type.
        VersionError: it has a field, anywhere in it, that this version does not know.
    """
    if len(payload) > max_bytes:
        raise TooLargeError(f"{len(payload)} bytes, at most {max_bytes}")
    try:
        message.ParseFromString(payload)
    except DecodeError:
        raise MalformedError("not a message of this type") from None
    size = message.ByteSize()
    message.DiscardUnknownFields()
    if message.ByteSize() != size:  # it is smaller without the fields this version does not know
        raise VersionError(f"{type(message).__name__} has a field that this version does not know")
    return message


def enum(kind: type[AnyEnum], number: int) -> AnyEnum:
    """Return the member of `kind` with that number on the wire.

    Raises:
        VersionError: there is none.
    """
    try:
        return kind(number)
    except ValueError:
        raise VersionError(f"{kind.__name__} number {number} is not known") from None


def check_texts(texts: Iterable[str], max_characters: int, *, lines: bool = False) -> None:
    """Return if no text is too long or could play tricks on a terminal or a log.

    Args:
        texts: to be checked.
        max_characters: of each.
        lines: line breaks are allowed.

    Raises:
        MalformedError: one is.
    """
    for text in texts:
        if len(text) > max_characters:
            raise MalformedError(f"a text of {len(text)} characters, at most {max_characters}")
        if not (text.replace("\n", "") if lines else text).isprintable():
            raise MalformedError("a text with control characters")


def check_digest(value: bytes, size: int, what: str) -> bytes:
    """Return `value` if it has `size` bytes.

    Raises:
        MalformedError: it has not.
    """
    if len(value) != size:
        raise MalformedError(f"{what} of {len(value)} bytes, expected {size}")
    return value
