"""What storing and searching cost: a shard of the sample's own text with random vectors, written, read and removed."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from whence.data.examples import EncodedTurn, Example
from whence.data.scan import Scan
from whence.index.build import BuildSettings, stored_vectors
from whence.index.centres import read_centres, write_centres
from whence.index.manifest import ADAPTER_OFF, RECORDS, Counts, DataSummary, Manifest
from whence.index.records import EncodedRow, append_records, filter_columns, open_records, record_table
from whence.index.search import search
from whence.index.store import Index
from whence.model.fingerprint import Fingerprint
from whence.model.loading import LoadedModel
from whence.signatures.types import Extracted, Signatures
from whence.trace.scoring import default_form


@dataclass(frozen=True, slots=True)
class Storing:
    """What one record costs: seconds to write it, to search it, and bytes on disk."""

    write_seconds: float
    search_seconds: float
    bytes: float


def measure_storing(
    loaded: LoadedModel,
    settings: BuildSettings,
    found: Scan,
    layers: Sequence[int],
    rows: Sequence[tuple[Example, Sequence[EncodedTurn]]],
    *,
    contrast: bool = False,
) -> Storing:
    """Writes the rows' records as a shard to a temporary folder and ranks them once with the default method.

    Random vectors take the room of real ones: float16 mantissas do not compress. Their number is that of the sample.
    """
    manifest = _manifest(loaded, settings, found, layers, contrast=contrast)
    records = [EncodedRow(number, example, turn) for number, (example, turns) in enumerate(rows) for turn in turns]
    extracted = _random(manifest, len(records), settings.seed)
    with tempfile.TemporaryDirectory(prefix="whence-plan-") as name:
        folder = Path(name)
        started = time.perf_counter()
        append_records(folder, record_table(manifest, 0, records, extracted))
        dataset = open_records(folder)
        assert dataset is not None, "a shard was just committed"
        write_centres(folder, manifest, dataset)
        written = time.perf_counter()
        size = sum(path.stat().st_size for path in (folder / RECORDS).rglob("*") if path.is_file())
        counts = Counts(n_rows=len(rows), n_records=len(records), n_rejected=0, n_truncated=0)
        complete = manifest.model_copy(update={"status": "complete", "counts": counts})
        index = Index(folder, complete, dataset, read_centres(folder, complete))
        one = {layer: _first(signatures) for layer, signatures in extracted.layers.items()}
        begun = time.perf_counter()
        search(index, one, method=default_form(manifest), k=10)
        searched = time.perf_counter()
    n = len(records)
    return Storing((written - started) / n, (searched - begun) / n, size / n)


def _manifest(
    loaded: LoadedModel, settings: BuildSettings, found: Scan, layers: Sequence[int], *, contrast: bool
) -> Manifest:
    vectors, places = stored_vectors(loaded.hidden_size, layers, contrast=contrast)
    return Manifest(
        hashes=Fingerprint(weights="", adapter="", tokenizer="", template=""),
        model=settings.model,
        dtype=str(loaded.dtype).removeprefix("torch."),
        layers=tuple(sorted(layers)),
        layer=layers[0],
        max_length=settings.max_length,
        vectors=vectors,
        at=places,
        base=ADAPTER_OFF if contrast else "",
        filters=filter_columns(found.metadata_types, layers, vectors),
        data=DataSummary(source=settings.data, content_hash=found.content_hash, n_rows=found.n_rows),
    )


def _random(manifest: Manifest, n: int, seed: int) -> Extracted:
    generator = torch.Generator().manual_seed(seed)
    layers = {
        layer: Signatures(**{name: torch.randn(n, dim, generator=generator) for name, dim in manifest.vectors.items()})
        for layer in manifest.layers
    }
    loss, rise = torch.rand(2, n, generator=generator)
    return Extracted(layers, loss, torch.ones(n, dtype=torch.long), rise=rise if manifest.base else None)


def _first(signatures: Signatures) -> Signatures:
    return Signatures(**{name: raw[:1] for name, raw in signatures.named().items()})


__all__ = ["Storing", "measure_storing"]
