"""`whence compact`: the files of an index without what was deleted."""

from __future__ import annotations

from whence.cli import options
from whence.cli.outputs import require_folder
from whence.cli.telling import say


def compact(index: options.IndexFolder, quiet: options.Quiet = False) -> None:
    """Write an index's files again without deleted rows, and small files as one."""
    from whence.index import compact_index, size_of

    require_folder(index)
    before = size_of(index)
    compact_index(index)
    if not quiet:
        say(f"The index {index} takes {size_of(index) / 1e6:,.1f} MB, {before / 1e6:,.1f} MB before", err=True)
