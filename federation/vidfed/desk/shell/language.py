"""Languages: catalogues as they are translated (`locale/LANGUAGE.po`), compiled when the desk starts; no build step, nothing binary.

A catalogue whose header says `X-Reviewed: no` was reviewed by nobody, and pages say so.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from babel import Locale
from babel.dates import format_datetime
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal
from babel.support import NullTranslations, Translations
from markupsafe import Markup, escape

from vidfed.security.clock import as_text

if TYPE_CHECKING:
    from collections.abc import Iterable

LANGUAGES = ("en", "fr", "es", "ar")
"""INTERPOL's four. English is what the code is written in and has no catalogue."""
_TO_RIGHT, _TO_LEFT = "ltr", "rtl"


@dataclass(frozen=True)
class Language:
    """One language.

    Attributes:
        code: as in LANGUAGES.
        name: of itself.
        direction: `ltr` or `rtl`.
        reviewed: False if nobody who speaks it has read the translation.
        texts: the catalogue.
    """

    code: str
    name: str
    direction: str
    reviewed: bool
    texts: NullTranslations

    def say(self, text: str, **values: object) -> str:
        """Return a text in this language, with its values."""
        said = self.texts.gettext(text)
        return said % values if values else said

    def term(self, code: str) -> str:
        """Return a word of the libraries in this language: `victim-identity`, `life_at_risk`, `no match`."""
        return self.texts.gettext(code.replace("-", " ").replace("_", " "))

    def number(self, value: float) -> Markup:
        """Return a number in this language's form."""
        return escape(format_decimal(value, locale=self.code))

    def moment(self, moment_ms: int) -> Markup:
        """Return a moment as the reader writes it, in UTC. Its blanks and marks of direction are ours: they need not be made visible."""
        try:
            text = format_datetime(moment_ms / 1000, "medium", locale=self.code)
        except (OverflowError, ValueError, OSError):
            text = as_text(moment_ms)
        return escape(f"{text} UTC")


@cache
def language(code: str) -> Language:
    """Return a language of LANGUAGES."""
    locale = Locale.parse(code)
    direction = _TO_LEFT if locale.text_direction == _TO_LEFT else _TO_RIGHT
    name = (locale.get_display_name(code) or code).capitalize()
    if code == LANGUAGES[0]:
        return Language(code, name, direction, reviewed=True, texts=NullTranslations())
    text = resources.files("vidfed.desk").joinpath(f"locale/{code}.po").read_bytes()
    catalogue = read_po(io.BytesIO(text), locale=code)
    compiled = io.BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    reviewed = ("X-Reviewed", "yes") in catalogue.mime_headers or b'"X-Reviewed: yes\\n"' in text
    return Language(code, name, direction, reviewed, Translations(compiled))


def preferred(accepted: str) -> str:
    """Return the best of LANGUAGES for an Accept-Language header."""
    for part in _ranked(accepted):
        code = part.split("-")[0]
        if code in LANGUAGES:
            return code
    return LANGUAGES[0]


def _ranked(accepted: str) -> Iterable[str]:
    ranked = []
    for place, part in enumerate(accepted[:500].split(",")):
        name, _, weight = part.strip().lower().partition(";q=")
        try:
            ranked.append((-float(weight or 1), place, name))
        except ValueError:
            continue
    return [name for _, _, name in sorted(ranked)]
