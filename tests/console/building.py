"""The console of a building of some 300 portals in a real browser: what came of an order is in sight, why a card is denied is near, and
what happens elsewhere leaves what a person has begun to fill in.

usage: building.py ADDRESS TOKEN LOST_UID DOOR BOX

The last portals of the list are DOOR and BOX. The test that starts this is asked for something by a line: `present` (a lost card is
presented at DOOR), `away` and `online` (the device of DOOR goes and comes back).
"""

import sys
from pathlib import Path

from playwright.sync_api import expect

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).parent.parent / "support"))
from chromium import Window, request, run

ADDRESS, TOKEN, LOST, DOOR, BOX = sys.argv[1:6]
TITLES = {"en": {"now": "Now", "card": "Card", "doors": "Doors and boxes"}, "zh": {"now": "实时", "card": "查卡", "doors": "门与电源"}}


def console_of(browser, size):
    return Window(browser, ADDRESS, TITLES, "en", size)


def log_in(console):
    """On a page that is short: axe-core takes long for 300 portals, and looks at all that is here in `browser.py`."""
    console.open("card")
    console.log_in(TOKEN)


def doors(console):
    log_in(console)
    console.link("doors").click()
    expect(console.page.locator(".tiles > li")).to_have_count(304)
    return console.page


def what_came_of_an_order(browser):
    """It is in sight where the order was given, at the end of the list on a phone too; the orders to all are before the list."""
    console = console_of(browser, "phone")
    page = doors(console)
    tile = page.locator(f".tiles > [data-key={DOOR}]")
    for part in ["done", "The gateway does not answer"]:
        if part != "done":
            page.route("**/api/v1/orders", lambda route: route.abort(), times=1)
        tile.get_by_role("button", name="Open once").click()
        page.get_by_role("dialog").locator("button[type=submit]").click()
        expect(page.locator("[role=status].said")).to_contain_text(part)
        expect(page.locator("[role=status].said")).to_be_in_viewport(ratio=1)
        expect(tile).to_be_in_viewport()
    console.passing("ERR_FAILED")
    tops = page.evaluate("""[document.querySelector('#every'), document.querySelector('#fire'), document.querySelector('.tiles')]
        .map((element) => element.getBoundingClientRect().top)""")
    assert max(tops[:2]) < tops[2], tops
    console.close()


def why_a_card_is_denied(browser):
    """One click from the denial, two clicks and one typing from anywhere."""
    console = console_of(browser, "screen")
    page = console.open("now")
    request("present")
    # Without a login the UID is masked: it is typed where the link leads.
    page.locator(".feed > li").first.get_by_role("link", name=f"Why: {DOOR}").click()
    expect(page.locator("input[name=text]")).to_be_focused()
    page.keyboard.type(f"{LOST}\n")
    first_says_why(page)
    log_in(console)
    console.link("now").click()
    for place in [".feed > li", f".tiles > [data-key={DOOR}]"]:
        page.locator(place).first.get_by_role("link", name=f"Why: {DOOR}").click()
        first_says_why(page)
        page.go_back()
    console.link("card").click()
    for text in [f"04 a1 b2 c3 d4 e5 f6 {DOOR}", f"{LOST} {DOOR.split('-')[1]}"]:
        page.locator("input[name=text]").fill(text)
        page.keyboard.press("Enter")
        first_says_why(page)
    page.reload()
    first_says_why(page)
    # A name of two hex digits is no byte of the card where the address names it.
    page.goto(f"http://{ADDRESS}/#/card/{LOST}/a1")
    expect(page.locator(".verdicts > li").first).to_have_attribute("data-portal", "a1")
    # Of what a list of the center set there is no place in a message.
    page.route("**/api/v1/card?*", of_a_list)
    page.goto(f"http://{ADDRESS}/#/card/{LOST}/{DOOR}")
    against = page.locator(f".verdicts > li[data-portal={DOOR}] .against", has_text="card-office")
    expect(against).to_contain_text("card-office 3.1042")
    expect(against).not_to_contain_text("4294967295")
    console.close()


def of_a_list(route):
    """The answer of the gateway, as if a snapshot had set all that it names."""
    response = route.fetch()
    answer = response.json()
    for step in (step for verdict in answer["verdicts"] for step in verdict.get("steps", [])):
        if "set_by" in step:
            step["set_by"]["revision"] = [3, 1042, 4294967295]
    route.fulfill(response=response, json=answer)


def first_says_why(page):
    """The verdict of the portal that was asked for is the first of all, and shows why."""
    expect(page.locator(".verdicts > li[data-portal]")).to_have_count(304)
    first = page.locator(".verdicts > li").first
    expect(first).to_have_attribute("data-portal", DOOR)
    expect(first.locator(".against", has_text="card-office")).to_be_in_viewport()


def what_happens_elsewhere(browser):
    """A choice that was not sent yet, and the focus, stay while the tile changes."""
    console = console_of(browser, "screen")
    page = doors(console)
    page.locator(f".tiles > [data-key={BOX}] select").select_option("lockdown")
    tile = page.locator(f".tiles > [data-key={DOOR}]")
    tile.locator("select").select_option("lockdown")
    tile.locator("select").focus()
    request("away")
    expect(tile.locator(".tag", has_text="offline")).to_be_visible()
    expect(tile.locator("select")).to_have_value("lockdown")
    expect(tile.locator("select")).to_be_focused()
    tile.get_by_role("button", name="Set").focus()
    request("online")
    expect(tile.locator(".tag", has_text="offline")).to_have_count(0)
    expect(tile.get_by_role("button", name="Set")).to_be_focused()
    # What was chosen is what is sent; afterwards the tile shows what is in force.
    page.keyboard.press("Enter")
    page.get_by_role("dialog").locator("button[type=submit]").click()
    expect(tile.locator(".tag", has_text="lockdown")).to_be_visible()
    page.get_by_role("button", name="中文").click()
    expect(tile.locator(".tag", has_text="封闭管理")).to_be_visible()
    expect(page.locator(f".tiles > [data-key={BOX}] select")).to_have_value("lockdown")
    console.close()


run([what_came_of_an_order, why_a_card_is_denied, what_happens_elsewhere])
