"""The mean of each vector over all records: what rows have in common, and centred forms take away.

Hidden states of one model share a large common part (a few coordinates with huge values, the template's last token), so
their plain cosines are all close to 1 and rank by what all rows share.

Means are made of sums, one of each vector for each shard, which whoever computes the shard leaves with it. They are
added in the order of the shards, so the centres do not depend on who computed what. Rows that are appended later add
theirs; rows that are deleted take theirs away from the means of stored vectors alone. There are two of each: of the
vectors as they are stored, which is what rows and queries are compared in, and of the vectors as they were extracted,
for comparisons of turns that are read from the model anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import lance
import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load, save

from whence.errors import IndexFolderError
from whence.files import write_atomically
from whence.index.manifest import Manifest
from whence.index.records import STATE_SUM
from whence.index.stored_form import directions, read_columns
from whence.scoring import Centres

BLOCK_ROWS = 1024
LAST_STATE = "last_state"
"""Name of the mean state at the last layer, the mean of m there."""

EXTRACTED = "extracted_"
"""Before the name of a vector's column: its mean as it was extracted."""


class IndexCentres(NamedTuple):
    """extracted: means of the vectors as they were extracted, [dim] each. stored: in the coordinates of the index."""

    extracted: Centres
    stored: Centres


Sums = Mapping[str, Float[np.ndarray, " dim"]]
"""Sum over records of each vector as it is stored, by its column, and of what `kept_sums` names; float64."""


def sums_of(manifest: Manifest, batches: Iterable[pa.RecordBatch]) -> Sums:
    """sum_r norm[r] unit[r] of each vector over the records of these batches, and the sums that they hold."""
    totals = {vector.column: np.zeros(vector.stored_dim) for vector in manifest.vectors}
    kept = kept_sums(manifest)
    for batch in batches:
        for vector in manifest.vectors:
            unit = directions(vector, [batch], torch.float64).numpy()
            totals[vector.column] += batch.column(vector.norm_column).to_numpy().astype(np.float64) @ unit
        for name, column in kept.items():
            for one in batch.column(column).drop_null().to_pylist():
                totals[name] = totals[name] + np.asarray(one) if name in totals else np.asarray(one)
    return {name: np.zeros(1) for name in kept} | totals


def kept_sums(manifest: Manifest) -> dict[str, str]:
    """Of what the records hold sums alone, each over those that were made together: its name here, and the column.

    What one record adds to such a sum is not known, so a deleted one cannot be taken out of it.
    """
    return {LAST_STATE: STATE_SUM} | {EXTRACTED + vector.column: vector.sum_column for vector in manifest.vectors}


def sum_columns(manifest: Manifest) -> list[str]:
    """The columns that `sums_of` reads."""
    read = [name for vector in manifest.vectors for name in read_columns(vector)]
    return [*read, *kept_sums(manifest).values()]


def added(parts: Iterable[Sums]) -> Sums:
    """The sums over all parts, added in their order."""
    total: dict[str, np.ndarray] = {}
    for part in parts:
        for name, one in part.items():
            total[name] = total[name] + one if name in total else one
    return total


def centres_content(sums: Sums, n_records: int) -> bytes:
    """The file of centres: centre[layer, name] = sums[column] / n_records, float64, as safetensors."""
    return save({name: torch.from_numpy(np.atleast_1d(total / max(1, n_records))) for name, total in sums.items()})


def write_centres(folder: Path, manifest: Manifest, dataset: lance.LanceDataset) -> None:
    """Writes the centres from the records themselves, all of which are read. Memory: a block of them."""
    write_atomically(
        folder / manifest.centres, centres_content(sums_of_records(manifest, dataset), dataset.count_rows())
    )


def sums_of_records(manifest: Manifest, dataset: lance.LanceDataset) -> Sums:
    """The sums over all records, which are read in blocks."""
    scanner = dataset.scanner(columns=sum_columns(manifest), batch_size=BLOCK_ROWS, scan_in_order=True)
    return sums_of(manifest, scanner.to_batches())


def sums_in(folder: Path, manifest: Manifest) -> Sums:
    """The sums over all records of a complete index, from its centres. Raises IndexFolderError as `read_centres`."""
    assert manifest.counts is not None
    return {name: mean.numpy() * manifest.counts.n_records for name, mean in _read(folder, manifest).items()}


def read_centres(folder: Path, manifest: Manifest) -> IndexCentres:
    """The means of an index. Raises IndexFolderError if they are missing or damaged."""
    found = _read(folder, manifest)
    stored = {vector.place: found[vector.column] for vector in manifest.vectors}
    extracted = {vector.place: found[EXTRACTED + vector.column] for vector in manifest.vectors}
    # Comparisons token by token centre states at the last layer, whether the index keeps m there or not.
    return IndexCentres({(manifest.n_layers, "m"): found[LAST_STATE]} | extracted, stored)


def _read(folder: Path, manifest: Manifest) -> dict[str, torch.Tensor]:
    try:
        found = load((folder / manifest.centres).read_bytes())
        return {name: found[name] for name in (*(vector.column for vector in manifest.vectors), *kept_sums(manifest))}
    except (OSError, KeyError, SafetensorError) as error:
        raise IndexFolderError(
            f"The index {folder} is damaged: {manifest.centres} cannot be read ({error}).",
            "It holds the mean of each vector.",
            f"Restore it: whence verify {folder} --repair. Or build the index again with --overwrite.",
        ) from error


__all__ = [
    "LAST_STATE",
    "Sums",
    "added",
    "centres_content",
    "kept_sums",
    "read_centres",
    "sum_columns",
    "sums_in",
    "sums_of",
    "sums_of_records",
    "write_centres",
]
