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
from whence.scoring import Centres

BLOCK_ROWS = 4096


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
    write_bytes_atomically(folder / CENTRES, save(found))


def read_centres(folder: Path, manifest: Manifest) -> Centres:
    """The means that `write_centres` wrote. Raises IndexFolderError if they are missing or damaged."""
    try:
        found = load_file(folder / CENTRES)
        return {vector.place: found[vector.column] for vector in manifest.vectors}
    except (OSError, KeyError, SafetensorError) as error:
        raise IndexFolderError(
            f"The index {folder} is damaged: {CENTRES} cannot be read ({error}).",
            "It holds the mean of each vector.",
            "Build the index again with --overwrite.",
        ) from error
