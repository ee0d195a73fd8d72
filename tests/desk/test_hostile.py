"""What a hostile peer writes stays text: 50 texts in every field of every page."""

from __future__ import annotations

from functools import cache
from html.parser import HTMLParser
from importlib import resources
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from jinja2 import meta, pass_context
from jinja2.filters import do_urlencode

from vidfed.desk.desk import Room
from vidfed.desk.shell import pages
from vidfed.desk.shell.language import LANGUAGES, language
from vidfed.desk.shell.preferences import Preferences, Reasons
from vidfed.desk.work.writing import CHOICES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from jinja2 import Environment

MARKUP = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<iframe src=//evil.example>",
    "<base href=//evil.example/>",
    "<style>*{display:none}</style>",
    "<link rel=stylesheet href=//e.example>",
    "<form action=//evil.example><button>",
    "<meta http-equiv=refresh content=0;url=//evil.example>",
    "<a href=javascript:alert(1)>x</a>",
    "</bdi></td></table>COMPLETE",
    "</title><h1>",
    "</textarea><b>",
    "</option></select><b>",
    "<!--",
    "-->",
    "<![CDATA[",
    "<?php ?>",
    '" onmouseover="alert(1)',
    "' onfocus='alert(1)",
    '"><b>',
    "'><b>",
    '" autofocus onfocus=alert(1) x="',
    '" hx-post="/leave" hx-trigger="load',
    '" hx-on:load="alert(1)"',
    "` onload=alert(1)",
    "x onclick=alert(1)",
    '"/><script>',
    "<x hx-get=/ hx-trigger=load>",
]
URLS = [
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "data:text/html,<b>",
    "//evil.example/",
    "http://evil.example/",
    "\\\\evil.example\\",
    "../../leave",
    "?x=1&y=2#z",
    "/%2e%2e/leave",
]
ODD = [
    "{{ 7*7 }}",
    "{% raw %}",
    "%(count)s %s %n",
    "${7*7}",
    "\u202egnp.exe",
    "\u2066\u2069\u200f\u200e",
    "a\x00b\x1b[31mred\x07",
    "\ufeff\u200b\u2028",
    "&lt;b&gt; &#x3c;",
    "\ud800 lone",
    "Z\u0351\u036b\u0343\u036a\u0302" * 40,
]
TEXTS = [*MARKUP, *URLS, *ODD]
FORBIDDEN = {*map(chr, range(32)), "\x7f", "\u202e", "\u2066", "\u2069", "\u200e", "\u200f", "\u200b", "\u2028", "\ufeff", "\ud800"} - {
    "\n",
    "\t",
}
ADDRESSES = {"href", "src", "action", "hx-get", "hx-post", "data-details", "data-files", "data-hash"}


class Peer:
    """Stands for whatever a template is given: each field, entry and answer of it is the hostile text again."""

    def __init__(self, text: str, *, true: bool, equal: bool) -> None:
        self._made = (text, true, equal)

    def _again(self, *_: object, **__: object) -> Peer:
        text, true, equal = self._made
        return Peer(text, true=true, equal=equal)

    __getitem__ = __call__ = _again

    def __getattr__(self, name: str) -> Peer:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._again()

    def __iter__(self) -> Iterator[Peer]:
        return iter([self._again(), self._again()])

    def __str__(self) -> str:
        return self._made[0]

    def __bool__(self) -> bool:
        return self._made[1]

    def __eq__(self, _: object) -> bool:
        return self._made[2]

    def __hash__(self) -> int:
        return hash(self._made)

    def __len__(self) -> int:
        return 2

    def __contains__(self, _: object) -> bool:
        return self._made[2]

    def _number(self, *_: object) -> int:
        return 1

    def __add__(self, other: object) -> Any:  # noqa: ANN401 - a list with a list, a number with a number
        return self._again() if isinstance(other, Peer) else 1

    __sub__ = __rsub__ = __truediv__ = __int__ = __index__ = _number

    def _compared(self, _: object) -> bool:
        return self._made[2]

    __lt__ = __le__ = __gt__ = __ge__ = _compared


class Structure(HTMLParser):
    """What a page consists of, texts and values left out; and where it leads."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.addresses += [value or "" for name, value in attrs if name in ADDRESSES]

    def handle_endtag(self, tag: str) -> None:
        self.elements.append((f"/{tag}", ()))

    def handle_comment(self, data: str) -> None:
        self.elements.append(("comment", (data,)))

    def handle_decl(self, decl: str) -> None:
        self.elements.append(("declaration", (decl,)))


@pytest.fixture(scope="module")
def templates() -> Iterator[Environment]:
    """The desk's own templates, which take a Peer for text where they put it out."""
    shown = pages._shown
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "_shown", lambda value: shown(str(value) if isinstance(value, Peer) else value))
        made = pages._environment.__wrapped__("en")

        def plainly(kept: Callable[..., Any], instead: str) -> Callable[..., Any]:
            return lambda value: instead if isinstance(value, Peer) else kept(value)

        for name, instead in (("number", "1"), ("moment", "then"), ("utc", "then")):
            made.filters[name] = plainly(made.filters[name], instead)
        plural: Any = made.globals["ngettext"]
        made.globals["ngettext"] = pass_context(
            lambda context, one, many, count, **rest: plural(context, one, many, 1 if isinstance(count, Peer) else count, **rest)
        )
        term, lines = made.filters["term"], made.filters["lines"]
        made.filters["term"] = lambda value: term(str(value))
        made.filters["lines"] = lambda value: lines(str(value))
        made.filters["urlencode"] = lambda value: do_urlencode(str(value).encode("utf-8", "replace").decode())
        yield made


@cache
def undeclared(templates: Environment) -> frozenset[str]:
    """Return the names that templates are given."""
    names: set[str] = set()
    for name in PAGES:
        source = (resources.files("vidfed.desk") / "templates" / name).read_text()
        names |= meta.find_undeclared_variables(templates.parse(source))
    return frozenset(names - set(templates.globals))


def rendered(templates: Environment, name: str, peer: Peer, folder: Path) -> str:
    """Render a template of which everything that is not the desk's own is the peer."""
    own: dict[str, Any] = {
        "desk": SimpleNamespace(who=peer, rooms=[Room("ask", "/", "Ask")]),
        "preferences": Preferences(folder, names_shown=True, cases={str(peer): Reasons(str(peer), str(peer), str(peer), str(peer))}),
        "spoken": language("en"),
        "languages": [language(code) for code in LANGUAGES],
        "base": "/base",
        "here": "/base/conversations/00/preview",
        "choices": CHOICES,
        "current": "cases",
        "chosen": [(peer, peer, "?")] if name == "whole_case.html" else peer,
        "groups": {peer: [(peer, peer, "?")]} if name == "whole_case.html" else peer,
        "groupings": [(peer, "?")],
        "table": [(1, peer, 1, "?")],
        "by": "series",
        "more": 1,
    }
    return templates.get_template(name).render(dict.fromkeys(undeclared(templates), peer) | own)


def structure(text: str) -> Structure:
    read = Structure()
    read.feed(text)
    read.close()
    return read


PAGES = sorted(path.name for path in (resources.files("vidfed.desk") / "templates").iterdir())
MODES = [(True, True), (True, False), (False, True), (False, False)]


@pytest.mark.parametrize("name", [name for name in PAGES if not name.endswith("macros.html")])
def test_fifty_hostile_texts_in_every_field_are_text_on_every_page(templates: Environment, name: str, tmp_path: Path) -> None:
    assert len(TEXTS) == 50
    for true, equal in MODES:
        plain = structure(rendered(templates, name, Peer("x", true=true, equal=equal), tmp_path))
        for text in [" ".join(TEXTS), *(TEXTS if (true, equal) == (True, False) else [])]:
            said = rendered(templates, name, Peer(text, true=true, equal=equal), tmp_path)
            read = structure(said)
            assert read.elements == plain.elements, text
            assert sorted(FORBIDDEN & set(said)) == [], text
            assert all(each.startswith(("/base/", "?", "#")) for each in read.addresses), text
