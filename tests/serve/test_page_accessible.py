"""axe-core over every view of the page, in both themes: no serious and no critical finding."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from audits import audit_of
from browsing import PHONE, asked, ranked
from served_world import ServedWorld
from traced_world import N_CLEAN
from whence.data.readers import read_examples
from whence.serve.service import state_folder

AXE = Path(__file__).parents[2] / "page" / "node_modules" / "axe-core" / "axe.min.js"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not there: npm ci in page/ fetches it"),
]

Open = Callable[..., Page]
RUN = "() => axe.run(document, {resultTypes: ['violations']}).then((found) => found.violations)"
GRAVE = ("serious", "critical")


def grave(page: Page) -> list[str]:
    """What axe finds serious or critical, each with the first element it is found in."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text("utf-8"))  # not as a script of the page: its policy admits none but its own
    found = page.evaluate(RUN)
    return [
        f"{one['impact']} {one['id']}: {one['nodes'][0]['html'][:200]} {one['nodes'][0]['failureSummary'][:300]}"
        for one in found
        if one["impact"] in GRAVE
    ]


def test_axe_finds_what_is_wrong(opened: Open, url: str) -> None:
    page = opened(url)
    expect(page.get_by_label("Prompt", exact=True)).to_be_visible()
    page.evaluate("document.querySelector('#prompt').labels[0].remove()")
    page.evaluate("document.querySelector('#prompt').removeAttribute('placeholder')")
    assert [said for said in grave(page) if said.startswith("critical label: ")]


@pytest.mark.parametrize(("scheme", "size"), [("light", (1280, 900)), ("dark", PHONE)])
def test_no_view_has_a_serious_finding(
    opened: Open, url: str, served: ServedWorld, scheme: str, size: tuple[int, int]
) -> None:
    page = opened(url, size, scheme)
    page.emulate_media(reduced_motion="reduce")  # a colour on its way to another is neither
    found: dict[str, list[str]] = {}

    def looked_at(name: str) -> None:
        if said := grave(page):
            found[name] = said

    expect(page.get_by_role("heading", level=2)).to_have_text("What did the model get wrong?")
    page.get_by_text("Answer and filters").click()
    looked_at("empty")
    asked(page)
    page.get_by_role("option").first.focus()
    page.keyboard.press("Enter")
    looked_at("marked")
    ranked(page)
    expect(page.locator(".row .text .w").first).to_be_visible()
    page.get_by_role("group", name=re.compile("^Response of row 1,")).get_by_role("button").first.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Clear the mark")).to_be_visible()
    looked_at("ranked")
    if (put := page.get_by_role("button", name="Put all flagged into the basket")).count():
        put.click()
    row = list(read_examples(served.data))[N_CLEAN].id
    audit_of().to_json(state_folder(served.index) / "audits" / "may.json")
    for view in ("past", "data", "basket", f"row/{row}", "audits"):
        page.goto(f"{url}/#/{view}")
        expect(page.get_by_role("heading", level=2)).not_to_have_text("")
        expect(page.get_by_role("status").filter(has_text="Reading")).to_have_count(0)
        looked_at(view)
    page.get_by_role("link", name=re.compile("^may")).click()
    for card in page.locator(".group > summary").all()[1:]:
        card.click()
    looked_at("audit")
    assert found == {}
