"""Bad outputs against good ones, as a result: one group with the rows that push towards the behaviour."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from whence.audit.behaviours import Pushes, pushes
from whence.audit.blocks import WORK
from whence.audit.copies import near_duplicates
from whence.audit.flagged import audit_row, conversations_of, row_texts
from whence.audit.outputs import Output, answered_outputs, compiled, matching_outputs, messages_of, silent_note
from whence.audit.phrases import RowText, contrast_phrases
from whence.audit.settings import AuditSettings
from whence.audit.sources import column_values
from whence.errors import InputError
from whence.index import Index, Record, index_hash
from whence.progress import Progress, silent
from whence.results import CAUSE, NO_CAUSE, AuditGroup, AuditQuery, AuditResult, AuditRow, Behaviour
from whence.trace import Query, Tracer

MOST_ROWS = 2000
"""Of a behaviour's group, those that push most."""


def compare_behaviour(
    tracer: Tracer,
    bad: Sequence[Query],
    good: Sequence[Query] | None,
    settings: AuditSettings | None = None,
    *,
    work: str | Path | None = None,
    progress: Progress | None = None,
) -> AuditResult:
    """Which rows and sources push the model from good answers to bad ones; see `whence.audit.behaviours`.

    good: outputs without the behaviour, best of all to the same prompts. None splits the first queries by the matcher:
          those that it is found in are the bad ones.

    The one group has the rows that are flagged at the settings' false discovery rate over all rows; their `score` is z.

    Raises InputError: too few outputs of either kind, one that is in both, no matcher where it is needed, and what
    `run_audit` raises.
    """
    settings, tell = settings or AuditSettings(), progress or silent
    if settings.references is not None or settings.examples:
        raise InputError(
            f"{'References' if settings.references is not None else 'Examples'} of a comparison.",
            "Bad outputs are compared with good ones alone, and no output is traced.",
            "Leave --references and --examples out.",
        )
    tracer.index.check_where(settings.where)
    columns = column_values(tracer.index, settings.by, settings.where)
    given = Path(work) if work is not None else None
    of_bad, of_good, n_silent = _split(tracer, bad, good, settings, tell, given or tracer.index.beside / WORK)
    found = pushes(tracer, of_bad, of_good, settings.traced(), columns, work=given, progress=tell, block=settings.block)
    n_flagged = int((found.q <= settings.fdr).sum())
    group = _group(tracer.index, found, of_bad, settings)
    notes = [silent_note(n_silent)] if n_silent else []
    if n_flagged > MOST_ROWS:
        notes.append(f"{n_flagged:,} rows are flagged; the {MOST_ROWS:,} that push most are the group's.")
    if not found.paired:
        notes.append(UNPAIRED)
    loaded = tracer.loaded.settings
    return AuditResult(
        index=str(tracer.index.path),
        model=loaded.model,
        adapter=loaded.adapter,
        method=found.method,
        method_version=found.method_version,
        layer=found.layer,
        n_rows=len(found.rows),
        fdr=settings.fdr,
        queries=tuple(_query(output, group) for output in of_bad),
        groups=() if group is None else (group,),
        coverage=(),
        behaviour=Behaviour(len(of_bad), len(of_good), found.paired, found.sources, n_flagged),
        notes=tuple(notes),
        index_hash=index_hash(tracer.index.manifest),
    )


UNPAIRED = (
    "Not every bad output has a good one to the same prompt. What differs may then be the prompts: rows about what the "
    "bad prompts ask push too. Answer the same prompts with and without the behaviour."
)


def _split(
    tracer: Tracer,
    bad: Sequence[Query],
    good: Sequence[Query] | None,
    settings: AuditSettings,
    tell: Progress,
    work: Path,
) -> tuple[list[Output], list[Output], int]:
    """Bad outputs, good outputs, and how many say nothing and are neither."""
    if settings.match is not None:
        compiled(settings.match)
    traced = settings.traced()
    if good is not None:
        of_bad, n_bad = answered_outputs(tracer, bad, traced, tell, work=work)
        of_good, n_good = answered_outputs(tracer, good, traced, tell, work=work)
        return matching_outputs(of_bad, settings.match), of_good, n_bad + n_good
    if settings.match is None:
        raise InputError(
            "There are no good outputs, and no matcher that tells them from bad ones.",
            "A behaviour is the difference of two groups of outputs.",
            "Give --against good.jsonl, or --match with prompts that the model answers both ways.",
        )
    answered, n_silent = answered_outputs(tracer, bad, traced, tell, work=work)
    shown = matching_outputs(answered, settings.match)
    kept = {id(output) for output in shown}
    return shown, [output for output in answered if id(output) not in kept], n_silent


def _group(index: Index, found: Pushes, bad: Sequence[Output], settings: AuditSettings) -> AuditGroup | None:
    places = np.flatnonzero(found.q <= settings.fdr)
    places = places[np.argsort(-found.z[places], kind="stable")][:MOST_ROWS]
    if not len(places):
        return None
    rows = found.rows[places].tolist()
    records, whole = conversations_of(index, frozenset(rows), settings.where)
    labels = near_duplicates([whole[row] for row in rows]).tolist()
    firsts: dict[int, int] = {}
    copies: dict[int, list[str]] = {}
    for place, row, label in zip(places.tolist(), rows, labels, strict=True):
        if firsts.setdefault(label, place) != place:
            copies.setdefault(firsts[label], []).append(records[row].id)
    kept = [int(place) for place in firsts.values()]
    texts = [RowText(row, records[row].prompt, records[row].response) for row in found.rows[kept].tolist()]
    others = len(found.rows) - len(rows)
    (phrases,) = contrast_phrases([texts], [frozenset(rows)], row_texts(index, settings.where), [others])
    positive = np.maximum(found.z, 0.0)
    return AuditGroup(
        number=1,
        name="rows that push towards the behaviour",
        n_outputs=sum(output.count for output in bad),
        queries=tuple(range(len(bad))),
        rows=tuple(_row(records[int(found.rows[place])], found, place, copies.get(place, [])) for place in kept),
        q_value=float(found.q[places].max()),
        share=float(positive[places].sum() / positive.sum()),
        phrases=phrases,
    )


def _row(record: Record, found: Pushes, place: int, copies: Sequence[str]) -> AuditRow:
    return audit_row(record, n_outputs=int(found.n_above[place]), score=float(found.z[place]), copies=copies)


def _query(output: Output, group: AuditGroup | None) -> AuditQuery:
    return AuditQuery(
        prompt=output.query.prompt,
        response=output.query.response or "",
        outcome=NO_CAUSE if group is None else CAUSE,
        text="shows the behaviour",
        count=output.count,
        generated=output.generated,
        n_flagged=0 if group is None else len(group.rows),
        group=None if group is None else 1,
        messages=messages_of(output.query),
        metadata=output.query.metadata,
        template_inputs=output.query.template_inputs,
        repeats=output.repeats,
    )


__all__ = ["compare_behaviour"]
