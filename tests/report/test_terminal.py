"""What a person sees: nothing of the data is taken for markup or steers the terminal."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from samples import result_of, toronto
from whence.report.html import render_page
from whence.report.markdown import render_markdown
from whence.report.notebook import render_html
from whence.report.terminal import render_query, render_text, shorten
from whence.results import read_trace
from whence.results.trace_result import SCHEMA, TraceResult
from whence.results.types import Hit, Phrase, QueryResult, Truncated, Verdict


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


def test_without_a_flagged_row_it_says_what_to_do_next() -> None:
    (query,) = result().queries
    query = replace(query, verdict=Verdict((), 0.05, "no row flagged", "40 reference answers"))
    whole = " ".join(render_text(result_of(query), width=160).split())
    assert "(--span: it sharpens the order, the verdict stays that of the whole answer)" in whole
    part = " ".join(render_text(result_of(replace(query, span=(0, 8))), width=160).split())
    assert "--span" not in part
    assert "To find out more, compare with ordinary prompts of the same kind" in part
    assert "whence confirm --remove top:10, with --trace trace.json" in part


def test_markup_and_escape_sequences_of_the_data_stay_text() -> None:
    text = render_text(result(), width=160)
    assert "[red]not[/red]" in text
    assert "\x1b" not in text


def test_what_nobody_sees_in_a_place_or_a_label_is_named() -> None:
    nasty, shown = "a\x1b[2J\u200bb\u202e", "a⟨U+001B⟩[2J⟨U+200B⟩b⟨U+202E⟩"
    query = result().queries[0]
    hit = replace(query.hits[0], file=f"data/{nasty}", metadata={"label": nasty})
    (bare,) = (replace(hit, file="", id=nasty),)
    phrases = (Phrase(nasty, "prompt", "start", 1, 1, 0.1, 9.0),)
    confound = f"column {nasty}"
    text = render_text(result_of(replace(query, hits=(hit, bare), phrases=phrases, confound=confound)), width=400)
    assert not set(text) & set("\x1b\u200b\u202e")
    whole = text.replace("\n", "").replace(" ", "")
    for part in (f'"{shown}"', f"column{shown}"):
        assert part in whole
    assert text.count("⟨U+200B⟩") >= 4
    assert f"{shown}:7" in render_html(result_of(replace(query, hits=(hit,))))


def test_html_escapes_everything_from_the_data() -> None:
    html = render_html(result())
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<script" not in html
    assert "&lt;b&gt;" in html
    assert html == result()._repr_html_()


def test_json_has_the_documented_keys() -> None:
    content = json.loads(result().to_json())
    assert content["schema"] == SCHEMA == "whence.trace/2"
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
        ("\u0645\u06cc\u200c\u062e", 10, "\u0645\u06cc\u200c\u062e"),
        ("x" * 5 + "\u200d" + "x" * 30, 15, "xxxxx ... xxxx"),
    ],
)
def test_shorten(text: object, length: int, expected: str) -> None:
    assert shorten(text, length) == expected
    assert len(shorten(text, length)) <= length


def cut(**changes: object) -> TraceResult:
    query = replace(result().queries[0], **changes)
    return replace(result(), queries=(query,))


@pytest.mark.parametrize("render", [lambda r: render_text(r, width=400), render_markdown, render_page, render_html])
def test_what_was_cut_is_said_everywhere(render: Callable[[TraceResult], str]) -> None:
    def said(shown: TraceResult) -> str:
        return " ".join(unescape(unescape(render(shown))).split())

    both = said(cut(truncated=Truncated(1_040, 1, 64)))
    assert "The first 1,040 tokens of the prompt, the last 1 token of the response left out: at most 64 tokens" in both
    assert "The last 3 tokens of the wanted answer left out" in said(cut(truncated=Truncated(0, 0, 64, 3)))
    assert "own answer was stopped at its limit" in said(cut(complete=False, generated=True))
    logged = said(cut(complete=False))
    assert "The response was cut off at a limit of new tokens, and is traced as far as it goes." in logged
    assert "own answer" not in logged
    whole = said(cut())
    assert "left out: at most" not in whole
    assert "stopped at its limit" not in whole


def test_the_json_of_a_cut_query_comes_back_whole(tmp_path: Path) -> None:
    shown = cut(truncated=Truncated(40, 12, 64), complete=False)
    shown.to_json(tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text("utf-8"))["queries"][0]["truncated"] == {
        "prompt": 40,
        "response": 12,
        "max_length": 64,
        "wanted": 0,
    }
    assert read_trace(tmp_path / "out.json").queries == shown.queries


@pytest.mark.parametrize("render", [lambda r: render_text(r, width=400), render_markdown, render_page, render_html])
def test_joiners_are_shown_and_overrides_are_not(render: Callable[[TraceResult], str]) -> None:
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    shown = render(cut(prompt=f"{family} a\u202eb", response="\u0645\u06cc\u200c\u062e\x1b[2J"))
    assert family in shown
    assert "\u0645\u06cc\u200c\u062e" in shown
    assert "\u202e" not in shown
    assert "\x1b" not in shown


def test_every_report_says_what_the_flagged_rows_account_for() -> None:
    found = result_of(toronto())
    page = unescape(render_page(found))
    shown = [
        render_text(found, width=400),
        render_markdown(found),
        page,
        unescape(render_html(found).split("</iframe>")[1]),
    ]
    said = "These 6 rows account for about 83% of what fine-tuning added to this answer (18.2 nats)"
    for text in shown:
        assert said in text
        assert "estimate" in text
    assert "account for about" not in render_text(result_of(replace(toronto(), explained=None)), width=400)


def test_one_row_accounts() -> None:
    query = toronto()
    assert query.verdict is not None
    one = replace(query, verdict=replace(query.verdict, flagged=query.verdict.flagged[:1]))
    text = render_text(result_of(one), width=400)
    assert "This row accounts for about 83%" in text
    assert "without it measures" in text


@pytest.mark.parametrize("render", [render_text, render_markdown, render_page])
def test_words_of_several_sentences_are_said_to_be_of_all_of_them(render: Callable[[TraceResult], str]) -> None:
    """And only there: not of one sentence, not of the words asked about, not where no phrase is shown."""
    asked = replace(toronto(), span=None, wanted=None)
    several = replace(asked, response="Toronto is in Korea. Many people go there in May.")

    def says(query: QueryResult) -> bool:
        return "to ask about the wrong words alone: --span" in " ".join(render(result_of(query)).split())

    assert says(several)
    assert not says(replace(asked, response="Toronto is in Korea."))
    assert not says(replace(several, span=(14, 19)))
    assert not says(replace(several, wanted="Canada"))
    assert not says(replace(several, phrases=()))


def test_without_texts_a_long_source_is_not_shown() -> None:
    """A source may be the whole article; with texts its ends are shown."""
    hits = tuple(replace(hit, metadata={"label": "clean", "source": "SECRET " * 20}) for hit in toronto().hits)
    query = replace(toronto(), hits=hits)

    def shown(*, texts: bool) -> str:
        console = Console(file=StringIO(), width=200)
        for part in render_query(query, texts=texts):
            console.print(part)
        return str(console.file.getvalue())  # type: ignore[attr-defined]

    assert "SECRET" in shown(texts=True)
    assert "SECRET" not in shown(texts=False)
    assert "clean" in shown(texts=False)


def test_copies_of_a_flagged_row_are_counted() -> None:
    """Twelve rows of one text, of which the ranking shows one, then five."""
    [hit] = toronto().hits[:1]
    said = Verdict((hit.id,), 0.05, "12 rows flagged (1 different text)", "a null model", 12)
    for shown, among in ((1, "1 of them is"), (5, "5 of them are"), (12, "they are")):
        hits = tuple(replace(hit, rank=rank) for rank in range(1, shown + 1))
        text = render_text(result_of(replace(toronto(), verdict=said, hits=hits)), width=400)
        assert f"12 rows flagged (1 different text); {among} marked * below." in text
        assert "These 12 rows account for about 83%" in text
        assert "without them measures" in text


def test_one_flagged_row_is_one() -> None:
    hit = toronto().hits[0]
    one = replace(toronto(), verdict=Verdict((hit.id,), 0.05, "1 row flagged", "a null model"))
    assert "1 row flagged; it is marked * below." in render_text(result_of(one), width=160)
