"""An audit as Markdown, for an issue or a chat. Data stands in code spans and fences, where nothing runs."""

from __future__ import annotations

from collections.abc import Iterator

from whence.report.audit_terminal import row_place, source_cells, typical
from whence.report.audit_wording import (
    FIRST_ROWS,
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
from whence.report.markdown import code, fence, named_code, prose, table
from whence.report.wording import LEFT_OUT, share
from whence.results import NO_CAUSE, AuditGroup, AuditResult, AuditRow, Trigger

SHOWN_ROWS, SHOWN_OUTPUTS = 10, 10
"""Of each group."""


def render_audit_markdown(audit: AuditResult, *, show_text: bool = True) -> str:
    """The whole result as GitHub-flavoured Markdown.

    show_text: False leaves out what comes from the text of training rows (prompts, responses, phrases).
    """
    shown = audit if show_text else audit.without_text()
    lines = [f"# {prose(headline(shown))}", "", rate_note(shown), ""]
    lines += [f"- {prose(note)}" for note in shown.notes]
    lines += ["", prose(groups_note(shown)) + ("" if show_text else f" {LEFT_OUT}"), ""]
    lines += _summary(shown)
    lines += _coverage(shown, show_text)
    if shown.looked_for_triggers or shown.triggers:
        head = ("group", "phrase", "where", "with it", "without", "random words", "p", "status")
        lines += [
            "## Triggers",
            "",
            prose(trigger_note(shown)),
            "",
            *(table(head, list(map(_trigger, shown.triggers))) if shown.triggers else []),
            "",
        ]
    for pushed in shown.behaviour.sources if shown.behaviour else ():
        lines += [f"## By {named_code(pushed.column)}", "", push_note(pushed, named_code), ""]
        lines += [*table(PUSHES_HEAD, [[named_code(one.value), *push_cells(one)] for one in pushed.values]), ""]
    for sources in shown.sources:
        lines += [f"## By {named_code(sources.column)}", "", source_note(sources, named_code), ""]
        if sources.values:
            lines += [*table(SOURCES_HEAD, [[named_code(one.value), *source_cells(one)] for one in sources.values]), ""]
    for group in shown.groups:
        lines += _group(shown, group, show_text)
    lines += _without_cause(shown)
    method = f"{shown.method} {shown.method_version}"
    about = {"model": shown.model, "adapter": shown.adapter, "index": shown.index, "method": method}
    lines += [", ".join(f"{name} {named_code(value)}" for name, value in about.items() if value)]
    lines += [f"layer {named_code(shown.layer)}, {shown.n_rows:,} rows scored"]
    # A lone surrogate, which JSON may carry, has no UTF-8 form.
    return "\n".join(lines).encode("utf-16", "surrogatepass").decode("utf-16", "replace") + "\n"


def _trigger(one: Trigger) -> list[str]:
    place = "anywhere" if one.place == "anywhere" else one.place
    counts = [f"{n} of {one.n_prompts}" for n in (one.n_with, one.n_without, one.n_random)]
    return [str(one.group), " with ".join(map(named_code, one.parts)), place, *counts, figure(one.p_value), one.status]


def _summary(audit: AuditResult) -> Iterator[str]:
    if not audit.groups:
        return
    if audit.scan is not None:
        hints = [(group, group.hint) for group in audit.groups if group.hint is not None]
        lines = [
            (str(g.number), hint_size(g), f"{hint.score:.1f}", prose(", ".join(hint.signals)), named_code(g.name))
            for g, hint in hints
        ]
        yield from (*table(("hint", "rows", "score", "signals", "what they share"), lines), "")
        return
    head = ("group", "outputs", "rows", "q", "status", "what they share")
    yield from table(
        head,
        [
            (
                str(g.number),
                f"{g.n_outputs:,}",
                f"{len(g.rows):,}",
                figure(g.q_value),
                prose(g.status),
                named_code(g.name),
            )
            for g in audit.groups
        ],
    )
    yield ""


def _coverage(audit: AuditResult, show_text: bool) -> Iterator[str]:
    if not audit.coverage:
        return
    known = {(group.number, row.id): row for group in audit.groups for row in group.rows}
    yield from ("## Rows to look at first", "", prose(FIRST_ROWS), "")
    head = ("rows", "outputs covered", "group", "row", *(["prompt", "response"] if show_text else []))
    lines = []
    for number, step in enumerate(audit.coverage, 1):
        row = known[step.group, step.id]
        texts = [code(row.prompt), code(row.response)] if show_text else []
        covered = f"{step.n_covered:,} ({share(step.n_covered / audit.n_outputs)})"
        lines.append((str(number), covered, str(step.group), _where(row), *texts))
    yield from table(head, lines)
    yield ""


def _group(audit: AuditResult, group: AuditGroup, show_text: bool) -> Iterator[str]:
    if group.hint is not None:
        yield from (f"## Hint {group.number}: {named_code(group.name)}", "", prose(group.hint.text), "", "First row")
    else:
        yield from (f"## Group {group.number}: {named_code(group.name)}", "")
        weigh = f"they carry {share(group.share)} of the weight of all rows flagged for these outputs"
        yield f"{outputs(group.n_outputs)}, {rows(len(group.rows))} ({prose(group.status)}); {weigh}."
        yield from ("", "Most typical output")
    prompt, response = typical(audit, group)
    yield from ("", *fence(prompt), "", *fence(response), "")
    if group.phrases:
        head = ("phrase", "where", "rows of the group", "elsewhere", "lift", "p")
        lines = [
            (
                named_code(one.text),
                where_it_stands(one),
                f"{one.n_rows} of {one.n_read}",
                f"{one.n_elsewhere:,} of {one.n_others:,}",
                times(one),
                figure(one.p_value),
            )
            for one in group.phrases
        ]
        yield from (*table(head, lines), "")
    of_rows = (
        "row",
        "rank" if group.hint else "outputs",
        "score",
        "near-duplicates",
        *(["prompt", "response"] if show_text else []),
    )
    listed = [
        (
            _where(row),
            f"{rank if group.hint else row.n_outputs:,}",
            f"{row.score:.4f}",
            str(len(row.copies)),
            *([code(row.prompt), code(row.response)] if show_text else []),
        )
        for rank, row in enumerate(group.rows[:SHOWN_ROWS], 1)
    ]
    yield from table(of_rows, listed)
    if len(group.rows) > SHOWN_ROWS:
        yield from ("", f"{rows(len(group.rows) - SHOWN_ROWS)} more; the JSON has all of them.")
    yield from ("", "Go on with this group:", "", *fence("\n".join(hand_over(audit, group))), "")


def _without_cause(audit: AuditResult) -> Iterator[str]:
    if audit.n_without_verdict:
        yield from (f"{without_verdict(audit)}.", "")
    others = [query for query in audit.queries if query.outcome == NO_CAUSE]
    if not others:
        return
    n = sum(query.count for query in others)
    yield from (f"## {NOT_FLAGGED}: {outputs(n)}", "", not_flagged_note(n), "")
    head = ("prompt", "response", "p", "verdict alone")
    lines = [
        (code(query.prompt), code(query.response), figure(query.p_value), prose(query.text))
        for query in others[:SHOWN_OUTPUTS]
    ]
    yield from table(head, lines)
    if len(others) > SHOWN_OUTPUTS:
        yield from ("", f"{outputs(len(others) - SHOWN_OUTPUTS)} more; the JSON has all of them.")
    yield ""


def _where(row: AuditRow) -> str:
    return f"{named_code(row_place(row))} {named_code(row.id)}" if row.file else named_code(row.id)


__all__ = ["render_audit_markdown"]
