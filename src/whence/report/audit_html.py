"""An audit as one self-contained page, of the same make as the trace's: jinja2 escapes all text of the data, the
content security policy admits the page's own script and style by their hashes, and nothing is asked of any network.

Cards open without a script; it only adds the theme's button, a search over the groups, and opening all.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

from whence.report.audit_terminal import row_place, source_cells, typical
from whence.report.audit_wording import (
    FIRST_ROWS,
    LEAST_P,
    NOT_FLAGGED,
    PUSHES_HEAD,
    SOURCES_HEAD,
    figure,
    groups_note,
    hand_over,
    headline,
    hint_size,
    not_flagged_note,
    outputs,
    push_cells,
    push_note,
    rate_note,
    rows,
    source_note,
    times,
    trigger_note,
    where_it_stands,
    without_verdict,
)
from whence.report.html import finalised
from whence.report.terminal import named, shorten
from whence.report.wording import LEFT_OUT, share
from whence.results import NO_CAUSE, AuditGroup, AuditQuery, AuditResult, SourceTable, Words

if TYPE_CHECKING:
    from jinja2 import Template

SHOWN_ROWS, SHOWN_OUTPUTS, SHOWN_METADATA = 30, 30, 6
"""Of each group, and of the outputs without a cause; columns of a row."""
LEVELS = 5
FAINT = 0.08
"""Share of the highest score below which a word is not shaded, as in the page of a trace."""
CURVE = (600.0, 140.0)
"""Width and height of the coverage curve."""


SHOWN_VALUES = 20
SOURCE_PLOT, SOURCE_LINE = 420.0, 26
"""Width of the longest bar of a plot of sources, and height of a line."""


class Piece(NamedTuple):
    """A run of a text, and the class that shades it; "" for none."""

    text: str
    shade: str


def render_audit_page(audit: AuditResult, *, title: str | None = None, show_text: bool = True) -> str:
    """The whole page as text, the same for the same result.

    show_text: False leaves out what comes from the text of training rows (prompts, responses, words, phrases).
    """
    shown = audit if show_text else audit.without_text()
    others = [query for query in shown.queries if query.outcome == NO_CAUSE]
    n_others = sum(query.count for query in others)
    page = _template().render(
        **_assets(),
        title=title or (f"Scan of {rows(shown.n_rows)}" if shown.scan else f"Audit of {outputs(shown.n_outputs)}"),
        headline=headline(shown),
        rate=rate_note(shown),
        note=groups_note(shown) + ("" if show_text else f" {LEFT_OUT}"),
        notes=shown.notes,
        audit=shown,
        show_text=show_text,
        first_rows=FIRST_ROWS,
        curve=_curve(shown),
        steps=_steps(shown),
        trigger_note=trigger_note(shown),
        looked_for_triggers=shown.looked_for_triggers or bool(shown.triggers),
        without_verdict=without_verdict(shown) if shown.n_without_verdict else "",
        triggers=[{"trigger": one, "p": figure(one.p_value)} for one in shown.triggers],
        pushes=[
            {
                "note": push_note(own),
                "column": own.column,
                "cells": [(one.value, push_cells(one)) for one in own.values],
            }
            for own in (shown.behaviour.sources if shown.behaviour else ())
        ],
        pushes_head=PUSHES_HEAD,
        sources=[_sources(one) for one in shown.sources],
        sources_head=SOURCES_HEAD,
        groups=[_group(shown, group, show_text) for group in shown.groups],
        others=[_output(query) for query in others[:SHOWN_OUTPUTS]],
        n_others=n_others,
        not_flagged=NOT_FLAGGED,
        not_flagged_note=not_flagged_note(n_others),
        n_hidden=len(others) - SHOWN_OUTPUTS,
        made=_pairs(
            {
                "model": shown.model,
                "adapter": shown.adapter,
                "index": shown.index,
                "method": f"{shown.method} {shown.method_version}",
                "layer": shown.layer,
                "rows scored": f"{shown.n_rows:,}",
                "false discovery rate": share(shown.fdr),
            }
        ),
    )
    # A lone surrogate, which JSON may carry, has no UTF-8 form.
    return page.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _group(audit: AuditResult, group: AuditGroup, show_text: bool) -> dict[str, object]:
    prompt, response = typical(audit, group)
    example = group.example if show_text else None
    # Words are of the turn that the example's hit has; the row may show another.
    texts = {row.id: (row.prompt, row.response) for row in group.rows}
    words = {
        hit.id: hit.words
        for hit in (example.hits if example else ())
        if hit.words and texts.get(hit.id) == (hit.prompt, hit.response)
    }
    shaded = [
        {
            "row": row,
            "place": row_place(row),
            "snippet": shorten(f"{row.prompt} \N{RIGHTWARDS ARROW} {row.response}", 160) if show_text else "",
            "prompt": pieces(row.prompt, own.prompt if (own := words.get(row.id)) else None),
            "response": pieces(row.response, own.response if own else None),
            "metadata": list(row.metadata.items())[:SHOWN_METADATA],
        }
        for row in group.rows[:SHOWN_ROWS]
    ]
    return {
        "group": group,
        "size": hint_size(group) if group.hint else outputs(group.n_outputs),
        "n_rows": rows(len(group.rows)),
        "q": figure(group.q_value),
        "share_of_log": 0.0 if group.hint else 100 * group.n_outputs / audit.n_outputs,
        "score": f"{group.hint.score:.1f}" if group.hint else "",
        "weight": share(group.share),
        "prompt": pieces(prompt, example.prompt_words if example else None),
        "response": pieces(response, example.response_words if example else None),
        "has_words": bool(words),
        "phrases": [
            {
                "phrase": one,
                "where": where_it_stands(one),
                "lift": times(one),
                "p": figure(one.p_value),
                "elsewhere": share(one.share_elsewhere),
            }
            for one in group.phrases
        ],
        "rows": shaded,
        "n_hidden_rows": len(group.rows) - len(shaded),
        "outputs": [_output(audit.queries[number]) for number in group.queries[:SHOWN_OUTPUTS]],
        "n_hidden_outputs": len(group.queries) - SHOWN_OUTPUTS,
        "commands": hand_over(audit, group),
    }


def _output(query: AuditQuery) -> dict[str, object]:
    return {"query": query, "q": figure(query.q_value), "p": figure(query.p_value)}


def _steps(audit: AuditResult) -> list[dict[str, object]]:
    known = {(group.number, row.id): row for group in audit.groups for row in group.rows}
    found = []
    for step in audit.coverage:
        row = known[step.group, step.id]
        found.append(
            {"step": step, "row": row, "place": row_place(row), "covered": share(step.n_covered / audit.n_outputs)}
        )
    return found


def _sources(table: SourceTable) -> dict[str, object]:
    """The table of one column, and its plot: a bar for each share with its interval, a tick for the share of rows."""
    shown = table.values[:SHOWN_VALUES]
    widest = max((max(one.high, one.row_share) for one in shown), default=1.0) or 1.0
    scale = SOURCE_PLOT / widest
    plotted = [
        {
            "name": named(one.value, 24),
            "y": SOURCE_LINE * number,
            "bar": f"{scale * one.share:.1f}",
            "low": f"{scale * one.low:.1f}",
            "high": f"{scale * one.high:.1f}",
            "rows": f"{scale * one.row_share:.1f}",
            "sure": one.p_value <= LEAST_P,
        }
        for number, one in enumerate(shown)
    ]
    return {
        "table": table,
        "note": source_note(table),
        "plotted": plotted,
        "height": SOURCE_LINE * len(shown) + 4,
        "cells": [(one.value, source_cells(one)) for one in shown],
        "n_hidden": len(table.values) - len(shown),
    }


def _curve(audit: AuditResult) -> str:
    """The points of the coverage curve, x: rows, y: share of the outputs, as an SVG polyline takes them."""
    width, height = CURVE
    n = len(audit.coverage)
    points = [(0.0, height)]
    for number, step in enumerate(audit.coverage, 1):
        x, y = width * number / n, height * (1 - step.n_covered / audit.n_outputs)
        points += [(width * (number - 1) / n, y), (x, y)]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def pieces(text: str, words: Words | None) -> list[Piece]:
    """The text in runs, its words shaded by their scores: five levels of the text's own highest score."""
    if words is None or not words.spans:
        return [Piece(text, "")]
    highest = max(map(abs, words.scores), default=0.0)
    found: list[Piece] = []
    at = 0
    for (start, stop), score in zip(words.spans, words.scores, strict=True):
        part = abs(score) / highest if highest > 0 else 0.0
        level = 0 if part < FAINT else min(LEVELS, int(-(-part * LEVELS // 1)))
        found.append(Piece(text[at:start], ""))
        found.append(Piece(text[start:stop], f"w {'w' if score > 0 else 'n'}{level}" if level else ""))
        at = stop
    return [piece for piece in [*found, Piece(text[at:], "")] if piece.text]


def _pairs(values: dict[str, str | None]) -> Sequence[tuple[str, str]]:
    return [(name, value) for name, value in values.items() if value]


@cache
def _assets() -> dict[str, object]:
    from markupsafe import Markup

    folder = files("whence.report") / "templates"
    texts = {
        "style": "".join((folder / name).read_text("utf-8") for name in ("page.css", "audit.css")),
        "script": (folder / "audit.js").read_text("utf-8"),
    }
    found: dict[str, object] = {}
    for name, text in texts.items():
        found[name] = Markup(text)
        found[f"{name}_hash"] = "sha256-" + b64encode(sha256(text.encode("utf-8")).digest()).decode("ascii")
    return found


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    text = (files("whence.report") / "templates" / "audit.html.j2").read_text("utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=finalised
    )
    return environment.from_string(text)


__all__ = ["Piece", "pieces", "render_audit_page"]
