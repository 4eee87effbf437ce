"""A trace as text for the terminal: a table per query."""

from __future__ import annotations

import shutil
from io import StringIO
from typing import TYPE_CHECKING

from whence.results import Hit, QueryResult, TraceResult

if TYPE_CHECKING:
    from rich.console import RenderableType

NARROWEST = 60
SHOWN_METADATA = ("label", "source")
"""Metadata columns with a place in the table; the JSON has all of them."""


def render_text(result: TraceResult, *, width: int | None = None) -> str:
    """The whole result as plain text, without colour."""
    from rich.console import Console

    out = StringIO()
    width = max(NARROWEST, width or shutil.get_terminal_size((100, 24)).columns)
    console = Console(file=out, width=width, no_color=True, highlight=False)
    for query in result:
        for part in render_query(query):
            console.print(part)
    return out.getvalue().rstrip("\n")


def render_query(query: QueryResult, *, texts: bool = True) -> list[RenderableType]:
    """The parts to print for one query: what was asked, its ranking, and what a ranking does not say.

    texts: False leaves out the text of the rows, which may be harmful to read.
    """
    from rich.table import Table
    from rich.text import Text

    said = "answered (by the model now)" if query.generated else "answered"
    parts: list[RenderableType] = [
        Text.assemble(("asked     ", "bold"), shorten(query.prompt, 300)),
        Text.assemble((f"{said}  ", "bold"), shorten(query.response, 300)),
        Text(f"method {query.method} {query.method_version}, layer {query.layer}, {query.n_rows:,} rows scored", "dim"),
    ]
    if not query.hits:
        return [*parts, Text("No row was scored: the filter leaves none.")]
    extra = [name for name in SHOWN_METADATA if any(name in hit.metadata for hit in query.hits)]
    table = Table(box=None, pad_edge=False, show_edge=False, expand=True)
    table.add_column("rank", justify="right")
    table.add_column("score", justify="right")
    table.add_column("row", overflow="fold", max_width=28)
    for name in extra:
        table.add_column(name, overflow="ellipsis", max_width=16, no_wrap=True)
    if texts:
        table.add_column("prompt -> response", ratio=1)
    for hit in query.hits:
        carried = [shorten(hit.metadata.get(name), 40) for name in extra]
        # Text, not str: rich would read [brackets] in the data as its own markup.
        cells = [str(hit.rank), f"{hit.score:.4f}", _place(hit), *carried, *([_text(hit)] if texts else [])]
        table.add_row(*map(Text, cells))
    note = "Each row is a candidate: it ranks high. Only a retraining without it shows whether it is a cause."
    return [*parts, table, Text(note, "dim")]


def shorten(value: object, length: int) -> str:
    """One printable line of at most `length` characters; long text loses its middle.

    Characters that steer a terminal (escape sequences in the data) are replaced.
    """
    text = " ".join(("" if value is None else str(value)).split())
    text = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    if len(text) <= length:
        return text
    head = (length - 5) * 2 // 3
    return f"{text[:head]} ... {text[len(text) - (length - 5 - head) :]}"


def _place(hit: Hit) -> str:
    place = f"{hit.file.rsplit('/', 1)[-1]}:{hit.line}" if hit.file else hit.id
    turn = f" turn {hit.turn + 1}" if hit.turn else ""
    return f"{place}{turn}\n{hit.id}" if hit.file else f"{place}{turn}"


def _text(hit: Hit) -> str:
    return f"{shorten(hit.prompt, 120)} -> {shorten(hit.response, 120)}"
