"""`python -m benchmarks.desk`: how long the desk's pages of a large result take, and what a large seizure takes of its memory.

A result of `--hits` hits among `--items` items is paged, filtered and grouped; no page may have more than 200 rows. Then seizures of more
and more items are asked of a real node by a desk of its own, watched by a browser: the peak of the desk's memory, of the page's
JavaScript heap, and the page's nodes must not grow with them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from playwright.sync_api import sync_playwright

from vidfed.cli.terminal import say
from vidfed.desk.work.whole_cases import REQUEST, Request, WholeCases
from vidfed.federation.lookup.question import Item
from vidfed.index import Algorithm
from vidfed.security.member.kit import Kit
from vidfed.synthetic.demo import run_quietly
from vidfed.synthetic.federation import LocalFederation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

CHROMIUM = os.environ.get("VIDFED_CHROMIUM", "/usr/bin/chromium")
MEMBERS = ("br", "fr", "nl")
SERIES = 500
PAGES = {"first page": "", "filtered by evidence": "?evidence=near", "by member and series": "?member=fr&series=Series+7",
         "grouped by record": "?by=reference", "grouped by series": "?by=series", "deep page": "?after={deep}.0"}  # fmt: skip
MAX_ROWS = 200
MAX_PAGE_S = 5.0
GROWTH = 1.25
"""So much more memory of the desk a seizure ten times as large may take, beside a fixed amount for caches of the database."""
CACHES_MIB = 24


class Taken(NamedTuple):
    """What a seizure took: seconds, peak of the desk's memory, the page's heap and its nodes."""

    items: int
    seconds: float
    desk_mib: float
    heap_mib: float
    nodes: int


@click.command()
@click.option("--hits", default=10_000, show_default=True, help="Hits of the result that is paged.")
@click.option("--items", "sizes", multiple=True, type=int, default=(10_000, 100_000), show_default=True, help="Seizures that are asked.")
def main(hits: int, sizes: tuple[int, ...]) -> None:
    """Measure, and fail if a page is too large or memory grows."""
    with tempfile.TemporaryDirectory() as folder, LocalFederation(Path(folder), run_quietly) as federation:
        federation.create({"nl": "Unit NL"})
        federation.start("nl", service="unit")
        kit = Path(folder) / "kit"
        federation.issue_kit("nl", kit)
        good = _pages(kit, hits)
        taken = [_seizure(kit, Path(folder), size) for size in sorted(sizes)]
    for each in taken:
        say(
            f"{each.items:>9,} items asked in {each.seconds:6.1f} s: desk {each.desk_mib:6.1f} MiB at most, "
            f"page {each.heap_mib:5.1f} MiB of JavaScript, {each.nodes:,} nodes"
        )
    small, large = taken[0], taken[-1]
    constant = large.desk_mib <= small.desk_mib * GROWTH + CACHES_MIB and large.nodes <= small.nodes + MAX_ROWS
    say("PASSED" if good and constant else "FAILED: a page is too large or slow, or memory grows with the seizure")
    if not (good and constant):
        raise SystemExit(1)


def _pages(kit: Path, hits: int) -> bool:
    """Time the pages of one large result, of a desk of its own, in a browser."""
    case, good = _result(kit, hits), True
    with _opened(kit) as (_, page):
        base = page.url.rstrip("/")
        for name, query in PAGES.items():
            start = time.perf_counter()
            page.goto(f"{base}/whole-cases/{case}{query.format(deep=hits - 2 * MAX_ROWS)}")
            seconds = time.perf_counter() - start
            rows = page.locator("[aria-labelledby=hits] tbody tr").count()
            kib = len(page.content()) / 1024
            say(f"{name:>24}: {seconds * 1000:7.1f} ms, {rows:>4} rows, {kib:7.1f} KiB")
            good &= 0 < rows <= MAX_ROWS and seconds < MAX_PAGE_S
    return good


def _result(kit: Path, hits: int) -> str:
    """Write a result as a run of the desk does: each item has one hit."""
    why = Request("/seized.csv", True, "BENCH-1", "identification", "a law", "child-sexual-abuse", False, (), 1_790_000_000_000)
    folder = kit / "desk/whole-cases/bench"
    folder.mkdir(parents=True)
    (folder / REQUEST).write_text(json.dumps(asdict(why)))
    case = WholeCases(folder.parent, Kit(kit)).get("bench")
    store = case.open()
    store.members(MEMBERS)
    store.add((number, Item(f"{number}.jpg", {Algorithm.SHA256: (number.to_bytes(32, "big"),)})) for number in range(1, hits + 1))
    numbers = range(1, hits + 1)
    for place, member in enumerate(MEMBERS):
        store.keep(member, numbers, [(number, _hit(number, member)) for number in numbers if number % len(MEMBERS) == place], whole=True)
    store.__exit__()
    return case.id


def _hit(number: int, member: str) -> dict[str, Any]:
    filled: dict[str, Any] = {
        "item": number,
        "member": member,
        "reference": f"r-{number}",
        "evidence": "near" if number % 5 else "exact",
        "weak": False,
        "matched_by": ["PDQ 6"],
        "victim_identified": "yes" if number % 7 == 0 else "unknown",
        "offender_identified": "unknown",
        "series": f"Series {number % SERIES}",
        "case_reference": f"c-{number % 97}",
        "case_contact": "desk@unit.example",
        "handling_code": "H1",
        "superseded": None,
    }
    empty = ("category", "category_scale", "category_region", "handling_note", "source_grading", "information_grading")
    return filled | dict.fromkeys(empty, "")


def _seizure(kit: Path, folder: Path, items: int) -> Taken:
    """Ask about a list of so many items at a desk of its own, in a browser."""
    source = folder / f"seized-{items}.csv"
    source.write_text("sha256\n" + "".join(f"{number:064x}\n" for number in range(1, items + 1)))
    with _opened(kit) as (program, page):
        page.get_by_role("link", name="Whole cases").click()
        page.locator("[name=what][value=list]").check()
        page.get_by_label("Where it is").fill(str(source))
        page.get_by_label("Case", exact=True).fill(f"BENCH-{items}")
        page.get_by_label("Legal basis").fill("a law")
        start = time.perf_counter()
        page.get_by_role("button", name="Ask every member").click()
        page.locator(".summary").wait_for(timeout=3_600_000)
        seconds = time.perf_counter() - start
        heap_mib, nodes = _measured(page)
        desk_mib = int(re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{program.pid}/status").read_text())[0]) / 1024
    return Taken(items, seconds, desk_mib, heap_mib, nodes)


def _measured(page: Page) -> tuple[float, int]:
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    return metrics["JSHeapUsedSize"] / 2**20, int(page.evaluate("document.querySelectorAll('*').length"))


@contextlib.contextmanager
def _opened(kit: Path) -> Iterator[tuple[subprocess.Popen[str], Page]]:
    """Start a desk and enter it with a browser."""
    command = [sys.executable, "-m", "vidfed.cli", "desk", "--no-open", "--kit", str(kit)]
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as program,
        sync_playwright() as playwright,
    ):
        assert program.stdout is not None
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        page = browser.new_page()
        page.goto(program.stdout.readline().strip())
        page.wait_for_url("**/")
        yield program, page
        browser.close()
        program.terminate()


if __name__ == "__main__":
    main()
