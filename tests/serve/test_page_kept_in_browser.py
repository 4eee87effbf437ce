"""The page in a browser where several things happen at once: other tabs, slow answers, changed prompts, many jobs."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from audits import scan_of
from browsing import asked
from served_world import N_CONVERSATIONS, ServedWorld, serving
from traced_world import PROMPT, RESPONSE
from whence.data.readers import read_examples
from whence.serve.app import create_app
from whence.serve.service import state_folder
from whence.serve.settings import ServerSettings
from whence.trace.tracer import Tracer

pytestmark = pytest.mark.browser

Open = Callable[..., Page]
FRUIT = "Name fruit 7"


def at(opened: Open, url: str, address: str) -> Page:
    """The page at one of its addresses."""
    page = opened(url)
    page.goto(f"{url}/{address}")
    return page


def posted(page: Page, path: str, body: dict[str, object]) -> dict[str, object]:
    """What the server answers to a request from beside the page."""
    answer = page.request.post(page.url.partition("#")[0].rstrip("/") + path, data=body)
    assert answer.ok, answer.text()
    found = answer.json()
    assert isinstance(found, dict)
    return found


def kept_query(page: Page, prompt: object, response: str) -> str:
    return str(posted(page, "/v1/trace", {"prompt": prompt, "response": response, "verdict": False, "k": 5})["id"])


def of_this_address(page: Page) -> dict[str, object]:
    """What the query was asked with whose address the page has."""
    expect(page).to_have_url(re.compile("#/query/[0-9a-f]{16}$"))
    start, _, id = page.url.partition("#/query/")
    found = page.request.get(f"{start}v1/queries/{id}").json()["request"]
    assert isinstance(found, dict)
    return found


def held(page: Page, pattern: str) -> list[Route]:
    """Requests that wait until they are let go on."""
    found: list[Route] = []
    page.route(pattern, lambda route: found.append(route))
    return found


def prompt_of(page: Page):  # type: ignore[no-untyped-def]
    return page.get_by_label("Prompt", exact=True)


def test_two_tabs_have_one_basket(opened: Open, url: str, served: ServedWorld) -> None:
    rows = [example.id for example in list(read_examples(served.data))[:3]]
    first, second = (at(opened, url, f"#/row/{row}") for row in rows[:2])
    for page, n in ((first, 1), (second, 2)):
        page.get_by_role("button", name="Put into the basket").click()
        expect(page.get_by_role("link", name=f"Basket ({n})")).to_be_visible()
    first.evaluate("window.dispatchEvent(new Event('focus'))")
    expect(first.get_by_role("link", name="Basket (2)")).to_be_visible()
    first.get_by_role("link", name="Basket (2)").click()
    second.goto(f"{url}/#/row/{rows[2]}")
    second.get_by_role("button", name="Put into the basket").click()
    expect(second.get_by_role("link", name="Basket (3)")).to_be_visible()
    with first.expect_request("**/v1/export") as sent, first.expect_download() as download:
        first.get_by_role("button", name="Download their ids").click()
    assert sent.value.post_data_json == {"rows": rows[:2]}, "what is shown is taken out, whatever other tabs did"
    assert Path(download.value.path()).read_text("utf-8").split() == rows[:2]
    first.get_by_role("button", name="Empty the basket").click()
    expect(first.get_by_role("heading", level=2)).to_have_text("1 row in the basket")


def test_a_slow_query_does_not_replace_what_was_opened_after_it(opened: Open, url: str) -> None:
    page = opened(url)
    slow, other = kept_query(page, PROMPT, RESPONSE), kept_query(page, FRUIT, "apples")
    waiting = held(page, f"**/v1/queries/{slow}")
    for then in (f"#/query/{other}", "#/"):
        page.goto(f"{url}/#/query/{slow}")
        expect(page.get_by_role("status").filter(has_text="Reading the query")).to_be_visible()
        page.evaluate("address => { location.hash = address; }", then)
        if then == "#/":
            expect(page.get_by_role("heading", level=2)).to_have_text("What did the model get wrong?")
            prompt_of(page).fill(FRUIT)
        else:
            expect(page.get_by_role("listbox")).to_have_text("apples")
        waiting.pop().continue_()
        page.wait_for_timeout(300)
        expect(prompt_of(page)).to_have_value(FRUIT)
        assert page.url.endswith(then)


def test_a_query_that_is_gone_shows_nothing_of_another(opened: Open, url: str) -> None:
    page = opened(url, allowed="404")
    page.goto(f"{url}/#/query/{kept_query(page, PROMPT, RESPONSE)}")
    expect(page.locator(".row").first).to_be_visible()
    page.evaluate("location.hash = '#/query/0123456789abcdef'")
    expect(page.get_by_role("alert")).to_contain_text("There is no query")
    expect(page.locator(".row")).to_have_count(0)
    expect(prompt_of(page)).to_have_value("")


@pytest.fixture
def judging(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Verdicts wait until this is set."""
    allowed, judge = threading.Event(), Tracer.judge

    def waits(self: Tracer, *args: object, **options: object) -> object:
        while not allowed.is_set():
            options["progress"]("waiting", 0, None)  # type: ignore[operator]
            time.sleep(0.05)
        return judge(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Tracer, "judge", waits)
    yield allowed
    allowed.set()


def stopped(page: Page) -> None:
    """A ranking whose verdict was stopped; its address is that of a new conversation."""
    asked(page)
    page.get_by_role("button", name="Find the rows behind the answer").click()
    heading = page.get_by_role("heading", level=2)
    expect(heading).to_have_text("The rows are ranked; the verdict follows.")
    page.get_by_role("button", name="Stop").click()
    expect(heading).to_have_text("Stopped before the verdict.")


def test_a_verdict_that_was_stopped_can_be_asked_for(opened: Open, url: str, judging: threading.Event) -> None:
    page = at(opened, url, "#/")
    stopped(page)
    judging.set()
    page.get_by_role("button", name="Go on to the verdict").click()
    expect(page).to_have_url(re.compile("#/query/"))
    expect(page.get_by_role("heading", level=2)).not_to_have_text(re.compile("Stopped"))


def test_a_row_is_asked_with_from_a_conversation_without_an_address(
    opened: Open, url: str, judging: threading.Event
) -> None:
    page = at(opened, url, "#/")
    stopped(page)
    judging.set()
    page.get_by_role("group", name=re.compile("^Response of row 1,")).get_by_role("button").first.click()
    page.get_by_role("button", name=re.compile("^Find the rows that taught it")).click()
    assert of_this_address(page)["response"] == RESPONSE
    expect(prompt_of(page)).not_to_have_value(PROMPT)


def test_the_turn_that_was_ranked_is_asked_with(opened: Open, conversations: Tracer) -> None:
    with serving(create_app(conversations, ServerSettings())) as url:
        page = opened(url)
        id = kept_query(page, PROMPT, RESPONSE)

        def last_turn(route: Route) -> None:
            """The first row as it is where its last answer, the same as its first, matches best."""
            found = route.fetch().json()
            found["result"]["hits"][0] |= {"turn": 2, "prompt": "sure?", "response": "ok", "words": None}
            route.fulfill(json=found)

        page.route(f"**/v1/queries/{id}", last_turn)
        page.route("**/words", lambda route: route.fulfill(json={"result": {"hits": []}}))
        page.goto(f"{url}/#/query/{id}")
        expect(page.locator(".row").first).to_contain_text("turn 3")
        page.get_by_role("group", name=re.compile("^Response of row 1,")).get_by_role("button").first.click()
        page.get_by_role("button", name=re.compile("^Find the rows that taught it")).click()
        expect(page).not_to_have_url(re.compile(id))
        request = of_this_address(page)
        assert [message["content"] for message in request["prompt"]][-2:] == ["the sea", "sure?"]  # type: ignore[attr-defined]
        assert request["response"] == "ok"
        # Its conversation stays when the prompt is edited.
        expect(prompt_of(page)).to_have_value("sure?")
        prompt_of(page).fill("really?")
        expect(page.get_by_text("Asked with 4 other messages of the conversation.")).to_be_visible()
        with page.expect_request("**/v1/generate") as sent:
            page.keyboard.press("Enter")
        messages = sent.value.post_data_json["prompt"]
        assert [message["content"] for message in messages][-2:] == ["the sea", "really?"]

        page.get_by_role("link", name="Data").click()
        expect(page.get_by_role("heading", level=2)).to_have_text(
            f"{N_CONVERSATIONS} rows, {3 * N_CONVERSATIONS} turns"
        )
        expect(page.get_by_role("listitem").nth(2)).to_contain_text("conversations.jsonl:1, turn 3")
        page.get_by_label("number").select_option(index=2)
        expect(page.get_by_role("heading", level=2)).to_have_text(
            f"{N_CONVERSATIONS // 2} rows, {3 * N_CONVERSATIONS // 2} turns"
        )


def test_an_answer_is_traced_with_its_own_prompt(opened: Open, url: str) -> None:
    page = opened(url)
    asked(page)
    prompt_of(page).fill(FRUIT)
    find = page.get_by_role("button", name=re.compile("^Find the rows behind"))
    expect(find).to_be_disabled()
    page.get_by_label("Wanted answer").press("Enter")
    page.get_by_role("button", name="go back to it").click()
    expect(prompt_of(page)).to_have_value(PROMPT)
    find.click()
    assert of_this_address(page)["prompt"] == PROMPT
    prompt_of(page).fill(FRUIT)
    page.get_by_role("group", name=re.compile("^Response of row 1,")).get_by_role("button").first.click()
    old = page.url
    page.get_by_role("button", name="Ask again among rows with it").click()
    expect(page).not_to_have_url(old)
    assert of_this_address(page)["prompt"] == PROMPT


def test_a_scan_is_no_audit_with_a_rate(opened: Open, url: str, served: ServedWorld) -> None:
    scan_of().to_json(state_folder(served.index) / "audits" / "scan.json")
    page = at(opened, url, "#/audits")
    page.get_by_role("link", name=re.compile("^scan")).click()
    main = page.locator("main")
    expect(main).to_contain_text("No rate is claimed.")
    expect(main).to_contain_text("Each group is a hint: no output was given")
    expect(main).to_contain_text("6 rows share a direction that 0.1% of the others have.")
    card = page.locator(".group > summary")
    expect(card).to_contain_text("7 rows")
    expect(card).to_contain_text("score 2.3")
    expect(card).to_contain_text("direction")
    expect(main).not_to_contain_text(re.compile(r"discovery|\d outputs?|q 1|weight"))


def test_a_log_is_sent_as_it_is_or_not_at_all(opened: Open, url: str, tmp_path: Path) -> None:
    page = at(opened, url, "#/audits")
    sent: list[str] = []
    page.on("request", lambda request: request.method == "POST" and sent.append(request.url))
    logs = {
        "latin.csv": "prompt,response\nWo ist Köln?,Übel\n".encode("latin-1"),
        "cjk.jsonl": "\n".join(['{"prompt": "問", "response": "答"}'] * 30_000).encode(),
        "quotes.jsonl": "\n".join([json.dumps({"a": ""})] * 100_000).encode(),
    }
    said = ["latin.csv is not UTF-8.", "cjk.jsonl has 1,1", "quotes.jsonl takes 1,"]
    for (name, content), expected in zip(logs.items(), said, strict=True):
        (tmp_path / name).write_bytes(content)
        page.get_by_label("Bad outputs").set_input_files(tmp_path / name)
        page.get_by_role("button", name="Audit", exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text(expected)
    assert sent == []


def test_many_jobs_that_wait_leave_the_page_free(opened: Open, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whence.serve.jobs.Jobs._next", lambda self: None)
    page = opened(url)
    log = json.dumps({"prompt": PROMPT, "response": RESPONSE}) + "\n"
    for i in range(8):
        posted(page, "/v1/audits", {"name": f"log {i}", "log": log})
    page.get_by_role("link", name="Audits").click()
    expect(page.get_by_role("article")).to_have_count(8)
    page.wait_for_timeout(1500)
    other = opened(url)
    expect(other.get_by_role("heading", level=2)).to_be_visible()
    page.get_by_role("article", name="Audit log 3").get_by_role("button", name="Stop").click()
    expect(page.get_by_role("article", name="Audit log 3")).to_contain_text("cancelled")
    id = page.request.get(f"{url}/v1/jobs?active=true").json()["jobs"][0]["id"]
    page.request.post(f"{url}/v1/jobs/{id}/cancel", data={})
    expect(page.get_by_role("article", name="Audit log 7")).to_contain_text("cancelled")


def test_one_double_click_is_one_retraining(opened: Open, url: str, served: ServedWorld) -> None:
    page = opened(url)
    row = next(iter(read_examples(served.data))).id
    posted(page, "/v1/baskets", {"rows": [row]})
    kept_query(page, PROMPT, RESPONSE)
    waiting: list[Route] = []
    page.route("**/v1/index", lambda route: route.fulfill(json=route.fetch().json() | {"can_confirm": True}))
    page.route(
        "**/v1/jobs", lambda route: waiting.append(route) if route.request.method == "POST" else route.continue_()
    )
    page.goto(f"{url}/#/basket")
    page.reload()
    page.get_by_label("Text or expression").fill("sea")
    expect(page.get_by_role("checkbox").first).to_be_checked()
    page.get_by_role("button", name="Train again").dblclick()
    page.wait_for_timeout(300)
    [asked_once] = waiting
    assert asked_once.request.post_data_json["rows"] == [row]
    asked_once.fulfill(json={}, status=202)


def test_the_last_of_two_million_rows_is_reached(opened: Open, url: str) -> None:
    n = 2_000_000
    page = opened(url)
    some = page.request.get(f"{url}/v1/rows?limit=100").json()["rows"]
    page.route("**/v1/rows?*", lambda route: route.fulfill(json={"rows": some, "total": n, "n_rows": n}))
    page.get_by_role("link", name="Data").click()
    rows = page.get_by_role("list", name="Rows of the data")
    expect(rows.get_by_role("listitem").first).to_have_attribute("aria-posinset", "1")
    rows.evaluate("list => list.scrollTo(0, (list.scrollHeight - list.clientHeight) / 2)")
    expect(rows.locator("[aria-posinset='1000000']")).to_be_visible()
    rows.evaluate("list => list.scrollTo(0, list.scrollHeight)")
    last = rows.locator(f"[aria-posinset='{n}']")
    expect(last).to_be_in_viewport()
    assert last.bounding_box()["y"] < rows.bounding_box()["y"] + rows.bounding_box()["height"]  # type: ignore[index]
    page.get_by_label("label", exact=True).select_option(index=1)
    expect(rows.get_by_role("listitem").first).to_have_attribute("aria-posinset", "1")


def test_a_query_that_is_not_forgotten_is_said(opened: Open, url: str) -> None:
    page = opened(url, allowed="404")
    kept = kept_query(page, "Name fruit 70", "pears")
    page.get_by_role("link", name="Past").click()
    forget = page.get_by_role("button", name="Forget: Name fruit 70")
    expect(forget).to_be_visible()
    page.request.delete(f"{url}/v1/queries/{kept}")  # by another tab
    forget.click()
    expect(page.get_by_role("alert")).to_contain_text("There is no query")
    expect(forget).to_have_count(0)


def test_what_was_not_tested_and_what_was_not_found_are_no_candidates_and_no_none(opened: Open, url: str) -> None:
    page = opened(url)
    ordinary = posted(page, "/v1/trace", {"prompt": FRUIT, "response": "apples", "k": 5})
    page.goto(f"{url}/#/query/{ordinary['id']}")
    expect(
        page.get_by_text("it is not known whether any is a cause. This does not show that the data are clean")
    ).to_be_visible()
    expect(page.get_by_text("Each row is a candidate")).to_have_count(0)
    untested = kept_query(page, PROMPT, RESPONSE)
    page.goto(f"{url}/#/query/{untested}")
    expect(page.get_by_text("Each row is a candidate")).to_be_visible()
    page.goto(f"{url}/#/past")
    line = page.locator(f"li.past:has(a[href='#/query/{untested}'])")
    expect(line).to_contain_text("no verdict")
    expect(page.locator(f"li.past:has(a[href='#/query/{ordinary['id']}'])")).to_contain_text("none flagged")


def test_hidden_texts_are_hidden_in_columns_too(opened: Open, url: str) -> None:
    page = opened(url)
    id = kept_query(page, PROMPT, RESPONSE)

    def with_note(route: Route) -> None:
        answer = route.fetch()
        content = answer.json()
        for hit in content["result"]["hits"]:
            hit["metadata"] |= {"note": "what the row says", "year": 1999}
        route.fulfill(response=answer, json=content)

    page.route(re.compile(r"/v1/queries/[0-9a-f]{16}$"), with_note)
    page.goto(f"{url}/#/query/{id}")
    expect(page.get_by_text("what the row says").first).to_be_attached()
    page.get_by_role("button", name="Hide texts").click()
    expect(page.get_by_text("what the row says")).to_have_count(0)
    expect(page.get_by_text("1999").first).to_be_attached()
