"""A trace in a notebook's cell: the whole page in a frame of its own, and static HTML where frames are taken out."""

from __future__ import annotations

from base64 import b64encode
from html import escape

from whence.report.figures import query_figures
from whence.report.html import render_page
from whence.report.notebook_shading import row_scale, shaded, text_scale
from whence.report.printable import printable, visible
from whence.report.svg import sheet_svg
from whence.report.terminal import SHOWN_METADATA, named
from whence.report.wording import about_rows, cut_note, departure_note, explained_note, headline, scored_note
from whence.results import Hit, QueryResult, TraceResult

HEIGHT = 720
"""Of the frame, in pixels."""
LEFT = 'style="text-align:left"'


def render_html(result: TraceResult) -> str:
    """The page in a sandboxed frame, which can neither read nor restyle the notebook, and a table folded below it.

    A notebook that is not trusted, and most viewers of saved notebooks, drop the frame; the table remains, with the
    verdict, the pictures and the words shaded. It has no script and no style sheet.
    """
    frame = (
        f'<iframe title="whence" sandbox="allow-scripts allow-downloads" srcdoc="{escape(render_page(result))}" '
        f'style="width:100%;height:{HEIGHT}px;border:0"></iframe>'
    )
    tables = "\n".join(_query(query) for query in result)
    return f"{frame}\n<details><summary>as a table</summary>\n{tables}\n</details>"


def _query(query: QueryResult) -> str:
    extra = [name for name in SHOWN_METADATA if any(name in hit.metadata for hit in query.hits)]
    names = ["rank", "score", "row", *extra, "prompt", "response"]
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    flagged = set(query.verdict.flagged) if query.verdict else set()
    scales = row_scale(query, "prompt"), row_scale(query, "response")
    rows = "\n".join(f"<tr>{_cells(hit, extra, hit.id in flagged, scales)}</tr>" for hit in query.hits)
    asked = shaded(query.prompt, query.prompt_words, text_scale(query.prompt_words))
    answered = shaded(query.response, query.response_words, text_scale(query.response_words))
    return (
        f"<p><b>{escape(printable(headline(query.verdict)[0]))}</b></p>\n{_explained(query)}"
        f"<p><b>asked</b> {asked}<br>\n<b>answered</b> {answered}<br>\n"
        f"{_cut(query)}{escape(query.method)} {escape(query.method_version)}, layer {escape(query.layer)}, "
        f"{escape(scored_note(query))}. {escape(about_rows(query))}</p>\n{_pictures(query)}"
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>"
    )


def _explained(query: QueryResult) -> str:
    accounts = explained_note(query)
    return f"<p>{escape(printable(accounts))}</p>\n" if accounts else ""


def _pictures(query: QueryResult) -> str:
    """The figures as one picture: viewers that take inline SVG out leave pictures in."""
    figures = query_figures(query)
    if not figures:
        return ""
    drawn = b64encode(sheet_svg([("", figures)]).encode("utf-8", "replace")).decode("ascii")
    words = escape(" ".join(figure.description for figure in figures))
    return f'<p><img alt="{words}" src="data:image/svg+xml;base64,{drawn}"></p>\n'


def _cut(query: QueryResult) -> str:
    notes = (("cut", cut_note(query)), ("note", departure_note(query)))
    return "".join(f"<b>{name}</b> {escape(note)}<br>" for name, note in notes if note)


def _cells(hit: Hit, extra: list[str], flagged: bool, scales: tuple[float, float]) -> str:
    place = visible(f"{hit.file}:{hit.line}" if hit.file else hit.id)
    rank = f"* {hit.rank}" if flagged else str(hit.rank)
    texts = [rank, f"{hit.score:.4f}", place, *(named(hit.metadata.get(name), 60) for name in extra)]
    words = (hit.words.prompt, hit.words.response) if hit.words else (None, None)
    shown = [
        shaded(text, own, scale) for text, own, scale in zip((hit.prompt, hit.response), words, scales, strict=True)
    ]
    return "".join(f"<td {LEFT}>{text}</td>" for text in [*map(escape, texts), *shown])
