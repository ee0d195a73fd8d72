"""What each role does less often, in a real browser against a real federation."""

from __future__ import annotations

import contextlib
import re
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.desk.conftest import Running, desk_program, entered, running_desk
from tests.desk.test_paths import ask_about
from tests.support.patience import PATIENCE_MS
from vidfed.desk.opening import for_home, for_kit
from vidfed.security.member.home import MemberHome
from vidfed.security.member.kit import Kit
from vidfed.synthetic.demo import run_quietly
from vidfed.synthetic.pictures import picture
from vidfed.synthetic.tour import Place, open_desks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Locator, Page

    from tests.desk.conftest import World

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(600)]


def test_a_whole_case_is_asked_its_hits_are_filtered_and_its_files_downloaded(page: Page, world: World) -> None:
    page.get_by_role("link", name="Whole cases").click()
    page.get_by_label("Where it is").fill(str(world.pictures))
    page.get_by_label("Case", exact=True).fill("NL-2026-10")
    page.get_by_label("Legal basis").fill("Police Data Act, art. 10")
    page.get_by_role("button", name="Ask every member").click()
    expect(page.locator("#closing")).to_contain_text("COMPLETE; answered 3", timeout=PATIENCE_MS)
    expect(page.locator(".hits tbody tr")).to_have_count(4)
    page.get_by_role("link", name="reference", exact=True).click()
    expect(page.locator(".groups tbody tr")).to_have_count(2)
    page.get_by_role("link", name="evidence", exact=True).click()
    expect(page.locator(".groups tbody tr").filter(has_text="near")).to_contain_text("2")
    page.get_by_role("link", name="not grouped").click()
    page.get_by_text("Filter", exact=True).click()
    page.locator("details a", has_text="exact").click()
    expect(page.locator(".hits tbody tr")).to_have_count(2)
    with page.expect_download() as download:
        page.get_by_role("link", name="result.csv").click()
    assert "exact" in download.value.path().read_text()
    page.get_by_role("button", name="Ask again").click()
    expect(page.locator("#closing")).to_contain_text("COMPLETE", timeout=PATIENCE_MS)
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


class Seizure(NamedTuple):
    """What is asked about, how the form calls it, and the words of the page once it is far enough to be killed."""

    source: Path
    kind: str
    items: int
    far: str


def seized_files(folder: Path) -> Seizure:
    """A folder of different pictures of noise, killed while they are hashed."""
    source = folder / "seized"
    source.mkdir()
    noise = np.random.default_rng(7)
    for number in range(900):
        Image.fromarray(noise.integers(0, 256, (96, 96), dtype=np.uint8)).save(source / f"{number:04}.bmp")
    return Seizure(source, "files", 900, r"^\d{2,} items read")


def seized_list(folder: Path) -> Seizure:
    """A list of what 100,000 files hash to, killed while members are asked."""
    source = folder / "seized.csv"
    rows = (f"{number:064x},{number}.jpg\n" for number in range(1, 100_001))
    source.write_text("sha256,file_name\n" + "".join(rows))
    return Seizure(source, "list", 100_000, r"^[1-9]\d*,000 of")


def far(page: Page) -> list[int]:
    """Return how many items were read, and how many the member that is furthest has answered, by what the page says."""
    said = page.locator("#progress-part tbody tr td:nth-of-type(1)").all_inner_texts()
    done = [int(text.split(" of ")[0].replace(",", "")) for text in said]
    return [int(page.locator("#read").inner_text().split()[0].replace(",", "")), max(done, default=0)]


@pytest.mark.parametrize("seize", [seized_files, seized_list])
def test_a_seizure_goes_on_after_the_desk_was_killed(
    browser: Browser, world: World, tmp_path: Path, seize: Callable[[Path], Seizure]
) -> None:
    seizure, kit = seize(tmp_path), world.kits["nl-8"]
    with desk_program("--kit", kit) as (running, program), entered(browser, running, dies=True) as page:
        page.get_by_role("link", name="Whole cases").click()
        page.locator(f"[name=what][value={seizure.kind}]").check()
        page.get_by_label("Where it is").fill(str(seizure.source))
        page.get_by_label("Case", exact=True).fill(seize.__name__)
        page.get_by_label("Legal basis").fill("Police Data Act, art. 10")
        page.get_by_role("button", name="Ask every member").click()
        expect(page.locator("#progress-part").get_by_text(re.compile(seizure.far)).first).to_be_visible(timeout=PATIENCE_MS)
        before = far(page)
        program.kill()
        program.wait()
    assert before[1] < seizure.items
    with desk_program("--kit", kit) as (running, _), entered(browser, running) as page:
        page.get_by_role("link", name="Whole cases").click()
        page.get_by_role("link", name=seize.__name__).click()
        expect(page.locator("#closing")).to_have_text("Paused: not everybody was asked about everything")
        assert far(page) >= before
        page.get_by_role("button", name="Go on").click()
        expect(page.locator("#closing")).to_contain_text("answered 3", timeout=PATIENCE_MS)
        expect(page.locator(".summary")).to_contain_text(f"{seizure.items:,} items asked")
        with page.expect_download() as download:
            page.get_by_role("link", name="unseen.csv").click()
        assert len(download.value.path().read_text().splitlines()) == seizure.items + 1


@contextlib.contextmanager
def colleague(world: World, browser: Browser, name: str) -> Iterator[Page]:
    """Enter the desk of somebody else."""
    with running_desk(for_kit(Kit(world.kits[name]))) as running, entered(browser, running) as page:
        yield page


def state(page: Page) -> Locator:
    return page.locator("#state-title + p")


def test_two_officers_release_and_correct_and_the_case_is_handed_over_and_ended(  # noqa: PLR0915 - one story of four people
    page: Page, world: World, browser: Browser, officers_desk: Running
) -> None:
    page.get_by_role("link", name="Ask", exact=True).click()
    ask_about(page, world, "exact.png")
    page.locator("tbody tr").filter(has_text="br").first.get_by_role("link", name="Ask for details").click()
    page.get_by_label("victim identity").check()
    page.get_by_label("case state").check()
    page.get_by_label("Deputy").select_option("nl-8")
    page.get_by_label("Facts for the officer").fill("Two signatures, please.")
    page.get_by_role("button", name="Sign, seal and ask").click()
    expect(page.get_by_text("Two signatures, please.")).to_be_visible()

    with colleague(world, browser, "br-2") as second, entered(browser, officers_desk) as first:
        first.get_by_role("link", name="Requests").click()
        first.locator("tr.entry a").first.click()
        first.get_by_label("case state").uncheck()
        first.get_by_role("combobox", name="Handling").select_option("h1")
        first.get_by_label("Ground of transfer").select_option("member-state")
        first.get_by_role("group", name="Victim").get_by_label("names").fill("B. Example")
        first.locator("details", has_text="Release").get_by_label("A second officer signs too").first.select_option("br-2")
        first.get_by_role("button", name="Show what would be released").click()
        expect(first.locator("#preview-box")).to_contain_text("Nothing leaves before this officer has read and signed the same: br-2")
        first.locator("#preview-box").get_by_role("button", name="Sign and send").click()
        expect(first.get_by_text("Waits for a second officer's signature")).to_be_visible()
        expect(state(first)).not_to_contain_text("released")

        second.get_by_role("link", name="Requests").click()
        second.locator("tr.entry", has_text="waits for a second officer's signature").locator("a").click()
        second.get_by_role("button", name="I have read it: sign it too").click()
        expect(second.locator("article.told").last).to_contain_text("br-1, br-2")

        first.reload()
        first.get_by_text("Correct what was released").click()
        correction = first.locator("details", has_text="Correct what was released")
        correction.get_by_label("What is the matter").select_option(index=1)
        correction.get_by_label("What is right").fill("The name was another one.")
        first.get_by_role("button", name="Show the correction").click()
        first.locator("#preview-box").get_by_role("button", name="Sign and send").click()
        expect(first.locator("article.told").last).to_contain_text("The name was another one.")

    page.reload()
    expect(page.get_by_text("B. Example")).to_be_visible()
    expect(page.get_by_text("CORRECTED BY ITS OWNER")).to_be_visible()
    page.get_by_text("The record is wrong").click()
    page.get_by_label("What is wrong").fill("The series is another one.")
    page.get_by_role("button", name="Tell its owner").click()
    expect(page.locator("article.told").last).to_contain_text("The series is another one.")
    address = page.url.rpartition("/")[2]
    page.get_by_text("Hand over to a colleague").click()
    page.get_by_label("Who takes it").select_option("nl-8")
    page.get_by_label("New deputy").select_option("nl-7")
    page.get_by_label("For the colleague").fill("Yours now.")
    page.get_by_role("button", name="Hand over").click()
    page.wait_for_url("**/cases")

    with colleague(world, browser, "nl-8") as taker:
        taker.get_by_role("link", name="Cases", exact=True).click()
        taker.locator(f"tr.entry a[href$='{address}']").click()
        expect(taker.get_by_text("B. Example")).to_be_visible()
        expect(taker.get_by_text("Yours now.")).to_be_visible()
        expect(taker.get_by_text("Not needed any more")).to_have_count(0)  # it was given already
        taker.get_by_label("What came of it").select_option("victim-identified")
        taker.get_by_label("For the record").fill("Solved.")
        taker.get_by_role("button", name="Close", exact=True).click()
        expect(state(taker)).to_contain_text("closed")


def test_a_request_that_is_not_needed_any_more_is_withdrawn(page: Page, world: World) -> None:
    page.get_by_role("link", name="Ask", exact=True).click()
    ask_about(page, world, "exact.png")
    page.locator("tbody tr").filter(has_text="br").first.get_by_role("link", name="Ask for details").click()
    page.get_by_label("victim identity").check()
    page.get_by_label("Deputy").select_option("nl-8")
    page.get_by_label("Facts for the officer").fill("Perhaps.")
    page.get_by_role("button", name="Sign, seal and ask").click()
    page.get_by_text("Not needed any more").click()
    page.get_by_label("Why").fill("Found elsewhere.")
    page.get_by_role("button", name="Withdraw").click()
    expect(state(page)).to_contain_text("withdrawn")


def test_a_record_is_taken_back_and_reinstated_and_a_kit_revoked(world: World, browser: Browser) -> None:
    home = world.federation.places["nl"].folder
    with running_desk(for_home(MemberHome(home))) as running, entered(browser, running) as page:
        page.get_by_role("link", name="Records").click()
        page.locator("tr.entry a").first.click()
        page.get_by_text("Take it back", exact=True).first.click()
        page.get_by_label("Why", exact=True).fill("Another child.")
        page.get_by_role("button", name="Take it back").click()
        page.get_by_role("button", name="Reinstate it").click()
        expect(page.get_by_role("button", name="Change it")).to_be_visible()

        page.get_by_role("link", name="Kits").click()
        row = page.locator("tr.entry", has_text="nl-8")
        row.get_by_text("Revoke", exact=True).click()
        row.get_by_role("button", name="Revoke the kit of nl-8").click()
        expect(page.locator("#done")).to_contain_text("Revoked:")
        page.reload()
        expect(page.locator("tr.entry", has_text="nl-8")).to_contain_text("revoked")


def test_a_practice_federation_has_a_desk_for_each_role_with_its_exercises(browser: Browser, world: World) -> None:
    places = {
        "investigator": Place("--kit", world.kits["nl-7"]),
        "officer": Place("--kit", world.kits["br-1"]),
        "operator": Place("--home", world.federation.places["br"].folder),
    }
    with open_desks(places) as addresses:
        for role, address in addresses.items():
            origin, _, token = address.partition("/enter?token=")
            with entered(browser, Running(origin, partial(str, token))) as page:
                page.get_by_role("link", name="Exercises").click()
                expect(page.locator("h2").first).to_have_text(role)
                expect(page.locator("main li")).to_have_count(4)
