"""What each role does less often, in a real browser against a real federation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.desk.conftest import entered, running_desk
from tests.desk.test_paths import SLOW_MS, ask_about
from vidfed.desk.opening import for_kit
from vidfed.security.member.kit import Kit
from vidfed.synthetic.demo import run_quietly
from vidfed.synthetic.pictures import picture

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from tests.desk.conftest import Running, World

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(600)]


def test_a_whole_case_is_asked_its_hits_are_filtered_and_its_files_downloaded(page: Page, world: World) -> None:
    page.get_by_role("link", name="Whole cases").click()
    page.get_by_label("Where it is").fill(str(world.pictures))
    page.get_by_label("Case", exact=True).fill("NL-2026-10")
    page.get_by_label("Legal basis").fill("Police Data Act, art. 10")
    page.get_by_role("button", name="Ask every member").click()
    expect(page.locator("#closing")).to_contain_text("COMPLETE; answered 3", timeout=SLOW_MS)
    expect(page.locator(".hits tbody tr")).to_have_count(4)
    page.get_by_text("Filter and group").click()
    page.locator("details a", has_text="exact").click()
    expect(page.locator(".hits tbody tr")).to_have_count(2)
    with page.expect_download() as download:
        page.get_by_role("link", name="result.csv").click()
    assert "exact" in download.value.path().read_text()
    page.get_by_role("button", name="Ask again").click()
    expect(page.locator("#closing")).to_contain_text("COMPLETE", timeout=SLOW_MS)
    page.get_by_role("link", name="Ask", exact=True).click()


def test_what_nobody_knows_is_watched_found_renewed_and_stopped(page: Page, world: World, tmp_path: Path) -> None:
    page.get_by_role("link", name="Ask", exact=True).click()
    ask_about(page, world, "unknown.png", "exact.png")
    page.get_by_role("button", name="Watch what nobody knows yet").click()
    expect(page.locator("#draft caption")).to_have_text("1 item to ask about")
    page.get_by_role("button", name="Sign and watch").click()
    watch = page.locator("article.entry")
    expect(watch).to_contain_text("NL-2026-9")
    expect(page.locator(".hits")).to_have_count(0)
    watch.get_by_text("Until when each member has answered").click()
    expect(watch.locator("tbody tr")).to_have_count(3)

    picture(999).save(tmp_path / "learnt.png")
    run_quietly(["node", "ingest", str(tmp_path), "--home", str(world.federation.places["fr"].folder), "--case", "fr-2"])
    page.get_by_label("Days from now").fill("3")
    page.get_by_role("button", name="Renew").click()  # by a new mandate, which is asked at once
    expect(page.locator("article.entry", has_text="stopped")).to_have_count(1)
    hits = page.locator(".hits tbody tr")
    for _ in range(60):
        if hits.count():
            break
        page.wait_for_timeout(500)
        page.reload()
    expect(hits).to_have_count(1)
    expect(hits).to_contain_text("fr-2")
    expect(hits).not_to_contain_text("unknown.png")
    hits.get_by_role("link", name="Ask for details").click()
    expect(page.locator("h1")).to_have_text("Ask for details")
    page.get_by_role("link", name="Watched").click()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("article.entry", has_text="stopped")).to_have_count(2)


def test_answers_that_came_late_are_fetched_and_a_lookup_is_forgotten(page: Page, world: World) -> None:
    page.get_by_role("link", name="Ask", exact=True).click()
    ask_about(page, world, "exact.png")
    page.get_by_role("link", name="Ask", exact=True).click()
    page.get_by_role("link", name="Earlier lookups").click()
    rows = page.locator("tbody tr")
    expect(rows.first).to_contain_text("3 of 3")
    before = rows.count()
    rows.first.get_by_role("button", name="Show what there is").click()
    expect(page.locator("#closing")).to_contain_text("answered 3")
    expect(page.locator("article.entry")).to_have_count(1)
    page.go_back()
    rows.first.get_by_role("button", name="Delete").click()
    expect(rows).to_have_count(before - 1)
