"""What is left of a trace in a notebook that is not trusted: static, escaped, with shaded words and the pictures."""

from __future__ import annotations

import re
from base64 import b64decode
from html.parser import HTMLParser

from samples import evil, result_of, toronto
from whence.report.notebook import render_html
from whence.report.notebook_shading import LONGEST, SHADES, row_scale, shaded, text_scale
from whence.results.types import Words


def static(html: str) -> str:
    """Without the frame, which such a notebook drops."""
    return re.sub(r"<iframe.*?</iframe>", "", html, flags=re.DOTALL)


class Tags(HTMLParser):
    """Every tag with its attributes, and all text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_words_are_shaded_by_the_pages_scale() -> None:
    query = toronto()
    scale = row_scale(query, "response")
    assert scale == 0.92, "the strongest word of most of the first ten rows is Korea"
    html = shaded(query.hits[0].response, query.hits[0].words.response, scale)
    assert f'<span style="background-color:{SHADES[-1]};color:#1a1a1a" title="0.920">Korea</span>' in html
    assert "shore" in html
    assert "shore</span>" not in html, "below the least share a word is plain"
    assert Tags(html).text == query.hits[0].response


def test_a_word_that_worked_against_it_is_underlined_and_long_texts_are_cut() -> None:
    words = Words(((0, 4), (5, 9)), (-0.5, 1.0), "x")
    assert shaded("not& here", words, text_scale(words)).startswith(
        '<span style="text-decoration:underline dotted" title="-0.500">not&amp;</span>'
    )
    assert shaded("a" * (LONGEST + 7), None, 0.0).endswith(" [... 7 more characters]")


def test_the_static_part_needs_no_trust() -> None:
    tags = Tags(static(render_html(evil())))
    assert {tag for tag, _ in tags.tags} <= {
        *("details", "summary", "p", "b", "br", "table", "thead", "tbody", "tr", "th", "td", "span", "img")
    }
    for _, attributes in tags.tags:
        assert attributes.keys() <= {"style", "title", "alt", "src"}
        assert (attributes.get("src") or "data:").startswith("data:")
    assert "window.ran" in tags.text, "it is shown as text"


def test_the_picture_is_a_picture() -> None:
    (source,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', static(render_html(result_of(toronto()))))
    assert b"<svg" in b64decode(source)
    assert "6 of 1,000 rows flagged." in static(render_html(result_of(toronto())))
