"""The console of a center in a real browser: every page in both languages and two sizes; by mouse and by keyboard only.

usage: browser.py ADDRESS TOKEN SOME OLD NEW

TOKEN may everything; SOME may read and enrol at `xing1`. The card OLD is that of holder 08193021 and opens the gate of `xing1`, which is
there; `xing2` never is. The test that starts this is asked by a line: `present` (OLD is presented at the gate; the answer has the
reason), `alarm` (OLD, which is dead by then, is presented at a door), `away` and `back` (the gateway ends and is started again).
"""

import re
import sys
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

from playwright.sync_api import expect

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).parent.parent / "support"))
from chromium import LANGUAGES, LOG_IN, LOG_OUT, SIZES, Window, go_to, request, run, tab_to

ADDRESS, TOKEN, SOME, OLD, NEW = sys.argv[1:6]
HOLDER = "08193021"
PAGES = ["gateways", "card", "change", "sheet"]
TITLES = {
    "en": {"gateways": "Gateways", "card": "Cards", "change": "Change", "sheet": "List"},
    "zh": {"gateways": "网关", "card": "查卡", "change": "变更", "sheet": "名单"},
}
SAME = {"en": "same list as here", "zh": "与中心一致"}
IN_FORCE = {"en": "in force", "zh": "已生效"}
WAITING = {"en": "waiting", "zh": "等待中"}


class Console(Window):
    """The console of the center."""

    def __init__(self, browser, language, size, theme="light"):
        super().__init__(browser, ADDRESS, TITLES, language, size, theme)

    def log_in(self, token=TOKEN, name="Li Wei"):
        super().log_in(token, name)

    def published(self):
        """How many messages were published to `xing1` by each stream."""
        of = self.page.evaluate("fetch('/v1/gateways/xing1').then((answer) => answer.json())")
        return {one["stream"]: one["seq"] for one in of["published"]}

    def form(self, name):
        return self.page.locator(f"form[data-form={name}]")

    def confirm(self):
        self.page.get_by_role("dialog").locator("button[type=submit]").click()

    def at(self, gateway):
        """What has come of the newest order at a gateway."""
        return self.page.locator(".order").first.locator(f"[data-gateway={gateway}]")


def every_page(browser):
    """Each page in both languages, two sizes and two themes; without a login there is only the login."""
    for number, (language, size) in enumerate((language, size) for language in LANGUAGES for size in SIZES):
        theme = ["light", "dark"][number % 2]
        console = Console(browser, language, size, theme)
        for name in PAGES:
            page = console.open(name)
            expect(page.get_by_role("main").get_by_role("button", name=LOG_IN[language])).to_be_visible()
            console.check(f"{name}, logged out")
        console.log_in()
        for name in PAGES:
            page = console.open(name)
            assert page.evaluate("document.documentElement.lang") == {"en": "en", "zh": "zh-CN"}[language]
            assert TITLES[language][name] in page.title(), page.title()
            if name == "gateways":
                expect(page.locator("[data-gateway=xing1] [data-stream=card-office]")).to_contain_text(SAME[language])
                expect(page.locator("[data-gateway=xing2]")).to_contain_text({"en": "offline", "zh": "离线"}[language])
                expect(page.locator("[data-gateway=xing2]")).to_contain_text({"en": "1 changes not acknowledged", "zh": "1 项未确认"}[language])
            if name == "card":
                page.locator("input[name=text]").fill("1e:a6:86:71")
                page.keyboard.press("Enter")
                expect(page.locator(f"[data-uid='{OLD}']")).to_contain_text(HOLDER)
            console.check(name)
            if (language, size) in [("en", "screen"), ("zh", "phone")]:
                console.picture(f"center-{name}-{language}-{size}")
        other = {"en": "zh", "zh": "en"}[language]
        page.get_by_role("button", name={"zh": "中文", "en": "English"}[other]).click()
        expect(page.get_by_role("heading", level=2).first).to_have_text(TITLES[other]["sheet"])
        console.check("the other language")
        page.get_by_role("button", name=LOG_OUT[other]).click()
        expect(page.get_by_role("main").get_by_role("button", name=LOG_IN[other])).to_be_visible()
        console.close()


def keyboard_only(browser):
    """A card is reissued without a mouse, and the page shows where that is in force."""
    console = Console(browser, "en", "screen")
    page = console.open("gateways")
    tab_to(page, "header button", LOG_IN["en"])
    page.keyboard.press("Enter")
    page.keyboard.type("Li Wei")
    page.keyboard.press("Tab")
    page.keyboard.type(f"{TOKEN}\n")
    expect(page.get_by_role("button", name=LOG_OUT["en"])).to_be_visible()
    # Backwards, since the first page is shown already.
    for name in reversed(PAGES):
        go_to(page, name)
        console.reaches_all(name)
    assert request("present") == ["granted"]
    go_to(page, "card")
    expect(page.locator("input[name=text]")).to_be_focused()
    page.keyboard.type(f"{HOLDER}\n")
    tab_to(page, f"a[href='#/change/reissue/{HOLDER}/{OLD}']")
    page.keyboard.press("Enter")
    # The holder and the old card are there already; the focus is where the new one is read.
    expect(console.form("reissue").locator("input[name=new_uid]")).to_be_focused()
    page.keyboard.type(f"{NEW}\n")
    expect(page.get_by_role("dialog")).to_contain_text("Every earlier card of the holder is dead")
    console.check("the question before a reissue")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    before = console.published()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    tab_to(page, "dialog button[type=submit]")
    page.keyboard.press("Enter")
    expect(console.at("xing1")).to_contain_text(IN_FORCE["en"])
    expect(console.at("xing2")).to_contain_text(WAITING["en"])
    expect(page.locator(".order")).to_contain_text("1 of 2 gateways")
    assert console.published()["card-office"] == before["card-office"] + 1
    assert request("present") == ["replaced"]
    console.check("a reissue")
    console.picture("center-reissue-en-screen")
    # The dead card: where, since when; and where it was tried.
    go_to(page, "card")
    expect(page.locator("input[name=text]")).to_be_focused()
    page.keyboard.type(f"{OLD}\n")
    tab_to(page, f"[data-uid='{OLD}'] summary", "Where it is dead, since when")
    page.keyboard.press("Enter")
    expect(page.locator(f"[data-uid='{OLD}'] [data-gateway=xing1]")).to_contain_text("dead")
    expect(page.locator(f"[data-uid='{OLD}'] [data-gateway=xing2]")).to_contain_text("not known yet")
    tab_to(page, f"[data-uid='{OLD}'] summary", "Where it was tried")
    page.keyboard.press("Enter")
    expect(page.locator(f"[data-uid='{OLD}']")).to_contain_text("gate-in")
    console.check("a dead card")
    console.close()


def once(browser):
    """A double click is one change, and so is what is sent again because its answer was lost."""
    console = Console(browser, "zh", "phone")
    page = console.open("change")
    console.log_in(name="李伟")
    form = console.form("enrol")
    before = console.published()

    def fill(uid, door):
        form.locator("input[name=uid]").fill(uid)
        form.locator("input[name=holder]").fill(HOLDER)
        form.locator("input[name=gate]").fill("*")
        form.locator("input[name=door]").fill(door)
        form.locator("select[name=gateway]").select_option("xing1")

    fill(NEW, "412，413")
    form.locator("button[type=submit]").dblclick()
    page.get_by_role("dialog").last.locator("button[type=submit]").dblclick()
    expect(console.at("xing1")).to_contain_text(IN_FORCE["zh"])
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert console.published() == {**before, "apartment": before["apartment"] + 1}, console.published()
    expect(form.locator("input[name=uid]")).to_have_value("")
    console.check("an enrolment")

    # The center takes the change, and the answer is lost on the way.
    def lose(route):
        route.fetch()
        route.abort()

    page.route("**/v1/changes", lose, times=1)
    fill(NEW, "412")
    form.locator("button[type=submit]").click()
    console.confirm()
    expect(form.locator(".wrong")).to_contain_text("再次提交仍是同一变更")
    console.passing("ERR_FAILED")
    console.check("a lost answer")
    form.locator("button[type=submit]").click()
    console.confirm()
    expect(page.locator(".order")).to_have_count(2)
    expect(console.at("xing1")).to_contain_text(IN_FORCE["zh"])
    assert console.published() == {**before, "apartment": before["apartment"] + 2}, console.published()
    # Asked for once more it is a change of its own.
    fill(NEW, "412")
    form.locator("button[type=submit]").click()
    console.confirm()
    expect(page.locator(".order")).to_have_count(3)
    assert console.published()["apartment"] == before["apartment"] + 3, console.published()
    console.close()


def wrong_input(browser):
    """What is wrong is shown at its field with what to do, in both languages, and nothing is changed."""
    for language in LANGUAGES:
        console = Console(browser, language, "screen")
        page = console.open("change")
        console.log_in()
        before = console.published()
        for name, fields, at, part in [
            ("reissue", {}, "holder", {"en": "This is needed", "zh": "此项必填"}),
            ("reissue", {"holder": HOLDER, "new_uid": "12"}, "new_uid", {"en": "no card UID", "zh": "不是卡号"}),
            ("reissue", {"holder": HOLDER, "new_uid": NEW, "old_uid": "tea"}, "old_uid", {"en": "no card UID", "zh": "不是卡号"}),
            ("reissue", {"holder": HOLDER, "new_uid": "08112233"}, "new_uid", {"en": "random", "zh": "随机号"}),
            ("reissue", {"holder": "a b", "new_uid": NEW}, "holder", {"en": "holder", "zh": "填写有误"}),
            ("standing", {"uid": "zz"}, "uid", {"en": "no card UID", "zh": "不是卡号"}),
            ("enrol", {"uid": NEW}, "holder", {"en": "This is needed", "zh": "此项必填"}),
            ("enrol", {"uid": NEW, "holder": HOLDER}, "gate", {"en": "This is needed", "zh": "此项必填"}),
            ("enrol", {"uid": NEW, "holder": HOLDER, "gate": "*", "door": "4/12"}, "door", {"en": "zone", "zh": "填写有误"}),
            ("reissue", {"holder": HOLDER, "new_uid": NEW, "old_uid": NEW}, "old_uid", {"en": "the new card", "zh": "与新卡号相同"}),
            ("reissue", {"holder": "09", "new_uid": NEW, "old_uid": OLD}, "old_uid", {"en": "another holder's", "zh": "另一持卡人"}),
            ("enrol", {"uid": NEW, "holder": HOLDER, "gate": "*", "not_after": "2020-01-01T00:00"}, "not_after", {"en": "has passed", "zh": "已过"}),
            ("withdraw", {"uid": "1234567"}, "uid", {"en": "no card UID", "zh": "不是卡号"}),
        ]:
            form = console.form(name)
            for field, value in fields.items():
                form.locator(f"[name={field}]").fill(value)
            form.locator("button[type=submit]").click()
            if "needed" not in part["en"]:
                console.confirm()
            wrong = form.locator(".wrong")
            expect(wrong).to_contain_text(part[language])
            expect(form.locator(f"[name={at}]")).to_be_focused()
            assert form.locator(f"[name={at}]").get_attribute("aria-describedby") == wrong.get_attribute("id"), (name, fields)
            console.passing("400 (Bad Request)")
            console.check(f"{name} {fields}")
            for field in fields:
                form.locator(f"[name={field}]").fill("")
        # An end of which a part is missing is no enrolment without an end.
        form = console.form("enrol")
        for field, value in {"uid": NEW, "holder": HOLDER, "gate": "*"}.items():
            form.locator(f"[name={field}]").fill(value)
        end = form.locator("[name=not_after]")
        end.press_sequentially("12312026" if language == "en" else "2026")
        form.locator("button[type=submit]").click()
        expect(form.locator(".wrong")).to_contain_text({"en": "not complete", "zh": "未填完整"}[language])
        expect(end).to_be_focused()
        expect(page.get_by_role("dialog")).to_have_count(0)
        console.check("a date that is not complete")
        assert console.published() == before, console.published()
        # A text that names nothing, and one that cannot.
        page = console.open("card")
        for text, part in [("h-9", {"en": "Nothing was published", "zh": "没有关于"}), ("a/b?", {"en": "neither a card nor a holder", "zh": "既不是卡号"})]:
            page.locator("input[name=text]").fill(text)
            page.keyboard.press("Enter")
            expect(page.locator("main .said")).to_contain_text(part[language])
        console.passing("400 (Bad Request)")
        console.close()


def a_list(browser):
    """A sheet is refused line by line, shown as a plan, and sent once it was confirmed."""
    console = Console(browser, "en", "screen")
    page = console.open("sheet")
    console.log_in()
    before = console.published()
    form = page.locator("form.change")
    form.locator("select[name=gateway]").select_option("xing1")
    form.locator("button[type=submit]").click()
    expect(form.locator(".wrong")).to_contain_text("This is needed")
    with tempfile.TemporaryDirectory() as place:
        sheet = Path(place) / "cards.csv"
        for text, part in [
            ("uid,holder,gate\n1.23E+09,h1,*\n", "line 2"),
            ("", "the file is empty"),
            (f"物理卡号,学号,闸机,电话\n{NEW},{HOLDER},*,1\n", "no column has this name"),
        ]:
            sheet.write_text(text, encoding="utf-8")
            form.locator("input[name=file]").set_input_files(sheet)
            form.locator("button[type=submit]").click()
            expect(form.locator(".wrong")).to_contain_text(part)
            expect(page.locator("tbody tr")).to_have_count(1)
            console.passing("400 (Bad Request)")
            console.check(f"a sheet that is wrong: {part}")
        form.locator("input[name=ignore]").fill("电话")
        form.locator("button[type=submit]").click()
        expect(page.locator("[data-count=updated]")).to_have_text("1 updated")
        expect(page.locator("tbody tr", has_text=NEW)).to_contain_text("door 412")
        console.check("a plan")
        # It withdraws one card of two: refused until that was permitted.
        expect(page.locator("[data-count=withdrawn]")).to_have_text("1 withdrawn")
        page.get_by_role("button", name="Send the list").click()
        console.confirm()
        expect(form.locator(".wrong")).to_contain_text("more than 30 %")
        console.passing("409 (Conflict)")
        assert console.published() == before
        form.locator("input[name=allow_shrink]").check()
        expect(page.locator("tbody tr")).to_have_count(0)
        form.locator("button[type=submit]").click()
        expect(page.locator("tbody tr")).to_have_count(2)
        console.picture("center-plan-en-screen")
        page.get_by_role("button", name="Send the list").dblclick()
        console.confirm()
        expect(console.at("xing1")).to_contain_text(IN_FORCE["en"])
        assert console.published() == {**before, "apartment": before["apartment"] + 1}
    console.close()


def what_is_wrong_with_a_sheet(browser):
    """In Chinese each fault of a sheet is Chinese, and no remedy is an option of the command line."""
    console = Console(browser, "zh", "screen")
    page = console.open("sheet")
    console.log_in()
    form = page.locator("form.change")
    form.locator("select[name=gateway]").select_option("xing1")
    rows = [
        "1.23E+09,h1,*,,", ",h1,*,,", "1EA68671,a b,*,,", "1EA68672,h1,yes,,", "1EA68673,h1,4月12日,,", "１EA68674,h1,*,,", "08112233,h1,*,,",
        "123456,h1,*,,", "tea,h1,*,,", "1EA68675,h1,*,chef,", "1EA68676,h1,*,,soon", "1EA68677,h1,,,", "1EA68678,h1,*", "1EA68679,h1,*,,45000",
        "1EA6867A,h1,*,,", "1EA6867A,h1,*,,",
    ]
    with tempfile.TemporaryDirectory() as place:
        sheet = Path(place) / "cards.csv"
        for head, faults in [("uid,holder,gate,role,not_after", 14), ("uid,name,gate,role,name", 14)]:
            sheet.write_text("\n".join([head, *rows]), encoding="utf-8")
            form.locator("input[name=file]").set_input_files(sheet)
            form.locator("button[type=submit]").click()
            # The first is in the sentence at the form too.
            expect(form.locator(".wrong")).to_contain_text("行")
            texts = page.locator("tbody tr td:last-child").all_text_contents()
            assert len(texts) >= faults, texts
            for text in [*texts, form.locator(".wrong").text_content()]:
                assert re.search("[\u4e00-\u9fff]", text) and not re.search("--|[a-z]{3,} [a-z]+ [a-z]{3,}", text), text
                assert "请更正姓名" not in text, text
            console.passing("400 (Bad Request)")
    console.check("a sheet that is wrong")
    console.close()


def many_tabs(browser):
    """A browser has six connections for one server. Pages that nobody sees leave theirs; one that is shown again has missed nothing."""
    console = Console(browser, "en", "screen")
    first = console.open("gateways")
    console.log_in()
    pages = console.tabs(7, "gateways")
    expect(pages[-1].locator("[data-gateway=xing1]")).to_contain_text("online")
    request("away")
    expect(pages[-1].locator("[data-gateway=xing1]")).to_contain_text("offline")
    expect(first.locator("[data-gateway=xing1]")).to_contain_text("online")
    console.show(first)
    expect(first.locator("[data-gateway=xing1]")).to_contain_text("offline")
    request("back")
    expect(first.locator("[data-gateway=xing1]")).to_contain_text("online")
    console.close()


def half_filled(browser):
    """What is half filled in stays when the language is changed; a card that was looked up is there again after a reload."""
    console = Console(browser, "en", "screen")
    page = console.open("change")
    console.log_in()
    form = console.form("enrol")
    form.locator("input[name=uid]").fill(NEW)
    form.locator("select[name=role]").select_option("staff")
    form.locator("select[name=gateway]").select_option("xing2")
    page.get_by_role("button", name="中文").click()
    expect(page.get_by_role("heading", level=2).first).to_have_text(TITLES["zh"]["change"])
    expect(form.locator("input[name=uid]")).to_have_value(NEW)
    expect(form.locator("select[name=role]")).to_have_value("staff")
    expect(form.locator("select[name=gateway]")).to_have_value("xing2")
    page.get_by_role("button", name="English").click()
    console.link("card").click()
    page.locator("input[name=text]").fill("1e:a6:86:71")
    page.keyboard.press("Enter")
    expect(page.locator(f"[data-uid='{OLD}']")).to_contain_text(HOLDER)
    page.reload()
    expect(page.locator(f"[data-uid='{OLD}']")).to_contain_text(HOLDER)
    # An address that nothing made.
    for place in ["card/%", "constructor", "toString/1"]:
        page.goto(f"http://{ADDRESS}/#/{place}")
        expect(page.get_by_role("heading", level=2).first).to_have_text(re.compile("Cards|Gateways"))
    console.passing("400 (Bad Request)")
    console.close()


def as_it_happens(browser):
    """An alarm, and a gateway that goes and comes back, come to the page by themselves."""
    console = Console(browser, "en", "phone")
    page = console.open("gateways")
    console.log_in()
    tile = page.locator("[data-gateway=xing1]")
    expect(tile).to_contain_text("online")
    request("alarm")
    expect(page.locator(".alarms > li").first).to_contain_text("A card that was replaced, cancelled or lost")
    console.check("an alarm")
    request("away")
    expect(tile).to_contain_text("offline")
    request("back")
    expect(tile).to_contain_text("online")
    expect(tile.locator("[data-stream=apartment]")).to_contain_text(SAME["en"])
    console.close()


def only_what_it_may(browser):
    """A token that may only enrol at one building has that form only. How old a list is, the clock of this machine does not decide."""
    console = Console(browser, "en", "screen")
    console.page.clock.install(time=datetime.now() + timedelta(days=180))
    page = console.open("change")
    console.log_in(SOME)
    expect(console.form("enrol")).to_be_visible()
    expect(page.locator("form")).to_have_count(1)
    expect(console.form("enrol").locator("select[name=gateway] option")).to_have_text(["xing1"])
    console.link("gateways").click()
    expect(page.locator(".tiles > li")).to_have_count(1)
    expect(page.locator("[data-stream=apartment]")).to_contain_text(re.compile("list [0-9]+ (s|min) old"))
    console.link("sheet").click()
    expect(page.locator("main")).to_contain_text("may not load lists")
    console.check("a token that may little")
    console.close()


run([
    every_page, keyboard_only, once, wrong_input, a_list, what_is_wrong_with_a_sheet, as_it_happens, many_tabs, half_filled,
    only_what_it_may,
])
