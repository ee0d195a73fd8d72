"""Pages from templates: everything escaped, what others wrote made visible, texts in the reader's language."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from starlette.responses import HTMLResponse, Response

from vidfed.cli.printable import visible, visible_lines
from vidfed.desk.shell.language import LANGUAGES, language, preferred
from vidfed.security.clock import as_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from jinja2.runtime import Context
    from starlette.requests import Request

    from vidfed.desk.shell.language import Language


@cache
def _environment(code: str) -> Environment:
    """Return the templates in one language."""
    made = Environment(
        loader=PackageLoader("vidfed.desk", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
        finalize=_shown,
    )
    spoken = language(code)
    made.install_gettext_translations(spoken.texts, newstyle=True)  # type: ignore[attr-defined]
    for name in ("gettext", "ngettext"):
        translate: Any = made.globals[name]
        made.globals[name] = _made_visible(translate)
    made.globals["_"] = made.globals["gettext"]
    made.filters |= {"number": spoken.number, "moment": spoken.moment, "term": spoken.term, "utc": as_text, "lines": visible_lines}
    return made


def _shown(value: object) -> object:
    """Make visible what a text holds that a browser would obey: whatever a template puts out comes through here."""
    if type(value) is str:  # not Markup, which the templates themselves wrote
        return value if value.isascii() and value.isprintable() else _visible_text(value)
    return value


def _made_visible(translate: Callable[..., str]) -> Callable[..., str]:
    """Make visible what a translated text is filled with: what comes out of it is the templates' own, and is not looked at again."""

    @pass_context
    def translated(context: Context, *texts: Any, **values: Any) -> str:  # noqa: ANN401 - as Jinja's own
        return translate(context, *texts, **{name: _shown(value) for name, value in values.items()})

    return translated


def _visible_text(text: str) -> str:
    return visible_lines(text) if "\n" in text else visible(text)


def spoken_in(request: Request) -> Language:
    """Return the language of a request: the one chosen, else what the browser prefers."""
    chosen = request.app.state.desk.preferences.language
    return language(chosen if chosen in LANGUAGES else preferred(request.headers.get("accept-language", "")))


def page(request: Request, template: str, /, *, status: int = 200, headers: dict[str, str] | None = None, **values: Any) -> Response:  # noqa: ANN401
    """Return a page, or a part of one."""
    desk = request.app.state.desk
    spoken = spoken_in(request)
    common = {"desk": desk, "preferences": desk.preferences, "spoken": spoken, "base": desk.path, "here": request.url.path}
    common["languages"] = [language(code) for code in LANGUAGES]
    text = _environment(spoken.code).get_template(template).render(**common, **values)
    return HTMLResponse(text, status, headers)


def go_to(request: Request, path: str) -> Response:
    """Send the browser to another page of the desk, as an answer to something that htmx posted."""
    return Response(status_code=204, headers={"HX-Redirect": request.app.state.desk.path + path})
