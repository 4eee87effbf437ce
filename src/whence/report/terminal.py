"""A trace as text for the terminal: a table per query."""

from __future__ import annotations

import shutil
from io import StringIO
from typing import TYPE_CHECKING

from whence.report.printable import printable, visible
from whence.report.wording import (
    about_rows,
    cut_note,
    departure_note,
    explained_note,
    phrases_note,
    place,
    scored_note,
    share,
)
from whence.results import Hit, Phrase, QueryResult, TraceResult, Verdict, labels_of

if TYPE_CHECKING:
    from rich.console import RenderableType

NARROWEST = 60
MARK = "* "
"""Before the rank of a flagged row."""
JOINER = "\N{ZERO WIDTH JOINER}"
SHOWN_PHRASES = 3
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
    """The parts to print for one query: the verdict, what was asked, the ranking, and what a ranking does not say.

    texts: False leaves out the text of the rows, which may be harmful to read.
    """
    from rich.text import Text

    parts: list[RenderableType] = []
    if query.verdict is not None:
        parts.append(Text(visible(_verdict(query, query.verdict)), "bold"))
    if accounts := explained_note(query):
        parts.append(Text(accounts))
    said = "answered (by the model now)" if query.generated else "answered"
    parts += [
        Text.assemble(("asked     ", "bold"), shorten(query.prompt, 300)),
        Text.assemble((f"{said}  ", "bold"), shorten(query.response, 300)),
    ]
    if query.span is not None:
        parts.append(Text.assemble(("about     ", "bold"), shorten(query.response[slice(*query.span)], 300)))
    if query.wanted is not None:
        parts.append(Text.assemble(("wanted    ", "bold"), shorten(query.wanted, 300)))
    if cut := cut_note(query):
        parts.append(Text.assemble(("cut       ", "bold"), cut))
    if departs := departure_note(query):
        parts.append(Text.assemble(("note      ", "bold"), departs))
    rows = f"method {query.method} {query.method_version}, layer {query.layer}, {scored_note(query)}"
    parts.append(Text(visible(rows), "dim"))
    if not query.hits:
        return [*parts, Text("No row was scored: the filter leaves none.")]
    parts.append(_ranking(query, texts=texts))
    if query.confirmation:
        parts.append(Text(visible(f"Trained again: {query.confirmation}")))
    if query.confound:
        parts.append(Text(visible(f"What else could explain it: {query.confound}")))
    if texts and query.phrases:
        shared = "These rows share: " + "; ".join(map(_phrase, query.phrases[:SHOWN_PHRASES])) + "."
        parts.append(Text(" ".join(filter(None, (shared, phrases_note(query))))))
    return [*parts, Text(about_rows(query), "dim")]


def _ranking(query: QueryResult, *, texts: bool) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    flagged = frozenset(query.verdict.flagged) if query.verdict else frozenset()
    calibrated = any(hit.q_value is not None for hit in query.hits)
    # of each hit: what it carries, without texts where these are left out
    metadata = [hit.metadata if texts else labels_of(hit.metadata) for hit in query.hits]
    extra = [name for name in SHOWN_METADATA if any(name in own for own in metadata)]
    table = Table(box=None, pad_edge=False, show_edge=False, expand=True)
    table.add_column("rank", justify="right", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    if calibrated:
        table.add_column("q", justify="right", no_wrap=True)
    table.add_column("row", overflow="fold", max_width=28)
    for name in extra:
        table.add_column(name, overflow="ellipsis", max_width=16, no_wrap=True)
    if texts:
        table.add_column("prompt -> response", ratio=1)
    for hit, own in zip(query.hits, metadata, strict=True):
        rank = f"{MARK if hit.id in flagged else ''}{hit.rank}"
        chance = [_chance(hit.q_value)] if calibrated else []
        carried = [named(own.get(name), 40) for name in extra]
        cells = [rank, f"{hit.score:.4f}", *chance, _place(hit), *carried, *([_text(hit)] if texts else [])]
        # Text, not str: rich would read [brackets] in the data as its own markup.
        table.add_row(*map(Text, cells))
    return table


def _verdict(query: QueryResult, verdict: Verdict) -> str:
    """One line: the verdict, and what the marks are."""
    line = verdict.text[:1].upper() + verdict.text[1:]
    if not verdict.flagged:
        return f"{line}."
    shown = sum(hit.id in set(verdict.flagged) for hit in query.hits)
    among = f"{shown} of them" if shown < verdict.n_flagged else "it" if shown == 1 else "they"
    return f"{line}; {among} {'is' if shown == 1 else 'are'} marked {MARK.strip()} below."


def _phrase(phrase: Phrase) -> str:
    rows = f"{phrase.n_rows} of {phrase.n_read} rows, {share(phrase.share_elsewhere)} elsewhere"
    return f'"{named(phrase.text, 80)}" {"" if phrase.place == "anywhere" else "at the "}{place(phrase)} ({rows})'


def _chance(value: float | None) -> str:
    if value is None:
        return ""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def shorten(value: object, length: int) -> str:
    """One printable line of at most `length` characters; long text loses its middle.

    Characters that steer a terminal (escape sequences in the data) are replaced, see `whence.report.printable`.
    """
    text = printable(" ".join(("" if value is None else str(value)).split()))
    if len(text) <= length:
        return text
    head = (length - 5) * 2 // 3
    start, end = text[:head], text[len(text) - (length - 5 - head) :]
    # A cut within an emoji family leaves a joiner with nothing to join.
    return f"{start.rstrip(JOINER)} ... {end.lstrip(JOINER)}"


def named(value: object, length: int) -> str:
    """A place, a name or a phrase on one line of at most `length` characters, in which nothing is unseen."""
    return shorten(visible("" if value is None else str(value)), length)


def file_place(file: str, line: int) -> str:
    """`train.jsonl:17`: a row's file without its folder, and its line."""
    return f"{visible(file.rsplit('/', 1)[-1])}:{line}"


def _place(hit: Hit) -> str:
    id = visible(hit.id)
    turn = f" turn {hit.turn + 1}" if hit.turn else ""
    return f"{file_place(hit.file, hit.line)}{turn}\n{id}" if hit.file else f"{id}{turn}"


def _text(hit: Hit) -> str:
    return f"{shorten(hit.prompt, 120)} -> {shorten(hit.response, 120)}"
