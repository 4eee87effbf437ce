"""Indexes of vectors like those of a model, in a stored form."""

from __future__ import annotations

from pathlib import Path

import torch

from fake_index import FakeEncoder, GivenExtractor, fake_examples, fake_manifest, write_index
from whence.index.manifest import ADAPTER_OFF
from whence.index.store import Index
from whence.index.stored_form import Storage
from whence.signatures.types import Signatures

N, DIM = 60, 256
SCALES = {"h": 30.0, "g": 1e-25, "m": 30.0, "eh": 0.3, "dm": 1.0}


def drawn(n: int = N, dim: int = DIM, seed: int = 0) -> Signatures:
    """Vectors as states are: a large part that all have, a few huge coordinates, and what tells them apart."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, scale in SCALES.items():
        common = torch.randn(dim, generator=torch.Generator().manual_seed(99))
        common[:3] *= 100
        found[name] = scale * (common + torch.randn(n, dim, generator=generator))
    return Signatures(**found)


def stored_index(out: Path, signatures: Signatures, storage: Storage, gain: torch.Tensor) -> Index:
    """An index of one record a row, in that form."""
    n, dim = signatures.get("h").shape
    names = list(signatures.named())
    order = {f"question {row}.0": row for row in range(n)}
    vectors = tuple(storage.vector(name, 1, dim) for name in names)
    rows = [row for row in fake_examples(3 * n)() if len(row.turns) == 2][:n]
    renamed = [
        type(row)((type(row.turns[0])("user", f"question {i}.0"), row.turns[1]), row.file, i + 1, row.metadata)
        for i, row in enumerate(rows)
    ]
    manifest = fake_manifest(
        n, dim=dim, names=names, rows=renamed, base=ADAPTER_OFF, vectors=vectors,
        precision=storage.precision, dimensions=storage.dimensions,
    )  # fmt: skip
    return write_index(out, lambda: iter(renamed), FakeEncoder(), GivenExtractor(signatures, order, gain), manifest)
