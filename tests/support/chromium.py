"""A page of a console in headless Chromium, in which nothing may go wrong unseen. For the tests of both consoles.

A line on stdout asks the test that started the script for something; it answers on stdin. With DORMGATE_SCREENSHOTS=DIR pictures of the
pages are written there, and with DORMGATE_PARTS=NAME,NAME only these parts are done.
"""

import os
import shutil
import sys
from pathlib import Path

import axe_playwright_python
from playwright.sync_api import expect, sync_playwright

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
PICTURES = os.environ.get("DORMGATE_SCREENSHOTS")
# A wait ends with what is waited for; this long only where that does not come.
PATIENCE_MS = int(os.environ.get("PATIENCE_MS", 60_000))
expect.set_options(timeout=PATIENCE_MS)
SIZES = {"phone": (390, 844), "screen": (1280, 800)}
LANGUAGES = {"en": "en-US", "zh": "zh-CN"}
LOG_IN = {"en": "Log in", "zh": "登录"}
LOG_OUT = {"en": "Log out", "zh": "退出"}


def request(what):
    """Has the test do something outside the browser."""
    print(what, flush=True)
    answer, *more = sys.stdin.readline().split()
    assert answer == "done", answer
    return more


class Window:
    """One browser window."""

    def __init__(self, browser, address, titles, language, size, theme="light"):
        width, height = SIZES[size]
        self.context = browser.new_context(
            locale=LANGUAGES[language], viewport={"width": width, "height": height}, color_scheme=theme
        )
        self.context.set_default_timeout(PATIENCE_MS)
        self.address, self.titles = address, titles[language]
        self.language, self.name = language, f"{language}, {size}, {theme}"
        self.page = self.context.new_page()
        self.wrong = []
        self.page.on("pageerror", lambda error: (print(error.stack, file=sys.stderr), self.wrong.append(str(error))))
        self.page.on("console", lambda message: message.type in ("error", "warning") and self.wrong.append(message.text))
        self.page.on("request", lambda sent: sent.url.startswith(f"http://{address}/") or self.wrong.append(sent.url))

    def open(self, name):
        self.page.goto(f"http://{self.address}/#/{name}")
        expect(self.page.get_by_role("heading", level=2).first).to_be_visible()
        expect(self.page.locator("main .said.bad:not(:empty)")).to_have_count(0)
        return self.page

    def link(self, name):
        return self.page.get_by_role("link", name=self.titles[name], exact=True)

    def check(self, what):
        """No errors, and nothing that axe-core finds."""
        assert not self.wrong, f"{self.name}, {what}: {self.wrong}"
        # A finished animation changes no colour any more.
        self.page.evaluate("document.getAnimations().forEach((animation) => animation.finish())")
        found = self.page.evaluate(f"{AXE}; axe.run(document, {{resultTypes: ['violations']}})")["violations"]
        text = [f"{one['id']}: {one['help']}: {node['html'][:200]} {node['failureSummary']}" for one in found for node in one["nodes"]]
        assert not text, f"{self.name}, {what}:\n" + "\n".join(text)
        wide = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{self.name}, {what}: {wide} px wider than the screen"

    def picture(self, name):
        if PICTURES:
            self.page.screenshot(path=f"{PICTURES}/{name}.png")

    def log_in(self, token, name="Li Wei"):
        self.page.get_by_role("banner").get_by_role("button", name=LOG_IN[self.language]).click()
        dialog = self.page.get_by_role("dialog")
        self.check("the login")
        dialog.locator("input[name=name]").fill(name)
        dialog.locator("input[name=token]").fill(token)
        dialog.locator("button[type=submit]").click()
        expect(self.page.get_by_role("button", name=LOG_OUT[self.language])).to_be_visible()

    def reaches_all(self, what):
        """Every control of the page has its turn at the keyboard, with a frame that shows it."""
        wanted = self.page.evaluate("""[...document.querySelectorAll('a[href], button, input, select, summary')]
            .filter((element) => element.checkVisibility()).length""")
        self.page.evaluate("window.reached = new Set(); 0")
        for _ in range(wanted * 2 + 10):
            self.page.keyboard.press("Tab")
            shows = self.page.evaluate("""(() => {
                const element = document.activeElement;
                if (!element || element === document.body || element.matches('.skip')) return true;
                window.reached.add(element);
                return getComputedStyle(element).outlineStyle !== 'none';
            })()""")
            assert shows, f"{what}: a control with the focus does not show it: " + self.page.evaluate("document.activeElement.outerHTML")
        missed = self.page.evaluate("""[...document.querySelectorAll('a[href]:not(.skip), button, input, select, summary')]
            .filter((element) => element.checkVisibility() && !element.disabled && !window.reached.has(element)).map((element) => element.outerHTML)""")
        assert not missed, f"{what}: not reached by the keyboard: {missed}"

    def tabs(self, count, name):
        """That many pages of one browser, of which the last is shown: headless Chromium shows all, so each is made a hidden one."""
        pages = [self.page]
        while len(pages) < count:
            self.hide(pages[-1])
            page = self.context.new_page()
            page.on("pageerror", lambda error: self.wrong.append(str(error)))
            page.goto(f"http://{self.address}/#/{name}")
            expect(page.locator("main section").first).to_be_visible()
            pages.append(page)
        return pages

    def hide(self, page, is_hidden=True):
        page.evaluate("""(hidden) => {
            Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""", is_hidden)

    def show(self, page):
        self.hide(page, False)

    def passing(self, *parts):
        """What the browser logs of something that the test wanted is no error of the page."""
        self.wrong = [text for text in self.wrong if not any(part in text for part in parts)]

    def close(self):
        assert not self.wrong, f"{self.name}: {self.wrong}"
        self.context.close()


def tab_to(page, selector, text=None):
    """Presses Tab until an element has the focus."""
    for _ in range(300):
        found = page.evaluate(
            "([selector, text]) => document.activeElement?.matches(selector) && (!text || document.activeElement.textContent === text)",
            [selector, text],
        )
        if found:
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"`{selector}` is never reached")


def go_to(page, name):
    """Opens another page by its link: it is there when the focus has moved into it."""
    tab_to(page, f"a[href='#/{name}']")
    page.keyboard.press("Enter")
    expect(page.locator("main:focus-within")).to_have_count(1)


def run(parts):
    """Does each part in one browser."""
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium")
        assert chromium, "`chromium` is not installed"
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"])
        wanted = os.environ.get("DORMGATE_PARTS")
        for part in parts if not wanted else [part for part in parts if part.__name__ in wanted.split(",")]:
            part(browser)
            print(f"passed {part.__name__}", file=sys.stderr, flush=True)
        browser.close()
    print("end", flush=True)
