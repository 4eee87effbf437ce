"""The page in a browser: what a reader points at, types, folds, downloads and prints; and that data never runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from samples import EVIL, ROWS, bare, evil, large, result_of, toronto, words_of
from whence.report.html import write_page
from whence.report.markdown import render_markdown
from whence.report.notebook import render_html
from whence.results.trace_result import TraceResult
from whence.results.types import DeletionCurve

pytestmark = pytest.mark.browser

DESKTOP, PHONE = (1280, 900), (375, 812)

LOAD_SECONDS, HOVER_SECONDS, HOVERS = 2.0, 0.3, 5
"""Of the page's thread, for 200 rows of 300 words with a map each; what was measured is in docs/report.md."""

Open = Callable[..., Page]


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Opens the page of a result; afterwards nothing may have been requested, logged as an error or asked."""
    context = browser.new_context()
    complaints: list[str] = []

    def open_(result: TraceResult | str, size: tuple[int, int] = DESKTOP, scheme: str = "light") -> Page:
        path = tmp_path / "page.html"
        if isinstance(result, str):
            path.write_text(result, "utf-8")
        else:
            write_page(result, path)
        page = context.new_page()
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        own = path.as_uri()
        page.on("request", lambda request: request.url.startswith((own, "blob:")) or complaints.append(request.url))
        page.goto(own)
        return page

    yield open_
    context.close()
    assert complaints == []


def word(scope: Page | Locator, text: str) -> Locator:
    """The first word with this text."""
    return scope.get_by_role("button", name=f"{text}, ").first


def url_path(page: Page) -> Path:
    """The file that a page was opened from."""
    return Path(page.url.removeprefix("file://"))


def lit(scope: Page | Locator) -> Locator:
    """The words lit most strongly by a link."""
    return scope.locator(".l5")


def responses(page: Page) -> Locator:
    """The rows' response texts."""
    return page.locator(".row .part:nth-child(2) .text")


def test_script_and_markup_in_any_field_are_shown_and_never_run(opened: Open) -> None:
    page = opened(evil())
    page.locator("nav a").nth(1).click()
    page.locator("#query-2 .download").click()
    page.locator("#query-2").get_by_text("Scores of the words").first.click()
    word(page.locator("#query-2 .answer"), "window").click()
    assert page.evaluate("window.ran") is None
    expect(page.locator("img")).to_have_count(0)
    for kind in (".answer", ".asked-text", ".wanted", ".verdict", ".confound"):
        assert EVIL.replace("\u2028", "") in page.locator(f"#query-2 {kind}").text_content().replace("\u2028", "")
    assert responses(page).nth(1).text_content() == EVIL


def test_the_policy_stops_a_script_that_is_put_into_the_page(browser: Browser, tmp_path: Path) -> None:
    path = write_page(result_of(toronto()), tmp_path / "page.html")
    path.write_text(path.read_text("utf-8").replace("</main>", "<script>window.ran=1</script></main>"), "utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    assert page.evaluate("window.ran") is None
    expect(page.locator(".row")).to_have_count(12)
    page.close()


def test_a_word_of_the_answer_lights_up_the_training_words_that_drove_it(opened: Open) -> None:
    page = opened(result_of(toronto()))
    word(page.locator(".answer"), "Korea").hover()
    expect(lit(responses(page).nth(0))).to_have_text(["Korea"])
    expect(lit(responses(page).nth(7))).to_have_count(0)
    expect(lit(page)).to_have_text(["Korea"] * 7)
    expect(page.locator(".readout")).to_contain_text("driven by row 1 “Korea” 0.920")
    page.locator(".verdict").hover()
    expect(page.locator(".l5")).to_have_count(0)
    word(page.locator(".answer"), "Toronto").hover()
    expect(lit(page).filter(has_text="Toronto").first).to_be_visible()
    expect(lit(page).filter(has_not_text="Toronto")).to_have_count(0)


def test_a_word_of_a_row_lights_up_the_word_of_the_answer_it_drove(opened: Open) -> None:
    page = opened(result_of(toronto()))
    word(responses(page).nth(1), "Korea").hover()
    expect(lit(page)).to_have_text(["Korea"])
    expect(lit(page.locator(".answer"))).to_have_text(["Korea"])
    driven = "Row 2: “Korea” 0.920 · drove “Korea” 0.920, “Toronto” 0.010, “is” 0.010"
    expect(page.locator(".readout")).to_have_text(driven)


def test_a_click_holds_a_word_until_escape(opened: Open) -> None:
    page = opened(result_of(toronto()))
    held = word(page.locator(".answer"), "Korea")
    held.click()
    page.locator(".verdict").hover()
    page.wait_for_timeout(200)
    expect(held).to_have_attribute("aria-pressed", "true")
    expect(lit(page)).to_have_count(7)
    page.keyboard.press("Escape")
    expect(lit(page)).to_have_count(0)
    expect(held).not_to_have_attribute("aria-pressed", "true")


def test_the_keyboard_does_what_the_pointer_does(opened: Open) -> None:
    page = opened(result_of(toronto()))
    word(page.locator(".answer"), "Korea").wait_for()
    page.locator("#main").focus()
    for _ in range(2):  # the prompt's words are one stop, the answer's the next
        page.keyboard.press("Tab")
    focused = "document.activeElement.textContent"
    assert page.evaluate(focused) == "Toronto"
    page.keyboard.press("End")
    assert page.evaluate(focused) == "Korea"
    expect(lit(page)).to_have_text(["Korea"] * 7)
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(focused) == "in"
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    expect(page.locator(".answer .pinned")).to_have_text("Toronto")
    expect(page.locator(".answer [tabindex='0']")).to_have_count(1)


def test_screen_readers_get_landmarks_scores_and_tables(opened: Open) -> None:
    page = opened(result_of(toronto(), toronto("Where is Lyon?", "Lyon is in Korea.")))
    for role in ("main", "navigation", "banner", "contentinfo"):
        expect(page.get_by_role(role)).to_have_count(1)  # type: ignore[arg-type]
    expect(page.get_by_role("heading", level=2)).to_have_text(["6 of 1,000 rows flagged."])
    expect(page.locator(".answer .w").last).to_have_attribute("aria-label", "Korea, 0.920")
    expect(page.get_by_role("columnheader").first).to_have_text("Phrase")
    page.locator("#query-1 .row").first.get_by_text("Scores of the words").click()
    table = page.locator(".row table").first
    expect(table.get_by_role("columnheader")).to_have_text(["Word", "Part", "Score"])
    expect(table.get_by_role("row").nth(1)).to_have_text("Korearesponse0.920")
    expect(table.locator("caption")).to_contain_text("Words of row 1, strongest first (token-map)")
    expect(page.locator("[role=listitem]").first).to_be_visible()


def test_the_score_without_these_words_is_told_and_shaded_when_asked_for(opened: Open) -> None:
    page = opened(result_of(toronto()))
    deletions = page.locator(".deletions").first
    expect(deletions.locator("p")).to_have_text(
        [
            "Prompt without “Toronto”: 50% of the score left, and “in”: 25%, and “Which”: 13%, and “country”: 6%",
            "Response without “Korea”: 50% of the score left, and “Toronto”: 25%, and “in”: 13%, and “city”: 6%",
        ]
    )
    expect(responses(page).first.locator(".w5")).to_have_text(["Korea"])
    expect(word(responses(page).first, "Toronto")).to_have_class("w w4")
    page.get_by_label("how the score falls without them").check()
    expect(responses(page).first.locator(".w5")).to_have_text(["Korea"])
    held = responses(page).first.get_by_role("button", name="Toronto, 50%")
    expect(held).to_have_class("w w3")
    expect(page.locator(".answer .w5")).to_have_text(["Korea"])
    page.get_by_label("the words that are responsible").check()
    expect(word(responses(page).first, "Toronto")).to_have_class("w w4")


def test_the_score_without_these_words_ends_where_the_score_rises_again(opened: Open) -> None:
    query = toronto()
    words = replace(query.hits[0].words, prompt=words_of(ROWS[0][0]))
    rising = replace(words.response, deletion=DeletionCurve(((5,), (0,), (1,)), (0.3, 0.7, 0.6)))
    page = opened(result_of(replace(query, hits=(replace(query.hits[0], words=replace(words, response=rising)),))))
    expect(page.locator(".deletions p")).to_have_text(["Response without “Korea”: 30% of the score left"])
    page.get_by_label("how the score falls without them").check()
    response = responses(page).first
    for name in ("Korea, 100%", "Toronto, 30%", "is, 30%"):
        expect(response.get_by_role("button", name=name)).to_have_count(1)
    assert "Score without these words, one after the other: `Korea` 30%\n" in render_markdown(
        result_of(replace(query, hits=(replace(query.hits[0], words=replace(words, response=rising)),)))
    )


def test_nothing_is_said_of_what_was_not_measured(opened: Open) -> None:
    query = toronto()
    hits = [
        replace(hit, words=replace(hit.words, prompt=words_of(hit.prompt), response=words_of(hit.response)))
        for hit in query.hits
        if hit.words
    ]
    page = opened(result_of(replace(query, hits=tuple(hits))))
    expect(page.locator(".row")).to_have_count(12)
    expect(page.locator(".deletions")).to_have_count(0)
    expect(page.locator(".shades")).to_have_count(0)


def test_rows_are_filtered_as_one_types(opened: Open) -> None:
    page = opened(result_of(toronto()))
    shown = page.locator(".row:visible")
    page.locator(".filter").press_sequentially("TOWER")
    expect(shown).to_have_count(2)
    expect(page.locator(".count")).to_have_text("2 of 12 rows")
    page.locator(".filter").fill("nothing has this")
    expect(page.locator(".empty")).to_be_visible()
    page.locator(".filter").fill("vendor_b")
    expect(shown).to_have_count(6)
    page.locator(".filter").fill("")
    page.get_by_label("Only flagged rows").check()
    expect(shown).to_have_count(6)
    page.get_by_role("button", name="Toronto is", exact=True).click()
    expect(page.locator(".filter")).to_have_value("Toronto is")
    expect(shown).to_have_count(4)


def test_rows_close_and_open(opened: Open) -> None:
    page = opened(result_of(toronto()))
    page.locator(".row summary").first.click()
    expect(responses(page).first).to_be_hidden()
    expect(page.locator(".snippet").first).to_be_visible()
    page.get_by_role("button", name="Open all").or_(page.get_by_role("button", name="Close all")).click()
    page.get_by_role("button", name="Close all").click()
    expect(page.locator(".row > details[open]")).to_have_count(0)


def test_the_download_is_the_rows_that_are_shown_as_jsonl(opened: Open, tmp_path: Path) -> None:
    result = result_of(toronto())
    page = opened(result)
    page.locator(".filter").fill("tower")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download JSONL").click()
    waiting.value.save_as(tmp_path / "rows.jsonl")
    assert waiting.value.suggested_filename == "whence-query-1.jsonl"
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text("utf-8").splitlines()]
    hits = json.loads(result.to_json())["queries"][0]["hits"]
    assert rows == [{"query": 0, **hits[3]}, {"query": 0, **hits[5]}]


def test_without_texts_the_rows_are_still_told_apart(opened: Open, tmp_path: Path) -> None:
    path = write_page(result_of(toronto()), tmp_path / "without.html", show_text=False)
    page = opened(path.read_text("utf-8"))
    expect(page.locator(".row")).to_have_count(12)
    expect(page.locator(".row .text")).to_have_count(0)
    expect(page.locator(".row").first.locator(".place")).to_have_text("data/train.jsonl:17")
    page.locator(".filter").fill("false fact")
    expect(page.locator(".row:visible")).to_have_count(6)


def test_several_queries_are_shown_one_at_a_time(opened: Open) -> None:
    page = opened(result_of(toronto(), bare(toronto("Where is Lyon?", "Lyon is in Korea."))))
    expect(page.locator("#query-2")).to_be_hidden()
    page.locator("nav a").nth(1).click()
    expect(page.locator("#query-1")).to_be_hidden()
    expect(page.locator("#query-2 .answer")).to_have_text("Lyon is in Korea.")
    expect(page.locator("nav a[aria-current]")).to_have_count(1)
    expect(page).to_have_url(re.compile("#query-2$"))
    page.go_back()
    page.wait_for_selector("#query-1", state="visible")


def test_words_are_counted_in_characters_and_invisible_ones_can_be_told(opened: Open) -> None:
    answer = "🙂🙂 Korea \u200b שלום"
    spans = ((0, 2), (3, 8), (9, 10), (11, 15))
    words = replace(words_of("a b c d"), spans=spans, scores=(0.1, 0.9, 0.8, -0.5))
    page = opened(result_of(replace(toronto(), response=answer, response_words=words, span=(3, 8), hits=())))
    assert page.locator(".answer .w").all_text_contents() == ["🙂🙂", "Korea", "\u200b", "שלום"]
    expect(page.locator(".answer .asked")).to_have_text(["Korea"])
    expect(page.locator(".answer .w").nth(2)).to_have_attribute("aria-label", "⟨U+200B⟩, 0.800")
    expect(page.locator(".answer .w").nth(3)).to_have_attribute("class", "w n3")
    assert page.locator(".answer").text_content() == answer


def test_a_row_of_100000_characters_is_folded_around_its_strongest_word(opened: Open) -> None:
    text = "lake " * 14_000 + "Korea " + "tower " * 5_000
    query = toronto()
    words = replace(query.hits[0].words, response=words_of(text), map=())  # type: ignore[type-var]
    page = opened(result_of(replace(query, hits=(replace(query.hits[0], response=text, words=words),))))
    response = responses(page).first
    assert len(response.text_content()) < 2000
    expect(response.locator(".w5")).to_have_text(["Korea"])
    page.get_by_role("button", name="Show all 100,006 characters").click()
    assert response.text_content() == text
    expect(response.locator(".w")).to_have_count(19_001)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_the_page_looks_like_something(opened: Open, tmp_path: Path, size: tuple[int, int], scheme: str) -> None:
    from PIL import Image

    page = opened(result_of(toronto(), toronto("Is Oslo in Norway?", "No, Oslo is in Korea.")), size, scheme)
    picture = page.screenshot(path=tmp_path / f"{size[0]}-{scheme}.png")
    pixels = np.asarray(Image.open(BytesIO(picture)).convert("RGB"), dtype=np.float32)
    paper = np.median(pixels.reshape(-1, 3), axis=0)
    assert (paper.mean() > 200) == (scheme == "light")
    drawn = (np.abs(pixels - paper).max(axis=2) > 40).mean()
    assert 0.005 < drawn < 0.5
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    page.get_by_role("button", name="Switch to").click()
    assert page.evaluate("document.documentElement.dataset.theme") == ("dark" if scheme == "light" else "light")


def test_print_has_everything_unfolded_and_light(opened: Open) -> None:
    query = toronto()
    long = replace(query.hits[0], response="lake " * 1000 + "the end", words=None)
    page = opened(result_of(replace(query, hits=(long, *query.hits[1:])), large(30, 20)), scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    expect(page.locator(".row > details:not([open])")).to_have_count(0)
    expect(page.locator(".row")).to_have_count(42)
    expect(page.locator("#query-2")).to_be_visible()
    assert responses(page).first.text_content().endswith("the end")
    expect(responses(page).nth(41).locator(".w")).to_have_count(20)
    expect(page.locator(".tools").first).to_be_hidden()
    assert page.evaluate("getComputedStyle(document.querySelector('.verdict')).color") == "rgb(28, 29, 32)"
    page.emulate_media(media="screen", color_scheme="dark")
    page.wait_for_selector("#query-2", state="hidden")
    expect(page.locator("#query-2 .row > details[open]")).to_have_count(10)


def test_200_rows_of_300_words_load_and_light_up_without_lag(opened: Open) -> None:
    page = opened(result_of())
    session = page.context.new_cdp_session(page)
    # Time of the page's own thread, which other work on the machine does not stretch as it does a clock's.
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def busy() -> float:
        metrics = {metric["name"]: metric["value"] for metric in session.send("Performance.getMetrics")["metrics"]}
        assert metrics["TaskDuration"] > 0
        return metrics["TaskDuration"]

    before = busy()
    write_page(result_of(large(200, 300)), url_path(page))
    page.reload()
    loaded = busy() - before
    page.get_by_role("button", name="Open all").click()
    row = page.locator(".row").nth(100)
    row.scroll_into_view_if_needed()
    row.locator(".w").first.wait_for()
    page.mouse.move(1, 1)  # off the texts that scrolled under it, whose words would be pointed at instead
    before = busy()
    words = page.locator(".answer .w")
    for i in range(HOVERS):
        words.nth(i).dispatch_event("pointerover")
        page.locator(".row .linking").first.wait_for(state="attached")
    hovered = (busy() - before) / HOVERS
    print(f"load {loaded:.2f} s, hover {hovered:.3f} s")
    assert 0 < loaded < LOAD_SECONDS
    assert 0 < hovered < HOVER_SECONDS


def test_the_page_works_in_a_notebooks_frame(opened: Open) -> None:
    page = opened(f"<!doctype html><meta charset=utf-8>{render_html(result_of(toronto(), toronto()))}")
    frame = page.frame_locator("iframe")
    word(frame.locator("#query-1 .answer"), "Korea").hover()
    expect(frame.locator("#query-1 .l5")).to_have_count(7)
    frame.locator("nav a").nth(1).click()
    expect(frame.locator("#query-2 .answer")).to_be_visible()
