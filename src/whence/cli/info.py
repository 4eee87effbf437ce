"""`whence info`: what an index holds, and what it takes on disk, column by column."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whence.cli import options
from whence.cli.outputs import check_outputs, files_of, hand_out, is_standard_output
from whence.cli.telling import print_json, printer

if TYPE_CHECKING:
    from whence.index import IndexContents, Manifest


def info(
    index: options.IndexFolder,
    json: Annotated[Path | None, typer.Option("--json", help="Write it as JSON; - for standard output.")] = None,
) -> None:
    """Say what an index was made from, how its vectors are stored, and what each column takes on disk."""
    check_outputs({"--json": json}, quiet=False, inputs=files_of(index))
    from whence.index import index_contents
    from whence.results import json_text

    found = index_contents(index)
    if json is None:
        _show(found)
        return
    if is_standard_output(json):
        print_json(json_text(SCHEMA, found.to_dict()))
    else:
        hand_out([lambda: json_text(SCHEMA, found.to_dict(), json)], lambda: _show(found), quiet=True)


SCHEMA = "whence.info/1"


def _show(found: IndexContents) -> None:
    from rich.table import Table
    from rich.text import Text

    from whence.report import visible

    manifest, console = found.manifest, printer()
    stored = "all dimensions" if manifest.dimensions is None else f"at most {manifest.dimensions} dimensions"
    state = "" if manifest.status == "complete" else f", not finished: of {manifest.data.n_rows} rows"
    for line in (
        f"{found.path}: {found.n_rows} rows, {found.n_records} records{state}",
        f"model {manifest.model}" + (f", adapter {manifest.adapter}" if manifest.adapter else ""),
        f"data {manifest.data.source}",
        f"vectors in {manifest.precision}, {stored}",
    ):
        console.print(line, markup=False, soft_wrap=True)
    for line in _told_changes(manifest):
        console.print(line, markup=False, soft_wrap=True)
    table = Table("column", "holds")
    table.add_column("bytes a row", justify="right")
    for column in found.columns:
        # A name of the user's: no markup, and nothing that steers a terminal.
        table.add_row(Text(visible(column.name)), column.holds, f"{column.n_bytes / max(1, found.n_rows):,.1f}")
    table.add_section()
    table.add_row("all", "records, with Lance's own files", f"{found.bytes_per_row:,.1f}")
    console.print(table)
    console.print(f"beside them: references of verdicts {found.reference_bytes:,} bytes, other {found.other_bytes:,}")


def _told_changes(manifest: Manifest) -> list[str]:
    """What happened to the rows, oldest first, and whether an approximate search is there."""
    lines = []
    for one in manifest.history if len(manifest.history) > 1 else ():
        what = {"build": "built of", "append": "appended", "delete": "deleted", "compact": "compacted"}
        line = f"{one.when or 'before'}{f' by {one.who}' if one.who else ''}: {what[one.change]}"
        line += "" if one.change == "compact" else f" {one.n_rows} rows"
        line += f" of {one.data.source}, from row {one.first_row} on" if one.data is not None else ""
        line += f" ({one.rows})" if one.rows else ""
        lines.append(f"{line}, model {one.model[:12]}")
    if manifest.ann is not None:
        ann, best = manifest.ann, max(point.recall for point in manifest.ann.curve)
        stale = "" if ann.generation == manifest.generation else "; of earlier rows, build it again"
        lines.append(f"approximate search {ann.kind} for {ann.form}, recall up to {best:g}{stale}")
    return lines


__all__ = ["info"]
