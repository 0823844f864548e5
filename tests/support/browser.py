"""A real browser for tests: Chromium by Playwright, what it sees on a page, and what axe-core finds there."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import axe_playwright_python
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
"""Of the program, in the distributions that have it."""
TIMEOUT_MS = 30_000
WIDTHS_PX = (320, 1_440)
SCHEMES = ("light", "dark")
HEIGHT_PX = 900
MAX_RELOADS = 60
RELOAD_MS = 250
_AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
_ASK_AXE = """async (tags) => (await axe.run(document, {
  runOnly: {type: "tag", values: tags}, resultTypes: ["violations"],
})).violations.flatMap((rule) => rule.nodes.map((node) => `${rule.id}: ${node.target} (${node.failureSummary})`))"""


def find_chromium() -> str | None:
    """Return the path of the installed Chromium; None if there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def running_chromium(path: str) -> Iterator[Browser]:
    """Run a browser without a screen."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Visitor:
    """Somebody with cookies and a page of their own, and what their browser noticed."""

    def __init__(self, browser: Browser, address: str) -> None:
        self.context: BrowserContext = browser.new_context(base_url=address, reduced_motion="reduce")
        self.context.set_default_timeout(TIMEOUT_MS)
        self.address = address
        self.requested: list[str] = []
        """The addresses of all that was asked for."""
        self.complaints: list[str] = []
        """Errors on the console (what the policy refuses among them), and of scripts."""
        self.context.on("request", self._note_request)
        self.context.on("console", self._note_console)
        self.context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        self.page: Page = self.context.new_page()

    def _note_request(self, request: Request) -> None:
        self.requested.append(request.url)

    def _note_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(f"{message.page.url if message.page else ''}: {message.text}")

    def open(self, path: str) -> str:
        """Load a page that must be there. Return what is to be read on it, what is folded in included."""
        answer = self.page.goto(path)
        assert answer is not None
        assert answer.status == 200, (path, answer.status, self.text())
        expect(self.page.locator("[hx-trigger=load]")).to_have_count(0)  # pieces that come after the page
        return self.text()

    def text(self) -> str:
        """Return what is to be read on the page, what is folded in included."""
        return self.page.evaluate("document.body.textContent")

    def sign_in(self, key: str) -> "Visitor":
        """Exchange a key for a session, on the page for it."""
        self.page.goto("/sign-in?anew=1")
        self.page.get_by_label("Key").fill(key)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.get_by_role("button", name="Sign out").wait_for()
        return self

    def send(self, action: str, **fields: str) -> None:
        """Fill the form whose address ends so, which is to be seen, and send it."""
        form = self.page.locator(f"form[action$='{action}']")
        for name, value in fields.items():
            field = form.locator(f"[name={name}]")
            if field.evaluate("field => field.localName") == "select":
                field.select_option(value)
            else:
                field.fill(value)
        form.get_by_role("button").last.click()

    def reload_until(self, *words: str) -> None:
        """Load the page again until one of its rows has these words: what it shows may be a moment behind."""
        for _ in range(MAX_RELOADS):
            rows = self.page.get_by_role("row").all_text_contents()
            if any(all(word in row for word in words) for row in rows):
                return
            self.page.wait_for_timeout(RELOAD_MS)
            self.page.reload()

    def look(self, scheme: Any, width_px: int) -> None:
        """See the page in a colour scheme, on a screen of a width."""
        self.page.set_viewport_size({"width": width_px, "height": HEIGHT_PX})
        self.page.emulate_media(color_scheme=scheme)

    def violations(self) -> list[str]:
        """Return what axe-core finds wrong: WCAG 2.2 A and AA, and its best practices."""
        if not self.page.evaluate("typeof axe === 'object'"):
            self.page.evaluate(_AXE)
        found: list[str] = self.page.evaluate(_ASK_AXE, _RULES)
        return found

    def elsewhere(self) -> list[str]:
        """Return the addresses that were asked for and are not the gateway's own."""
        return [url for url in self.requested if not url.startswith((f"{self.address}/", "data:"))]
