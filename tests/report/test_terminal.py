"""What a person sees: nothing of the data is taken for markup or steers the terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from whence.report.notebook import render_html
from whence.report.terminal import render_text, shorten
from whence.results.trace_result import SCHEMA, TraceResult
from whence.results.types import Hit, QueryResult


def result(**changes: object) -> TraceResult:
    hit = Hit(
        1,
        0.98765,
        "00ff00ff00ff00ff",
        "data/train.jsonl",
        7,
        1,
        "Why [red]not[/red]?",
        "\x1b[31mSo <b>.",
        {"label": "odd"},
    )
    query = QueryResult("Why?", "<script>alert(1)</script>", "rept", "1", "5", (hit,), 24)
    return TraceResult("runs/index", "runs/model", None, (query,) if not changes else (query, query))


def test_text_shows_rank_score_place_and_label_and_says_candidate() -> None:
    text = render_text(result(), width=160)
    for part in ("0.9877", "train.jsonl:7 turn 2", "00ff00ff00ff00ff", "odd", "candidate", "24 rows scored", "layer 5"):
        assert part in text


def test_markup_and_escape_sequences_of_the_data_stay_text() -> None:
    text = render_text(result(), width=160)
    assert "[red]not[/red]" in text
    assert "\x1b" not in text


def test_html_escapes_everything_from_the_data() -> None:
    html = render_html(result())
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<script" not in html
    assert "&lt;b&gt;" in html
    assert html == result()._repr_html_()


def test_json_has_the_documented_keys() -> None:
    content = json.loads(result().to_json())
    assert content["schema"] == SCHEMA == "whence.trace/1"
    query = content["queries"][0]
    documented = (Path(__file__).parents[2] / "docs" / "json.md").read_text("utf-8")
    for keys in (content, query, query["hits"][0]):
        assert {key for key in keys if f'"{key}"' not in documented} == set()
    assert {"rank", "score", "id", "file", "line", "turn", "prompt", "response", "metadata", "status"} <= set(
        query["hits"][0]
    )


def test_hits_of_several_queries_must_be_asked_one_by_one() -> None:
    assert result().hits[0].rank == 1
    with pytest.raises(ValueError, match="2 queries"):
        _ = result(two=True).hits


@pytest.mark.parametrize(
    ("text", "length", "expected"),
    [
        ("a\n  b\tc", 10, "a b c"),
        (None, 10, ""),
        (3.5, 10, "3.5"),
        ("x" * 30, 15, "xxxxxx ... xxxx"),
        ("a\x07b\u202ec", 10, "a\ufffdb\ufffdc"),
    ],
)
def test_shorten(text: object, length: int, expected: str) -> None:
    assert shorten(text, length) == expected
    assert len(shorten(text, length)) <= length
