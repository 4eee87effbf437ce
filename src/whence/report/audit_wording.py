"""Sentences and figures that an audit's page, Markdown and terminal text share."""

from __future__ import annotations

import shlex

from whence.results import AuditGroup, AuditResult, ContrastPhrase

GROUPS_NOTE = (
    "The rows of a group are candidates: they score higher for its outputs than rows do for ordinary answers. Only a "
    "retraining without them shows whether they are the cause."
)
NO_GROUPS = (
    "No row is flagged for any of these outputs. Nothing is ranked here: a ranking always has a first row, and would "
    "name one without evidence."
)
FIRST_ROWS = (
    "Each row is the one that the most outputs not covered before it are flagged for. Read them first: with few rows "
    "they show what most of the outputs share."
)


def headline(audit: AuditResult) -> str:
    """The audit's sentence, as a heading."""
    text = audit.text
    return text[:1].upper() + text[1:]


def rate(audit: AuditResult) -> str:
    """At which rate it is said."""
    return f"False discovery rate {100 * audit.fdr:g}%, over all outputs and rows."


def outputs(n: int) -> str:
    """`1 output`, `1,200 outputs`."""
    return f"{n:,} output{'' if n == 1 else 's'}"


def rows(n: int) -> str:
    """`1 row`, `1,200 rows`."""
    return f"{n:,} row{'' if n == 1 else 's'}"


def figure(value: float | None) -> str:
    """A p- or q-value: `0.013`, `<0.001`, or nothing."""
    if value is None:
        return ""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def times(phrase: ContrastPhrase) -> str:
    """The lift: `90×`, `6.2×`."""
    number = f"{phrase.lift:,.0f}" if phrase.lift >= 10 else f"{phrase.lift:.1f}"
    return f"{number}\N{MULTIPLICATION SIGN}"


def where_it_stands(phrase: ContrastPhrase) -> str:
    """`start of the prompt`, `anywhere in the response`."""
    return f"anywhere in the {phrase.part}" if phrase.place == "anywhere" else f"{phrase.place} of the {phrase.part}"


def hand_over(audit: AuditResult, group: AuditGroup, file: str = "audit.json") -> list[str]:
    """The commands that go on with one group."""
    index = shlex.quote(audit.index)
    return [
        f'whence confirm {index} --group {group.number} --audit {file} --match "..."',
        f"whence clean {index} --group {group.number} --audit {file} -o cleaned.jsonl",
    ]


__all__ = [
    "FIRST_ROWS",
    "GROUPS_NOTE",
    "NO_GROUPS",
    "figure",
    "hand_over",
    "headline",
    "outputs",
    "rate",
    "rows",
    "times",
    "where_it_stands",
]
