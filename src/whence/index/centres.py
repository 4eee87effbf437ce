"""The mean of each stored vector over all records: what rows have in common, and centred forms take away.

Hidden states of one model share a large common part (a few coordinates with huge values, the template's last token), so
their plain cosines are all close to 1 and rank by what all rows share. Means are taken once, when an index is complete.
"""

from __future__ import annotations

from pathlib import Path

import lance
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from whence.errors import IndexFolderError
from whence.index.manifest import CENTRES, Manifest, write_bytes_atomically
from whence.index.records import STATE_SUM
from whence.scoring import Centres

BLOCK_ROWS = 4096
LAST_STATE = "last_state"
"""Name of the mean state at the last layer, the mean of m there."""


def write_centres(folder: Path, manifest: Manifest, dataset: lance.LanceDataset) -> None:
    """Computes the mean of every stored vector and writes them, float64, beside the records.

    centre[layer, name] = (1 / n_records) sum_r norm[r] unit[r]. Memory: one block of one vector.
    """
    found: dict[str, torch.Tensor] = {}
    for vector in manifest.vectors:
        columns, dim = [vector.column, vector.norm_column], vector.dim
        total, count = np.zeros(dim), 0
        for batch in dataset.scanner(columns=columns, batch_size=BLOCK_ROWS, scan_in_order=True).to_batches():
            unit = batch.column(columns[0]).flatten().to_numpy().reshape(-1, dim).astype(np.float64)
            total += batch.column(columns[1]).to_numpy().astype(np.float64) @ unit
            count += len(unit)
        found[vector.column] = torch.from_numpy(total / max(1, count))
    found[LAST_STATE] = _mean_state(dataset)
    write_bytes_atomically(folder / CENTRES, save(found))


def _mean_state(dataset: lance.LanceDataset) -> torch.Tensor:
    """The mean of `Extracted.mean_state` over all records, from the sums that were stored with them."""
    total: np.ndarray | float = 0.0
    scanner = dataset.scanner(columns=[STATE_SUM], filter=f"{STATE_SUM} IS NOT NULL", scan_in_order=True)
    for batch in scanner.to_batches():
        for one in batch.column(STATE_SUM).to_pylist():
            total = total + np.asarray(one)
    return torch.from_numpy(np.atleast_1d(total) / max(1, dataset.count_rows()))


def read_centres(folder: Path, manifest: Manifest) -> Centres:
    """The means that `write_centres` wrote. Raises IndexFolderError if they are missing or damaged."""
    try:
        found = load_file(folder / CENTRES)
        centres = {vector.place: found[vector.column] for vector in manifest.vectors}
        # Comparisons token by token centre states at the last layer, whether the index keeps m there or not.
        return {(manifest.n_layers, "m"): found[LAST_STATE]} | centres
    except (OSError, KeyError, SafetensorError) as error:
        raise IndexFolderError(
            f"The index {folder} is damaged: {CENTRES} cannot be read ({error}).",
            "It holds the mean of each vector.",
            "Build the index again with --overwrite.",
        ) from error
