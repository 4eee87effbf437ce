"""A trace as Markdown, for an issue or a chat. Data stands in code spans and fences, where nothing runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from whence.data import Json
from whence.report.printable import printable, visible
from whence.report.terminal import named, shorten
from whence.report.wording import (
    cut_note,
    departure_note,
    explained_note,
    headline,
    lift,
    phrases_note,
    place,
    removed_text,
    rows_note,
    scored_note,
    share,
)
from whence.results import DeletionCurve, Hit, QueryResult, TraceResult, Words

LONGEST = 2000
"""Characters shown of a text; a longer one loses its middle."""
TOP_WORDS = 5
GONE = 0.1
"""Share of a score below which it is not said what more would be left without."""

_SIGNS = re.compile(r"([\\`*_\[\]<>#|~&$])")
"""What is Markdown anywhere in a line."""
_LINKED = re.compile(r"@|#\d|://|\bwww\.|:[\w+-]+:|\bGH-\d", re.IGNORECASE)
"""Mentions, references, addresses and emoji by name: a backslash takes nothing from them."""
_LIST = re.compile(r"^(\d*)([-+.)](?= |$))")
"""What begins a list."""


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
    lines += [", ".join(f"{what} {named_code(value)}" for what, value in about.items() if value)]
    # A lone surrogate, which JSON may carry, has no UTF-8 form.
    return "\n".join(lines).encode("utf-16", "surrogatepass").decode("utf-16", "replace") + "\n"


def _query(query: QueryResult, show_text: bool) -> Iterator[str]:
    first, rest, calibration = headline(query.verdict)
    yield f"## {prose(first)}"
    for text in (rest, calibration):
        if text:
            yield from ("", prose(text))
    if accounts := explained_note(query):
        yield from ("", prose(accounts))
    if query.confirmation:
        yield from ("", f"> **Trained again:** {prose(query.confirmation)}")
    if query.confound:
        yield from ("", f"> **What else could explain it:** {prose(query.confound)}")
    yield from ("", "**Asked**", "", *fence(query.prompt))
    said = "**Answered** by the model now" if query.generated else "**Answered**"
    about = f", asked about: {code(query.response[slice(*query.span)])}" if query.span else ""
    yield from ("", said + about, "", *fence(query.response))
    if query.response_words:
        yield from ("", _top("Words that drove the match most", query.response, query.response_words))
    if query.wanted is not None:
        yield from ("", "**Wanted**", "", *fence(query.wanted))
    if cut := cut_note(query):
        yield from ("", f"> **Cut:** {prose(cut)}")
    if departs := departure_note(query):
        yield from ("", f"> **Note:** {prose(departs)}")
    if query.phrases and show_text:
        yield from ("", "### Recurrent phrases", "")
        if note := phrases_note(query):
            yield from (note, "")
        head = ("phrase", "where", "scores high in", "elsewhere", "lift")
        yield from table(
            head,
            [
                (named_code(p.text), place(p), f"{p.n_rows} of {p.n_read} rows", share(p.share_elsewhere), lift(p))
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
    yield from ("", f"method {named_code(method)}, layer {named_code(query.layer)}, {prose(scored_note(query))}", "")


def _rows(query: QueryResult) -> Iterator[str]:
    flagged = set(query.verdict.flagged) if query.verdict else set()
    calibrated = any(hit.p_value is not None for hit in query.hits)
    head = ["rank", "score", "status", *(["p", "q"] if calibrated else []), "row", "metadata", "confounds"]
    rows = []
    for hit in query.hits:
        status = f"**flagged**, {prose(hit.status)}" if hit.id in flagged else prose(hit.status)
        chance = [_figure(hit.p_value), _figure(hit.q_value)] if calibrated else []
        where = f"{named_code(f'{hit.file}:{hit.line}')} {named_code(hit.id)}" if hit.file else named_code(hit.id)
        rows.append(
            (str(hit.rank), f"{hit.score:.4f}", status, *chance, where, _pairs(hit.metadata), _pairs(hit.confounds))
        )
    yield from table(head, rows)


def _texts(hit: Hit) -> Iterator[str]:
    yield from (
        "",
        f"#### Row {hit.rank}",
        "",
        "Prompt",
        "",
        *fence(hit.prompt),
        "",
        "Response",
        "",
        *fence(hit.response),
    )
    if hit.words:
        for name, text, words in (
            ("prompt", hit.prompt, hit.words.prompt),
            ("response", hit.response, hit.words.response),
        ):
            if words.spans:
                yield from ("", _top(f"Words of the {name} that drove it most", text, words))
            if words.deletion is not None:
                yield from (
                    "",
                    f"Score without these words, one after the other: {_without(text, words, words.deletion)}",
                )


def _top(what: str, text: str, words: Words) -> str:
    order = sorted(range(len(words.spans)), key=lambda i: (-words.scores[i], i))[:TOP_WORDS]
    drove = [f"{named_code(text[slice(*words.spans[i])])} {words.scores[i]:.3f}" for i in order if words.scores[i] > 0]
    return f"{what}: {', '.join(drove) or 'none'}"


def _without(text: str, words: Words, deletion: DeletionCurve) -> str:
    """As long as the score falls, to a tenth, as on the page."""
    left, told = deletion.left, 1
    while told < min(TOP_WORDS, len(left)) and left[told - 1] >= GONE and left[told] < left[told - 1]:
        told += 1
    steps = zip(deletion.words[:told], left[:told], strict=True)
    return ", ".join(f"{named_code(removed_text(text, words, gone))} {_left(still)}" for gone, still in steps)


def _left(part: float) -> str:
    return f"{part:.0%}" if part in (0, 1) or 0.005 <= part < 0.995 else share(part)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table of Markdown; cells are Markdown already, and a pipe in them stays within."""
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        # GitHub's tables end a cell at a pipe even within a code span.
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def _pairs(values: Mapping[str, Json]) -> str:
    shown = {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for key, value in values.items()
    }
    return " ".join(named_code(f"{key}: {value}") for key, value in shown.items())


def _figure(value: float | None) -> str:
    # A p-value too small for its numbers is not a chance of nothing.
    return "" if value is None else "<0.001" if value == 0 else f"{value:.2g}"


def code(text: str, longest: int = 200) -> str:
    """A code span on one line of at most so many characters; its fence is longer than any backticks in the text."""
    return _span(shorten(text, longest))


def named_code(text: str, longest: int = 200) -> str:
    """A code span of a place, a name or a phrase, in which nothing is unseen."""
    return _span(named(text, longest))


def _span(line: str) -> str:
    mark = "`" * (_longest_run(line, "`") + 1)
    return f"{mark} {line} {mark}" if "`" in line else f"{mark}{line or ' '}{mark}"


def fence(text: str) -> list[str]:
    """The lines of a fenced block."""
    if len(text) > LONGEST:
        half = LONGEST // 2
        text = f"{text[:half]}\n[... {len(text) - 2 * half:,} characters ...]\n{text[-half:]}"
    # A carriage return or a Unicode line separator must not open a line of its own for some readers.
    text = "\n".join(printable(line, lines=True) for line in text.splitlines())
    mark = "`" * max(3, _longest_run(text, "`") + 1)
    return [f"{mark}text", text, mark]


def _longest_run(text: str, character: str) -> int:
    return max((len(run) for run in re.findall(f"{re.escape(character)}+", text)), default=0)


def prose(text: str) -> str:
    """A sentence in which nothing is Markdown. Words that GitHub makes links or signs of are code spans."""
    words = visible(" ".join(text.split())).split(" ")
    said = " ".join(_span(word) if _LINKED.search(word) else _SIGNS.sub(r"\\\1", word) for word in words)
    return _LIST.sub(r"\1\\\2", said)
