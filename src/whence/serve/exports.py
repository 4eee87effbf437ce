"""The data without a basket's rows, and the manifest, kept beside the index, so that `whence clean --undo` works.

FOLDER/exports/ID/     ID is a hash of the rows: the same basket is written once
  data/NAME            the data without the rows, in their own format
  manifest.json        what `whence clean --undo` reads
  rows.txt             the ids, one a line, as `whence confirm --remove` takes them
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from threading import RLock

from whence.cleaning import clean
from whence.files import hash_of, write_atomically
from whence.index import Index, require_rows_as_built
from whence.results import SelectedRows
from whence.serve.failures import RefusedError
from whence.serve.state import Object

KINDS = ("cleaned", "manifest", "ids")
MANIFEST, IDS = "manifest.json", "rows.txt"


class Exports:
    """Writes and finds the exports of one index."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "exports"
        self._lock = RLock()

    def make(self, index: Index, rows: Sequence[str]) -> Object:
        """Writes the export of these rows of the index, unless it is there.

        Raises InputError, DataError: as `whence.clean`, as for rows that are all of the data, or data that have gone.
        """
        require_rows_as_built(index.manifest, "An export", fewer_ok=True)
        data = index.manifest.data
        name = Path(data.source).name if Path(data.source).exists() else "data"  # a pattern names several files
        id = hash_of([data.content_hash, sorted(set(rows))])
        folder = self._folder / id
        with self._lock:
            if not (folder / IDS).is_file():
                shutil.rmtree(folder, ignore_errors=True)  # what a server that was killed left
                (folder / "data").mkdir(parents=True)
                try:
                    clean(
                        data.source,
                        folder / "data" / name,
                        SelectedRows.given(rows, "in a basket"),
                        columns=data.columns,
                        split=data.split,
                        manifest=folder / MANIFEST,
                    )
                except BaseException:
                    shutil.rmtree(folder, ignore_errors=True)
                    raise
                write_atomically(folder / IDS, "".join(f"{row}\n" for row in dict.fromkeys(rows)))
        return {"id": id, "rows": len(set(rows)), "files": {kind: self.file(id, kind).name for kind in KINDS}}

    def file(self, id: str, kind: str) -> Path:
        """One file of an export. Raises RefusedError (404) where there is none."""
        folder = self._folder / id
        if not (folder / IDS).is_file():
            raise RefusedError(
                HTTPStatus.NOT_FOUND, f"There is no export {id}.", "Expected the id that an export gave.", ""
            )
        if kind != "cleaned":
            return folder / (MANIFEST if kind == "manifest" else IDS)
        [cleaned] = (folder / "data").iterdir()
        if cleaned.is_file():
            return cleaned
        packed = folder / f"{cleaned.name}.zip"
        with self._lock:
            if not packed.is_file():
                made = shutil.make_archive(str(folder / f"packing-{cleaned.name}"), "zip", folder / "data")
                Path(made).rename(packed)
        return packed
