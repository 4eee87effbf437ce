"""The page in a browser: it says of a query, an audit and an index what reports say, and shows values as they are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from audits import audit_of, sources_of, trigger_of
from browsing import PHONE, asked, picture
from samples import EVIL, result_of, toronto
from served_world import LARGE, ServedWorld, make_copies, serving
from traced_world import PROMPT, RESPONSE
from whence.data import Json
from whence.data.readers import read_examples
from whence.report.audit_wording import push_note, source_note, trigger_note
from whence.report.wording import (
    cut_note,
    departure_note,
    explained_note,
    headline,
    lift,
    phrases_note,
    place,
    scored_note,
    share,
)
from whence.results import labels_of
from whence.results.audit_result import AuditResult
from whence.results.audit_types import Behaviour, ContrastPhrase, SourcePush, SourcePushes, SourceTable
from whence.results.types import Approximate, Departure, Explained, Phrase, QueryResult, Truncated
from whence.serve.app import create_app
from whence.serve.service import state_folder
from whence.serve.settings import ServerSettings
from whence.trace.tracer import Tracer

pytestmark = pytest.mark.browser

Open = Callable[..., Page]
ID = "0123456789abcdef"


def shown(page: Page, url: str, query: QueryResult) -> None:
    """The page of a past query that has this result."""
    request = {"prompt": query.prompt, "response": query.response, "k": 20}
    body = {"id": ID, "request": request, "result": result_of(query).to_dict()["queries"][0]}  # type: ignore[index]
    page.unroute_all()
    page.route(f"**/v1/queries/{ID}", lambda route: route.fulfill(json=body))
    page.goto("about:blank")
    page.goto(f"{url}/#/query/{ID}")
    expect(page.locator(".row").first).to_be_visible()


def phrase_of(text: str, share_elsewhere: float, lift: float) -> Phrase:
    return Phrase(text, "response", "end", 9, 10, share_elsewhere, lift)


RESULTS = [
    replace(
        toronto(),
        truncated=Truncated(1_040, 1, 64, 3),
        complete=False,
        departure=Departure(EVIL, 0.9999),
        phrases=(phrase_of(EVIL, 0.00005, 12_345.5), phrase_of("Korea", 0.125, 2.25)),
    ),
    replace(
        toronto(response="Toronto is in Korea. It is large."),
        generated=False,
        truncated=Truncated(1, 0, 2_048),
        departure=Departure("in Canada", 0.125),
        span=None,
        wanted=None,
        explained=Explained(0.25, 0.9994),
        approximate=Approximate(1_200, 0.99, 0.985, 100, 8),
    ),
    replace(
        toronto(), complete=False, generated=False, exact_because="a filter was given", explained=Explained(1, 0.045)
    ),
]


@pytest.mark.parametrize("number", range(len(RESULTS)))
def test_the_page_says_of_a_query_what_reports_say(opened: Open, url: str, number: int) -> None:
    query = RESULTS[number]
    page = opened(url, allowed="ERR_ABORTED")
    shown(page, url, query)
    notes = [
        cut_note(query),
        departure_note(query),
        explained_note(query),
        scored_note(query),
        headline(query.verdict)[2],
    ]
    # On the page words are marked, where a command has --span.
    notes += [phrases_note(query).partition(": --span")[0], query.confound]
    page.get_by_text(re.compile(r"phrases recur in the first rows$")).click()
    said = page.locator("main").inner_text()
    for note in filter(None, notes):
        assert note[1:] in said, note
    assert ("not answer so" in said) == (query.departure is not None)
    for phrase, row in zip(query.phrases, page.locator(".phrases tbody tr").all(), strict=True):
        for cell in (phrase.text, place(phrase), f"{share(phrase.share_elsewhere)} elsewhere", lift(phrase)):
            assert cell in (row.text_content() or ""), cell
    assert page.locator("img, main script").count() == 0
    picture(page, f"notes-{number}")


def test_a_phrase_leaves_the_rows_that_have_it(opened: Open, url: str) -> None:
    page = opened(url, PHONE, "dark", allowed="ERR_ABORTED")
    shown(page, url, toronto())
    page.get_by_text("2 phrases recur in the first rows").click()
    page.get_by_role("button", name="Toronto is", exact=True).click()
    expect(page.get_by_role("searchbox")).to_have_value("Toronto is")
    expect(page.get_by_text(re.compile(r"^\d of 12 rows$"))).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    page.get_by_role("button", name="Hide texts").click()
    expect(page.get_by_text("Toronto is", exact=True)).to_have_count(0)


def test_notes_on_the_index_are_shown(opened: Open, url: str) -> None:
    page = opened(url)
    notes = [f"2 rows were set aside: {EVIL}", "Its base is not known."]
    page.route("**/v1/index", lambda route: route.fulfill(json=route.fetch().json() | {"notes": notes}))
    page.reload()
    expect(page.locator("main .notes li")).to_have_text([re.compile("^2 rows were set aside: </script>"), notes[1]])
    expect(page.locator("main .notes li").first).to_be_visible()
    asked(page)
    expect(page.get_by_text("2 notes on this index")).to_be_visible()
    assert page.locator("img, main script").count() == 0
    picture(page, "notes-index")


def audits() -> dict[str, AuditResult]:
    """Audits whose triggers, sources and pushes are all that they can be."""
    whole = audit_of()
    prompts = tuple(
        replace(group, phrases=(ContrastPhrase("by lantern light", "prompt", "start", 6, 6, 3, 994, 1e-9),))
        for group in whole.groups
    )
    [first, *others] = sources_of("it's a source").values
    unsure = SourceTable("date", 21, (replace(first, p_value=0.2), *others))
    two = SourceTable("it's a source", 21, (first, replace(others[0], p_value=0.01), *others[1:]))
    pushes = [
        SourcePushes(name, (SourcePush("vendor_c", 130, 0.13, 0.25, 4.2, p),)) for name, p in (("a", 0.01), ("b", 0.2))
    ]
    return {
        "proven": replace(whole, sources=(two, unsure, SourceTable("empty", 0, ()))),
        "unproven": replace(whole, triggers=(replace(trigger_of("x"), status="candidate"),)),
        "untried": replace(whole, triggers=(), groups=prompts, looked_for_triggers=True),
        "none": replace(whole, triggers=(), looked_for_triggers=True),
        "pushes": replace(whole, triggers=(), behaviour=Behaviour(20, 30, False, tuple(pushes))),
    }


@pytest.mark.parametrize("name", audits())
def test_the_page_says_of_an_audit_what_reports_say(opened: Open, url: str, served: ServedWorld, name: str) -> None:
    audit = audits()[name]
    audit.to_json(state_folder(served.index) / "audits" / f"{name}.json")
    sources = [source_note(table) for table in audit.sources]
    pushes = [push_note(table) for table in (audit.behaviour.sources if audit.behaviour else ())]
    triggers = trigger_note(audit) if audit.triggers or audit.looked_for_triggers else ""
    sent = {"source_notes": sources, "push_notes": pushes, "trigger_note": triggers}
    page = opened(url)
    page.route(re.compile("/v1/audits/[0-9a-f]{16}$"), lambda route: route.fulfill(json=route.fetch().json() | sent))
    page.goto(f"{url}/#/audits")
    page.get_by_role("link", name=re.compile(f"^{name}")).click()
    expect(page.locator(".group").first).to_be_visible()
    said = page.locator("main").inner_text()
    for note in (*sources, *pushes, triggers):
        assert note in said, note
    assert "None was proven" not in said
    picture(page, f"notes-audit-{name}")


def test_the_row_that_was_clicked_is_opened(opened: Open, served: ServedWorld, tracer: Tracer, tmp_path: Path) -> None:
    copies = Tracer(make_copies(served, tmp_path), model=tracer.loaded)
    with serving(create_app(copies, ServerSettings())) as url:
        page = opened(url)
        page.goto(f"{url}/#/data")
        page.get_by_role("listitem").filter(has_text="it's here.jsonl:6").get_by_role("link").click()
        expect(page.get_by_role("heading", level=2)).to_have_text("Row it's here.jsonl:6")
        expect(page.locator(".here .chip").filter(has_text="number")).to_have_text("number 5")
        places = [f"it's here.jsonl:{line}" for line in (3, 4, 5, 7, 8, 9)]
        expect(page.locator(".neighbour .place")).to_have_text(places)
        expect(page.get_by_text("2 more rows of the same content")).to_be_visible()
        page.locator(".neighbour").last.click()
        expect(page.get_by_role("heading", level=2)).to_have_text("Row it's here.jsonl:9")
        page.locator(".neighbour").last.click()
        expect(page.get_by_role("heading", level=2)).to_have_text("Row it's here.jsonl:10")

        page.goto(f"{url}/#/")
        page.get_by_text("Answer and filters").click()
        page.get_by_label("Only rows that meet an SQL condition").fill("number = 9")
        asked(page, "Where is the dog")
        page.get_by_role("button", name=re.compile("^Find the rows behind")).click()
        page.get_by_role("link", name="Its place in the file").click()
        expect(page.get_by_role("heading", level=2)).to_have_text("Row it's here.jsonl:10")
        page.goto(page.url.replace("/10/", "/4/"))
        expect(page.get_by_text("This index has no such row at it's here.jsonl:4")).to_be_visible()


def test_a_past_query_is_asked_again_as_it_was(opened: Open, url: str) -> None:
    page = opened(url)
    methods = page.request.get(f"{url}/v1/index").json()["methods"]
    settings = {"method": methods[-1], "fdr": 0.2, "k": 3}
    given = {"prompt": PROMPT, "response": RESPONSE, **settings}
    id = page.request.post(f"{url}/v1/trace", data=given).json()["id"]

    def again() -> Mapping[str, Json]:
        old = page.url
        page.get_by_role("button", name=re.compile("^Find the rows behind")).click()
        expect(page).not_to_have_url(old)
        expect(page).to_have_url(re.compile("#/query/[0-9a-f]{16}$"))
        found = page.request.get(f"{url}/v1/queries/{page.url.rpartition('/')[2]}").json()["request"]
        assert isinstance(found, dict)
        return {name: found[name] for name in settings}

    page.goto(f"{url}/#/query/{id}")
    expect(page.locator(".row")).to_have_count(3)
    assert again() == settings
    expect(page.get_by_text("a false discovery rate of 20%")).to_be_visible()
    page.get_by_role("button", name="Use the defaults").click()
    assert again() == {"method": None, "fdr": 0.05, "k": 3}
    page.get_by_role("link", name="Ask", exact=True).click()
    expect(page.get_by_role("heading", level=2)).to_have_text("What did the model get wrong?")
    asked(page)
    assert again() == {"method": None, "fdr": 0.05, "k": 20}


def test_words_of_later_rows_leave_those_of_the_query(opened: Open, url: str) -> None:
    page = opened(url)
    given = {"prompt": PROMPT, "response": RESPONSE, "k": 7, "verdict": False}
    id = page.request.post(f"{url}/v1/trace", data=given).json()["id"]
    held: list[Route] = []
    page.route("**/words", lambda route: route.continue_() if held else held.append(route))
    page.goto(f"{url}/#/query/{id}")
    expect(page.locator(".row")).to_have_count(7)
    for number in (5, 6):
        page.locator(".row > details > summary").nth(number).click()
    expect(page.locator(".row > details[open]")).to_have_count(7)
    held[0].continue_()
    own = page.locator(".stick .answer .w")
    expect(own.first).to_be_visible()
    of_first = own.evaluate_all("words => words.map((word) => word.ariaLabel)")
    expect(page.locator(".row").last.locator(".w[aria-label*=',']").first).to_be_visible()
    assert own.evaluate_all("words => words.map((word) => word.ariaLabel)") == of_first
    page.reload()
    expect(own.first).to_be_visible()
    assert own.evaluate_all("words => words.map((word) => word.ariaLabel)") == of_first


METADATA: dict[str, Json] = {
    "Label ": "a kind",
    "SOURCE": "\N{DOG}" * 80,
    "source": "\N{DOG}" * 81,
    "note": "a text",
    "\N{LATIN SMALL LETTER LONG S}ystem": 4,
    " Weight": 1,
    "train": True,
    "images": None,
    "number": LARGE,
    "least": -(2**70),
    "real": 0.12345678901234567,
    "list": [LARGE, f"{LARGE}"],
    "truth": False,
}


def test_metadata_are_shown_as_reports_show_them(opened: Open, url: str, served: ServedWorld) -> None:
    page = opened(url)
    id = page.request.get(f"{url}/v1/rows?limit=1").json()["rows"][0]["id"]

    def with_metadata(route: Route) -> None:
        found = route.fetch().json()
        found["row"]["metadata"] = METADATA
        route.fulfill(body=json.dumps(found), content_type="application/json")

    page.route(f"**/v1/rows/{id}", with_metadata)
    page.goto(f"{url}/#/row/{id}")
    chips = page.locator(".here .chip b")

    def texts(values: Mapping[str, Json]) -> list[str]:
        plain = [
            value if isinstance(value, str) else json.dumps(value, separators=(",", ":")) for value in values.values()
        ]
        return [id, *(re.sub("0.12345678901234567", "0.12345678901234568", text) for text in plain)]

    expect(chips).to_have_text(texts(METADATA))
    page.get_by_role("button", name="Hide texts").click()
    expect(chips).to_have_text(texts(labels_of(METADATA)))


def test_all_flagged_rows_go_into_the_basket(opened: Open, url: str) -> None:
    page = opened(url)
    given = {"prompt": PROMPT, "response": RESPONSE, "k": 2}
    found = page.request.post(f"{url}/v1/trace", data=given).json()
    flagged = found["result"]["verdict"]["flagged"]
    assert len(flagged) > 2
    page.goto(f"{url}/#/query/{found['id']}")
    expect(page.get_by_text(f"2 of the {len(flagged)} flagged rows are among these.")).to_be_visible()
    expect(page).to_have_title(re.compile(r"^\d+ rows flagged.* · whence$"))
    page.get_by_role("button", name=f"Put all flagged into the basket ({len(flagged)} rows)").click()
    expect(page.get_by_role("link", name=f"Basket ({len(flagged)})")).to_be_visible()
    page.get_by_role("link", name="Basket").click()
    page.get_by_role("button", name="Empty the basket").click()


def test_a_query_of_other_rows_is_said_to_be_one(opened: Open, url: str) -> None:
    page = opened(url)
    page.request.post(f"{url}/v1/trace", data={"prompt": PROMPT, "response": RESPONSE, "verdict": False})

    def outdated(route: Route) -> None:
        found = route.fetch().json()
        for one in found.get("queries", [found]):
            one["outdated"] = True
        route.fulfill(json=found)

    page.route("**/v1/queries*", outdated)
    page.route(re.compile("/v1/queries/[0-9a-f]{16}$"), outdated)
    page.get_by_role("link", name="Past").click()
    expect(page.locator(".past").first).to_contain_text("no verdict, of the rows of then")
    page.locator(".past a").first.click()
    expect(page.get_by_text("Rows came into the index or left it since this was asked.")).to_be_visible()
    old = page.url
    page.get_by_role("button", name="Ask again", exact=True).click()
    expect(page).not_to_have_url(old)
    expect(page).to_have_url(re.compile("#/query/[0-9a-f]{16}$"))
    expect(page.get_by_text("Rows came into the index or left it since this was asked.")).to_have_count(0)


def test_a_keyboard_stays_where_an_item_went(opened: Open, url: str, served: ServedWorld) -> None:
    page = opened(url)
    rows = [example.id for example in read_examples(served.data)][:50]
    page.request.post(f"{url}/v1/baskets", data={"rows": rows})
    page.goto(f"{url}/#/basket")
    page.reload()
    expect(page.get_by_text("40 of 50 are shown; all of them are in the basket.")).to_be_visible()
    page.get_by_role("button", name=f"Take out row {rows[3]}").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=2)).to_have_text("49 rows in the basket")
    expect(page.get_by_role("button", name=f"Take out row {rows[4]}")).to_be_focused()
    page.get_by_role("button", name="Show more rows").click()
    expect(page.locator(".past")).to_have_count(49)
    page.get_by_role("button", name=f"Take out row {rows[49]}").press("Enter")
    expect(page.get_by_role("button", name=f"Take out row {rows[48]}")).to_be_focused()
    page.get_by_role("button", name="Empty the basket").click()


def test_a_verdict_takes_the_focus_from_the_button_that_asked_for_it(opened: Open, url: str) -> None:
    page = opened(url)
    page.get_by_label("Prompt", exact=True).fill(PROMPT)
    page.get_by_role("button", name="Ask the model").press("Enter")
    heading = page.get_by_role("heading", level=2)
    expect(heading).to_have_text("Which words are wrong?")
    expect(page.get_by_role("listbox")).to_be_visible()
    expect(heading).to_be_focused()
    page.get_by_role("button", name=re.compile("^Find the rows behind")).press("Enter")
    expect(page).to_have_url(re.compile("#/query/"))
    expect(heading).to_be_focused()


def test_what_is_gone_is_not_tried_again(opened: Open, url: str) -> None:
    page = opened(url, allowed="404")
    page.goto(f"{url}/#/query/{ID}")
    expect(page.get_by_role("alert")).to_contain_text("It was forgotten since, or is of another index.")
    expect(page.get_by_role("button", name="Try again")).to_have_count(0)
