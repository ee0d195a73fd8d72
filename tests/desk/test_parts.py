"""The desk's smaller parts: vendored files, uploads, forms, languages, what it imports."""

from __future__ import annotations

import ast
import hashlib
import inspect
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from babel.messages.pofile import read_po
from jinja2.ext import babel_extract
from starlette.requests import ClientDisconnect

from vidfed import desk
from vidfed.casework.core.state import Phase
from vidfed.desk.shell import uploads
from vidfed.desk.shell.errors import TooMuchError
from vidfed.desk.shell.language import LANGUAGES, language, preferred
from vidfed.desk.shell.preferences import MAX_CASES, THEMES, Preferences, Reasons
from vidfed.desk.shell.uploads import Uploads, file_name
from vidfed.desk.work.writing import CHOICES
from vidfed.federation.lookup import closing
from vidfed.federation.lookup.closing import Verdict
from vidfed.federation.lookup.evidence import Evidence
from vidfed.federation.lookup.outcome import Outcome
from vidfed.security.documents import ROLES
from vidfed.wire.values import HandlingCode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

STATIC = Path(next(iter(desk.__path__))) / "static"
VENDORED = {
    STATIC / "htmx-2.0.11.min.js": "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717",
    Path(__file__).parent / "assets/axe-4.14.1.min.js": "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c",
}


@pytest.mark.parametrize("path", VENDORED, ids=lambda path: path.name)
def test_a_file_from_elsewhere_is_the_one_that_was_looked_at_and_has_its_licence_beside(path: Path) -> None:
    assert hashlib.sha256(path.read_bytes()).hexdigest() == VENDORED[path]
    assert path.with_name(path.name.replace(".min.js", ".LICENSE")).read_text()


def test_with_a_kit_the_desk_loads_neither_a_node_nor_its_search() -> None:
    modules = ", ".join(f"vidfed.desk.{name}" for name in ("app", "run", "desk", "rooms.ask", "rooms.cases", "rooms.whole_cases"))
    kept_out = "('vidfed.node', 'vidfed.index.search', 'faiss')"
    look = f"import sys, {modules}; print([m for m in sys.modules if m.startswith({kept_out})])"
    ran = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


async def _body(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def _cut(piece: bytes) -> AsyncIterator[bytes]:
    yield piece
    raise ClientDisconnect


def _left(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_a_dropped_file_lies_in_a_private_file_until_it_is_removed(tmp_path: Path) -> None:
    dropped = Uploads(tmp_path / "dropped")
    path = await dropped.take(_body([b"ab", b"c"]), 3)
    assert path.read_bytes() == b"abc"
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    dropped.remove(path)
    assert _left(tmp_path / "dropped") == []


async def test_an_upload_that_is_cut_leaves_nothing(tmp_path: Path) -> None:
    dropped = Uploads(tmp_path / "dropped")
    with pytest.raises(ClientDisconnect):
        await dropped.take(_cut(b"half"), 8)
    with pytest.raises(ClientDisconnect):
        await dropped.take(_body([b"half"]), 8)
    assert _left(tmp_path / "dropped") == []


async def test_an_upload_of_ten_gigabytes_is_refused_by_what_it_says_and_by_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped = Uploads(tmp_path / "dropped")
    with pytest.raises(TooMuchError):
        await dropped.take(_body([b""]), 10 << 30)
    monkeypatch.setattr(uploads, "MAX_FILE_BYTES", 1_000)
    with pytest.raises(TooMuchError):
        await dropped.take(_body([b"x" * 400] * 3), None)
    assert _left(tmp_path / "dropped") == []


async def test_a_hundred_thousand_names_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_FILES", 3)
    dropped = Uploads(tmp_path / "dropped")
    for _ in range(3):
        await dropped.take(_body([b"x"]), 1)
    with pytest.raises(TooMuchError, match="path of its folder"):
        await dropped.take(_body([b"x"]), 1)


async def test_what_a_killed_desk_left_is_removed_when_the_next_one_starts(tmp_path: Path) -> None:
    await Uploads(tmp_path / "dropped").take(_body([b"x"]), 1)
    Uploads(tmp_path / "dropped")
    assert _left(tmp_path / "dropped") == []


@pytest.mark.parametrize(("header", "name"), [("a%2Fb.jpg", "a/b.jpg"), (None, "file"), ("%ff", "\ufffd"), ("x" * 900, "x" * 400)])
def test_a_dropped_files_name_is_what_its_page_says(header: str | None, name: str) -> None:
    assert file_name(header) == name


@pytest.mark.parametrize(
    ("accepted", "code"), [("fr-CA,fr;q=0.9", "fr"), ("de, ar;q=0.5, es;q=0.7", "es"), ("", "en"), ("zz;q=x", "en"), ("AR", "ar")]
)
def test_the_language_is_the_browsers_unless_one_is_chosen(accepted: str, code: str) -> None:
    assert preferred(accepted) == code


def _errors() -> set[str]:
    """The texts of the desk's own errors, as its modules raise them."""
    found = set()
    for path in STATIC.parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                said = node.args if name in {"FormError", "GoneError", "DiskError"} else []
                said = [*said, *(each.value for each in node.keywords if each.arg == "needed")]
                found |= {each.value for each in said if isinstance(each, ast.Constant) and isinstance(each.value, str)}
    assert len(found) > 40
    return found


def _asked_for() -> set[str]:
    """The texts of the templates and errors, and the words of the libraries that they show."""
    found = _errors()
    for path in (STATIC.parent / "templates").glob("*.html"):
        with path.open("rb") as file:
            for _, _, message, _ in babel_extract(file, ("_", "ngettext"), [], {"trim_blocks": "true", "lstrip_blocks": "true"}):
                found.add(message if isinstance(message, str) else next(part for part in message or ("",) if part is not None))
    found.update(re.findall(r'say\(\s*"([^"]+)"', inspect.getsource(closing)))
    words = [each.code for kind in CHOICES.values() if kind is not HandlingCode for each in kind]
    words += [each.value for kind in (Evidence, Outcome, Phase, Verdict) for each in kind] + [*ROLES, *THEMES[1:]]
    return {each for each in found if each} | {word.replace("-", " ") for word in words}


@pytest.mark.parametrize("code", LANGUAGES[1:])
def test_every_text_is_translated_and_says_that_nobody_reviewed_it(code: str) -> None:
    spoken = language(code)
    catalogue = read_po(io.BytesIO((STATIC.parent / f"locale/{code}.po").read_bytes()), locale=code)
    there = {entry.id[0] if isinstance(entry.id, tuple) else entry.id for entry in catalogue if entry.id and entry.string}
    assert sorted(_asked_for() - there) == []
    assert [str(error) for entry in catalogue for error in entry.check(catalogue)] == []
    assert not spoken.reviewed


def test_arabic_is_written_from_right_to_left() -> None:
    assert {code: language(code).direction for code in LANGUAGES} == {"en": "ltr", "fr": "ltr", "es": "ltr", "ar": "rtl"}


def test_reasons_are_remembered_for_each_case_and_the_oldest_goes(tmp_path: Path) -> None:
    kept = Preferences.load(tmp_path)
    for number in range(MAX_CASES + 1):
        kept.remember(Reasons(f"case {number}", legal_basis="law"))
    again = Preferences.load(tmp_path)
    assert list(again.cases) == [f"case {number}" for number in range(1, MAX_CASES + 1)]
    assert again.last == Reasons(f"case {MAX_CASES}", legal_basis="law")
    assert (tmp_path / "desk.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "[]", '{"cases": []}', '{"language": 1, "theme": "x", "names_shown": 2, "cases": {"a": 3}}'])
def test_a_damaged_file_of_preferences_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "desk.json").write_text(text)
    assert Preferences.load(tmp_path) == Preferences(tmp_path)
