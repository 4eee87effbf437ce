"""More rows for an index that is complete.

Their shards are computed and committed as those of a build, so that an append that was cut goes on with the same
command; until its last moment the index answers as before. What is global follows from sums: nothing of the old rows is
read again, unless the new rows' metadata need other columns, which are then written anew from the metadata that is kept
with each record.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import lance
import pyarrow as pa
import pyarrow.compute as pc

from whence.data import (
    MAX_REJECTED,
    ColumnType,
    Scan,
    absolute_source,
    is_wide,
    read_examples,
    scan,
    unify_types,
    without_rounding,
)
from whence.errors import DataError, InputError
from whence.index.append_plan import AppendPlan, check_no_other, open_plan
from whence.index.centres import Sums, added, sums_in
from whence.index.changes import Changing, changed_manifest, new_change, require_changeable
from whence.index.engines.in_process import InProcess, ShardWriter
from whence.index.file_table import Fragment, IndexFile
from whence.index.history import DataPart, DataSummary
from whence.index.locking import locked
from whence.index.manifest import RECORDS, Counts, FilterColumn, Manifest
from whence.index.publishing import clear, commit_all, commit_more, current_records, fragments_now, publish
from whence.index.records import ARROW_TYPES, filter_columns, filter_value, opened, record_schema
from whence.index.rejects import Rejects
from whence.index.reopening import OpenWorkbench, reopen
from whence.index.sameness import check_reading
from whence.index.saving import saving
from whence.index.shard_commits import ShardNote, notes_of, write_fragment
from whence.index.shards import check_shards, compute_shards
from whence.index.store import Index
from whence.object_path import place
from whence.progress import Progress, counted


class _New(NamedTuple):
    """The rows that come: where they stand, the manifest that their records are made by, and whether its filter
    columns are those that the index has."""

    part: DataPart
    manifest: Manifest
    same_columns: bool
    rejected: str


def append_rows(
    index: str | Path,
    data: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    max_rejected: float = MAX_REJECTED,
    again: bool = False,
    workbench: OpenWorkbench | None = None,
    progress: Progress | None = None,
    notify: Callable[[str], None] | None = None,
) -> Index:
    """Appends the rows of `data` to a complete index, with the model that it was built with.

    The index then answers as one that was built from the old rows and, behind them, the new ones: layers, vectors and
    settings stay, centres and filter columns follow, and what verdicts rest on is made again by the next one.

    columns, split: as `build_index` takes them; columns that are left out are those that the build was given. Marks in
        messages are obeyed or not as in the rows that are there.
    again: append the rows also where they are those that the last append brought, so that the index has them twice.
    workbench: opens what computes rows; left out, the model that the manifest names is loaded.

    Raises:
        DataError: the data cannot be used.
        IndexFolderError: the index cannot be changed, its version read rows otherwise, another run is changing it, or
            another append is unfinished.
        InputError: the model cannot be loaded, or is another one.
    """
    folder, tell = place(index), notify or (lambda sentence: None)
    with locked(folder):
        before = require_changeable(folder)
        check_reading(folder, before.manifest)
        source = absolute_source(data)
        columns = _columns(before.manifest, columns, tell)
        tell(f"Reading {source}")
        new, found = _read(before, source, columns, split, max_rejected, progress)
        tell(f"{found.n_rows} rows ({found.shape})")
        if not again and _is_last_append(before.manifest, new.part.data):
            (folder / new.rejected).unlink(missing_ok=True)
            tell(f"These rows were already appended; the index {folder} stays as it is (again: --again)")
            return Index.open(folder)
        with saving(folder, found.n_rows):
            plan = _plan(before, new.part.data, tell)
        encoder, extractor = (workbench or reopen)(before.manifest)
        dataset = current_records(folder, before.manifest)
        rejects = Rejects(
            folder,
            new.manifest.model_copy(update={"data": new.part.data}),
            max_rejected,
            name=new.rejected,
            shards=new.part.shards(new.manifest.shard_rows),
        )
        try:
            content = compute_shards(
                folder,
                read_examples(source, columns=columns, split=split),
                InProcess(ShardWriter(folder, new.manifest, encoder, extractor, dataset if new.same_columns else None)),
                new.manifest,
                rejects,
                part=new.part,
                progress=counted(progress, "indexing"),
            )
        except DataError:
            # Other data may take their place.
            plan.model_copy(update={"refused": True}).write(folder)
            raise
        with saving(folder, found.n_rows):
            _publish(before, new, dataset, rejects, content)
    index_now = Index.open(folder)
    n_rows = index_now.manifest.history[-1].n_rows
    tell(f"{n_rows} rows were appended; the index {folder} has {index_now.n_rows} rows, {index_now.n_records} records")
    return index_now


def _columns(
    manifest: Manifest, given: Mapping[str, str] | None, tell: Callable[[str], None]
) -> Mapping[str, str] | None:
    """The columns to read: the given ones, else those of the build; marks as in the build."""
    built = manifest.data.columns or {}
    if given is None and built:
        tell(f"Columns as the index was built: {', '.join(f'{role}={name}' for role, name in built.items())}")
        return built
    return {**(given or {}), "marks": ""} if "marks" in built else given


def _is_last_append(manifest: Manifest, data: DataSummary) -> bool:
    """Whether the last change of the rows appended these data."""
    last = next((one for one in reversed(manifest.history) if one.change != "compact"), None)
    return (
        last is not None
        and last.change == "append"
        and last.data is not None
        and last.data.source == data.source
        and last.data.has_content(data.content_hash, data.beside_ids)
    )


def _read(
    before: Changing,
    source: str,
    columns: Mapping[str, str] | None,
    split: str | None,
    max_rejected: float,
    progress: Progress | None,
) -> tuple[_New, Scan]:
    manifest = before.manifest
    rejected = f"rejected-{manifest.generation + 1}.jsonl"
    (before.folder / rejected).unlink(missing_ok=True)
    found = scan(
        source,
        columns=columns,
        split=split,
        max_rejected=max_rejected,
        rejects_path=before.folder / rejected,
        progress=progress,
    )
    summary = DataSummary(
        source=source,
        columns=dict(columns) if columns else None,
        split=split,
        shape=found.shape,
        content_hash=found.content_hash,
        n_rows=found.n_rows,
        n_unreadable=found.n_rejected,
        n_duplicates=found.n_duplicates,
        beside_ids=found.beside_ids,
    )
    _check_kind(manifest, summary)
    last = manifest.parts()[-1]
    part = DataPart(summary, manifest.data.n_rows, last.first_shard + last.n_shards(manifest.shard_rows))
    filters = _joined_filters(
        manifest, opened(before.folder / RECORDS, manifest.records_version), found.metadata_types, found.wide
    )
    return _New(part, manifest.model_copy(update={"filters": filters}), filters == manifest.filters, rejected), found


def _check_kind(manifest: Manifest, new: DataSummary) -> None:
    if manifest.data.is_plain_text != new.is_plain_text:
        kinds = {True: "plain text", False: "prompts with responses"}
        raise InputError(
            f"The index holds {kinds[manifest.data.is_plain_text]}; {new.source} has {kinds[new.is_plain_text]}.",
            "All rows of an index are of one kind, because queries are read as they are.",
            "Name the columns with --columns, or build another index of these rows.",
        )


def _joined_filters(
    manifest: Manifest, dataset: lance.LanceDataset, types: Mapping[str, ColumnType], wide: Container[str]
) -> tuple[FilterColumn, ...]:
    """The filter columns of old and new rows together, each in the type that holds all values.

    dataset: the old rows' records. wide: columns of the new rows, as `Scan.wide`.
    """
    joined = unify_types({column.name: column.type for column in manifest.filters}, types)
    widened = [one for one in manifest.filters if one.type == "int" and joined[one.name] == "float"]
    joined = without_rounding(joined, {one.name for one in widened if _holds_wide(dataset, one.column)})
    return filter_columns(without_rounding(joined, wide), manifest.n_layers)


def _holds_wide(dataset: lance.LanceDataset, column: str) -> bool:
    """Whether a column of whole numbers has one that a float would round."""
    ends = [pc.min_max(batch.column(0)).as_py() for batch in dataset.to_batches(columns=[column])]
    return any(is_wide(end) for found in ends for end in found.values())


def _plan(before: Changing, data: DataSummary, tell: Callable[[str], None]) -> AppendPlan:
    """Keeps what is being appended, so that shards of it are not taken for those of something else."""
    folder, manifest = before.folder, before.manifest
    plan, kept = AppendPlan(generation=manifest.generation, data=data), open_plan(folder, manifest)
    if kept is not None and kept.data.has_content(data.content_hash, data.beside_ids):
        plan.write(folder)
        return plan
    if kept is not None:
        check_no_other(folder, kept, data)
        what = "was refused" if kept.refused else "was not finished, and its data have changed"
        tell(f"The append of {kept.data.source} {what}: its shards are discarded")
    clear(folder, manifest, keep=(f"rejected-{plan.generation + 1}.jsonl",))
    plan.write(folder)
    return plan


def _publish(
    before: Changing, new: _New, dataset: lance.LanceDataset, rejects: Rejects, content: Mapping[int, str]
) -> None:
    folder, counts = before.folder, before.counts
    noted = list(notes_of(folder, content))
    notes = [note for note, _ in noted]
    check_shards(folder, new.manifest, {note.rows.shard for note in notes}, new.part)
    rejects.write()
    known = before.table.by_path() | {file.path: file for note in notes for file in note.files}
    dataset, fragments = _joined_records(before, new, dataset, notes, known)
    data = new.part.data
    change = new_change(
        before.manifest,
        change="append",
        n_rows=sum(note.n_encoded for note in notes),
        data=data,
        first_row=new.part.first_row,
        first_shard=new.part.first_shard,
    )
    total = Counts(
        n_rows=counts.n_rows + change.n_rows,
        n_records=counts.n_records + sum(note.n_records for note in notes),
        n_rejected=counts.n_rejected + rejects.count,
        n_truncated=counts.n_truncated + sum(note.n_truncated for note in notes),
    )
    changed = changed_manifest(new.manifest, change, total)
    joined = changed.data.model_copy(
        update={
            "n_rows": changed.data.n_rows + data.n_rows,
            "n_unreadable": changed.data.n_unreadable + data.n_unreadable,
            "n_duplicates": changed.data.n_duplicates + data.n_duplicates,
        }
    )
    changed = changed.model_copy(update={"data": joined, "rejected": (*changed.rejected, new.rejected)})
    sums: Sums = added([sums_in(folder, before.manifest), *(one for _, one in noted if one)])
    published = publish(folder, changed, dataset, fragments, sums=sums, known=known)
    clear(folder, published, before=before.manifest)


def _joined_records(
    before: Changing,
    new: _New,
    dataset: lance.LanceDataset,
    notes: Sequence[ShardNote],
    known: dict[str, IndexFile],
) -> tuple[lance.LanceDataset, list[Fragment]]:
    """A version of the records with the new ones behind the old, and its fragments."""
    more = [note.fragment for note in notes if note.fragment is not None]
    if new.same_columns:
        dataset = commit_more(before.folder, dataset, more) if more else dataset
        return dataset, fragments_now(dataset, [*before.table.fragments, *more])
    shards = {name: one.shards for one in before.table.fragments for name in one.data_files}
    rewritten = []
    for one in dataset.get_fragments():
        table = with_filters(one.to_table(), new.manifest)
        name = next(name for name in Fragment(lance=one.metadata.to_json(), shards=()).data_files if name in shards)
        fragment, files = write_fragment(before.folder, table, shards[name])
        known.update({file.path: file for file in files})
        rewritten.append(fragment)
    dataset = commit_all(before.folder, record_schema(new.manifest), [*rewritten, *more])
    return dataset, fragments_now(dataset, [*rewritten, *more])


def with_filters(table: pa.Table, manifest: Manifest) -> pa.Table:
    """The records with the manifest's filter columns, made of the metadata that is kept with each."""
    metadata = [json.loads(text) for text in table["metadata"].to_pylist()]
    made = {
        column.column: pa.array(
            [filter_value(one.get(column.name), column.type) for one in metadata], ARROW_TYPES[column.type]
        )
        for column in manifest.filters
    }
    schema = record_schema(manifest)
    return pa.table([made[name] if name in made else table[name] for name in schema.names], schema=schema)


__all__ = ["append_rows", "with_filters"]
