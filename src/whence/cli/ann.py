"""`whence ann build`: an approximate search of a large index."""

from __future__ import annotations

import os
from functools import partial
from typing import Annotated

import typer

from whence.cli import options
from whence.cli.progress import stages
from whence.cli.telling import say

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Approximate search of a large index.")


@app.callback()
def ann() -> None:
    """Approximate search of a large index, for `whence trace --recall`."""


@app.command("build")
def build(
    index: options.IndexFolder,
    dimensions: Annotated[
        int, typer.Option("--dimensions", min=8, help="Of a searched vector, at most; more find more and take longer.")
    ] = 256,
    seed: options.Seed = 0,
    quiet: options.Quiet = False,
) -> None:
    """Make an approximate search of an index, and measure how many of the best rows it finds.

    It belongs to the rows as they are: after an append or a delete, build it again.
    """
    # Lance warns of empty partitions on the way to its final ones; it reads this when it is imported.
    os.environ.setdefault("LANCE_LOG", "error")
    from whence.index import build_ann

    tell = None if quiet else partial(say, err=True)
    with stages("records", quiet=quiet) as report:
        made = build_ann(index, dimensions=dimensions, seed=seed, progress=report, notify=tell)
    if quiet:
        return
    say(f"recall of the ten best rows, measured on {made.n_queries} rows of the index:")
    for point in made.curve:
        say(f"  {point.recall:.3f} at {point.n_probes} of {made.n_partitions} partitions, {point.milliseconds:g} ms")
    say(f'Ask it: whence trace {index} --recall 0.95 --prompt "..."', err=True)


__all__ = ["app"]
