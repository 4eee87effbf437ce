"""What storing and searching cost: a shard of the sample's own text with random vectors, written, read and removed."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from whence.data import EncodedTurn, Example, Scan
from whence.index import (
    ADAPTER_OFF,
    RECORDS,
    TURNS_AT_ONCE,
    BuildSettings,
    Counts,
    DataSummary,
    Index,
    Manifest,
    PendingRecord,
    StoredVector,
    append_records,
    default_form,
    filter_columns,
    open_records,
    read_centres,
    record_table,
    search,
    write_centres,
)
from whence.model import Fingerprint, LoadedModel
from whence.signatures import Extracted, Signatures

FLOAT32 = 4
"""Bytes."""


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
    layer: int,
    vectors: tuple[StoredVector, ...],
    rows: Sequence[tuple[Example, Sequence[EncodedTurn]]],
    *,
    contrast: bool = False,
) -> Storing:
    """Writes the rows' records as a shard to a temporary folder and ranks them once with the default method.

    Random vectors take the room of real ones: their numbers do not compress. There are as many as in the sample.
    """
    manifest = _manifest(loaded, settings, found, layer, vectors, contrast=contrast)
    records = [PendingRecord(number, example, turn) for number, (example, turns) in enumerate(rows) for turn in turns]
    extracted = _random(manifest, loaded.hidden_size, len(records), settings.seed)
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
        index = Index(folder, complete, dataset, *read_centres(folder, complete))
        one = {layer: _first(signatures) for layer, signatures in extracted.layers.items()}
        begun = time.perf_counter()
        search(index, one, method=default_form(manifest), k=10)
        searched = time.perf_counter()
    n = len(records)
    # The sample is written together; a build writes more at once, and more rows share what each such group has once.
    sums = FLOAT32 * (loaded.hidden_size + sum(vector.dim for vector in vectors))
    n_bytes = (size - sums) / n + sums / TURNS_AT_ONCE
    return Storing((written - started) / n, (searched - begun) / n, n_bytes)


def _manifest(
    loaded: LoadedModel,
    settings: BuildSettings,
    found: Scan,
    layer: int,
    vectors: tuple[StoredVector, ...],
    *,
    contrast: bool,
) -> Manifest:
    return Manifest(
        hashes=Fingerprint(weights="", adapter="", tokenizer="", template=""),
        model=settings.model,
        dtype=str(loaded.dtype).removeprefix("torch."),
        n_layers=loaded.n_layers,
        layer=layer,
        max_length=settings.max_length,
        vectors=vectors,
        precision=settings.precision,
        dimensions=settings.dimensions,
        base=ADAPTER_OFF if contrast else "",
        filters=filter_columns(found.metadata_types, loaded.n_layers),
        data=DataSummary(source=settings.data, content_hash=found.content_hash, n_rows=found.n_rows),
    )


def _random(manifest: Manifest, hidden_size: int, n: int, seed: int) -> Extracted:
    generator = torch.Generator().manual_seed(seed)
    named: dict[int, dict[str, torch.Tensor]] = {}
    for vector in manifest.vectors:
        named.setdefault(vector.layer, {})[vector.name] = torch.randn(n, vector.dim, generator=generator)
    loss, gain, norm = torch.rand(3, n, generator=generator)
    return Extracted(
        layers={layer: Signatures(**found) for layer, found in named.items()},
        loss=loss,
        n_response=torch.ones(n, dtype=torch.long),
        gradient_norm=norm,
        mean_state=torch.randn(n, hidden_size, generator=generator),
        log_likelihood_gain=gain if manifest.base else None,
    )


def _first(signatures: Signatures) -> Signatures:
    return Signatures(**{name: raw[:1] for name, raw in signatures.named().items()})


__all__ = ["Storing", "measure_storing"]
