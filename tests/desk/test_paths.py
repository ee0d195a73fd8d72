"""Each role's work at the desk, from the first page to the last, in a real browser against a real federation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.desk.conftest import entered
from tests.support.patience import PATIENCE_MS

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from tests.desk.conftest import Running, World

"""For what waits for other members, on a machine that others use too."""


def ask_about(page: Page, world: World, *names: str) -> None:
    """Drop files and ask every member about them."""
    page.set_input_files("#files", [world.pictures / name for name in names])
    expect(page.locator("#draft tbody tr")).to_have_count(len(names), timeout=PATIENCE_MS)
    page.get_by_label("Case", exact=True).fill("NL-2026-9")
    page.get_by_label("Legal basis").fill("Police Data Act, art. 10")
    page.get_by_role("button", name="Ask every member").click()
    expect(page.locator("#closing")).to_have_text(
        "COMPLETE; answered 3, refused by policy 0, no answer 0; every answer verified.", timeout=PATIENCE_MS
    )


def test_an_investigator_goes_from_a_dropped_file_to_released_details_and_a_closed_case(
    page: Page, world: World, browser: Browser, officers_desk: Running
) -> None:
    ask_about(page, world, "exact.png", "smaller.jpg", "unknown.png")
    entries = page.locator("article.entry")
    expect(entries).to_have_count(2)
    exact = entries.nth(0).locator("tbody tr")
    expect(exact).to_have_count(2)
    expect(exact.nth(0)).to_contain_text("exact MD5, SHA-1, SHA-256")
    expect(exact.nth(0)).to_contain_text("YES")
    expect(entries.nth(1).locator("tbody tr").nth(0)).to_contain_text("near PDQ")
    expect(page.locator(".summary")).to_contain_text("2 of 3 items known")
    expect(page.locator("main")).not_to_contain_text("Tulip")
    expect(page.locator("#live")).to_contain_text("COMPLETE")

    exact.filter(has_text="br").get_by_role("link", name="Ask for details").click()
    page.get_by_label("victim identity").check()
    page.get_by_label("Deputy").select_option("nl-8")
    page.get_by_label("Facts for the officer").fill("Found on a seized disk.")
    page.get_by_role("button", name="Sign, seal and ask").click()
    expect(page.get_by_text("Found on a seized disk.")).to_be_visible()

    with entered(browser, officers_desk) as officer:
        officer.get_by_role("link", name="Requests").click()
        officer.locator("tr.entry a").click()
        expect(officer.get_by_text("Found on a seized disk.")).to_be_visible()
        officer.get_by_role("combobox", name="Handling").select_option("h1")
        officer.get_by_label("Ground of transfer").select_option("member-state")
        victim = officer.get_by_role("group", name="Victim")
        victim.get_by_label("names").fill("A. Example")
        officer.get_by_role("button", name="Show what would be released").click()
        preview = officer.locator("#preview-box")
        expect(preview).to_be_focused()
        expect(preview).to_contain_text("It goes to nl (nl-7, nl-8)")
        expect(preview).to_contain_text("A. Example")
        preview.get_by_role("button", name="Sign and send").click()
        expect(officer.locator("#state-title + p")).to_contain_text("released")

    page.get_by_role("link", name="Show it").click(timeout=PATIENCE_MS)
    expect(page.get_by_text("A. Example")).to_be_visible()
    page.get_by_label("What came of it").select_option("victim-identified")
    page.get_by_label("For the record").fill("Safe.")
    page.get_by_role("button", name="Close", exact=True).click()
    expect(page.locator("#state-title + p")).to_contain_text("closed")


def test_an_operator_sees_the_node_changes_a_record_takes_a_file_in_and_asks_the_doctor(
    browser: Browser, units_desk: Running, tmp_path: Path
) -> None:
    hashes = tmp_path / "hashes.csv"
    hashes.write_text(f"sha256,series\n{'ab' * 32},Tulip\n")
    with entered(browser, units_desk) as page:
        expect(page.locator(".closing").first).to_have_text("The node runs and answers.")
        page.get_by_role("button", name="Examine now").click()
        expect(page.locator("#doctor table")).to_contain_text("policy", timeout=PATIENCE_MS)

        page.get_by_role("link", name="Import").click()
        page.get_by_label("The file's whole path").fill(str(hashes))
        page.get_by_label("take it in").check()
        page.get_by_role("button", name="Begin").click()
        expect(page.locator("#progress-part")).to_contain_text("new", timeout=PATIENCE_MS)

        page.get_by_role("link", name="Records").click()
        page.locator("tr.entry a").click()
        expect(page.get_by_text("The audit log names nobody")).to_be_visible()
        page.get_by_role("combobox", name="victim identified").select_option("yes")
        page.get_by_role("button", name="Change it").click()
        expect(page.locator("dd", has_text="yes").first).to_be_visible()
        page.get_by_role("link", name="Why: step by step").click()
        expect(page.locator("article").first).to_contain_text("is told of")

        page.get_by_role("link", name="Kits").click()
        page.get_by_label("Pseudonym").fill("fr-9")
        page.get_by_label("Gateway").fill("127.0.0.1:7444")
        page.get_by_label("Passphrase").fill("four words drawn by lot")
        page.get_by_role("button", name="Make the invitation").click()
        expect(page.locator("#done")).to_contain_text("fr-9.invitation")
        page.get_by_role("link", name="News").click()
        expect(page.get_by_text("Everybody who was told")).to_be_visible()
        page.get_by_role("link", name="Audit").click()
        page.wait_for_load_state()  # before its script is there a button does nothing
        page.get_by_role("button", name="Verify now").click()
        expect(page.locator("#verified")).to_contain_text("The log holds.", timeout=PATIENCE_MS)
