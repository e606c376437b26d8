"""`python -m tests.browser.screenshots FOLDER`: every page in light and dark, for docs/console."""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from tests.browser import tab as chromium
from tests.browser.forest import Forest, ledger_when
from tests.browser.pages import PAGES, Shown

HEIGHT_MAX = 1_400
PHONE = (390, 844)
COLOURS = 224
BYTES_MAX = 250_000
"""A spectrogram is noise, and noise does not shrink."""
TOTAL_BYTES_MAX = 2_500_000


def main() -> int:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/console")
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="echo-ingest-") as scratch,
        sync_playwright() as playwright,
    ):
        forest = Forest(Path(scratch), bulk=False)
        browser = chromium.start(playwright)
        try:
            forest.start(requests_per_minute=1)
            ledger_when(forest.harness, "objects", backlog=0)
            for name, shown in PAGES.items():
                for dark in (False, True):
                    shoot(browser, forest, shown, folder / f"{name}-{scheme(dark)}.png", dark=dark)
            for name, dark in (("overview", False), ("calls", True)):
                path = folder / f"{name}-phone-{scheme(dark)}.png"
                shoot(browser, forest, PAGES[name], path, dark=dark, size=PHONE, pixels=2)
        finally:
            browser.close()
            forest.close()
    return weigh(folder)


def scheme(dark: bool) -> str:
    return "dark" if dark else "light"


def shoot(
    browser: Browser,
    forest: Forest,
    shown: Shown,
    path: Path,
    *,
    dark: bool,
    size: tuple[int, int] = chromium.WIDE,
    pixels: float = 1,
) -> None:
    """Take the page from its top, with its whole length up to a limit."""
    with chromium.tab(browser, forest.origin, dark=dark, size=size, pixels=pixels) as one:
        one.open(shown.address(forest))
        height = min(one.page.evaluate("document.documentElement.scrollHeight"), HEIGHT_MAX)
        one.page.set_viewport_size({"width": size[0], "height": height})
        one.page.wait_for_timeout(400)  # what depends on the size is drawn anew
        shot = Image.open(io.BytesIO(one.page.screenshot()))
    # Flat colours and text: a palette is a third of the size, and nobody sees it.
    shot.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


def weigh(folder: Path) -> int:
    """Print how large the pictures are; return 1 if that is too large for a repository."""
    sizes = {path.name: path.stat().st_size for path in sorted(folder.glob("*.png"))}
    for name, size_bytes in sizes.items():
        print(f"{name:32} {size_bytes / 1e3:6.0f} kB")
    print(f"screenshots={len(sizes)} total_kb={sum(sizes.values()) / 1e3:.0f}")
    too_large = max(sizes.values()) > BYTES_MAX or sum(sizes.values()) > TOTAL_BYTES_MAX
    return int(too_large)


if __name__ == "__main__":
    sys.exit(main())
