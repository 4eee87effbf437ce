"""What every change of an index's rows begins and ends with."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from whence.errors import IndexFolderError
from whence.files import hash_of
from whence.index.file_table import FileTable
from whence.index.history import Change, now, who
from whence.index.manifest import Counts, Manifest, require_manifest
from whence.index.publishing import next_generation, read_table
from whence.index.shards import model_of


class Changing(NamedTuple):
    """An index about to be changed: its folder, manifest and table of files."""

    folder: Path
    manifest: Manifest
    table: FileTable
    counts: Counts


def require_changeable(folder: Path) -> Changing:
    """The complete index in the folder. Raises IndexFolderError where it is none that can be changed."""
    manifest = require_manifest(folder)
    if manifest.counts is None or manifest.status != "complete":
        raise IndexFolderError(
            f"The index {folder} is not finished.",
            "Only the rows of a complete index are changed.",
            "Finish it first, with the command that began it.",
        )
    table = read_table(folder, manifest) if manifest.files else None
    if table is None:
        what = "is damaged" if manifest.files else "is missing, as it was built before it was kept"
        raise IndexFolderError(
            f"The table of the files of {folder} {what}.",
            "A change needs to know which rows lie in which file.",
            f"Make it: whence verify {folder} --repair",
        )
    return Changing(folder, manifest, table, manifest.counts)


def require_rows_as_built(manifest: Manifest, command: str, *, fewer_ok: bool = False) -> None:
    """Raises IndexFolderError where rows came or went, for a command that reads the data the index was built from.

    fewer_ok: rows may have gone.
    """
    if len(manifest.parts()) > 1 or (manifest.rows_changed and not fewer_ok):
        what = ", ".join(dict.fromkeys(f"{one.change} of {one.n_rows} rows" for one in manifest.history[1:]))
        raise IndexFolderError(
            f"The rows of the index are no longer those of {manifest.data.source} ({what}).",
            f"{command} reads the data that an index was built from.",
            "Write the rows into one file and build an index of it.",
        )


def changed_manifest(manifest: Manifest, change: Change, counts: Counts) -> Manifest:
    """The manifest behind this change of the rows, with what it adds to the history."""
    built = Change(change="build", when="", model=model_of(manifest), n_rows=manifest.data.n_rows, data=manifest.data)
    history = manifest.history or (built,)
    # The content of an index is what it was built from and all that was done to it since.
    content = hash_of(
        [manifest.data.content_hash, change.change, change.rows, change.data and change.data.content_hash]
    )
    return next_generation(manifest).model_copy(
        update={
            "history": (*history, change),
            "counts": counts,
            "data": manifest.data.model_copy(update={"content_hash": content}),
        }
    )


def new_change(manifest: Manifest, **fields: object) -> Change:
    """An entry of the history, of now, of this user and of the index's model."""
    return Change.model_validate({"when": now(), "who": who(), "model": model_of(manifest), **fields})


__all__ = ["Changing", "changed_manifest", "new_change", "require_changeable", "require_rows_as_built"]
