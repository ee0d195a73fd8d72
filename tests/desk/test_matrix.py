"""Every page in every language, light and dark, looked at by axe-core, and what a hostile member writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.desk.conftest import entered, running_desk
from tests.desk.test_paths import ask_about
from vidfed.desk.opening import for_home, for_kit
from vidfed.desk.shell.language import LANGUAGES
from vidfed.security.member.home import MemberHome
from vidfed.security.member.kit import Kit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from tests.desk.conftest import World

AXE = Path(__file__).parent / "assets/axe-4.14.1.min.js"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
KIT_ROOMS = ("/", "/earlier", "/whole-cases", "/inbox", "/cases", "/watched")
UNIT_ROOMS = ("/", "/records", "/import", "/policy", "/kits", "/news", "/audit")

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def unit(world: World, browser: Browser) -> Iterator[Page]:
    with (
        running_desk(for_home(MemberHome(world.federation.places["nl"].folder))) as running,
        entered(browser, running, bypass_csp=True) as opened,
    ):
        yield opened


@pytest.fixture(scope="module")
def person(world: World, browser: Browser) -> Iterator[Page]:
    """The desk of nl-7, with a lookup that was answered. axe-core is put into the page, which the policy of the page would forbid."""
    with running_desk(for_kit(Kit(world.kits["nl-7"]))) as running, entered(browser, running, bypass_csp=True) as opened:
        ask_about(opened, world, "exact.png", "smaller.jpg")
        yield opened
        for name, value in (("language", "en"), ("theme", "auto")):  # the kit remembers them, and other tests use it too
            if opened.locator(f"select[name={name}]").input_value() != value:
                choose(opened, name, value)


def violations(page: Page) -> list[str]:
    page.evaluate(AXE.read_text())
    found: dict[str, Any] = page.evaluate("tags => axe.run(document, {runOnly: {type: 'tag', values: tags}})", TAGS)
    return [f"{each['id']}: {[node['target'] for node in each['nodes']]}" for each in found["violations"]]


def base_of(page: Page) -> str:
    return "/".join(page.url.split("/")[:4])


def choose(page: Page, name: str, value: str) -> None:
    with page.expect_navigation():
        page.locator(f"select[name={name}]").select_option(value)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("code", LANGUAGES)
def test_no_page_has_anything_that_a_screen_reader_stumbles_over(person: Page, unit: Page, code: str, theme: str) -> None:
    answers = person.url
    for page, rooms in ((person, KIT_ROOMS), (unit, UNIT_ROOMS)):
        for name, value in (("language", code), ("theme", theme)):
            if page.locator(f"select[name={name}]").input_value() != value:
                choose(page, name, value)
        for room in rooms:
            page.goto(base_of(page) + room)
            assert page.locator("html").get_attribute("lang") == code
            assert page.locator("html").get_attribute("dir") == ("rtl" if code == "ar" else "ltr")
            assert violations(page) == [], f"{room} in {code}, {theme}"
    person.goto(answers)
    assert violations(person) == [], f"answers in {code}, {theme}"


def test_a_page_is_usable_at_two_hundred_per_cent(person: Page) -> None:
    person.set_viewport_size({"width": 640, "height": 480})
    for room in KIT_ROOMS:
        person.goto(base_of(person) + room)
        assert person.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth + 1"), room
    person.set_viewport_size({"width": 1280, "height": 720})


def test_the_keyboard_alone_is_enough_to_ask(person: Page) -> None:
    person.goto(base_of(person) + "/")
    person.keyboard.press("Tab")
    expect(person.locator(".skip")).to_be_focused()
    person.keyboard.press("?")
    expect(person.locator("#keys")).to_be_visible()
    person.keyboard.press("Escape")
    person.keyboard.press("3")
    person.wait_for_url("**/inbox")
