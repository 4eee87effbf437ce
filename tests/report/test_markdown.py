"""The Markdown of a trace: complete, and nothing of the data is taken for Markdown."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from samples import bare, result_of, toronto
from whence.report.markdown import LONGEST, render_markdown
from whence.report.summary import render_summary
from whence.report.wording import NO_VERDICT
from whence.results.types import Phrase


def outside_fences(text: str) -> str:
    """The Markdown without its fenced blocks."""
    kept, fence = [], ""
    for line in text.splitlines():
        if not fence and line.startswith("```"):
            fence = line.removesuffix("text")
        elif fence and line == fence:
            fence = ""
        elif not fence:
            kept.append(line)
    assert not fence
    return "\n".join(kept)


def test_everything_of_a_result_is_told() -> None:
    text = render_markdown(result_of(toronto()))
    for part in (
        "## 6 of 1,000 rows flagged.",
        "What else could explain it",
        "asked about: `Korea`",
        "Toronto is in Canada.",
        "| `Korea` | end of the response | 9 of 10 rows | 0.2% | 450× |",
        "| 1 | 0.9130 | **flagged**, candidate | 0.0004 | 0.01 | `data/train.jsonl:17`",
        "`bm25_rank: 4`",
        "Words of the response that drove it most: `Korea` 0.920, `Toronto` 0.610",
        "Score without these words, one after the other: `Korea` 50%, `Toronto` 25%, `in` 12%, `city` 6%",
        "method `rept 1`, layer `5`, 1,000 rows scored",
    ):
        assert part in text


def test_an_early_result_has_no_empty_parts() -> None:
    text = render_markdown(result_of(bare(toronto())))
    assert NO_VERDICT in text
    for part in ("Recurrent", "Wanted", "drove", "| p |"):
        assert part not in text


def test_data_cannot_leave_its_fence_or_its_cell() -> None:
    nasty = "````\n# Heading\n<b>bold</b> | a `b` ```` @someone"
    query = toronto(nasty, nasty + " Korea")
    hit = replace(query.hits[0], prompt=nasty, response=nasty, words=None, metadata={"note": nasty})
    query = replace(
        query,
        hits=(hit,),
        confound=nasty,
        response_words=None,
        phrases=(Phrase(nasty, "prompt", "start", 1, 1, 0.1, 9.0),),
    )
    rest = outside_fences(render_markdown(result_of(query)))
    assert "\n# Heading" not in rest
    table = next(line for line in rest.splitlines() if line.startswith("| 1 |"))
    assert table.replace("\\|", "").count("|") == 9
    confound = next(line for line in rest.splitlines() if line.startswith(">"))
    assert "\\<b\\>" in confound


NASTY = [
    "[a](https://example.org)",
    "@octocat",
    "<b>x</b>",
    "# Heading",
    "*em* _em_",
    "a ` b",
    "1. one",
    "www.example.org",
]


@pytest.mark.parametrize("nasty", NASTY)
def test_names_and_sentences_of_the_data_are_literal(nasty: str) -> None:
    """What stands outside a fence, without its code spans and its escapes, has no Markdown of the data."""
    query = toronto()
    hit = replace(query.hits[0], file=f"data/{nasty}", id=nasty, metadata={nasty: nasty}, status=nasty, words=None)
    verdict = replace(query.verdict, text=f"{nasty}. {nasty}", null_model=nasty, flagged=(nasty,))
    query = replace(query, hits=(hit,), verdict=verdict, confound=nasty, confirmation=nasty, method=nasty, layer=nasty)
    result = replace(result_of(query), model=nasty, adapter=nasty, index=nasty)
    for text in (render_markdown(result), render_summary(result)):
        rest = re.sub(r"(?<!\\)(`+)(?!`).+?(?<!`)\1(?!`)", "", outside_fences(text))
        rest = re.sub(r"\\.", "escaped", rest)
        assert not re.search(r"@|://|www\.|\[|<b|`|_em_|(?m:^#+ *Heading)|(?m:^1\.)", rest), rest


def test_long_texts_lose_their_middle() -> None:
    query = toronto(response="a" * 10 + "b" * 100_000)
    text = render_markdown(result_of(replace(query, hits=(), response_words=None, span=None)))
    assert len(text) < 3 * LONGEST
    assert "[... 98,010 characters ...]" in text


def test_without_texts_nothing_of_a_row_is_told() -> None:
    text = render_markdown(result_of(toronto()), show_text=False)
    assert toronto().hits[1].response not in text
    assert "Recurrent" not in text
    assert toronto().hits[1].id in text


def test_several_queries_are_numbered() -> None:
    text = render_markdown(result_of(toronto(), toronto()))
    assert "# Query 2 of 2" in text


def test_words_that_work_against_the_match_are_not_what_drove_it() -> None:
    query = toronto()
    assert query.response_words is not None
    lowered = replace(query.response_words, scores=tuple(-1.0 for _ in query.response_words.scores))
    assert "Words that drove the match most: none" in render_markdown(result_of(replace(query, response_words=lowered)))
    first = replace(query.hits[0], p_value=0.0)
    assert "| <0.001 |" in render_markdown(result_of(replace(query, hits=(first, *query.hits[1:]))))
