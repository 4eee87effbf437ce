"""`whence clean`: the data set without the selected rows, and the undo."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whence.cli import options
from whence.cli.progress import stages
from whence.cli.telling import say
from whence.cli.tracing import audit_group, read_trace_of, trace_now
from whence.errors import InputError

if TYPE_CHECKING:
    from whence.cleaning import Cleaning
    from whence.results import AuditResult, SelectedRows


def clean(
    index: Annotated[Path | None, typer.Argument(metavar="INDEX", help="Folder made by `whence index`.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="New file (or folder) for the cleaned data.")] = None,
    trace: Annotated[
        Path | None, typer.Option("--trace", help="JSON of `whence trace`: its flagged rows are removed.")
    ] = None,
    queries: Annotated[Path | None, typer.Option("--queries", help="JSONL to trace now, in place of --trace.")] = None,
    ids: Annotated[Path | None, typer.Option("--ids", help="File of row ids, one a line, in place of --trace.")] = None,
    top: Annotated[
        int | None, typer.Option("--top", min=1, help="The first N rows of the ranking, in place of the flagged rows.")
    ] = None,
    votes: options.Votes = None,
    group: options.Group = None,
    audit: options.AuditFile = None,
    base: Annotated[
        str | None, typer.Option("--base", help="The model before fine-tuning, with --queries and no adapter.")
    ] = None,
    quarantine: Annotated[
        Path | None, typer.Option("--quarantine", help="New JSONL file for the rows taken, with their reasons.")
    ] = None,
    relabel: Annotated[
        str | None,
        typer.Option("--relabel", help="Command that reads each row as JSON and writes its replacement, or nothing."),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option("--manifest", help="Where it goes; manifest.json beside the output, or OUT.manifest.json."),
    ] = None,
    export: Annotated[
        str | None,
        typer.Option("--export", help="argilla or label-studio: write the rows for review into the folder -o instead."),
    ] = None,
    undo: Annotated[Path | None, typer.Option("--undo", help="Manifest of a cleaning to take back.")] = None,
    quiet: options.Quiet = False,
) -> None:
    """Write the data without the rows behind a bad output; --undo brings them back."""
    if undo is not None:
        given: dict[str, object] = {"INDEX": index, "--trace": trace, "--queries": queries, "--ids": ids}
        given |= {"--quarantine": quarantine, "--export": export, "--group": group, "--audit": audit}
        _refuse(given, "--undo", "A manifest says all that is needed.")
        _undo(undo, out, quiet=quiet)
        return
    if index is None or out is None:
        missing = "INDEX" if index is None else "-o"
        raise InputError(
            f"{missing} is missing.", "A cleaning needs an index and an output.", "whence clean INDEX -o OUT"
        )
    if export is not None:
        idle = {"--quarantine": quarantine, "--relabel": relabel, "--manifest": manifest}
        _refuse(idle, "--export", "It leaves the data as they are, and writes the rows alone.")
    from whence.cleaning import clean as write_clean
    from whence.cleaning import export_review, refuse_existing, relabel_with
    from whence.index import require_manifest, require_rows_as_built

    refuse_existing(out, *(place for place in (manifest, quarantine) if place is not None))
    indexed = require_manifest(index)
    require_rows_as_built(indexed, "whence clean", fewer_ok=True)
    data = indexed.data
    of_audit = audit_group(index, group, audit)
    selected = _of_group(of_audit, trace or queries or ids, top or votes) if of_audit else None
    selected = selected or _selected(index, trace, queries, ids, top, votes, base)
    with stages(quiet=quiet) as report:
        if export is not None:
            n_rows = export_review(
                data.source, out, selected, export, columns=data.columns, split=data.split, progress=report
            )
            if not quiet:
                say(f"{n_rows} rows for review: {out}", err=True)
            return
        done = write_clean(
            data.source,
            out,
            selected,
            columns=data.columns,
            split=data.split,
            manifest=manifest,
            quarantine=quarantine,
            relabel=relabel_with(relabel) if relabel is not None else None,
            progress=lambda stage, done, total: report(stage, done, data.n_rows if stage == "reading" else total),
        )
    if not quiet:
        _tell(done, quarantine)


def _of_group(found: tuple[AuditResult, int], other: Path | None, number: int | None) -> SelectedRows:
    """The rows of a group of an audit; nothing else may select rows beside it."""
    from whence.results import group_rows

    if other is not None or number is not None:
        raise InputError(
            "--group with another choice of rows.",
            "A group's rows are all that is removed.",
            "Leave out --trace, --queries, --ids, --top and --votes, or --group and --audit.",
        )
    return group_rows(*found)


def _selected(
    index: Path,
    trace: Path | None,
    queries: Path | None,
    ids: Path | None,
    top: int | None,
    votes: int | None,
    base: str | None,
) -> SelectedRows:
    from whence.results import flagged_rows, listed_rows, top_rows

    given = [name for name, value in (("--trace", trace), ("--queries", queries), ("--ids", ids)) if value is not None]
    if len(given) != 1:
        raise InputError(
            f"{' and '.join(given) if given else 'No source of flagged rows'} given.",
            "Expected one of --trace, --queries and --ids, or --group with --audit.",
            "Give --trace out.json, written by whence trace --json out.json.",
        )
    if base is not None and queries is None:
        raise InputError("--base without --queries.", "It is for tracing now.", "Leave it out.")
    if votes is not None and (ids is not None or top is not None):
        other = "--ids" if ids is not None else "--top"
        raise InputError(f"--votes with {other}.", "It counts verdicts.", "Leave one of them out.")
    if ids is not None:
        if top is not None:
            raise InputError("--top with --ids.", "The file says which rows.", "Leave one of them out.")
        return listed_rows(ids)
    result = read_trace_of(index, trace) if trace is not None else trace_now(index, queries, top, base)
    return flagged_rows(result, votes or 1) if top is None else top_rows(result, top)


def _refuse(given: Mapping[str, object], beside: str, why: str) -> None:
    """Raises InputError for the first option that was given beside one that has no use for it."""
    for name, value in given.items():
        if value is not None:
            raise InputError(f"{name} with {beside}.", why, "Leave it out.")


def _undo(manifest: Path, out: Path | None, *, quiet: bool) -> None:
    from whence.cleaning import undo_clean

    place = undo_clean(manifest, out)
    if not quiet:
        say(f"restored: {place}", err=True)


def _tell(done: Cleaning, quarantine: Path | None) -> None:
    record = done.manifest
    copies = f", {record.n_copies} of them copies of another" if record.n_copies else ""
    replaced = f", {record.n_replaced} replaced" if record.n_replaced else ""
    say(f"{record.n_removed} of {record.n_rows} rows removed{replaced}{copies}: {record.output}", err=True)
    if quarantine is not None:
        say(f"quarantined: {quarantine}", err=True)
    say(f"Take it back: whence clean --undo {done.path} -o RESTORED", err=True)
