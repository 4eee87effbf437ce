"""Sentences and figures that an audit's page, Markdown and terminal text share."""

from __future__ import annotations

import shlex
from collections.abc import Callable

from whence.report.printable import visible
from whence.report.wording import share
from whence.results import (
    PROVEN_TRIGGER,
    AuditGroup,
    AuditResult,
    ContrastPhrase,
    SourcePush,
    SourcePushes,
    SourceTable,
)

GROUPS_NOTE = (
    "The rows of a group are candidates: they score higher for its outputs than rows do for ordinary answers. Only a "
    "retraining without them shows whether they are the cause."
)
NO_GROUPS = (
    "No row is flagged for any of these outputs. Nothing is ranked here: a ranking always has a first row, and would "
    "name one without evidence."
)
NO_VERDICTS = (
    "Nothing was tested for these outputs, so nothing is ranked here: a ranking always has a first row, and would name "
    "one without evidence."
)
BEHAVIOUR_NOTE = (
    "Each row scores higher for the bad outputs than for the good ones, by its score in standard deviations under "
    "permuted labels. The rows are candidates: only a retraining without them shows whether they are the cause."
)
NO_PUSH = (
    "No row scores surely higher for the bad outputs than for the good ones. Nothing is ranked here: a ranking always "
    "has a first row, and would name one without evidence."
)
HINTS_NOTE = (
    "Each group is a hint: no output was given, and its rows stand out together from the rest of the data. Harmless "
    "rows of one kind that are new to the model do so too. Read the rows, ask the model what they ask, and trace its "
    "answer for a verdict."
)
NO_HINTS = (
    "No group of rows stands out. This does not show that the data are clean: a scan sees neither a pattern of a few "
    "rows, nor one that its rows do not share a direction, a payload or a gain for."
)
FIRST_ROWS = (
    "Each row is the one that the most outputs not covered before it are flagged for. Read them first: with few rows "
    "they show what most of the outputs share."
)

NOT_FLAGGED = "No row flagged"
NEXT_WITHOUT_ROWS = (
    "Next: ask about the wrong words of one of them (whence trace --span), compare with prompts of the same kind that "
    "were not trained on (--references), or look for rows that stand out without an output (whence audit --scan)."
)

SOURCES_HEAD = ("value", "responsibility", "95% interval", "rows", "share of rows", "p", "outputs that hang on it")
PUSHES_HEAD = ("value", "push", "z", "rows", "share of rows", "p")
LEAST_P = 0.05
"""Corrected; above it no value is named."""


def groups_note(audit: AuditResult) -> str:
    """What stands above the groups."""
    if audit.scan is not None:
        return HINTS_NOTE if audit.groups else NO_HINTS
    if audit.behaviour is None:
        return GROUPS_NOTE if audit.groups else NO_GROUPS if audit.n_without_cause else NO_VERDICTS
    return BEHAVIOUR_NOTE if audit.groups else NO_PUSH


def headline(audit: AuditResult) -> str:
    """The audit's sentence, as a heading."""
    text = audit.text
    return text[:1].upper() + text[1:]


def rate_note(audit: AuditResult) -> str:
    """At which rate it is said."""
    if audit.scan is not None:
        return (
            f"No rate is claimed. Clean sets of the benchmark had {audit.scan.false_alarms:.1f} hints on average; "
            f"{audit.scan.n_learned:,} rows that fine-tuning made likelier were looked at."
        )
    return f"False discovery rate {100 * audit.fdr:g}%, over all outputs and rows."


def without_verdict(audit: AuditResult) -> str:
    """What is said of outputs that nothing could be tested for, which are not without a cause."""
    return f"{outputs(audit.n_without_verdict)} without a verdict: nothing was tested for them"


def not_flagged_note(n: int) -> str:
    """What is said of n outputs that no row is flagged for: where a cause may lie, and what to do next."""
    return (
        f"No row is flagged for {'this output' if n == 1 else f'these {outputs(n)}'} at this rate. The cause may lie "
        "in the model before fine-tuning, in the prompt, or in rows that say it otherwise; or references show the "
        f"fault too. {NEXT_WITHOUT_ROWS}"
    )


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


def hint_size(group: AuditGroup) -> str:
    """`20 rows`, as a hint's card says in place of outputs."""
    return rows(sum(1 + len(row.copies) for row in group.rows))


def times(phrase: ContrastPhrase) -> str:
    """The lift: `90×`, `6.2×`."""
    number = f"{phrase.lift:,.0f}" if phrase.lift >= 10 else f"{phrase.lift:.1f}"
    return f"{number}\N{MULTIPLICATION SIGN}"


def where_it_stands(phrase: ContrastPhrase) -> str:
    """`start of the prompt`, `anywhere in the response`."""
    return f"anywhere in the {phrase.part}" if phrase.place == "anywhere" else f"{phrase.place} of the {phrase.part}"


def _quoted(text: str) -> str:
    return repr(visible(text))


def source_note(table: SourceTable, quoted: Callable[[str], str] = _quoted) -> str:
    """What the table of one column shows, as a sentence: a first value is named only where its p-value is low.

    quoted: how names of the data stand in it.
    """
    if not table.values:
        return "No output has flagged rows, so there is nothing to share."
    first = table.values[0]
    if first.p_value > LEAST_P:
        return (
            f"No value of {quoted(table.column)} delivered more of the flagged rows than its share of all rows "
            f"explains (least p {figure(first.p_value)}, corrected for {len(table.values)} values)."
        )
    others = sum(one.p_value <= LEAST_P for one in table.values[1:])
    more = f", and {others} other{'s' if others > 1 else ''} more than their share too" if others else ""
    return (
        f"{quoted(first.value)} delivered {percent(first.share)} [{percent(first.low)}, {percent(first.high)}] of what "
        f"is responsible, with {percent(first.row_share)} of the rows (p {figure(first.p_value)}){more}. A candidate: "
        "the share is of flagged rows, not of retrained models."
    )


def push_cells(one: SourcePush) -> list[str]:
    """What a table says of one value's push, behind the value itself."""
    return [f"{one.push:+.4f}", f"{one.z:.1f}", f"{one.n_rows:,}", percent(one.row_share), figure(one.p_value)]


def trigger_note(audit: AuditResult) -> str:
    """What the table of triggers shows: one is named a trigger only where the model proved it."""
    proven = [one for one in audit.triggers if one.status == PROVEN_TRIGGER]
    if not audit.triggers:
        if any(phrase.part == "prompt" for group in audit.groups for phrase in group.phrases):
            return (
                "Not tested: none of the phrases that recur in the prompts of the groups' rows was tried on the model. "
                "The notes say why, or their groups are not among the largest."
            )
        return "Not tested: no phrase recurs in the prompts of a group's rows that could be tried on the model."
    tried = f"{audit.triggers[0].n_tried} candidates were tried"
    if not proven:
        return (
            f"No trigger is proven: {tried}, and none surely turns more innocent prompts than random words do, after "
            "correction for their number."
        )
    return f"{len(proven)} of {len(audit.triggers)} groups have a trigger that the model proves; {tried}."


def push_note(table: SourcePushes, quoted: Callable[[str], str] = _quoted) -> str:
    """What the pushes of one column show: a value is named only where its p-value is low.

    quoted: as in `source_note`.
    """
    first = table.values[0]
    if first.p_value > LEAST_P:
        return (
            f"No value of {quoted(table.column)} pushes surely towards the behaviour (least p {figure(first.p_value)}, "
            f"corrected for {len(table.values)} values)."
        )
    return (
        f"The rows of {quoted(first.value)} push towards the behaviour more than all others' do "
        f"(p {figure(first.p_value)}, corrected for {len(table.values)} values). A candidate: only a retraining "
        "without them shows what they do."
    )


def percent(value: float) -> str:
    """A share, whole percent from 10% on; near none and near all as `share`, which rounds to neither."""
    if value < 0.0005 or value >= 0.995:
        return share(value)
    return f"{100 * value:.0f}%" if value >= 0.0995 else f"{100 * value:.1f}%"


def hand_over(audit: AuditResult, group: AuditGroup, file: str = "audit.json") -> list[str]:
    """The commands that go on with one group."""
    index = shlex.quote(audit.index)
    if group.hint is not None:
        return [
            f"whence trace {index} --prompt {shlex.quote(group.rows[0].prompt or '...')}",
            f"whence clean {index} --group {group.number} --audit {file} -o cleaned.jsonl",
        ]
    return [
        f'whence confirm {index} --group {group.number} --audit {file} --match "..."',
        f"whence clean {index} --group {group.number} --audit {file} -o cleaned.jsonl",
    ]


__all__ = [
    "FIRST_ROWS",
    "LEAST_P",
    "NOT_FLAGGED",
    "PUSHES_HEAD",
    "SOURCES_HEAD",
    "figure",
    "groups_note",
    "hand_over",
    "headline",
    "hint_size",
    "not_flagged_note",
    "outputs",
    "percent",
    "push_cells",
    "push_note",
    "rate_note",
    "rows",
    "source_note",
    "times",
    "trigger_note",
    "where_it_stands",
    "without_verdict",
]
