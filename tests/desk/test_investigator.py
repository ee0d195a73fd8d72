"""An investigator's work at the desk, from a dropped file to what every member says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.desk.conftest import World


def test_a_dropped_file_becomes_hits_with_their_evidence_and_a_closing_line(page: Page, world: World) -> None:
    page.set_input_files("#files", [world.pictures / "exact.png", world.pictures / "smaller.jpg", world.pictures / "unknown.png"])
    expect(page.locator("#draft caption")).to_have_text("3 items to ask about")
    page.get_by_label("Case", exact=True).fill("NL-2026-9")
    page.get_by_label("Legal basis").fill("Police Data Act, art. 10")
    page.get_by_role("button", name="Ask every member").click()
    expect(page.locator("#closing")).to_have_text(
        "COMPLETE; answered 3, refused by policy 0, no answer 0; every answer verified.", timeout=30_000
    )
    entries = page.locator("article.entry")
    expect(entries).to_have_count(2)
    exact = entries.nth(0).locator("tbody tr")
    expect(exact).to_have_count(2)
    expect(exact.nth(0)).to_contain_text("nl")
    expect(exact.nth(0)).to_contain_text("exact MD5, SHA-1, SHA-256")
    expect(exact.nth(0)).to_contain_text("YES")
    expect(entries.nth(1).locator("tbody tr").nth(0)).to_contain_text("near PDQ")
    expect(page.locator(".summary")).to_contain_text("2 of 3 items known")
    expect(page.locator("main")).not_to_contain_text("Tulip")
    expect(page.locator("#live")).to_contain_text("COMPLETE")
