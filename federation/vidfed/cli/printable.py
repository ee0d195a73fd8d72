"""Texts by others, made fit to be shown: on a terminal, in a log, in a report.

A terminal obeys what it is sent. A text of another member, a file's name or a server's error may hold line breaks that begin a line of
their own, escape sequences that overwrite what stands above, characters that turn the direction of writing round, and blanks that push a
forged line to where the terminal wraps. `visible` shows such characters as escapes, `printable` also closes up what could imitate the
layout of a program, and bounds the length.
"""

from __future__ import annotations

import json
import re
import unicodedata

MAX_CHARS = 500
"""Of a text by others that is shown: three lines of a wide terminal."""

_MOST_MARKS = 2  # combining marks in a row, as in decomposed Vietnamese; more of them climb into the lines above
_BLANKS = frozenset("\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")  # "letters" that show nothing
_SPACES = re.compile(" {2,}")


def visible(text: str) -> str:
    r"""Return `text` with every character that does not show itself, line breaks too, written as its escape, e.g. `\x1b` or `\u202e`."""
    if text.isascii() and text.isprintable():
        return text
    shown, marks = [], _MOST_MARKS  # a mark at the beginning would stand on what the program wrote
    for char in text:
        marks = marks + 1 if unicodedata.combining(char) or unicodedata.category(char) in {"Mn", "Me"} else 0
        hidden = not char.isprintable() or char in _BLANKS or marks > _MOST_MARKS
        shown.append(ascii(char)[1:-1] if hidden else char)
    return "".join(shown)


def visible_lines(text: str) -> str:
    """Return `text` as `visible` does, but with its lines kept: for what a program composed of several lines."""
    return "\n".join(map(visible, text.split("\n")))


def printable(text: object, most: int = MAX_CHARS) -> str:
    """Return a text by others as it may stand within a line that a program prints.

    As `visible`, with blanks at either end dropped and runs of them closed up, and at most `most` characters, whose end is then `...`.
    """
    shown = _SPACES.sub(" ", visible(str(text)).strip())
    return shown if len(shown) <= most else shown[: most - 3] + "..."


def json_text(document: object, *, indent: int | None = None) -> str:
    """Return a document as JSON in which nothing is hidden: letters of all languages as they are, everything else as an escape."""
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)
