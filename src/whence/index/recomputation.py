"""Rows of an index computed again by its model, and held against what is stored."""

from __future__ import annotations

from random import Random

import numpy as np
import pyarrow as pa

from whence.index.manifest import Manifest
from whence.index.records import PendingRecord, record_table
from whence.index.reopening import OpenWorkbench, reopen
from whence.index.store import Index
from whence.progress import Count

TOLERANCE = {"float64": 0.01, "float32": 0.01}
"""Largest distance of a stored vector to the one computed again, as a share of its norm; rounding to float16 is 0.0005,
and the rest leaves room for other batches, libraries and machines."""
HALF_TOLERANCE = 0.1
"""The same for models in bfloat16 and float16, whose sums differ by the order of the additions."""
_SAME = ("id", "prompt", "response", "n_prompt", "n_response", "truncated")
_NUMBERS = ("loss", "log_likelihood_gain")


def differing_rows(
    index: Index, n: int, seed: int, workbench: OpenWorkbench | None = None, progress: Count | None = None
) -> list[tuple[int, str]]:
    """(row, the columns that differ) of those among n rows, drawn by the seed, that the model gives other values.

    Raises InputError where the model cannot be loaded or is another one.
    """
    numbers = np.unique(np.concatenate([block["row"].to_numpy() for block in _row_blocks(index)]))
    drawn = sorted(Random(seed).sample(numbers.tolist(), min(n, len(numbers))))
    encoder, extractor = (workbench or reopen)(index.manifest)
    found = []
    for done, row in enumerate(drawn):
        (example,) = index.examples([row])
        pending = [PendingRecord(row, example, turn) for turn in encoder.encode(example)]
        made = record_table(index.manifest, 0, pending, extractor.extract([item.turn for item in pending]))
        stored = index.dataset.to_table(filter=f"row = {row}", columns=made.schema.names).sort_by("turn")
        differing = differing_columns(index.manifest, made.sort_by("turn"), stored)
        if differing:
            found.append((row, ", ".join(differing)))
        if progress is not None:
            progress(done + 1, len(drawn))
    return found


def differing_columns(manifest: Manifest, made: pa.Table, stored: pa.Table) -> list[str]:
    """Columns in which two tables of the same records differ by more than rounding."""
    if len(made) != len(stored):
        return [f"{len(stored)} records are stored, {len(made)} are made"]
    tolerance = TOLERANCE.get(manifest.dtype, HALF_TOLERANCE)
    found = [name for name in _SAME if made[name].to_pylist() != stored[name].to_pylist()]
    for name in _NUMBERS:
        a, b = _values(made, name), _values(stored, name)
        if not np.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True):
            found.append(name)
    for vector in manifest.vectors:
        a, b = _raw(made, vector.column, vector.norm_column), _raw(stored, vector.column, vector.norm_column)
        size = np.linalg.norm(a, axis=1)
        # A vector that is all but zero, such as what fine-tuning did not change, has a direction made of rounding.
        room = tolerance * np.maximum(size, size.mean() if len(size) else 0.0) + np.finfo(np.float16).tiny
        if not (np.linalg.norm(a - b, axis=1) <= room).all():
            found.append(vector.column)
    return found


def _row_blocks(index: Index) -> list[pa.RecordBatch]:
    return list(index.dataset.scanner(columns=["row"]).to_batches())


def _values(table: pa.Table, name: str) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in table[name].to_pylist()], dtype=np.float64)


def _raw(table: pa.Table, column: str, norm: str) -> np.ndarray:
    """The vectors: directions of whatever numbers they are stored in, times their norms; [n, dim], float64."""
    stored = table[column].combine_chunks().flatten().to_numpy().astype(np.float64).reshape(len(table), -1)
    length = np.linalg.norm(stored, axis=1, keepdims=True)
    unit = stored / np.where(length > 0, length, 1.0)
    return np.asarray(unit * table[norm].to_numpy().astype(np.float64)[:, None])


__all__ = ["TOLERANCE", "differing_columns", "differing_rows"]
