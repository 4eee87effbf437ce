"""More vectors for an index that is complete: only those that are missing are computed, and become new columns.

They are computed shard by shard into a data set of their own beside the records, and joined to them in one commit, so
that a run that was killed goes on where it stopped and the index answers as before until the last moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import replace
from functools import partial
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import torch

from whence.data import Example
from whence.errors import IndexFolderError
from whence.index.append_plan import warn_of_plan
from whence.index.centres import sums_in, sums_of_records
from whence.index.data_parts import check_part, examples_of
from whence.index.engines.local import EncodesExamples, ExtractsSignatures, LocalEngine, ShardSpec
from whence.index.file_table import ShardRows
from whence.index.locking import locked
from whence.index.manifest import ADDED, Manifest, StoredVector, require_manifest
from whence.index.publishing import clear, current_records, fragments_now, next_generation, publish, read_table
from whence.index.records import PendingRecord, open_dataset, open_records, vector_columns, vector_fields
from whence.index.saving import saving
from whence.index.shards import committed_shards, shard_groups, share_told
from whence.index.store import Index
from whence.object_path import remove_tree, storage_options
from whence.progress import Count
from whence.signatures import Extracted, Signatures

_KEYS = {"row": pa.int64(), "turn": pa.int32(), "shard": pa.int32()}


def missing_vectors(index: Manifest, vectors: Sequence[StoredVector]) -> tuple[StoredVector, ...]:
    """Those of the vectors that the index does not hold."""
    return tuple(vector for vector in vectors if vector not in index.vectors)


def add_vectors(
    out: Path,
    encoder: EncodesExamples,
    extractor: ExtractsSignatures,
    known: Manifest,
    vectors: Sequence[StoredVector],
    *,
    methods: Sequence[str],
    layers: Sequence[int] = (),
    progress: Count | None = None,
) -> Index:
    """Adds to the complete index in `out` those of the vectors that it has not; `extractor` reads them.

    Rows that were appended are read from their own data; deleted ones are computed in their shards, and left out.

    known: the index as it was when model and data were compared with it. What other runs changed since stays.
    methods: those that the index can answer from then on. layers: layers at which all their vectors are read.

    Raises:
        IndexFolderError: another run is writing the index or has replaced it, the disk is full, or the rows are not
            those of the index.
        DataError: the data changed.
        NonFiniteError: a signature is NaN or infinite.
    """
    with locked(out):
        before = require_manifest(out)
        _check_known(out, before, known)
        missing = missing_vectors(before, vectors)
        if not missing:
            return Index.open(out)
        warn_of_plan(out, before)
        wanted, total = _with(before, missing, methods, layers), before.data.n_rows
        with saving(out, total):
            # What a change left that was cut before it was published is passed over; vectors that are computed stay.
            records = current_records(out, before)
        _compute(out, LocalEngine(encoder, extractor), wanted, missing, progress)
        with saving(out, total):
            _join(out, records, missing)
        with saving(out, total):
            _finish(out, before, wanted, missing)
    return Index.open(out)


def _with(before: Manifest, missing: Sequence[StoredVector], methods: Sequence[str], layers: Sequence[int]) -> Manifest:
    """The manifest with the vectors and methods; its settings build an index that holds at least the same."""
    every = list(dict.fromkeys([*before.methods, *methods]))
    settings = before.settings | {"methods": list(every)}
    if layers:
        asked = before.settings.get("layers", "last")
        settings["layers"] = list(dict.fromkeys([*(asked if isinstance(asked, list) else [asked]), *layers]))
    added = {"vectors": (*before.vectors, *missing), "methods": tuple(every), "settings": settings}
    return before.model_copy(update=added)


def _check_known(out: Path, now: Manifest, known: Manifest) -> None:
    """Raises IndexFolderError where the index was replaced, and DataError where rows came whose data are others."""
    first = known.parts()[0].data.content_hash
    same = (now.hashes, now.model_settings) == (known.hashes, known.model_settings)
    if now.status != "complete" or not same or now.parts()[0].data.content_hash != first:
        raise IndexFolderError(
            f"Another run has replaced the index {out}.",
            "Vectors are added to the index that was there when the command began.",
            "Give the same command again.",
        )
    for part in now.parts()[len(known.parts()) :]:
        check_part(part)


def _compute(
    out: Path,
    engine: LocalEngine,
    wanted: Manifest,
    missing: Sequence[StoredVector],
    progress: Count | None,
) -> None:
    """The missing columns of every shard, into `ADDED`; shards that are there already are passed over."""
    folder, schema = out / ADDED, pa.schema({**_KEYS, **vector_fields(missing)})
    begun = open_dataset(folder)
    if begun is not None and begun.schema.names != schema.names:
        # Left by a run that was to add something else.
        remove_tree(folder)
        begun = None
    done, total, gone = committed_shards(begun), wanted.data.n_rows, set(wanted.deleted_rows().tolist())
    for rows, group in _shards(wanted):
        shard, first = rows.shard, rows.first_row
        if shard not in done:
            spec = ShardSpec(shard, first, partial(_table, schema, missing, shard, gone))
            # Rows that cannot be encoded were set aside when the index was built; they have no record.
            table = engine.compute_shard(spec, group, share_told(progress, first, len(group), total)).table
            if table is not None and len(table):
                with saving(out, total):
                    mode = "append" if open_dataset(folder) is not None else "create"
                    lance.write_dataset(table, str(folder), mode=mode, storage_options=storage_options(folder))
        if progress is not None:
            progress(first + len(group), total)


def _shards(wanted: Manifest) -> Iterator[tuple[ShardRows, list[Example]]]:
    for part in wanted.parts():
        yield from shard_groups(examples_of(part), wanted, part)


def _table(
    schema: pa.Schema,
    missing: Sequence[StoredVector],
    shard: int,
    gone: Set[int],
    rows: Sequence[PendingRecord],
    extracted: Extracted,
) -> pa.Table:
    kept = [i for i, item in enumerate(rows) if item.row not in gone]
    if not kept:
        return schema.empty_table()
    if len(kept) < len(rows):
        rows, extracted = [rows[i] for i in kept], _of_turns(extracted, kept)
    columns: dict[str, object] = {
        "row": [item.row for item in rows],
        "turn": [item.turn.turn for item in rows],
        "shard": [shard] * len(rows),
    }
    columns |= vector_columns(missing, rows, extracted)
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


def _of_turns(extracted: Extracted, kept: Sequence[int]) -> Extracted:
    """The vectors of some turns, with what tells whether they are finite."""
    at = torch.tensor(kept)
    gain = extracted.log_likelihood_gain
    return replace(
        extracted,
        layers={
            layer: Signatures(**{name: raw[at] for name, raw in found.named().items()})
            for layer, found in extracted.layers.items()
        },
        loss=extracted.loss[at],
        log_likelihood_gain=None if gain is None else gain[at],
    )


def _join(out: Path, records: lance.LanceDataset, missing: Sequence[StoredVector]) -> None:
    """The computed columns become columns of the records, in one commit."""
    added = open_dataset(out / ADDED)
    if added is None or not np.array_equal(_keys(added), _keys(records)):
        raise IndexFolderError(
            f"The rows that were read for {out} are not those that it holds.",
            "Vectors are added to the records of the same rows, in the same order.",
            "Build the index again with --overwrite and --methods.",
        )
    names = list(vector_fields(missing))
    left = [name for name in names if name in records.schema.names]
    if left:
        # The manifest does not name them: two runs that added at once left them.
        records.drop_columns(left)
    records.add_columns(added.scanner(columns=names, scan_in_order=True).to_reader())


def _keys(dataset: lance.LanceDataset) -> np.ndarray:
    """(row, turn) of each record, in their order: [2, n]."""
    table = dataset.scanner(columns=["row", "turn"], scan_in_order=True).to_table()
    return np.stack([table["row"].to_numpy(), table["turn"].to_numpy()])


def _finish(out: Path, before: Manifest, wanted: Manifest, missing: Sequence[StoredVector]) -> None:
    """The manifest is last: until it is written the index is the old one, and the same command goes on from here."""
    records = open_records(out)
    assert records is not None
    table = read_table(out, before)
    if table is None:
        raise IndexFolderError(
            f"The table of the files of {out} is missing or damaged.",
            "It says which rows lie in which file.",
            f"Make it again: whence verify {out} --repair",
        )
    fragments = fragments_now(records, table.fragments)
    if before.rows_changed:
        # Sums that records hold are over what was computed together, deleted rows among them; the centres are not.
        new = sums_of_records(wanted.model_copy(update={"vectors": tuple(missing)}), records)
        sums = {**new, **sums_in(out, before)}
    else:
        sums = dict(sums_of_records(wanted, records))
    published = publish(out, next_generation(wanted), records, fragments, sums=sums, run=True, known=table.by_path())
    clear(out, published)


__all__ = ["add_vectors", "missing_vectors"]
