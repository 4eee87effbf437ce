"""An audit from a log to its result: verdicts block by block, one rate over all, groups, the rows to look at first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from whence.audit.blocks import WORK, OutputVerdict, Scored, verdicts_of
from whence.audit.coverage import greedy_cover
from whence.audit.evidence import Evidence, evidence, least_outputs
from whence.audit.flagged import FlaggedRows, flagged_rows_of
from whence.audit.groups import GroupMembers, audit_groups, group_members, outputs_without_rows
from whence.audit.outputs import Output, answered_outputs, compiled, matching_outputs, messages_of, silent_note
from whence.audit.settings import AuditSettings
from whence.audit.sources import ColumnValues, column_values, source_table
from whence.errors import InputError
from whence.index import index_hash
from whence.progress import Progress, silent
from whence.results import CAUSE, NO_CAUSE, NO_VERDICT, AuditGroup, AuditQuery, AuditResult, CoverageStep
from whence.trace import Query, Tracer


def run_audit(
    tracer: Tracer,
    queries: Sequence[Query],
    settings: AuditSettings | None = None,
    *,
    work: str | Path | None = None,
    progress: Progress | None = None,
) -> AuditResult:
    """Which few things in the data are behind many bad outputs.

    queries:  the log, as `whence.read_queries` reads it; a query without a response is answered by the model now.
    work:     folder for the finished blocks, from which the same audit goes on after a cut; left out, `audits` in the
              index's folder.
    progress: called with (name of the stage, how many are done, how many there are where that is known).

    Memory holds every row's score for the outputs of one block, and the flagged rows of all outputs.

    Raises:
        InputError: no query, none that the matcher finds, no verdict for any of them (an index without a base, too few
            rows), a filter or method that cannot be, a folder that cannot be made.
        EncodingError: a query that the template cannot render.
    """
    settings, tell = settings or AuditSettings(), progress or silent
    if not queries:
        raise InputError("There is no output to audit.", "Expected at least one.", "Check the file.")
    if settings.references is not None:
        settings = replace(settings, references=tracer.as_rows(settings.references))
    tracer.index.check_where(settings.where)
    # A column that is not there is said before an hour of tracing.
    columns = column_values(tracer.index, settings.by, settings.where)
    if settings.match is not None:
        compiled(settings.match)
    place = Path(work) if work is not None else tracer.index.beside / WORK
    answered, n_silent = answered_outputs(tracer, queries, settings.traced(), tell, work=place)
    outputs = matching_outputs(answered, settings.match)
    scored, verdicts = verdicts_of(tracer, outputs, settings.traced(), work=place, block=settings.block, progress=tell)
    if all(said.p_answer is None for said in verdicts):
        raise InputError(
            f"None of {len(outputs)} outputs has a verdict: {verdicts[0].text}.",
            "An audit groups outputs by the rows that verdicts flag.",
            "Give the model before fine-tuning with --base, or ordinary prompts with --references; `whence trace` "
            "ranks rows without a verdict.",
        )
    result = _result(tracer, outputs, scored, verdicts, columns, settings, tell)
    return replace(result, notes=(silent_note(n_silent), *result.notes)) if n_silent else result


def _result(
    tracer: Tracer,
    outputs: Sequence[Output],
    scored: Scored,
    verdicts: Sequence[OutputVerdict],
    columns: Sequence[ColumnValues],
    settings: AuditSettings,
    tell: Progress,
) -> AuditResult:
    index = tracer.index
    n_rows = index.count_rows(settings.where)
    found = evidence(verdicts, settings.fdr)
    tell("grouping", 0, None)
    flagged = flagged_rows_of(index, found, settings.where)
    members = group_members(outputs, flagged, seed=settings.seed)
    groups = audit_groups(index, members, outputs, found, flagged, where=settings.where, n_rows=n_rows)
    for place in range(min(settings.examples, len(groups))):
        tell("explaining", place, min(settings.examples, len(groups)))
        groups[place] = _explained(tracer, groups[place], outputs, settings)
    loaded = tracer.loaded.settings
    return AuditResult(
        index=str(index.path),
        model=loaded.model,
        adapter=loaded.adapter,
        method=scored.method,
        method_version=scored.method_version,
        layer=scored.layer,
        n_rows=n_rows,
        fdr=settings.fdr,
        queries=tuple(_queries(outputs, verdicts, found, flagged, members)),
        groups=tuple(groups),
        coverage=tuple(_coverage(outputs, flagged, members)),
        sources=tuple(source_table(column, outputs, flagged, seed=settings.seed) for column in columns),
        notes=tuple(_notes(outputs, verdicts, found, flagged, members, settings.fdr)),
        index_hash=index_hash(index.manifest),
    )


def _queries(
    outputs: Sequence[Output],
    verdicts: Sequence[OutputVerdict],
    found: Sequence[Evidence],
    flagged: FlaggedRows,
    members: Sequence[GroupMembers],
) -> list[AuditQuery]:
    group_of = {number: group for group, one in enumerate(members, 1) for number in one.outputs}
    return [
        AuditQuery(
            prompt=output.query.prompt,
            response=output.query.response or "",
            outcome=NO_VERDICT if own.p is None else CAUSE if own.has_cause else NO_CAUSE,
            text=said.text,
            count=output.count,
            generated=output.generated,
            p_value=own.p,
            q_value=own.q,
            gain=said.gain,
            n_flagged=len(flagged.weights[number]),
            group=group_of.get(number),
            messages=messages_of(output.query),
            metadata=output.query.metadata,
            template_inputs=output.query.template_inputs,
            repeats=output.repeats,
        )
        for number, (output, said, own) in enumerate(zip(outputs, verdicts, found, strict=True))
    ]


def _coverage(outputs: Sequence[Output], flagged: FlaggedRows, members: Sequence[GroupMembers]) -> list[CoverageStep]:
    """The rows to look at first, of those that groups keep."""
    numbers = [number for group in members for number in group.outputs]
    rows = [frozenset(group.rows) for group in members]
    kept = {number: own for group, own in zip(members, rows, strict=True) for number in group.outputs}
    steps = greedy_cover(
        [flagged.weights[number].keys() & kept[number] for number in numbers],
        [outputs[number].count for number in numbers],
    )
    found, covered = [], 0
    for step in steps:
        covered += step.n_new
        group = next(place for place, own in enumerate(rows, 1) if step.row in own)
        found.append(CoverageStep(flagged.records[step.row].id, group, step.n_new, covered))
    return found


def _explained(tracer: Tracer, group: AuditGroup, outputs: Sequence[Output], settings: AuditSettings) -> AuditGroup:
    """The group with the trace of its most typical output, down to words."""
    rows = settings.example_rows
    (traced,) = tracer.iter_traces(
        [outputs[group.queries[0]].query],
        k=rows,
        words=rows,
        method=settings.method,
        where=settings.where,
        fdr=settings.fdr,
        references=settings.references,
        seed=settings.seed,
        confounds=False,
    )
    return replace(group, example=replace(traced, generated=outputs[group.queries[0]].generated))


def _notes(
    outputs: Sequence[Output],
    verdicts: Sequence[OutputVerdict],
    found: Sequence[Evidence],
    flagged: FlaggedRows,
    members: Sequence[GroupMembers],
    fdr: float,
) -> list[str]:
    notes = []
    repeated = sum(output.count for output in outputs) - len(outputs)
    if repeated:
        notes.append(f"{repeated:,} outputs repeat another one, prompt and response; they are traced once and counted.")
    generated = sum(output.generated for output in outputs)
    if generated:
        notes.append(f"{generated:,} outputs had no response: the model answered now.")
    cut = sum(said.truncated for said in verdicts)
    if cut:
        notes.append(f"{cut:,} outputs are longer than the index's limit and were read in part.")
    untested = sum(own.p is None for own in found)
    if untested:
        notes.append(f"{untested:,} outputs have no verdict: too few ordinary answers are left to compare them with.")
    unlisted = sum(outputs[number].count for group in members for number in outputs_without_rows(group, flagged))
    if unlisted:
        notes.append(
            f"{unlisted:,} outputs with a cause have none of their flagged rows in their group: so few of its outputs "
            "flag these rows that they are not listed. Trace such outputs by themselves."
        )
    least = least_outputs(verdicts, fdr)
    if least > 1:
        notes.append(
            f"Causes of fewer than {least:,} of these {len(outputs) - untested:,} outputs together cannot be told from "
            "chance at this rate, since a p-value is a rank among the reference answers. Trace such outputs by "
            "themselves, or give more ordinary prompts with --references."
        )
    return notes


__all__ = ["run_audit"]
