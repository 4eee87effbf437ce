"""The mean of each vector over all records: what rows have in common, and centred forms take away.

Hidden states of one model share a large common part (a few coordinates with huge values, the template's last token), so
their plain cosines are all close to 1 and rank by what all rows share. Means are taken once, when an index is complete:
of the vectors as they are stored, which is what rows and queries are compared in, and of the vectors as they were
extracted, for comparisons of turns that are read from the model anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import lance
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from whence.errors import IndexFolderError
from whence.index.manifest import CENTRES, Manifest, StoredVector, write_bytes_atomically
from whence.index.records import STATE_SUM
from whence.index.stored_form import directions, read_columns
from whence.scoring import Centres

BLOCK_ROWS = 4096
LAST_STATE = "last_state"
"""Name of the mean state at the last layer, the mean of m there."""
STORED = "stored_"
"""Before the name of a vector's column: its mean as it is stored."""


class IndexCentres(NamedTuple):
    """extracted: means of the vectors as they were extracted, [dim] each. stored: in the coordinates of the index."""

    extracted: Centres
    stored: Centres


def write_centres(folder: Path, manifest: Manifest, dataset: lance.LanceDataset) -> None:
    """Computes the means of every vector and writes them, float64, beside the records. Memory: a block of one vector.

    stored[layer, name] = (1 / n_records) sum_r norm[r] unit[r],   extracted[layer, name] = (1 / n_records) sum of sums
    """
    found: dict[str, torch.Tensor] = {}
    for vector in manifest.vectors:
        found[STORED + vector.column] = _stored_mean(dataset, vector)
        found[vector.column] = _mean_of_sums(dataset, vector.sum_column)
    found[LAST_STATE] = _mean_of_sums(dataset, STATE_SUM)
    write_bytes_atomically(folder / CENTRES, save(found))


def _stored_mean(dataset: lance.LanceDataset, vector: StoredVector) -> torch.Tensor:
    total, count = np.zeros(vector.stored_dim), 0
    for batch in dataset.scanner(
        columns=read_columns(vector), batch_size=BLOCK_ROWS, batch_readahead=2, scan_in_order=True
    ).to_batches():
        unit = directions(vector, [batch], torch.float32).numpy()
        norm = batch.column(vector.norm_column).to_numpy()
        total += (norm @ unit).astype(np.float64)
        count += len(unit)
    return torch.from_numpy(total / max(1, count))


def _mean_of_sums(dataset: lance.LanceDataset, column: str) -> torch.Tensor:
    """The mean over all records, from sums that were stored with the records that were made together."""
    total: np.ndarray | float = 0.0
    scanner = dataset.scanner(columns=[column], filter=f"{column} IS NOT NULL", scan_in_order=True)
    for batch in scanner.to_batches():
        for one in batch.column(column).to_pylist():
            total = total + np.asarray(one)
    return torch.from_numpy(np.atleast_1d(total) / max(1, dataset.count_rows()))


def read_centres(folder: Path, manifest: Manifest) -> IndexCentres:
    """The means that `write_centres` wrote. Raises IndexFolderError if they are missing or damaged."""
    try:
        found = load_file(folder / CENTRES)
        extracted = {vector.place: found[vector.column] for vector in manifest.vectors}
        stored = {vector.place: found[STORED + vector.column] for vector in manifest.vectors}
        # Comparisons token by token centre states at the last layer, whether the index keeps m there or not.
        return IndexCentres({(manifest.n_layers, "m"): found[LAST_STATE]} | extracted, stored)
    except (OSError, KeyError, SafetensorError) as error:
        raise IndexFolderError(
            f"The index {folder} is damaged: {CENTRES} cannot be read ({error}).",
            "It holds the mean of each vector.",
            "Build the index again with --overwrite.",
        ) from error
