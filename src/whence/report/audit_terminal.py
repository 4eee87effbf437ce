"""An audit as text for the terminal: its sentence, the groups, and the rows to look at first."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from io import StringIO
from typing import TYPE_CHECKING

from whence.report.audit_wording import (
    NOT_FLAGGED,
    PUSHES_HEAD,
    SOURCES_HEAD,
    figure,
    groups_note,
    headline,
    hint_size,
    not_flagged_note,
    outputs,
    percent,
    push_cells,
    push_note,
    rate_note,
    source_note,
    trigger_note,
    without_verdict,
)
from whence.report.printable import visible
from whence.report.terminal import NARROWEST, file_place, named, shorten
from whence.report.wording import share
from whence.results import AuditGroup, AuditResult, AuditRow, SourceShare

if TYPE_CHECKING:
    from rich.console import RenderableType

SHOWN_GROUPS = 20
SHOWN_STEPS = 10
SHOWN_VALUES = 12
SHOWN_HINT_ROWS = 3
HINTS_HEAD = ("what they share", "hint", "size", "score", "signals")


def render_audit_text(audit: AuditResult, *, width: int | None = None) -> str:
    """The whole result as plain text, without colour."""
    from rich.console import Console

    out = StringIO()
    width = max(NARROWEST, width or shutil.get_terminal_size((100, 24)).columns)
    console = Console(file=out, width=width, no_color=True, highlight=False)
    for part in render_audit(audit):
        console.print(part)
    return out.getvalue().rstrip("\n")


def render_audit(audit: AuditResult, *, texts: bool = True) -> list[RenderableType]:
    """The parts to print. texts: False leaves out what comes from the text of training rows."""
    from rich.text import Text

    if not texts:
        audit = audit.without_text()
    parts: list[RenderableType] = [Text(visible(f"{headline(audit)}."), "bold"), Text(rate_note(audit), "dim")]
    made = f"method {audit.method} {audit.method_version}, layer {audit.layer}, {audit.n_rows:,} rows scored"
    parts.append(Text(visible(made), "dim"))
    if audit.groups and audit.scan is not None:
        parts += _hints(audit)
    elif audit.groups:
        parts.append(_groups(audit))
        if len(audit.groups) > SHOWN_GROUPS:
            parts.append(Text(f"... and {len(audit.groups) - SHOWN_GROUPS} smaller groups", "dim"))
    without = audit.n_without_cause
    if without:
        parts.append(Text(f"{NOT_FLAGGED}: {without:,} of {outputs(audit.n_outputs)}. {not_flagged_note(without)}"))
    if audit.n_without_verdict:
        parts.append(Text(f"{without_verdict(audit)}."))
    if audit.coverage:
        parts += [Text("\nRows to look at first", "bold"), _coverage(audit, texts)]
    if audit.looked_for_triggers or audit.triggers:
        parts += [Text("\nTriggers", "bold"), Text(trigger_note(audit))]
        parts += [Text(f"group {one.group}: {named(one.text, 300)} ({one.status})") for one in audit.triggers]
    for pushed in audit.behaviour.sources if audit.behaviour else ():
        parts += [Text(f"\nBy {named(pushed.column, 60)}", "bold"), Text(push_note(pushed))]
        parts.append(_listed(PUSHES_HEAD, [[one.value, *push_cells(one)] for one in pushed.values[:SHOWN_VALUES]]))
    for sources in audit.sources:
        parts += [Text(f"\nBy {named(sources.column, 60)}", "bold"), Text(source_note(sources))]
        if sources.values:
            parts.append(
                _listed(SOURCES_HEAD, [[one.value, *source_cells(one)] for one in sources.values[:SHOWN_VALUES]])
            )
    parts += [Text(visible(f"Note: {note}"), "dim") for note in audit.notes]
    return [*parts, Text(groups_note(audit), "dim")]


def _groups(audit: AuditResult) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_edge=False)
    for name in ("group", "outputs", "rows", "q"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("what they share", ratio=1)
    for group in audit.groups[:SHOWN_GROUPS]:
        cells = [str(group.number), f"{group.n_outputs:,}", f"{len(group.rows):,}", figure(group.q_value)]
        table.add_row(*map(Text, [*cells, group.status, named(group.name, 120)]))
    return table


def _hints(audit: AuditResult) -> list[RenderableType]:
    """A table of the hints, and for each what was measured and its first rows."""
    from rich.text import Text

    groups = audit.groups[:SHOWN_GROUPS]
    lines = [
        [named(one.name, 60), str(one.number), hint_size(one), f"{one.hint.score:.1f}", ", ".join(one.hint.signals)]
        for one in groups
        if one.hint is not None
    ]
    parts: list[RenderableType] = [_listed(HINTS_HEAD, lines)]
    for one in groups:
        assert one.hint is not None, "a scan's groups are hints"
        parts.append(Text(f"\nhint {one.number}: {named(one.hint.text, 400)}"))
        for row in one.rows[:SHOWN_HINT_ROWS]:
            parts.append(Text(f"  {row_place(row)}  {shorten(f'{row.prompt} -> {row.response}', 160)}", "dim"))
    return parts


def _coverage(audit: AuditResult, texts: bool) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    rows = {(group.number, row.id): row for group in audit.groups for row in group.rows}
    table = Table(box=None, pad_edge=False, show_edge=False)
    for name in ("rows", "covered", "group"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("row", overflow="fold", max_width=28)
    if texts:
        table.add_column("prompt -> response", ratio=1)
    for number, step in enumerate(audit.coverage[:SHOWN_STEPS], 1):
        row = rows[step.group, step.id]
        text = [f"{shorten(row.prompt, 100)} -> {shorten(row.response, 100)}"] if texts else []
        cells = [str(number), share(step.n_covered / audit.n_outputs), str(step.group), row_place(row), *text]
        table.add_row(*map(Text, cells))
    return table


def _listed(head: Sequence[str], lines: Sequence[Sequence[str]]) -> RenderableType:
    """A table of figures, whose first column is a name."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_edge=False)
    for place, name in enumerate(head):
        table.add_column(name, justify="right" if place else "left", no_wrap=True)
    for first, *cells in lines:
        table.add_row(*map(Text, [named(first, 40), *cells]))
    return table


def source_cells(one: SourceShare) -> list[str]:
    """What a table says of one value, behind the value itself."""
    interval = f"{percent(one.low)} to {percent(one.high)}"
    shares = [percent(one.share), interval, f"{one.n_rows:,}", percent(one.row_share)]
    return [*shares, figure(one.p_value), percent(one.alone)]


def row_place(row: AuditRow) -> str:
    """`train.jsonl:17`, or the row's id where it has no file."""
    return file_place(row.file, row.line) if row.file else visible(row.id)


def typical(audit: AuditResult, group: AuditGroup) -> tuple[str, str]:
    """Prompt and response of the group's most typical output; of a hint, its first row's."""
    if not group.queries:
        return group.rows[0].prompt, group.rows[0].response
    query = audit.queries[group.queries[0]]
    return query.prompt, query.response


__all__ = ["render_audit", "render_audit_text", "row_place", "source_cells", "typical"]
