"""Writing an index shard by shard: a shard is the unit of work and of commit.

A shard is `shard_rows` consecutive rows. It is committed when its note appears (whence.index.shard_commits), so after a
crash a shard is there or not, and the same command continues with those that are not. A shard is always computed in the
same batches, whoever computes it, so its values do not depend on where a run was interrupted. When all are there the
index is sealed: the files of the shards become the records, and the manifest says that it is complete.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import lance

from whence.data import ContentHash, Example
from whence.errors import DataError, IndexFolderError
from whence.index.centres import Sums, added
from whence.index.engines.in_process import Engine, Task
from whence.index.file_table import ShardRows
from whence.index.history import Change, DataPart, described_content, described_numbers, now, who
from whence.index.locking import locked
from whence.index.manifest import READING, REJECTED, SETTINGS, Counts, Manifest, read_manifest
from whence.index.publishing import clear, commit_all, fragments_now, publish
from whence.index.records import record_schema
from whence.index.rejects import Rejects
from whence.index.run_yaml import write_run
from whence.index.sameness import differences, settings_of_both
from whence.index.saving import saving
from whence.index.shard_commits import ShardNote, committed_note, committed_notes, made_of, notes_of
from whence.index.store import Index
from whence.progress import Count


def write_index_with(
    out: Path,
    examples: Callable[[], Iterator[Example]],
    engine: Engine,
    manifest: Manifest,
    *,
    max_rejected: float,
    progress: Count | None = None,
) -> Index:
    """Builds the index that `manifest` describes, or continues it; a complete one is opened as it is.

    examples: gives the usable rows, the same ones in the same order at each call.

    Raises:
        IndexFolderError: `out` is something else or another index, another run is writing it, or the disk is full.
        DataError: more than the share `max_rejected` of the rows cannot be used, or the data changed meanwhile.
        NonFiniteError: a signature is NaN or infinite.
    """
    started = time.monotonic()
    make_folder(out, manifest)
    with locked(out):
        if begin(out, manifest):
            return Index.open(out)
        rejects = Rejects(out, manifest, max_rejected, shards=DataPart(manifest.data, 0, 0).shards(manifest.shard_rows))
        content = compute_shards(out, examples(), engine, manifest, rejects, progress=progress)
        seal(out, manifest, rejects, content, time.monotonic() - started)
    return Index.open(out)


def make_folder(out: Path, manifest: Manifest) -> None:
    """Makes the folder where it is not there. Raises IndexFolderError where it is something else."""
    read_manifest(out)
    with saving(out, manifest.data.n_rows):
        out.mkdir(parents=True, exist_ok=True)


def begin(out: Path, manifest: Manifest) -> bool:
    """Writes the manifest of an index that is begun; whether the index is there and complete already.

    Raises IndexFolderError where another index is there.
    """
    existing = read_manifest(out)
    if existing is None:
        with saving(out, manifest.data.n_rows):
            _start(out, manifest)
        return False
    check_same(out, existing, manifest)
    return existing.status == "complete"


def compute_shards(
    out: Path,
    examples: Iterator[Example],
    engine: Engine,
    manifest: Manifest,
    rejects: Rejects,
    *,
    part: DataPart | None = None,
    mine: Callable[[int], bool] | None = None,
    progress: Count | None = None,
) -> dict[int, str]:
    """Has the engine compute and commit the shards of a part of the data that are not committed.

    part: the rows that `examples` gives; None for all rows of an index that is built. mine: chooses among the shards.
    Returns what each of these shards was made of (see `shard_commits.made_of`).

    Raises DataError where the rows are not those that were scanned: their number, and unless `mine` chooses, their
    content.
    """
    part = part or DataPart(manifest.data, 0, 0)
    sizes = {s: n for s, _, n in part.shard_starts(manifest.shard_rows) if mine is None or mine(s)}
    done: dict[int, ShardNote] = {}
    for note, _ in committed_notes(out, part.shards(manifest.shard_rows)):
        if note.rows.shard in sizes:
            done[note.rows.shard] = note
        else:
            rejects.take(note)
    clock = _Clock(sum(note.rows.n_rows for note in done.values()), sum(sizes.values()), progress)
    content: dict[int, str] = {}

    def committed(note: ShardNote) -> None:
        rejects.take(note)
        rejects.check()
        clock.add(note.rows.n_rows)

    clock.add(0)

    def tasks() -> Iterator[Task]:
        for rows, group in shard_groups(examples, manifest, part, check=mine is None):
            if rows.shard not in sizes:
                continue
            content[rows.shard] = made_of(manifest, group)
            note = done.get(rows.shard)
            if note is not None and note.made_of == content[rows.shard]:
                rejects.take(note)
                continue
            if note is not None:
                # Computed from other rows, or left by a worker of another index that was in this folder.
                clock.add(-note.rows.n_rows)
            found = committed_note(out, rows.shard)
            if found is not None and found[0].made_of == content[rows.shard]:
                # Another worker has committed it since this one began.
                committed(found[0])
            else:
                yield rows, group

    with saving(out, part.data.n_rows):
        engine.run(tasks(), committed, clock.tell)
    return content


class _Clock:
    """Rows that are done, told as they come; `tell` adds the share of a shard that one worker alone is at."""

    def __init__(self, done: int, total: int, progress: Count | None) -> None:
        self._done, self._total, self._progress = done, total, progress

    def add(self, n_rows: int) -> None:
        self._done += n_rows
        if self._progress is not None:
            self._progress(self._done, self._total)

    def tell(self, n_rows: float) -> None:
        if self._progress is not None:
            self._progress(self._done + int(n_rows), self._total)


def shard_groups(
    examples: Iterator[Example], manifest: Manifest, part: DataPart | None = None, *, check: bool = True
) -> Iterator[tuple[ShardRows, list[Example]]]:
    """The shards of a part of the data with their rows, to the end of the data.

    Raises DataError at the end, where the data gave another number of rows than the scan counted, or, with `check`,
    other rows.
    """
    part, seen, content = part or DataPart(manifest.data, 0, 0), 0, ContentHash()
    for i, group in enumerate(iter(lambda: list(islice(examples, manifest.shard_rows)), [])):
        for example in group if check else ():
            content.take(example)
        yield ShardRows(shard=part.first_shard + i, first_row=part.first_row + seen, n_rows=len(group)), group
        seen += len(group)
    if seen != part.data.n_rows:
        raise DataError(
            f"{part.data.source} gave {seen} usable rows, but {part.data.n_rows} when it was scanned.",
            "The data must not change while it is indexed.",
            "Run the same command again; if the data is meant to be another now, add --overwrite.",
        )
    if check and not part.data.has_content(content.hexdigest(), content.beside_ids()):
        raise DataError(
            f"The rows of {part.data.source} are not those that were scanned: their content is now "
            f"{described_content(content.hexdigest(), content.beside_ids())}, and was "
            f"{described_content(part.data.content_hash, part.data.beside_ids)}.",
            "The data must not change while it is indexed.",
            "Bring them back and run the same command again; if the data is meant to be another now, add --overwrite.",
        )


def contents(examples: Iterator[Example], manifest: Manifest, part: DataPart | None = None) -> dict[int, str]:
    """What each shard of an index is made of (see `shard_commits.made_of`). Raises what `shard_groups` raises."""
    return {rows.shard: made_of(manifest, group) for rows, group in shard_groups(examples, manifest, part)}


def seal(out: Path, manifest: Manifest, rejects: Rejects, content: Mapping[int, str], seconds: float) -> None:
    """Makes the committed shards the records, and the index complete.

    content: what each shard must have been made of; others do not count.

    Raises:
        IndexFolderError: shards are missing.
        DataError: no row could be encoded.
    """
    total, notes = manifest.data.n_rows, []
    sums: Sums = {}
    for note, of_shard in notes_of(out, content):
        notes.append(note)
        sums = added([sums, of_shard])
    check_shards(out, manifest, {note.rows.shard for note in notes})
    fragments = [note.fragment for note in notes if note.fragment is not None]
    if not fragments:
        rejects.write()
        raise DataError(
            f"None of the {total} rows of {manifest.data.source} could be encoded.",
            "An index needs at least one row.",
            f"The reasons are in {out / REJECTED}.",
        )
    counts = Counts(
        n_rows=sum(note.n_encoded for note in notes),
        n_records=sum(note.n_records for note in notes),
        n_rejected=manifest.data.n_unreadable + sum(len(note.rejects) for note in notes),
        n_truncated=sum(note.n_truncated for note in notes),
    )
    built = Change(
        change="build", when=now(), who=who(), model=model_of(manifest), n_rows=counts.n_rows, data=manifest.data
    )
    complete = manifest.model_copy(
        update={
            "status": "complete",
            "counts": counts,
            "history": (built,),
            "timings": manifest.timings | {"write": round(seconds, 3)},
        }
    )
    with saving(out, total):
        rejects.write()
        dataset = commit_all(out, record_schema(manifest), fragments)
        known = {file.path: file for note in notes for file in note.files}
        now_there = fragments_now(dataset, fragments)
        complete = publish(out, complete, dataset, now_there, sums=sums, run=True, known=known)
        clear(out, complete)


def check_shards(out: Path, manifest: Manifest, there: set[int], part: DataPart | None = None) -> None:
    """Raises IndexFolderError that names the shards that are not committed."""
    part = part or DataPart(manifest.data, 0, 0)
    shards = part.shards(manifest.shard_rows)
    missing = set(shards) - there
    if missing:
        raise IndexFolderError(
            f"{len(missing)} of {len(shards)} shards of {out} are not computed, or from other rows: "
            f"{described_numbers(missing)[:200]}.",
            "An index is sealed when all are.",
            "Run the jobs that are missing or failed again, or the same command without --shard and --finish.",
        )


def model_of(manifest: Manifest) -> str:
    """The model's hash for the history."""
    return " ".join(filter(None, (manifest.hashes.weights, manifest.hashes.adapter)))


def share_told(progress: Count | None, first: int, n_rows: int, total: int) -> Callable[[float], None] | None:
    """Progress within a shard, told as rows of the whole."""
    return None if progress is None else lambda share: progress(first + int(n_rows * share), total)


def committed_shards(dataset: lance.LanceDataset | None) -> set[int]:
    """Numbers of the shards whose records are there."""
    if dataset is None:
        return set()
    done: set[int] = set()
    for batch in dataset.scanner(columns=["shard"]).to_batches():
        done.update(batch.column("shard").unique().to_pylist())
    return done


def check_same(out: Path, existing: Manifest, manifest: Manifest, *, change_ok: bool = False) -> None:
    """Raises IndexFolderError, with what differs, unless both describe the same records.

    A complete index may hold more vectors than are asked for: they were added. One of an earlier version is complete as
    that version read its rows. change_ok: its rows may have changed.
    """
    if existing.rows_changed and not change_ok:
        raise IndexFolderError(
            f"Rows of {out} were appended or deleted since it was built.",
            "`whence index` continues a build, or finds it complete.",
            "Change it further with `whence append` and `whence delete`, or build it anew with --overwrite.",
        )
    ours, theirs = existing.identity(), manifest.identity()
    if existing.status == "complete" and set(manifest.vectors) <= set(existing.vectors):
        theirs["vectors"] = ours["vectors"]
    if existing.status == "complete" and existing.reading != READING:
        theirs["reading"] = ours["reading"]
        # The day that a template writes was not kept.
        theirs["date"] = theirs["date"] if ours["date"] else None
    if None not in (existing.data.beside_ids, manifest.data.beside_ids):
        ours["data behind last answers"] = existing.data.beside_ids
        theirs["data behind last answers"] = manifest.data.beside_ids
    # Compared by name: versions of libraries differ in the names that they have.
    for identity in (ours, theirs):
        identity.pop(SETTINGS, None)
    lines = [*differences(ours, theirs), *settings_of_both(existing, manifest)]
    if lines:
        raise IndexFolderError(
            f"{out} holds another index:\n  " + "\n  ".join(lines),
            "The same model, data and settings continue an index or find it complete.",
            "Give another folder with -o, or replace this one with --overwrite.",
        )


def _start(out: Path, manifest: Manifest) -> None:
    if manifest.data.n_unreadable == 0:
        # Left by an earlier attempt that was refused; this data has no unreadable row.
        (out / REJECTED).unlink(missing_ok=True)
    # The manifest is first: a folder with any other file and no manifest would be taken for something else.
    manifest.write(out)
    write_run(out, manifest)


__all__ = [
    "begin",
    "check_same",
    "check_shards",
    "committed_shards",
    "compute_shards",
    "contents",
    "make_folder",
    "model_of",
    "seal",
    "shard_groups",
    "share_told",
    "write_index_with",
]
