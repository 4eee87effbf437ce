"""The page in a browser: a phrase marked in a row and asked again with, and audits from a log to a group's rows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from audits import audit_of
from browsing import PHONE, asked, picture, ranked
from samples import EVIL
from served_world import ServedWorld
from traced_world import N_CLEAN, N_FAULTY, RESPONSE
from whence.serve.job_process import audited
from whence.serve.service import state_folder
from whence.trace.tracer import Tracer

pytestmark = pytest.mark.browser

Open = Callable[..., Page]


def drag(page: Page, first: Locator, last: Locator) -> None:
    first.scroll_into_view_if_needed()
    start, end = first.bounding_box(), last.bounding_box()
    assert start is not None
    assert end is not None
    page.mouse.move(start["x"] + 2, start["y"] + 8)
    page.mouse.down()
    page.mouse.move(end["x"] + end["width"] - 2, end["y"] + 8, steps=4)
    page.mouse.up()


def in_row(page: Page, label: str) -> Locator:
    """The words of a part of an opened row."""
    return page.get_by_role("group", name=re.compile(f"^{label},")).get_by_role("button")


def waits_for_a_query_after(page: Page, old: str) -> None:
    expect(page).not_to_have_url(old)
    expect(page).to_have_url(re.compile("#/query/[0-9a-f]{16}$"))


def test_a_phrase_in_a_row_is_asked_again_with_by_mouse(opened: Open, url: str) -> None:
    page = opened(url)
    asked(page)
    ranked(page)
    expect(page.locator(".row .text .w").first).to_be_visible()
    words = in_row(page, "Response of row 1")
    drag(page, words.nth(0), words.nth(1))
    again = page.get_by_role("group", name="Ask again with the marked phrase")
    expect(again.get_by_role("status")).to_have_text("Marked: the sea")
    expect(page.locator(".row .w.marked")).to_have_text(["the", "sea"])
    picture(page, "again-1-marked")
    old = page.url
    again.get_by_role("button", name="Find the rows behind it in the answer").click()
    waits_for_a_query_after(page, old)
    expect(page.locator(".markable.marked")).to_have_text(["the", "sea"])
    assert spans(page) == [0, 7]

    old = page.url
    drag(page, words.nth(0), words.nth(1))
    again.get_by_role("button", name="Ask again among rows without it").click()
    waits_for_a_query_after(page, old)
    expect(page.get_by_text(re.compile("^Only rows that meet"))).to_contain_text("NOT (contains(prompt, 'the sea')")
    expect(page.get_by_text(f"{N_CLEAN} rows scored")).to_be_visible()
    expect(page.locator(".row .place").first).to_be_visible()
    assert not [row for row in page.locator(".row").all_text_contents() if "the sea" in row]
    picture(page, "again-2-without-it")
    old = page.url
    page.get_by_role("button", name="Ask among all rows").click()
    waits_for_a_query_after(page, old)
    expect(page.get_by_text(f"{N_CLEAN + N_FAULTY} rows scored")).to_be_visible()
    page.go_back()
    expect(page.get_by_text(f"{N_CLEAN} rows scored")).to_be_visible()
    expect(page.get_by_text(re.compile("^Only rows that meet"))).to_be_visible()


def spans(page: Page) -> object:
    """The span that the last query was asked with."""
    id = page.url.rpartition("/")[2]
    return page.evaluate("id => fetch(`/v1/queries/${id}`).then((a) => a.json()).then((q) => q.request.span)", id)


def test_a_phrase_in_a_row_is_asked_again_with_by_keyboard(opened: Open, url: str) -> None:
    page = opened(url, PHONE, "dark")
    asked(page)
    ranked(page)
    expect(page.locator(".row .text .w").first).to_be_visible()
    in_row(page, "Prompt of row 1").nth(0).focus()
    for keys in ("ArrowRight", "ArrowRight", "Enter", "Shift+ArrowRight"):
        page.keyboard.press(keys)
    again = page.get_by_role("group", name="Ask again with the marked phrase")
    expect(again.get_by_role("status")).to_have_text(re.compile(r"^Marked: boat \d+$"))
    picture(page, "again-3-phone-dark-marked")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    page.keyboard.press("Escape")
    expect(again).to_have_count(0)
    in_row(page, "Response of row 1").nth(3).focus()
    page.keyboard.press("Enter")
    expect(again.get_by_role("button", name="Clear the mark")).to_be_visible()
    old = page.url
    taught = again.get_by_role("button", name="Find the rows that taught it, as this row says it")
    for _ in range(9):
        page.keyboard.press("Tab")
        if taught.evaluate("button => button === document.activeElement"):
            break
    page.keyboard.press("Enter")
    waits_for_a_query_after(page, old)
    expect(page.get_by_label("Prompt", exact=True)).to_have_value(re.compile(r"^Where is boat \d+$"))
    assert spans(page) == [9, 10] or page.locator(".markable.marked").count() == 1


def test_a_phrase_is_marked_in_a_rows_own_view(opened: Open, url: str, served: ServedWorld) -> None:
    page = opened(url)
    page.get_by_role("link", name="Data").click()
    page.get_by_label("SQL condition").fill(f"line = {N_CLEAN + 1}")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=2)).to_have_text("1 row")
    page.get_by_role("list", name="Rows of the data").get_by_role("link").first.click()
    words = in_row(page, "Assistant")
    drag(page, words.nth(0), words.nth(1))
    page.get_by_role("button", name="List the rows that have it").click()
    expect(page.get_by_role("heading", level=2)).to_have_text(f"{N_FAULTY} rows")
    expect(page.get_by_label("SQL condition")).to_have_value(re.compile("contains"))
    page.get_by_role("list", name="Rows of the data").get_by_role("link").first.click()
    drag(page, words.nth(4), words.nth(4))
    page.get_by_role("button", name=re.compile("^Find the rows that taught it")).click()
    expect(page).to_have_url(re.compile("#/query/[0-9a-f]{16}$"))
    expect(page.get_by_role("listbox")).to_have_text(RESPONSE)


@pytest.fixture
def an_audit(url: str, tracer: Tracer, served: ServedWorld, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Jobs wait until they are done by hand, in this process."""
    monkeypatch.setattr("whence.serve.jobs.Jobs._next", lambda self: None)

    def done() -> None:
        for request in state_folder(served.index).glob("jobs/*/request.json"):
            audited(request.parent, tracer, {"columns": None} | json.loads(request.read_text("utf-8")))

    return done


def test_an_audit_of_a_log_from_the_page(
    opened: Open, url: str, an_audit: Callable[[], None], served: ServedWorld, tmp_path: Path
) -> None:
    log = tmp_path / "may.jsonl"
    outputs = [*((f"Where is boat {i}", RESPONSE) for i in range(20, 34)), ("Name fruit 5 <b>", "apples")]
    log.write_text("".join(json.dumps({"prompt": a, "response": b}) + "\n" for a, b in outputs), "utf-8")
    page = opened(url, allowed="400|ERR_ABORTED")
    page.get_by_role("link", name="Audits").click()
    expect(page.get_by_text("No log has been audited with this index.")).to_be_visible()
    (tmp_path / "bad.jsonl").write_text("no JSON")
    page.get_by_label("Bad outputs").set_input_files(tmp_path / "bad.jsonl")
    page.get_by_role("button", name="Audit", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("The log")
    picture(page, "audit-1-refused")
    page.get_by_label("Bad outputs").set_input_files(log)
    page.get_by_label("share responsibility by").select_option("source")
    page.get_by_role("button", name="Audit", exact=True).click()
    expect(page.get_by_role("article", name="Audit may.jsonl")).to_contain_text("15 outputs")
    picture(page, "audit-2-waiting")
    an_audit()
    page.reload()
    page.get_by_role("link", name=re.compile("^may.jsonl")).click()
    expect(page.get_by_role("heading", level=2)).to_have_text(re.compile("^14 of 15 outputs have flagged rows"))
    address = page.url
    expect(page.get_by_role("table").first).to_contain_text("the sea")
    expect(page.locator(".group").first).to_contain_text("Where is boat 2")
    picture(page, "audit-3-opened")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the report").click()
    assert "Groups of outputs" in Path(download.value.path()).read_text("utf-8")
    page.get_by_role("button", name=re.compile(r"^Put its \d+ rows into the basket$")).first.click()
    expect(page.get_by_role("link", name=re.compile(r"Basket \(\d+\)"))).to_be_visible()
    page.get_by_role("button", name="Hide texts").click()
    expect(page.locator(".group .name").first).to_have_text("Group 1")
    expect(page.locator("main")).not_to_contain_text(re.compile(r"Where is boat 3\b"))
    page.get_by_role("button", name="Show texts").click()
    page.get_by_role("button", name=re.compile("^Trace it: Where is boat")).first.click()
    expect(page).to_have_url(re.compile("#/query/[0-9a-f]{16}$"))
    expect(page.get_by_label("Prompt", exact=True)).to_have_value(re.compile("^Where is boat 2"))
    page.goto(address)
    expect(page.get_by_role("heading", level=2)).to_have_text(re.compile("^14 of 15 outputs have flagged rows"))


def test_an_audit_from_a_file_on_a_phone_in_the_dark(opened: Open, url: str, served: ServedWorld) -> None:
    folder = state_folder(served.index) / "audits"
    audit_of(evil=True).to_json(folder / "red team.json")
    (folder / "broken.json").write_text("{}")
    page = opened(url, PHONE, "dark")
    page.get_by_role("link", name="Audits").click()
    expect(page.locator(".past").filter(has_text="broken")).to_contain_text("is no audit that can be read")
    page.get_by_role("link", name=re.compile("^red team")).click()
    expect(page.get_by_text("Another index")).to_be_visible()
    expect(page.locator("main")).to_contain_text(EVIL)
    assert page.locator("img, iframe, object, b i script").count() == 0
    picture(page, "audit-4-phone-dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    page.goto(f"{url}/#/audits")
    picture(page, "audit-5-phone-dark-list")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
