"""`whence delete`: rows that an index shall forget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from whence.cli import options
from whence.cli.telling import say

Ids = Annotated[Path, typer.Argument(metavar="IDS", help="Text file with one id of a row a line, as a trace shows it.")]
MissingOk = Annotated[bool, typer.Option("--missing-ok", help="Pass over ids that no row has.")]


def delete(index: options.IndexFolder, ids: Ids, missing_ok: MissingOk = False, quiet: options.Quiet = False) -> None:
    """Delete rows from a complete index. Their text stays in its files until `whence compact`."""
    from whence.index import Index, delete_rows, read_ids

    n_before = Index.open(index).n_rows
    changed = delete_rows(index, read_ids(ids), missing_ok=missing_ok)
    if not quiet:
        say(f"{n_before - changed.n_rows} rows were deleted; the index {index} has {changed.n_rows} rows", err=True)
        say(
            "Turns that are read anew (--span, words, the second stage) are still centred by means with these rows",
            err=True,
        )
        say(f"Take their text off the disk too: whence compact {index}", err=True)
