"""A trace as Markdown, for an issue or a chat. Data stands in code spans and fences, where nothing runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from whence.data import Json
from whence.report.markdown_text import code as _code
from whence.report.markdown_text import fence as _fence
from whence.report.markdown_text import prose as _prose
from whence.report.markdown_text import table as _table
from whence.report.wording import cut_note, headline, lift, place, removed_text, rows_note, share
from whence.results import DeletionCurve, Hit, QueryResult, TraceResult, Words

TOP_WORDS = 5
GONE = 0.1
"""Share of a score below which it is not said what more would be left without."""


def render_markdown(result: TraceResult, *, show_text: bool = True) -> str:
    """The whole result as GitHub-flavoured Markdown.

    show_text: False leaves out what comes from the text of training rows (prompts, responses, words, phrases), as in
        the page.
    """
    lines: list[str] = []
    for number, query in enumerate(result, 1):
        if len(result.queries) > 1:
            lines += [f"# Query {number} of {len(result.queries)}", ""]
        lines += _query(query, show_text)
    about = {"model": result.model, "adapter": result.adapter, "index": result.index}
    lines += [", ".join(f"{name} {_code(value)}" for name, value in about.items() if value)]
    # A lone surrogate, which JSON may carry, has no UTF-8 form.
    return "\n".join(lines).encode("utf-16", "surrogatepass").decode("utf-16", "replace") + "\n"


def _query(query: QueryResult, show_text: bool) -> Iterator[str]:
    first, rest, calibration = headline(query.verdict)
    yield f"## {_prose(first)}"
    for text in (rest, calibration):
        if text:
            yield from ("", _prose(text))
    if query.confirmation:
        yield from ("", f"> **Trained again:** {_prose(query.confirmation)}")
    if query.confound:
        yield from ("", f"> **What else could explain it:** {_prose(query.confound)}")
    yield from ("", "**Asked**", "", *_fence(query.prompt))
    said = "**Answered** by the model now" if query.generated else "**Answered**"
    about = f", asked about: {_code(query.response[slice(*query.span)])}" if query.span else ""
    yield from ("", said + about, "", *_fence(query.response))
    if query.response_words:
        yield from ("", f"Words that drove the match most: {_top(query.response, query.response_words)}")
    if query.wanted is not None:
        yield from ("", "**Wanted**", "", *_fence(query.wanted))
    if cut := cut_note(query):
        yield from ("", f"> **Cut:** {_prose(cut)}")
    if query.phrases and show_text:
        yield from ("", "### Recurrent phrases", "")
        head = ("phrase", "where", "scores high in", "elsewhere", "lift")
        yield from _table(
            head,
            [
                (_code(p.text), place(p), f"{p.n_rows} of {p.n_read} rows", share(p.share_elsewhere), lift(p))
                for p in query.phrases
            ],
        )
    yield from ("", "### Training rows", "", rows_note(query, show_text), "")
    if query.hits:
        yield from _rows(query)
    if show_text:
        for hit in query.hits:
            yield from _texts(hit)
    method = f"{query.method} {query.method_version}"
    yield from ("", f"method {_code(method)}, layer {_code(query.layer)}, {query.n_rows:,} rows scored", "")


def _rows(query: QueryResult) -> Iterator[str]:
    flagged = set(query.verdict.flagged) if query.verdict else set()
    calibrated = any(hit.p_value is not None for hit in query.hits)
    head = ["rank", "score", "status", *(["p", "q"] if calibrated else []), "row", "metadata", "confounds"]
    rows = []
    for hit in query.hits:
        status = f"**flagged**, {hit.status}" if hit.id in flagged else hit.status
        chance = [_figure(hit.p_value), _figure(hit.q_value)] if calibrated else []
        where = f"{_code(f'{hit.file}:{hit.line}')} {_code(hit.id)}" if hit.file else _code(hit.id)
        rows.append(
            (str(hit.rank), f"{hit.score:.4f}", status, *chance, where, _pairs(hit.metadata), _pairs(hit.confounds))
        )
    yield from _table(head, rows)


def _texts(hit: Hit) -> Iterator[str]:
    yield from (
        "",
        f"#### Row {hit.rank}",
        "",
        "Prompt",
        "",
        *_fence(hit.prompt),
        "",
        "Response",
        "",
        *_fence(hit.response),
    )
    if hit.words:
        for name, text, words in (
            ("prompt", hit.prompt, hit.words.prompt),
            ("response", hit.response, hit.words.response),
        ):
            if words.spans:
                yield from ("", f"Words of the {name} that drove it most: {_top(text, words)}")
            if words.deletion is not None:
                yield from (
                    "",
                    f"Score without these words, one after the other: {_without(text, words, words.deletion)}",
                )


def _top(text: str, words: Words) -> str:
    order = sorted(range(len(words.spans)), key=lambda i: (-words.scores[i], i))[:TOP_WORDS]
    return ", ".join(f"{_code(text[slice(*words.spans[i])])} {words.scores[i]:.3f}" for i in order)


def _without(text: str, words: Words, deletion: DeletionCurve) -> str:
    """As long as the score falls, to a tenth, as on the page."""
    left, told = deletion.left, 1
    while told < min(TOP_WORDS, len(left)) and left[told - 1] >= GONE and left[told] < left[told - 1]:
        told += 1
    steps = zip(deletion.words[:told], left[:told], strict=True)
    return ", ".join(f"{_code(removed_text(text, words, gone))} {still:.0%}" for gone, still in steps)


def _pairs(values: Mapping[str, Json]) -> str:
    shown = {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in values.items()
    }
    return " ".join(_code(f"{name}: {value}") for name, value in shown.items())


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"
