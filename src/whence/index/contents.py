"""What an index holds and what it takes on disk, column by column."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import lance
from pydantic import JsonValue

from whence.errors import IndexFolderError
from whence.index.held import default_form
from whence.index.manifest import RECORDS, REFERENCES, Manifest, require_manifest
from whence.index.reading import first_line
from whence.index.records import FIELDS, STATE_SUM, open_records
from whence.index.store import count_distinct_rows
from whence.object_path import place, tree_bytes


@dataclass(frozen=True, slots=True)
class ColumnBytes:
    """A column of the records: its bytes in all, and what it holds, in words."""

    name: str
    n_bytes: int
    holds: str


@dataclass(frozen=True, slots=True)
class IndexContents:
    """What an index is made of.

    columns: of the records, those with the most bytes first. record_bytes: of the folder of records, Lance's own files
    included. reference_bytes: of what verdicts keep beside the index. other_bytes: of every other file.
    """

    path: str
    manifest: Manifest
    n_rows: int
    n_records: int
    columns: tuple[ColumnBytes, ...]
    record_bytes: int
    reference_bytes: int
    other_bytes: int

    @property
    def bytes_per_row(self) -> float:
        """Bytes of the records over rows."""
        return self.record_bytes / max(1, self.n_rows)

    def to_dict(self) -> dict[str, JsonValue]:
        """Plain data, as `whence info --json` writes it."""
        manifest = self.manifest
        return {
            "index": self.path,
            "status": manifest.status,
            "model": manifest.model,
            "adapter": manifest.adapter,
            "base": manifest.base,
            "data": manifest.data.model_dump(),
            "default_method": default_form(manifest).name,
            "methods": list(manifest.methods),
            "precision": manifest.precision,
            "dimensions": manifest.dimensions,
            "n_rows": self.n_rows,
            "n_records": self.n_records,
            "bytes_per_row": round(self.bytes_per_row, 1),
            "columns": {
                column.name: {"bytes": column.n_bytes, "bytes_per_row": round(column.n_bytes / max(1, self.n_rows), 2)}
                for column in self.columns
            },
            "record_bytes": self.record_bytes,
            "reference_bytes": self.reference_bytes,
            "other_bytes": self.other_bytes,
            "history": [one.model_dump() for one in manifest.history],
            "ann": None if manifest.ann is None else manifest.ann.model_dump(),
        }


def index_contents(path: str | Path) -> IndexContents:
    """What is in an index, complete or not.

    Raises IndexFolderError for a folder that is no index, or whose records cannot be read.
    """
    folder = place(path)
    manifest = require_manifest(folder)
    try:
        dataset = open_records(folder, manifest.records_version)
        sizes = {} if dataset is None else _column_sizes(dataset)
    except (OSError, ValueError, RuntimeError) as error:
        raise IndexFolderError(
            f"The records of {folder} cannot be read: {first_line(error)}",
            "Every record that the manifest counts must be there.",
            "`whence verify` lists what is wrong; build it again with --overwrite.",
        ) from error
    held = _holds(manifest)
    columns = [ColumnBytes(name, n, held.get(name, "metadata, for filters")) for name, n in sizes.items()]
    records, references = tree_bytes(folder / RECORDS), tree_bytes(folder / REFERENCES)
    return IndexContents(
        str(folder),
        manifest,
        0 if dataset is None else count_distinct_rows(dataset, None),
        0 if dataset is None else dataset.count_rows(),
        tuple(sorted(columns, key=lambda column: (-column.n_bytes, column.name))),
        records,
        references,
        tree_bytes(folder) - records - references,
    )


def _column_sizes(dataset: lance.LanceDataset) -> dict[str, int]:
    """Bytes on disk of each column, its children's with it."""
    of_field = {field.id: field.bytes_on_disk for field in dataset.stats.data_stats().fields}

    def total(field: lance.schema.LanceField) -> int:
        return int(of_field.get(field.id(), 0)) + sum(total(child) for child in field.children())

    return {field.name(): total(field) for field in dataset.lance_schema.fields()}


def _holds(manifest: Manifest) -> dict[str, str]:
    """Of each column that every index has, what it holds."""
    found = dict.fromkeys(FIELDS, "numbers and places of rows")
    found |= dict.fromkeys(("prompt", "response", "turns"), "text")
    found |= {"metadata": "metadata, JSON", STATE_SUM: "mean state at the last layer, for its mean over all rows"}
    for vector in manifest.vectors:
        of = f"{vector.name} at layer {vector.layer}"
        dims = str(vector.dim) if vector.stored_dim == vector.dim else f"{vector.stored_dim} of {vector.dim}"
        found[vector.column] = f"{of}: {dims} numbers, {vector.precision}"
        found[vector.norm_column] = f"{of}: length"
        found[vector.scale_column] = f"{of}: scale of the int8 numbers"
        found[vector.sum_column] = f"{of}: sums, for its mean over all rows"
    return found


__all__ = ["ColumnBytes", "IndexContents", "index_contents"]
