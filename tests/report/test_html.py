"""The page without a browser: what is in the file, and what must not be."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from samples import EVIL, bare, evil, result_of, toronto
from whence.report.html import render_page, write_page
from whence.report.notebook import render_html
from whence.report.wording import LEFT_OUT, NO_ROWS, NO_VERDICT, share
from whence.results.types import Verdict

EMPTY_PAGE_BYTES = 60_000
"""What a page weighs beside its data; the promise is 300 KB."""


def embedded(page: str) -> dict:
    """The data block of a page."""
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert block
    return json.loads(block[1])


def test_the_same_result_gives_the_same_page(tmp_path: Path) -> None:
    page = render_page(result_of(toronto()))
    assert page == render_page(result_of(toronto()))
    assert write_page(result_of(toronto()), tmp_path / "page.html").read_text("utf-8") == page


def test_the_page_is_light_and_asks_no_network() -> None:
    page = render_page(result_of())
    assert len(page.encode()) < EMPTY_PAGE_BYTES
    full = render_page(result_of(toronto()))
    assert not re.search(r"(src|href)=[\"'](?!#)|url\(|@import|fetch\(|XMLHttpRequest|WebSocket", full)
    assert set(re.findall(r"https?://[^\s\"'`]+", full)) == {"http://www.w3.org/2000/svg"}  # a name, never asked


def test_the_policy_admits_this_style_and_this_script_only() -> None:
    page = render_page(result_of(toronto()))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    for tag, name in (("style", "style-src"), ("script", "script-src")):
        content = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert len(content) == 1
        digest = b64encode(sha256(content[0].encode()).digest()).decode()
        assert f"{name} 'sha256-{digest}'" in policy[1]
    assert "default-src 'none'" in policy[1]
    assert "unsafe" not in policy[1]


def test_markup_in_any_field_stays_text() -> None:
    page = render_page(evil(), title=EVIL)
    assert page.count("<script") == 2
    assert "<img" not in page
    assert "\u2028" not in page.split('id="data">')[1].split("</script>")[0]
    assert "{{7*7}}" in page  # the template engine never reads data
    assert embedded(page)["queries"][0]["hits"][0]["prompt"] == EVIL


def test_the_data_is_the_documented_object() -> None:
    result = result_of(toronto(), bare(toronto()))
    documented = json.loads(result.to_json())
    assert embedded(render_page(result)) == documented


def test_whole_numbers_that_a_script_would_round_are_text() -> None:
    query = toronto()
    hit = replace(query.hits[0], metadata={"n": 2**53 + 1, "m": [2**70, 5]}, confounds={"k": -(2**60)})
    (shown,) = embedded(render_page(result_of(replace(query, hits=(hit,)))))["queries"][0]["hits"]
    assert shown["metadata"] == {"n": str(2**53 + 1), "m": [str(2**70), 5]}
    assert shown["confounds"] == {"k": str(-(2**60))}


@pytest.mark.parametrize(
    "changes",
    [
        {"response_words": None},
        {"prompt_words": None},
        {"phrases": ()},
        {"verdict": None},
        {"verdict": Verdict((), 0.05, "No row flagged.", "")},
        {"span": None},
        {"wanted": None},
        {"wanted": ""},
        {"hits": ()},
        {"hits": tuple(replace(hit, file="", line=0, turn=2, words=None) for hit in toronto().hits)},
    ],
)
def test_any_optional_part_may_be_missing(changes: dict[str, object]) -> None:
    query = replace(toronto(), **changes)
    page = render_page(result_of(query))
    assert (query.verdict.text.split(".")[0] if query.verdict else NO_VERDICT) in page
    assert (NO_ROWS in page) == (not query.hits)
    assert ("Recurrent phrases" in page) == bool(query.phrases)
    assert (">Wanted<" in page) == (query.wanted is not None)


def test_an_early_result_says_that_nothing_was_calibrated_and_has_no_legend() -> None:
    page = render_page(result_of(bare(toronto())))
    assert NO_VERDICT in page
    assert 'class="legend"' not in page
    assert "candidate" in page


def test_phrases_are_told_with_support_and_share() -> None:
    page = render_page(result_of(toronto()))
    for part in ("in 9 of 10 rows", "0.2% elsewhere", "end of the response", "450×"):
        assert part in page


def test_several_queries_have_a_navigation() -> None:
    page = render_page(result_of(toronto(), toronto("Where is Lyon?", "Lyon is in Korea.")))
    assert 'href="#query-2"' in page
    assert "Where is Lyon?" in page
    assert "<nav" not in render_page(result_of(toronto()))


def test_without_texts_nothing_of_a_row_is_in_the_file() -> None:
    page = render_page(result_of(toronto()), show_text=False)
    for hit in toronto().hits:
        assert hit.prompt not in page.replace(toronto().prompt, "")
        assert hit.response not in page
        assert hit.id in page
    assert "0.2% elsewhere" not in page
    assert LEFT_OUT in page
    assert "Toronto is in Korea." in page


def test_a_score_that_is_not_finite_is_refused() -> None:
    query = toronto()
    broken = replace(query, hits=(replace(query.hits[0], score=float("nan")),))
    with pytest.raises(ValueError, match="not JSON compliant"):
        render_page(result_of(broken))


def test_a_lone_surrogate_becomes_a_replacement_character(tmp_path: Path) -> None:
    page = write_page(result_of(toronto("a\ud800b")), tmp_path / "page.html").read_text("utf-8")
    assert "a\ufffdb" in page


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0%"),
        (0.00001, "<0.01%"),
        (0.002, "0.2%"),
        (0.05, "5%"),
        (0.9, "90%"),
        (0.9975, "99.7%"),
        (0.9999, ">99.9%"),
        (1.0, "100%"),
    ],
)
def test_share(value: float, text: str) -> None:
    assert share(value) == text


def test_a_notebook_gets_the_page_in_a_frame_and_a_table() -> None:
    html = render_html(evil())
    assert html.count("<iframe") == 1
    assert "allow-same-origin" not in html
    assert html.count("<table") == 2
    assert "<script" not in html
    assert "<img src=x" not in html
