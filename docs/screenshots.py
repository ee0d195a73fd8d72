"""Makes the pictures of docs/desk from a federation that it starts: python docs/screenshots.py. All in them is synthetic."""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from playwright.sync_api import Page, expect, sync_playwright  # noqa: E402 - after the path

from tests.desk.conftest import CHROMIUM, build_world, entered, running_desk  # noqa: E402
from tests.desk.test_paths import ask_about  # noqa: E402
from vidfed.desk.opening import for_home, for_kit  # noqa: E402
from vidfed.security.member.home import MemberHome  # noqa: E402
from vidfed.security.member.kit import Kit  # noqa: E402

FOLDER = ROOT / "docs/desk"
WIDTH, HEIGHT = 1280, 760
MAX_BYTES = 150_000


def main() -> None:
    """Make them all."""
    FOLDER.mkdir(exist_ok=True)
    look: Any = {"viewport": {"width": WIDTH, "height": HEIGHT}, "color_scheme": "light"}
    with tempfile.TemporaryDirectory() as folder, build_world(Path(folder)) as world, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        with (
            running_desk(for_kit(Kit(world.kits["nl-7"]))) as running,
            entered(browser, running, **look) as page,
        ):
            _keep(page, "ask")
            ask_about(page, world, "exact.png", "smaller.jpg", "unknown.png")
            _keep(page, "answers")
            page.locator("tbody tr").filter(has_text="br").first.get_by_role("link", name="Ask for details").click()
            page.get_by_label("victim identity").check()
            page.get_by_label("Deputy").select_option("nl-8")
            page.get_by_label("Facts for the officer").fill("Found on a seized disk, with 31 others of the same series.")
            page.get_by_role("button", name="Sign, seal and ask").click()
            expect(page.locator("#said-title")).to_be_visible()
        with (
            running_desk(for_kit(Kit(world.kits["br-1"]))) as running,
            entered(browser, running, **look) as page,
        ):
            page.get_by_role("link", name="Requests").click()
            _keep(page, "requests")
            page.locator("tr.entry a").first.click()
            page.get_by_role("combobox", name="Handling").select_option("h1")
            page.get_by_role("combobox", name="Ground of transfer").select_option("member-state")
            page.get_by_role("group", name="Victim").get_by_label("names").fill("A. Example")
            page.get_by_role("button", name="Show what would be released").click()
            page.locator("#preview-box").scroll_into_view_if_needed()
            _keep(page, "preview")
        home = world.federation.places["nl"].folder
        with running_desk(for_home(MemberHome(home))) as running, entered(browser, running, **look) as page:
            _keep(page, "node")
        browser.close()


def _keep(page: Page, name: str) -> None:
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(64, dither=Image.Dither.NONE)
    path = FOLDER / f"{name}.png"
    picture.save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path.relative_to(ROOT)}: {size:,} bytes")
    if size > MAX_BYTES:
        raise SystemExit(f"{path} is larger than {MAX_BYTES:,} bytes")


if __name__ == "__main__":
    main()
