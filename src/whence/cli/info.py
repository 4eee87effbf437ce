"""`whence info`: what an index holds, and what it takes on disk, column by column."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whence.cli import options

if TYPE_CHECKING:
    from whence.index import IndexContents


def info(
    index: options.IndexFolder,
    json: Annotated[Path | None, typer.Option("--json", help="Write it as JSON; - for standard output.")] = None,
) -> None:
    """Say what an index was made from, how its vectors are stored, and what each column takes on disk."""
    options.check_outputs({"--json": json}, quiet=False)
    from whence.index import index_contents
    from whence.results import json_text

    found = index_contents(index)
    if json is None:
        _show(found)
        return
    place = None if str(json) == "-" else json
    text = json_text(SCHEMA, found.to_dict(), place)
    if place is None:
        typer.echo(text, nl=False)


SCHEMA = "whence.info/1"


def _show(found: IndexContents) -> None:
    from rich.console import Console
    from rich.table import Table

    manifest, console = found.manifest, Console(highlight=False)
    stored = "all dimensions" if manifest.dimensions is None else f"at most {manifest.dimensions} dimensions"
    state = "" if manifest.status == "complete" else f", not finished: of {manifest.data.n_rows} rows"
    for line in (
        f"{found.path}: {found.n_rows} rows, {found.n_records} records{state}",
        f"model {manifest.model}" + (f", adapter {manifest.adapter}" if manifest.adapter else ""),
        f"data {manifest.data.source}",
        f"vectors in {manifest.precision}, {stored}",
    ):
        console.print(line, markup=False, soft_wrap=True)
    table = Table("column", "holds")
    table.add_column("bytes a row", justify="right")
    for column in found.columns:
        table.add_row(column.name, column.holds, f"{column.n_bytes / max(1, found.n_rows):,.1f}")
    table.add_section()
    table.add_row("all", "records, with Lance's own files", f"{found.bytes_per_row:,.1f}")
    console.print(table)
    console.print(f"beside them: references of verdicts {found.reference_bytes:,} bytes, other {found.other_bytes:,}")


__all__ = ["info"]
