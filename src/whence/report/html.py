"""A trace as one self-contained HTML page: template, style, script and data in a single file that asks no network.

The page is a pure function of a `TraceResult`. Text of the data reaches it in two ways only: through jinja2, which
escapes it, and as JSON in a data block, which the page's script shows as text nodes. The content security policy
admits the page's own script and style by their hashes and nothing else.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from whence.data import Json, is_wide
from whence.report.figures import query_figures
from whence.report.printable import printable
from whence.report.svg import figure_svg
from whence.report.terminal import shorten
from whence.report.wording import (
    cut_note,
    departure_note,
    explained_note,
    headline,
    lift,
    phrases_note,
    place,
    rows_note,
    scored_note,
    share,
)
from whence.results import HitWords, Phrase, QueryResult, TraceResult, Words

if TYPE_CHECKING:
    from jinja2 import Template

DIGITS = 4
"""Decimals kept of a word's score: a map has a number for every pair of words, and the page only shades by it."""

_FOR_HTML = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}
# Bidirectional controls, which would turn around what an editor shows of the page's source.
_FOR_HTML |= {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x2070))}


def render_page(result: TraceResult, *, title: str | None = None, show_text: bool = True) -> str:
    """The whole page as text, the same for the same result.

    title: of the page; by default the prompt, or the number of queries.
    show_text: False leaves out what comes from the text of training rows (prompts, responses, words, phrases), which
        may be harmful to read; metadata that are no texts stay.

    Raises ValueError for a score that is not finite.
    """
    page = _template().render(
        **_assets(),
        title=title or _title(result),
        queries=[_shown(query, show_text) for query in result],
        made=_pairs({"model": result.model, "adapter": result.adapter, "index": result.index}),
        data=_data_block(page_data(result, show_text=show_text)),
    )
    # A lone surrogate, which JSON may carry, has no UTF-8 form.
    return page.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def write_page(result: TraceResult, path: str | Path, *, title: str | None = None, show_text: bool = True) -> Path:
    """Write `render_page` to `path` as UTF-8; returns the path."""
    path = Path(path)
    path.write_text(render_page(result, title=title, show_text=show_text), encoding="utf-8", newline="\n")
    return path


def page_data(result: TraceResult, *, show_text: bool = True) -> dict[str, Json]:
    """What the page carries: the documented JSON object, word scores to `DIGITS` decimals, row texts if wanted, whole
    numbers of the data beyond 2^53 as text."""
    content = _rounded(result if show_text else result.without_text()).to_dict()
    for query in _objects(content["queries"]):
        for hit in _objects(query["hits"]):
            hit |= {name: _exact(hit[name]) for name in ("metadata", "confounds")}
    if not show_text:
        # The page tells a text that is left out from one that is empty.
        for query in _objects(content["queries"]):
            for hit in _objects(query["hits"]):
                del hit["prompt"], hit["response"], hit["words"]
    return content


def _exact(value: Json) -> Json:
    """The value with whole numbers that a script would round as text."""
    if isinstance(value, dict):
        return {name: _exact(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_exact(one) for one in value]
    return str(value) if is_wide(value) else value


def _objects(value: Json) -> Iterator[dict[str, Json]]:
    """The objects of an array."""
    assert isinstance(value, list)
    yield from (one for one in value if isinstance(one, dict))


def _rounded(result: TraceResult) -> TraceResult:
    def short(scores: tuple[float, ...]) -> tuple[float, ...]:
        return tuple([round(score, DIGITS) for score in scores])

    def words(own: Words) -> Words:
        deletion = own.deletion and replace(own.deletion, left=short(own.deletion.left))
        return replace(own, scores=short(own.scores), deletion=deletion)

    def hit_words(own: HitWords) -> HitWords:
        return HitWords(words(own.prompt), words(own.response), tuple(map(short, own.map)))

    def query(own: QueryResult) -> QueryResult:
        return replace(
            own,
            prompt_words=own.prompt_words and words(own.prompt_words),
            response_words=own.response_words and words(own.response_words),
            hits=tuple(replace(hit, words=hit.words and hit_words(hit.words)) for hit in own.hits),
        )

    return replace(result, queries=tuple(map(query, result.queries)))


def _data_block(data: Mapping[str, Json]) -> object:
    from markupsafe import Markup

    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(_FOR_HTML))


def _shown(query: QueryResult, show_text: bool) -> dict[str, object]:
    """What the template shows of a query without its script."""
    first, rest, calibration = headline(query.verdict)
    hit_words = [hit.words for hit in query.hits if hit.words] if show_text else []
    own_words = query.prompt_words is not None or query.response_words is not None
    made = {
        "method": f"{query.method} {query.method_version}",
        "layer": query.layer,
        "rows scored": scored_note(query).replace(" rows scored", "", 1),
        "words": ", ".join(_word_methods(query, hit_words)),
    }
    return {
        "query": query,
        "short_prompt": shorten(query.prompt, 80),
        "short_response": shorten(query.response, 80),
        "verdict": first,
        "verdict_rest": rest,
        "calibration": calibration,
        "explained": explained_note(query),
        "n_flagged": query.verdict.n_flagged if query.verdict else 0,
        "span_text": query.response[slice(*query.span)] if query.span else "",
        "has_words": own_words or bool(hit_words),
        "has_map": query.response_words is not None and any(words.map for words in hit_words),
        "has_deletion": any(part.deletion for words in hit_words for part in (words.prompt, words.response)),
        "phrases": [_phrase(phrase) for phrase in query.phrases] if show_text else [],
        "cut": cut_note(query),
        "departure": departure_note(query),
        "phrases_note": phrases_note(query),
        "rows_note": rows_note(query, show_text),
        "figures": _figures(query),
        "made": _pairs(made),
    }


def _figures(query: QueryResult) -> list[object]:
    """The pictures of a query, as SVG that is escaped already."""
    from markupsafe import Markup

    return [Markup(figure_svg(figure)) for figure in query_figures(query)]


def _word_methods(query: QueryResult, hit_words: list[HitWords]) -> list[str]:
    parts = [
        query.prompt_words,
        query.response_words,
        *(part for words in hit_words for part in (words.prompt, words.response)),
    ]
    return sorted({part.word_method for part in parts if part is not None})


def _phrase(phrase: Phrase) -> dict[str, object]:
    return {
        "text": phrase.text,
        "where": place(phrase),
        "n_rows": phrase.n_rows,
        "n_read": phrase.n_read,
        "elsewhere": share(phrase.share_elsewhere),
        "lift": lift(phrase),
    }


def _title(result: TraceResult) -> str:
    if len(result.queries) == 1:
        return shorten(result.queries[0].prompt, 80) or "Trace"
    return f"{len(result.queries)} queries"


def _pairs(values: Mapping[str, str | None]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in values.items() if value]


@cache
def _assets() -> dict[str, object]:
    from markupsafe import Markup

    folder = files("whence.report") / "templates"
    found: dict[str, object] = {}
    for name, own in (("style", ["page.css"]), ("script", ["shading.js", "page.js"])):
        text = "".join((folder / file).read_text("utf-8") for file in own)
        found[name] = Markup(text)
        found[f"{name}_hash"] = "sha256-" + b64encode(sha256(text.encode("utf-8")).digest()).decode("ascii")
    return found


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    text = (files("whence.report") / "templates" / "page.html.j2").read_text("utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=finalised
    )
    return environment.from_string(text)


def finalised(value: object) -> object:
    """What the template prints; jinja2 escapes it afterwards. Our own script, style and data block are not text."""
    from markupsafe import Markup

    return printable(value, lines=True) if isinstance(value, str) and not isinstance(value, Markup) else value
