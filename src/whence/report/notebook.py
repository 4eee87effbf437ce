"""A trace in a notebook's cell: the whole page in a frame of its own, and a plain table where frames are taken out."""

from __future__ import annotations

from html import escape

from whence.report.html import render_page
from whence.report.terminal import SHOWN_METADATA, shorten
from whence.results import Hit, QueryResult, TraceResult

HEIGHT = 720
"""Of the frame, in pixels."""


def render_html(result: TraceResult) -> str:
    """The page in a sandboxed frame, which can neither read nor restyle the notebook, and the table folded below it.

    A notebook that is not trusted, and most viewers of saved notebooks, drop the frame; the table remains.
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
    rows = "\n".join(f"<tr>{_cells(hit, extra)}</tr>" for hit in query.hits)
    return (
        f"<p><b>asked</b> {escape(shorten(query.prompt, 500))}<br>"
        f"<b>answered</b> {escape(shorten(query.response, 500))}<br>"
        f"{escape(query.method)} {escape(query.method_version)}, layer {escape(query.layer)}, "
        f"{query.n_rows:,} rows scored; each row is a candidate</p>\n"
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>"
    )


def _cells(hit: Hit, extra: list[str]) -> str:
    place = f"{hit.file}:{hit.line}" if hit.file else hit.id
    texts = [str(hit.rank), f"{hit.score:.4f}", place, *(shorten(hit.metadata.get(name), 60) for name in extra)]
    texts += [shorten(hit.prompt, 300), shorten(hit.response, 300)]
    return "".join(f'<td style="text-align:left">{escape(text)}</td>' for text in texts)
