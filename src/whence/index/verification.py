"""Is this index whole? Every file is held against its checksum, every record against the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa

from whence.index.file_checks import check_files
from whence.index.manifest import RECORDS, Manifest, StoredVector
from whence.index.reading import first_line
from whence.index.recomputation import differing_rows
from whence.index.records import open_records, record_schema
from whence.index.rejects import rejected_rows
from whence.index.reopening import OpenWorkbench
from whence.index.shard_commits import saved_rows
from whence.index.store import Index
from whence.object_path import place
from whence.progress import Progress, counted

UNIT_TOLERANCE = 2e-3
"""On the norm of a stored direction. Rounding to float16 (2^-11 relative) moves it by less than 2^-11; four times
that leaves room for components below float16's normal range in very wide models. An int8 vector's norm is stored as
that of scale q, and right to float32's rounding."""

BLOCK_ROWS = 4096
SHOWN = 5


def verify(
    index: Index | str | Path,
    *,
    sample: int = 0,
    seed: int = 0,
    workbench: OpenWorkbench | None = None,
    progress: Progress | None = None,
) -> list[str]:
    """What is wrong with an index, one line each; an empty list if it is whole.

    Checked: the build is complete; every file is byte for byte what was written; every usable row is there once per
    turn, or listed in rejected.jsonl, or was deleted; unit vectors have norm 1, or 0 where the stored norm is 0; norms
    and losses are finite; the counts are the manifest's; with `sample` above 0, so many rows, drawn by `seed`, give the
    stored values when they are computed again. Memory: nine bytes a row.

    workbench: opens what computes rows; left out, the model that the manifest names is loaded.

    Raises:
        IndexFolderError: a folder that is no index, or one whose manifest and its copy are both damaged.
        InputError: the model cannot be loaded, or is another one.
    """
    folder = index.path if isinstance(index, Index) else place(index)
    found = check_files(folder, counted(progress, "reading files"))
    manifest, lines = found.manifest, [damage.line() for damage in found.damage]
    if manifest.counts is None or manifest.status != "complete":
        return [*lines, f"not finished: {saved_rows(folder)} of {manifest.data.n_rows} rows are saved"]
    if any(damage.path.startswith(RECORDS) for damage in found.damage):
        # What is read of damaged files may be anything.
        return lines
    try:
        dataset = open_records(folder, manifest.records_version)
        if dataset is None:
            return [*lines, "no record is there"]
        missing = [name for name in record_schema(manifest).names if name not in dataset.schema.names]
        if missing:
            return [*lines, f"columns are missing: {', '.join(missing)}"]
        lines += _check_records(folder, manifest, dataset)
    except (OSError, ValueError, RuntimeError) as error:
        return [*lines, f"records cannot be read: {first_line(error)}"]
    if sample and not lines:
        rows = differing_rows(Index.open(folder), sample, seed, workbench, counted(progress, "computing rows again"))
        lines += [f"row {row} is stored with other values than the model gives: {what}" for row, what in rows]
    return lines


def _check_records(folder: Path, manifest: Manifest, dataset: lance.LanceDataset) -> list[str]:
    assert manifest.counts is not None
    n_rows = manifest.data.n_rows
    turns = np.zeros(n_rows, dtype=np.int64)
    problems = _Problems()
    n_records = 0
    last = (-1, -1)
    # Every column is read, the text too: a file that is cut off shows itself nowhere else.
    for batch in dataset.scanner(batch_size=BLOCK_ROWS, batch_readahead=2).to_batches():
        rows, turn = batch.column("row").to_numpy(), batch.column("turn").to_numpy()
        if not len(rows):
            continue
        n_records += len(rows)
        outside = (rows < 0) | (rows >= n_rows)
        problems.add("rows outside the data", rows[outside])
        keys = np.stack([np.append(last[0], rows), np.append(last[1], turn)])
        step = np.diff(keys, axis=1)
        problems.add("rows out of order or with a turn twice", rows[(step[0] < 0) | ((step[0] == 0) & (step[1] <= 0))])
        last = (int(rows[-1]), int(turn[-1]))
        np.add.at(turns, rows[~outside], 1)
        problems.add("rows with a loss that is not finite", rows[~np.isfinite(batch.column("loss").to_numpy())])
        for vector in manifest.vectors:
            _check_vectors(problems, batch, rows, vector)
    absent = np.flatnonzero(turns == 0)
    gone = np.union1d(rejected_rows(folder, manifest.rejected), manifest.deleted_rows())
    problems.add("rows are missing", np.setdiff1d(absent, gone))
    lines = problems.lines()
    for what, found, expected in (
        ("records", n_records, manifest.counts.n_records),
        ("rows", n_rows - len(absent), manifest.counts.n_rows),
    ):
        if found != expected:
            lines.append(f"{found} {what} are there, the manifest counts {expected}")
    return lines


def _check_vectors(problems: _Problems, batch: pa.RecordBatch, rows: np.ndarray, vector: StoredVector) -> None:
    column = batch.column(vector.column)
    numbers = column.flatten().to_numpy().reshape(len(column), -1).astype(np.float32)
    length = np.linalg.norm(numbers, axis=1)
    norm = batch.column(vector.norm_column).to_numpy()
    of = f"{vector.name} at layer {vector.layer}"
    problems.add(f"rows with a norm of {of} that is not finite", rows[~np.isfinite(norm)])
    if vector.precision == "int8":
        scale = batch.column(vector.scale_column).to_numpy()
        wrong = ~(np.abs(length * scale - norm) <= UNIT_TOLERANCE * norm)
        problems.add(f"rows with a scale of {of} that does not give its norm", rows[wrong])
    else:
        wrong = ~(np.abs(length - (norm > 0)) <= UNIT_TOLERANCE)
        problems.add(f"rows with a direction of {of} that has not norm 1", rows[wrong])


class _Problems:
    """Problems by kind, with a count and the first rows of each."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._first: dict[str, list[int]] = {}

    def add(self, kind: str, rows: Sequence[int] | np.ndarray) -> None:
        if len(rows):
            self._counts[kind] = self._counts.get(kind, 0) + len(rows)
            first = self._first.setdefault(kind, [])
            first.extend(int(row) for row in rows[: SHOWN - len(first)])

    def lines(self) -> list[str]:
        return [
            f"{count} {kind}: {', '.join(map(str, self._first[kind]))}{', ...' if count > SHOWN else ''}"
            for kind, count in self._counts.items()
        ]
