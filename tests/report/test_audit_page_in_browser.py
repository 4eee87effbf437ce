"""The page of an audit in a browser: two widths, both colour schemes, cards that open, a search; data never runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from audits import audit_of
from whence.results.audit_result import AuditResult

pytestmark = pytest.mark.browser

DESKTOP, PHONE = (1280, 900), (375, 812)
Open = Callable[..., Page]


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Opens the page of an audit; afterwards nothing may have been requested, logged as an error or asked."""
    context = browser.new_context()
    complaints: list[str] = []

    def open_(audit: AuditResult, size: tuple[int, int] = DESKTOP, scheme: str = "light") -> Page:
        path = tmp_path / "audit.html"
        audit.to_html(path)
        page = context.new_page()
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        own = path.as_uri()
        page.on("request", lambda request: request.url.startswith(own) or complaints.append(request.url))
        page.goto(own)
        return page

    yield open_
    context.close()
    assert complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_it_fits_two_widths_and_both_schemes(opened: Open, size: tuple[int, int], scheme: str, tmp_path: Path) -> None:
    page = opened(audit_of(), size, scheme)
    picture = page.screenshot(path=tmp_path / f"{size[0]}-{scheme}.png", full_page=True)
    assert len(picture) > 20_000
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    dark = sum(int(part) for part in paper[4:-1].split(",")) < 200
    assert dark == (scheme == "dark")
    assert ink != paper


def test_cards_open_and_a_link_opens_its_group(opened: Open) -> None:
    page = opened(audit_of())
    first, second = page.locator("#group-1"), page.locator("#group-2")
    expect(first.get_by_text("Most typical output")).to_be_visible()
    expect(second.get_by_text("Most typical output")).to_be_hidden()
    second.locator("summary").first.click()
    expect(second.get_by_text("Most typical output")).to_be_visible()
    page.get_by_role("link", name="3", exact=True).first.click()
    expect(page.locator("#group-3").get_by_text("whence clean runs/index --group 3")).to_be_visible()
    row = first.locator(".row details").first
    row.locator("summary").click()
    expect(row.locator(".w5").first).to_be_visible()


def test_groups_are_searched_and_opened_together(opened: Open) -> None:
    page = opened(audit_of())
    page.get_by_role("searchbox").fill("korea 2")
    expect(page.locator("#group-2")).to_be_visible()
    expect(page.locator("#group-1")).to_be_hidden()
    expect(page.get_by_role("status")).to_have_text("1 of 3 groups")
    page.get_by_role("searchbox").fill("")
    page.get_by_role("button", name="Open all").click()
    expect(page.locator("#group-3").get_by_text("Most typical output")).to_be_visible()
    page.get_by_role("button", name="Switch to dark colours").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_data_never_runs(opened: Open) -> None:
    page = opened(audit_of(evil=True))
    page.get_by_role("button", name="Open all").click()
    assert page.evaluate("window.ran") is None
    assert page.locator("img").count() == 0
