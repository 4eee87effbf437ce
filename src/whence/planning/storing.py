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


KEPT_TWICE = 2
"""An index keeps its manifest and its centres once more, in `backup`."""


@dataclass(frozen=True, slots=True)
class Storing:
    """Seconds to write and to search one record, and bytes on disk: of a record, a group, a shard and the whole.

    A group is the records that are written together (`TURNS_AT_ONCE` at most): it has the sums of its vectors once.
    """

    write_seconds: float
    search_seconds: float
    record_bytes: float
    group_bytes: int
    shard_bytes: int
    index_bytes: int

    def disk(self, n_records: int, n_shards: int) -> int:
        """Bytes of an index of so many records in so many shards."""
        n_groups = max(n_shards, -(-n_records // TURNS_AT_ONCE))
        beside = n_groups * self.group_bytes + n_shards * self.shard_bytes + self.index_bytes
        return round(n_records * self.record_bytes) + beside


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
    one_record = record_table(manifest, 0, records[:1], _random(manifest, loaded.hidden_size, 1, settings.seed))
    with tempfile.TemporaryDirectory(prefix="whence-plan-") as name:
        folder, beside = Path(name, "all"), Path(name, "one")
        append_records(beside, one_record)
        least = _size(beside / RECORDS / "data")
        started = time.perf_counter()
        append_records(folder, record_table(manifest, 0, records, extracted))
        dataset = open_records(folder)
        assert dataset is not None, "a shard was just committed"
        write_centres(folder, manifest, dataset)
        written = time.perf_counter()
        whole, data = _size(folder), _size(folder / RECORDS / "data")
        commit = _size(folder / RECORDS) - data
        counts = Counts(n_rows=len(rows), n_records=len(records), n_rejected=0, n_truncated=0)
        complete = manifest.model_copy(update={"status": "complete", "counts": counts})
        index = Index(folder, complete, dataset, *read_centres(folder, complete))
        one = {layer: _first(signatures) for layer, signatures in extracted.layers.items()}
        begun = time.perf_counter()
        search(index, one, method=default_form(manifest), k=10)
        searched = time.perf_counter()
    n = len(records)
    sums = FLOAT32 * (loaded.hidden_size + sum(vector.dim for vector in vectors))
    # least = file + sums + record, data = file + sums + n records
    record = (data - least) / (n - 1) if n > 1 else float(least - sums)
    of_file = max(0, round(least - sums - record))
    return Storing(
        write_seconds=(written - started) / n,
        search_seconds=(searched - begun) / n,
        record_bytes=record,
        group_bytes=sums,
        shard_bytes=of_file + commit,
        index_bytes=KEPT_TWICE * (whole - data - commit + len(manifest.model_dump_json())),
    )


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


def _size(folder: Path) -> int:
    """Bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _first(signatures: Signatures) -> Signatures:
    return Signatures(**{name: raw[:1] for name, raw in signatures.named().items()})


__all__ = ["Storing", "measure_storing"]
