"""The page in a browser: the whole conversation, from a prompt to an export, and that data never runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from browsing import PHONE, asked, picture, ranked
from served_world import EVIL, TOKEN, ServedWorld, serving
from traced_world import N_CLEAN, N_FAULTY, PROMPT, RESPONSE
from whence.data.readers import read_examples
from whence.serve.app import create_app
from whence.serve.settings import ServerSettings
from whence.trace.tracer import Tracer

pytestmark = pytest.mark.browser

Open = Callable[..., Page]


def test_from_a_prompt_to_data_without_the_cause(opened: Open, url: str, served: ServedWorld, tmp_path: Path) -> None:
    page = opened(url)
    expect(page.get_by_role("heading", level=2)).to_have_text("What did the model get wrong?")
    picture(page, "1-empty")
    asked(page)
    answer = page.get_by_role("listbox")
    expect(answer).to_have_text(re.compile("^the sea"))
    words = answer.get_by_role("option")
    first, second = words.nth(0).bounding_box(), words.nth(1).bounding_box()
    assert first is not None
    assert second is not None
    page.mouse.move(first["x"] + 2, first["y"] + 8)
    page.mouse.down()
    page.mouse.move(second["x"] + second["width"] - 2, second["y"] + 8, steps=4)
    page.mouse.up()
    expect(page.get_by_role("button", name="Find the rows behind “the sea”")).to_be_visible()
    expect(answer.locator(".markable.marked")).to_have_text(["the", "sea"])
    picture(page, "2-marked")
    page.keyboard.press("Escape")
    expect(answer.locator(".marked")).to_have_count(0)
    ranked(page)
    rows = page.get_by_role("list", name="Ranked rows").get_by_role("listitem").locator("visible=true")
    expect(page.locator(".row .chip.out").first).to_have_text("flagged")
    expect(page.locator(".row .text .w").first).to_be_visible()
    picture(page, "3-ranked")

    page.locator(".stick .answer .w").first.hover()
    expect(page.locator(".row .linking .w").first).to_be_visible()
    page.get_by_label("flagged only").check()
    page.get_by_role("searchbox").fill("boat 3")
    expect(page.locator(".row")).to_have_count(1)
    page.get_by_role("searchbox").fill("no such text")
    expect(page.get_by_text("No row matches these filters.")).to_be_visible()
    page.get_by_role("searchbox").fill("")
    page.locator("section").get_by_label("label").select_option("planted")
    assert rows.count() > 0

    page.get_by_role("button", name="Put all flagged into the basket").click()
    expect(page.get_by_role("link", name=re.compile(r"Basket \(\d+\)"))).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the report").click()
    report = Path(download.value.path()).read_text("utf-8")
    assert "<!doctype html>" in report
    assert EVIL not in report
    query = page.url

    page.get_by_role("link", name="Its place in the file").first.click()
    expect(page.locator(".here")).to_contain_text("Where is boat")
    expect(page.locator(".neighbour").first).to_be_visible()
    picture(page, "4-row")
    page.get_by_role("link", name=re.compile("^Basket")).click()
    expect(page.get_by_role("heading", level=2)).to_have_text(re.compile(r"^\d+ rows in the basket$"))
    picture(page, "5-basket")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the data without them").click()
    lines = Path(download.value.path()).read_text("utf-8").splitlines()
    assert N_CLEAN <= len(lines) < N_CLEAN + N_FAULTY
    assert sum("Where is boat" in line for line in lines) == len(lines) - N_CLEAN

    page.get_by_role("link", name="Past").click()
    page.get_by_role("link", name=re.compile(f"^{PROMPT}")).first.click()
    expect(page).to_have_url(query)
    expect(page.locator(".row .chip.out").first).to_be_visible()


def test_by_keyboard_with_an_answer_and_a_wanted_one(opened: Open, url: str) -> None:
    page = opened(url, PHONE, "dark")
    picture(page, "6-phone-dark-empty")
    page.get_by_text("Answer and filters").click()
    page.get_by_label("The bad answer").fill(RESPONSE)
    page.get_by_label("Only rows whose label is").select_option("`label` = 'planted'")
    asked(page)
    words = page.get_by_role("listbox").get_by_role("option")
    words.nth(0).focus()
    for keys in ("ArrowRight", "Enter", "Shift+ArrowRight", "Shift+ArrowRight"):
        page.keyboard.press(keys)
    expect(page.locator(".markable.marked")).to_have_count(3)
    page.keyboard.press("Escape")
    page.get_by_label("Wanted answer").fill("apples")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("#/query/"))
    expect(page.get_by_text("Wanted", exact=True)).to_be_visible()
    expect(page.locator(".row").first).to_be_visible()
    expect(page.locator(".row .text .w").first).to_be_visible()
    picture(page, "7-phone-dark-ranked")
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= PHONE[0], "nothing is wider than the phone"


def test_markup_in_every_place_is_shown_as_text(opened: Open, url: str, served: ServedWorld) -> None:
    page = opened(url)
    asked(page, f"Name fruit 5 {EVIL}")
    ranked(page)
    expect(page.locator(".row").first).to_contain_text("<img src=x onerror=alert(1)>")
    evil = list(read_examples(served.data))[5]
    page.goto(f"{url}/#/row/{evil.id}")
    expect(page.locator(".here")).to_contain_text(EVIL)
    page.goto(f"{url}/#/past")
    expect(page.locator(".past").first).to_contain_text(EVIL)
    assert page.locator("img, iframe, object").count() == 0


def test_texts_are_hidden_where_that_is_wanted(opened: Open, url: str) -> None:
    page = opened(url)
    asked(page)
    ranked(page)
    expect(page.locator(".row .snippet, .row .text").first).to_be_attached()
    page.get_by_role("button", name="Hide texts").click()
    expect(page.locator(".row .snippet, .row .text")).to_have_count(0)
    expect(page.get_by_text("The texts of the rows are left out.")).to_be_visible()
    page.get_by_role("link", name="Data").click()
    expect(page.locator(".line").first).to_be_visible()
    expect(page.locator(".list")).not_to_contain_text("fruit")
    page.get_by_role("button", name="Show texts").click()
    expect(page.locator(".list")).to_contain_text("Name fruit 3")


def test_the_data_are_scrolled_and_filtered(opened: Open, url: str) -> None:
    page = opened(url)
    page.get_by_role("link", name="Data").click()
    expect(page.get_by_role("heading", level=2)).to_have_text(f"{N_CLEAN + N_FAULTY} rows")
    page.locator(".list").evaluate("list => list.scrollTo(0, list.scrollHeight)")
    expect(page.get_by_role("list", name="Rows of the data")).to_contain_text("Where is boat 11")
    assert page.locator(".line").count() < 60, "only what is near the window is there"
    page.get_by_label("SQL condition").fill("line < 4")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=2)).to_have_text("3 rows")
    picture(page, "8-data")


def test_a_filter_that_is_none_is_said_in_words(opened: Open, url: str) -> None:
    page = opened(url, allowed="400")
    page.get_by_role("link", name="Data").click()
    page.get_by_label("SQL condition").fill("nothing = 1")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("The filter '(nothing = 1)' cannot be used")
    picture(page, "9-error")


def test_a_server_that_has_gone_is_said(opened: Open, url: str) -> None:
    page = opened(url, allowed="ERR_FAILED")
    page.route("**/v1/generate", lambda route: route.abort())
    page.get_by_label("Prompt", exact=True).fill(PROMPT)
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer.")
    page.unroute("**/v1/generate")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("listbox")).to_be_visible()


def test_the_token_is_asked_for_and_sent_in_no_address(
    opened: Open, tracer: Tracer, served: ServedWorld, tmp_path: Path
) -> None:
    # Another name of the index: one server at a time has the state beside it.
    (tmp_path / "index").symlink_to(served.index)
    other = Tracer(tmp_path / "index", model=tracer.loaded)
    with serving(create_app(other, ServerSettings(token=TOKEN))) as guarded:
        page = opened(guarded, allowed="401")
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.url))
        page.get_by_label(re.compile("^Token")).fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_text("That was not it.")).to_be_visible()
        page.get_by_label(re.compile("^Token")).fill(TOKEN)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=2)).to_have_text("What did the model get wrong?")
        assert not [address for address in sent if TOKEN in address]
