"""JSON of any size, read value by value: the outer brackets are walked by hand, each inner value is parsed whole.

That is several times faster than a parser that hands out every bracket, and memory is bounded by the largest inner value allowed. Lists
whose elements begin alike are parsed many elements at a time by jiter; whatever it does not take, the standard library's parser reads
again, one value at a time, and says what is wrong and where. The two agree on what is JSON, and both
read NaN, which some tools write where a number is not known.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NoReturn

import jiter

from vidfed.formats.entries import FormatError
from vidfed.formats.source import CHUNK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

MAX_VALUE = 16 << 20  # characters of one inner value: an item with all its files and properties takes a few KB
_SURE = 256  # an error so far before the end of what was read is no cut
_MAX_DIGITS = 40  # of a whole number; 2**64 has twenty
_SPACE = " \t\n\r"
_NEXT_OBJECT = re.compile(r'[ \t\n\r]*,[ \t\n\r]*\{[ \t\n\r]*"[^"\\]{1,60}"')


class JsonStream:
    """A cursor over a JSON text. The caller walks; what it does not understand it reads as a value and drops."""

    def __init__(self, text: TextIO, name: str) -> None:
        self._read = text.read
        self._name = name
        self._text = ""
        self._at = 0
        self._line = 1
        self._column = 1
        self._ended = False
        self._between = ""  # what stood between the last two objects of a list, up to the first key of the second
        self._may_guess = True
        self._scan = json.JSONDecoder(object_pairs_hook=_without_twins, parse_int=_number).raw_decode

    def peek(self) -> str:
        """Return the next character that is no space, or an empty text at the end."""
        while True:
            text, at = self._text, self._at
            end = len(text)
            while at < end and text[at] in _SPACE:
                at += 1
            self._at = at
            if at < end:
                return text[at]
            if not self._more():
                return ""

    def take(self, character: str, where: str) -> None:
        """Pass over this character.

        Raises:
            FormatError: another one comes.
        """
        found = self.peek()
        if found != character:
            self.fail(f"{found!r} where {character!r} was expected, {where}" if found else f"the file ends {where}: is it truncated?")
        self._at += 1

    def value(self) -> Any:  # noqa: ANN401 - JSON
        """Read one whole value.

        Raises:
            FormatError: it is malformed, cut off, nested too deeply, or longer than MAX_VALUE.
        """
        first = self.peek()
        while True:
            try:
                value, end = self._scan(self._text, self._at)
            except json.JSONDecodeError as error:
                offset = error.pos - self._at  # reading on moves the text
                cut = error.pos + _SURE > len(self._text) or error.msg.startswith("Unterminated string")
                if not cut or not self._more():
                    self._fail_in_value(error.msg, offset)
                continue
            except RecursionError:
                self.fail("a value is nested too deeply")
            except ValueError as error:  # a key given twice
                self.fail(str(error))
            if end == len(self._text) and first not in '{["' and self._more():
                continue  # a number or word may go on
            self._at = end
            return value

    def several(self) -> list[Any]:
        """Read the element of a list that comes, and as many behind it as are at hand.

        Where the elements end is guessed: where the text last seen between two of them stands for the last time. A wrong guess, inside a
        text or a nested list, leaves quotes or brackets open and does not parse.

        Raises:
            FormatError: see `value`.
        """
        self.peek()
        if self._between and self._may_guess and (end := self._text.rfind(self._between, self._at)) > 0:
            piece = f"[{self._text[self._at : end]}]"
            try:
                values: list[Any] = jiter.from_json(piece.encode(), allow_inf_nan=True, cache_mode="keys", catch_duplicate_keys=True)
            except ValueError:
                self._may_guess = False  # until more text has been read
            else:
                self._at = end
                return values
        value = self.value()
        found = _NEXT_OBJECT.match(self._text, self._at)
        self._between = found[0] if found else ""
        return [value]

    def members(self) -> Iterator[str]:
        """Yield the keys of the object that comes; the caller reads each key's value before it asks for the next.

        Raises:
            FormatError: no object comes, it is malformed or cut off, or a key comes twice.
        """
        self.take("{", "at the beginning of an object")
        seen: set[str] = set()
        if self.peek() == "}":
            self._at += 1
            return
        while True:
            key = self.value()
            if not isinstance(key, str):
                self.fail("a key that is no text")
            if key in seen:
                self.fail(f"the key {key!r:.60} is given twice")
            seen.add(key)
            if len(seen) > 10_000:  # noqa: PLR2004 - no format has more than some dozens
                self.fail("an object with more than 10,000 keys")
            self.take(":", f"after the key {key!r:.60}")
            yield key
            if self.peek() == "}":
                self._at += 1
                return
            self.take(",", "between two members of an object")

    def elements(self) -> Iterator[None]:
        """Stop at each element of the array that comes; the caller reads it before it asks for the next.

        Raises:
            FormatError: no array comes, or it is malformed or cut off.
        """
        self.take("[", "at the beginning of a list")
        if self.peek() == "]":
            self._at += 1
            return
        while True:
            yield
            found = self.peek()
            self._at += 1
            if found == ",":
                continue
            if found == "]":
                return
            self._at -= 1
            self.take(",", "between two elements of a list")

    def end(self) -> None:
        """Make sure that nothing follows.

        Raises:
            FormatError: something does.
        """
        if self.peek():
            self.fail("more text after the end of the document")

    def fail(self, what: str) -> NoReturn:
        """Say what is wrong, and where.

        Raises:
            FormatError: always.
        """
        line, column = self._place(self._at)
        raise FormatError(f"{self._name}: line {line}, column {column}: {what}")

    def _fail_in_value(self, message: str, offset: int) -> NoReturn:
        """Say what is wrong `offset` characters into the value that comes."""
        rest = self._text[self._at + offset :].rstrip()
        cut = not rest or message.startswith("Unterminated string") or any(word.startswith(rest) for word in ("true", "false", "null", "-"))
        if self._ended and cut:
            self.fail("the file ends inside a value: is it truncated?")
        if not self._ended and len(self._text) - self._at >= MAX_VALUE:
            self.fail(f"one value is longer than {MAX_VALUE >> 20} MiB")
        self._at += offset
        self.fail(f"malformed JSON: {message}")

    def _more(self) -> bool:
        """Read on, dropping what was passed; return whether anything came. The piece doubles while one value does not fit."""
        rest = len(self._text) - self._at
        if self._ended or rest >= MAX_VALUE:
            return False
        self._line, self._column = self._place(self._at)
        piece = self._read(max(CHUNK, rest))
        self._ended = not piece
        self._text = self._text[self._at :] + piece
        self._at = 0
        self._may_guess = True
        return bool(piece)

    def _place(self, at: int) -> tuple[int, int]:
        newlines = self._text.count("\n", 0, at)
        if newlines:
            return self._line + newlines, at - self._text.rfind("\n", 0, at)
        return self._line, self._column + at


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twin = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twin!r:.60} is given twice")
    return made


def _number(digits: str) -> int | str:
    """Read a whole number. One that no field holds stays a text, so that where it stands is named and the rest of the item is read."""
    return int(digits) if len(digits) <= _MAX_DIGITS else digits[:_MAX_DIGITS]
