"""What is kept on this machine of an index in an object store: columns that scores are made of, and verdicts' files.

    CACHE/FINGERPRINT/columns/*.raw    a column of the records, in their order, as numbers without a header
    CACHE/FINGERPRINT/references/      what verdicts keep (whence.trace.verdict.reference_cache)

CACHE is `~/.cache/whence/indexes`, or `indexes` in the folder of WHENCE_CACHE. FINGERPRINT is a hash of the manifest,
so that an index whose rows changed is another. All have a bound together (WHENCE_CACHE_GB, in 10^9 bytes); what was
not asked for longest is removed first. Vectors that are more are read from the store at every pass.
Asking never writes into the store.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple
from uuid import uuid4

import lance
import numpy as np
import pyarrow as pa

from whence.errors import InputError, WhenceWarning
from whence.files import TEMPORARY, hash_of
from whence.index.manifest import Manifest
from whence.index.mapped import Run
from whence.object_path import is_remote, tree_bytes

DEFAULT_GB = 20.0
COLUMNS = "columns"
BLOCK_ROWS = 8192


class CachedVectors(NamedTuple):
    """Records in runs, as `whence.index.mapped` gives them, and the columns of single numbers, whole."""

    runs: list[Run]
    numbers: dict[str, np.ndarray]


def cache_root() -> Path:
    """The folder of all indexes' caches."""
    own = os.environ.get("WHENCE_CACHE")
    shared = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return (Path(own).expanduser() if own else Path(shared).expanduser() / "whence") / "indexes"


def cache_folder(manifest: Manifest) -> Path:
    """The folder of one index in one state."""
    return cache_root() / hash_of(manifest.text())


def cache_bound() -> int:
    """Most bytes of all caches together. Raises InputError where WHENCE_CACHE_GB is no number."""
    told = os.environ.get("WHENCE_CACHE_GB", "")
    try:
        return int(float(told or DEFAULT_GB) * 1e9)
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"WHENCE_CACHE_GB is {told!r}.", "Expected a number of gigabytes, as in 20.", "Set it, or unset it."
        ) from error


def cache_note(index: Path) -> str:
    """Where the vectors of an index in an object store are kept, in a sentence; "" for one in a folder."""
    if not is_remote(index):
        return ""
    return (
        f"{index} is in an object store: the vectors that are asked are kept in {cache_root()}, "
        f"at most {cache_bound() / 1e9:g} GB of all such indexes (WHENCE_CACHE_GB)"
    )


def cached_vectors(
    manifest: Manifest, dataset: lance.LanceDataset, vectors: Sequence[str], numbers: Sequence[str], most: int
) -> CachedVectors | None:
    """These columns of the records from the cache, which is filled by what it lacks of them.

    vectors: columns of int8 vectors. numbers: columns of single numbers. most: records in a run.

    None where they are more than the cache's bound, of which a warning is given, or where the cache cannot be written.
    """
    folder = cache_folder(manifest) / COLUMNS
    kinds = {name: _kind(dataset.schema.field(name).type) for name in (*vectors, *numbers)}
    n = dataset.count_rows()
    missing = [name for name, kind in kinds.items() if _mapped(folder, name, kind, n) is None]
    if missing:
        needed = n * sum(kinds[name].bytes for name in kinds)
        if needed > cache_bound():
            warnings.warn(
                f"The vectors that are asked have {needed / 1e9:.1f} GB, more than the cache takes "
                f"({cache_bound() / 1e9:g} GB, WHENCE_CACHE_GB): every pass reads them from the store.",
                WhenceWarning,
                stacklevel=2,
            )
            return None
        try:
            make_room(folder.parent, n * sum(kinds[name].bytes for name in missing))
            _fill(folder, dataset, {name: kinds[name] for name in missing})
        except OSError:
            return None
    _touch(folder.parent)
    return columns_in(folder, dataset, vectors, numbers, most)


def fill_columns(folder: Path, dataset: lance.LanceDataset, columns: Sequence[str]) -> None:
    """Copies columns of the records into a folder of this machine, for `columns_in`."""
    _fill(folder, dataset, {name: _kind(dataset.schema.field(name).type) for name in columns})


def columns_in(
    folder: Path, dataset: lance.LanceDataset, vectors: Sequence[str], numbers: Sequence[str], most: int
) -> CachedVectors | None:
    """These columns as they lie in a folder; None where not all are there whole. See `cached_vectors`."""
    n = dataset.count_rows()
    found = {name: _mapped(folder, name, _kind(dataset.schema.field(name).type), n) for name in (*vectors, *numbers)}
    whole = {name: column for name, column in found.items() if column is not None}
    if len(whole) < len(found):
        return None
    starts = range(0, n, most)
    runs = [Run(start, {name: whole[name][start : start + most] for name in vectors}) for start in starts]
    return CachedVectors(runs, {name: np.array(whole[name]) for name in numbers})


def make_room(keep: Path, needed: int) -> None:
    """Removes other indexes' caches, those first that were not asked for longest, until `needed` bytes have room."""
    others = sorted((one for one in keep.parent.glob("*") if one.is_dir() and one != keep), key=_last_use)
    sizes = [tree_bytes(one) for one in others]
    total = needed + (tree_bytes(keep) if keep.is_dir() else 0) + sum(sizes)
    for folder, size in zip(others, sizes, strict=True):
        if total <= cache_bound():
            return
        shutil.rmtree(folder, ignore_errors=True)
        total -= size


class _Kind(NamedTuple):
    """Numbers of a record in a column: their type, and how many."""

    dtype: np.dtype
    dim: int

    @property
    def bytes(self) -> int:
        """Of one record."""
        return self.dtype.itemsize * self.dim


def _kind(type: pa.DataType) -> _Kind:
    if pa.types.is_fixed_size_list(type):
        return _Kind(np.dtype(type.value_type.to_pandas_dtype()), type.list_size)
    return _Kind(np.dtype(type.to_pandas_dtype()), 1)


def _mapped(folder: Path, name: str, kind: _Kind, n: int) -> np.ndarray | None:
    """The column, [n, dim] or [n]; None where it is not there whole."""
    path, shape = folder / f"{name}.raw", (n, kind.dim) if kind.dim > 1 else (n,)
    try:
        if path.stat().st_size != n * kind.bytes:
            return None
        # Private pages: torch wants memory that could be written, the file stays as it is.
        return np.memmap(path, kind.dtype, "c", shape=shape)
    except (OSError, ValueError):
        return None


def _fill(folder: Path, dataset: lance.LanceDataset, kinds: Mapping[str, _Kind]) -> None:
    """Streams columns from the store into their files, each of which appears whole."""
    folder.mkdir(parents=True, exist_ok=True)
    # A name of its own, as other processes may fill the same cache.
    partial = {name: folder / f"{TEMPORARY}{uuid4().hex[:12]}-{name}" for name in kinds}
    opened: dict[str, IO[bytes]] = {}
    try:
        for name, path in partial.items():
            opened[name] = path.open("wb")
        for batch in _batches(dataset, list(kinds)):
            for name, kind in kinds.items():
                column = batch.column(name)
                values = column.flatten() if kind.dim > 1 else column
                opened[name].write(values.to_numpy(zero_copy_only=False).astype(kind.dtype, copy=False).tobytes())
        for name, path in partial.items():
            opened[name].close()
            path.replace(folder / f"{name}.raw")
    finally:
        for name, path in partial.items():
            if name in opened:
                opened[name].close()
            path.unlink(missing_ok=True)


def _batches(dataset: lance.LanceDataset, columns: list[str]) -> Iterator[pa.RecordBatch]:
    scanner = dataset.scanner(columns=columns, scan_in_order=True, batch_size=BLOCK_ROWS, batch_readahead=4)
    yield from scanner.to_batches()


def _last_use(folder: Path) -> float:
    return folder.stat().st_mtime


def _touch(folder: Path) -> None:
    try:
        os.utime(folder)
    except OSError:
        return


__all__ = [
    "CachedVectors",
    "cache_bound",
    "cache_folder",
    "cache_note",
    "cache_root",
    "cached_vectors",
    "columns_in",
    "fill_columns",
    "make_room",
]
