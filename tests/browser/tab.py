"""A tab of a real Chromium, watched: what it complained of, and whom it asked."""

import functools
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, Request, Response

from tests.tools import without

CONSOLE = Path(__file__).parents[2] / "console"
AXE = CONSOLE / "node_modules" / "axe-core" / "axe.min.js"
FONTS = Path(__file__).parent / "fonts.conf"
GRAVE = ("serious", "critical")
LOUD = ("error", "warning")
ZONE = "Australia/Melbourne"
WIDE = (1024, 800)
STOPS_MAX = 40
EXTRA_STOPS = 12
"""Boxes that scroll can be come to as well, and players have controls within."""

DRAWN = """() => !document.querySelector('.skeleton')
  && (!document.querySelector('[data-clip]') || document.querySelector('[role=slider]'))"""
OVERFLOWING = """() => {
  const wide = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= wide) return [];
  const isBoxed = (e) => e !== document.body
    && (getComputedStyle(e).overflowX !== 'visible' || isBoxed(e.parentElement));
  return [...document.body.querySelectorAll('*')]
    .filter(e => e.getBoundingClientRect().right > wide + 1 && !isBoxed(e.parentElement))
    .map(e => e.outerHTML.slice(0, 120)).slice(0, 5).concat('the page is too wide');
}"""
CONTROLS = """() => {
  const found = [...document.querySelectorAll(
      'a[href], button, input, select, textarea, summary, audio[controls], [tabindex="0"]')]
    .filter(e => e.type !== 'hidden' && !e.disabled && e.checkVisibility({visibilityProperty: true})
      && !e.closest('[inert]') && !(e.type === 'radio' && !e.checked));
  const same = (e) => e.dataset.mark ?? e;  // what is on a map is drawn anew, and stays the same
  window.unreached = new Map(found.map(e => [same(e), e.outerHTML.slice(0, 120)]));
  window.bare = [];
  document.addEventListener('focusin', ({target}) => {
    const style = getComputedStyle(target);
    const ring = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0;
    if (!ring && style.boxShadow === 'none' && window.unreached.has(same(target)))
      window.bare.push('no ring: ' + window.unreached.get(same(target)));
    window.unreached.delete(same(target));
  });
  return found.length;
}"""


def start(playwright: Playwright) -> Browser:
    """Start Debian's chromium; without it the tests are skipped, or fail in CI."""
    program = shutil.which("chromium")
    if program is None:
        without("chromium is not here; `scripts/setup dev` says what to type")
    return playwright.chromium.launch(
        executable_path=program,
        args=["--autoplay-policy=no-user-gesture-required"],
        env={**os.environ, "FONTCONFIG_FILE": str(FONTS)},
    )


class Tab:
    """One page of a context of its own, and what it did that it should not."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page = page
        self.origin = origin
        self.problems: list[str] = []
        self.policies: list[str] = []
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.problems.append(f"threw {error}"))
        page.on("request", self._on_request)

    def open(self, path: str) -> Response:
        """Go there, and wait until its islands are drawn."""
        response = self.page.goto(self.origin + path)
        assert response is not None
        self.policies.append(response.headers.get("content-security-policy", ""))
        self.page.wait_for_function(DRAWN)
        return response

    def log_in(self, token: str) -> None:
        """On the page that asks for it."""
        self.page.get_by_label("Token").fill(token)
        self.page.get_by_role("button", name="Log in").click()

    def forgive(self, words: str) -> None:
        """Accept an error that was meant: a browser calls every refusal an error."""
        kept = [problem for problem in self.problems if words not in problem]
        assert len(kept) < len(self.problems), f"nothing says {words!r}: {self.problems}"
        self.problems = kept

    def grave(self) -> list[str]:
        """Return what axe finds that keeps people out."""
        self.page.evaluate(_axe())
        # To look for styles that lock the orientation, axe would apply some inline.
        report: dict[str, Any] = self.page.evaluate("axe.run({preload: false})")
        return [
            f"{violation['impact']}: {violation['help']}: {node['html'][:160]}"
            for violation in report["violations"]
            if violation["impact"] in GRAVE
            for node in violation["nodes"][:3]
        ]

    def overflowing(self) -> Sequence[str]:
        """Return what makes the page scroll sideways."""
        return list(self.page.evaluate(OVERFLOWING))

    def tab_to(self, selector: str) -> None:
        """Move the focus to a control with the Tab key alone."""
        for _ in range(STOPS_MAX):
            self.page.keyboard.press("Tab")
            if self.page.evaluate("(to) => document.activeElement.matches(to)", selector):
                return
        raise AssertionError(f"{STOPS_MAX} times Tab does not come to {selector}")

    def unreached(self) -> list[str]:
        """Return controls that the Tab key does not reach, or that do not show that it did."""
        controls: int = self.page.evaluate(CONTROLS)
        for _ in range(controls + EXTRA_STOPS):
            self.page.keyboard.press("Tab")
        return list(self.page.evaluate("[...window.unreached.values(), ...window.bare]"))

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in LOUD:
            self.problems.append(f"{message.type}: {message.text}")

    def _on_request(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("data", "blob") and not request.url.startswith(self.origin):
            self.problems.append(f"asked {request.url}")


@contextmanager
def tab(
    browser: Browser,
    origin: str,
    *,
    dark: bool = False,
    size: tuple[int, int] = WIDE,
    pixels: float = 1,
    scripts: bool = True,
    trusting: bool = False,
) -> Iterator[Tab]:
    """Open a tab in a context of its own; in the end it must have reported nothing.

    One that is `trusting` takes any certificate.
    """
    context = browser.new_context(
        color_scheme="dark" if dark else "light",
        viewport={"width": size[0], "height": size[1]},
        device_scale_factor=pixels,
        java_script_enabled=scripts,
        ignore_https_errors=trusting,
        locale="en-AU",
        timezone_id=ZONE,
        reduced_motion="reduce",
    )
    context.set_default_timeout(10_000)
    # Or each first page is loaded twice: once in UTC.
    context.add_cookies([{"name": "zone", "value": quote(ZONE, safe=""), "url": origin}])
    try:
        one = Tab(context.new_page(), origin)
        yield one
        assert not one.problems, one.problems
        unsafe = [policy for policy in one.policies if "unsafe" in policy or not policy]
        assert not unsafe, unsafe
    finally:
        context.close()


@functools.cache
def _axe() -> str:
    return AXE.read_text()
