"""Writing an index shard by shard: a shard is the unit of work and of commit.

A shard is `shard_rows` consecutive rows. Its records become visible in one atomic commit, so after a crash a shard is
there or not, and the same command continues with the first one that is not. A shard is always computed in the same
batches, whoever computes it, so its values do not depend on where a run was interrupted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from itertools import islice
from pathlib import Path

import lance

from whence.data import Example
from whence.errors import DataError, IndexFolderError
from whence.index.centres import write_centres
from whence.index.engines.local import EncodesExamples, ExtractsSignatures, LocalEngine, ShardResult, ShardSpec
from whence.index.manifest import (
    LOCK,
    MANIFEST,
    REJECTED,
    Counts,
    Manifest,
    differences,
    read_manifest,
    write_run,
)
from whence.index.records import append_records, open_records, record_table
from whence.index.rejects import Rejects
from whence.index.store import Index, count_distinct_rows, first_line, saved_rows
from whence.progress import Count


def write_index(
    out: Path,
    examples: Callable[[], Iterator[Example]],
    encoder: EncodesExamples,
    extractor: ExtractsSignatures,
    manifest: Manifest,
    *,
    max_rejected: float = 0.05,
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
    total = manifest.data.n_rows
    read_manifest(out)
    with saving(out, total):
        out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        existing = read_manifest(out)
        if existing is None:
            with saving(out, total):
                _start(out, manifest)
        else:
            check_same(out, existing, manifest)
            if existing.status == "complete":
                return Index.open(out)
        done = committed_shards(open_records(out))
        with saving(out, total):
            rejects = Rejects(out, done, manifest, max_rejected)
        engine = LocalEngine(encoder, extractor)
        for shard, first, group in shard_groups(examples(), manifest):
            if shard not in done:
                spec = ShardSpec(shard, first, partial(record_table, manifest, shard))
                result = engine.compute_shard(spec, group, share_told(progress, first, len(group), total))
                commit_shard(out, total, shard, result, rejects)
            if progress is not None:
                progress(first + len(group), total)
        with saving(out, total):
            _finish(out, manifest, rejects.count, time.monotonic() - started)
    return Index.open(out)


def commit_shard(out: Path, total: int, shard: int, result: ShardResult, rejects: Rejects) -> None:
    """Makes a computed shard visible at once. Its rejects go first: lines of a shard that is not there are dropped."""
    with saving(out, total):
        rejects.save(shard, result.rejects)
    rejects.check()
    if result.table is not None:
        with saving(out, total):
            append_records(out, result.table)


def shard_groups(examples: Iterator[Example], manifest: Manifest) -> Iterator[tuple[int, int, list[Example]]]:
    """(number of the shard, number of its first row, its rows), to the end of the data.

    Raises DataError at the end, where the data gave another number of rows than the scan counted.
    """
    seen = 0
    for shard, group in enumerate(iter(lambda: list(islice(examples, manifest.shard_rows)), [])):
        yield shard, seen, group
        seen += len(group)
    if seen != manifest.data.n_rows:
        raise DataError(
            f"{manifest.data.source} gave {seen} usable rows, but {manifest.data.n_rows} when it was scanned.",
            "The data must not change while it is indexed.",
            "Run the same command again; if the data is meant to be another now, add --overwrite.",
        )


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


def check_same(out: Path, existing: Manifest, manifest: Manifest) -> None:
    """Raises IndexFolderError, with what differs, unless both describe the same records.

    A complete index may hold more vectors than are asked for: they were added.
    """
    ours, theirs = existing.identity(), manifest.identity()
    if existing.status == "complete" and set(manifest.vectors) <= set(existing.vectors):
        theirs["vectors"] = ours["vectors"]
    lines = differences(ours, theirs)
    if lines:
        raise IndexFolderError(
            f"{out} holds another index:\n  " + "\n  ".join(lines),
            "The same model, data and settings continue an index or find it complete.",
            "Give another folder with -o, or replace this one with --overwrite.",
        )


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Holds the folder against other runs; the system lets go when the process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows has no flock; two runs into one folder are then the user's to avoid.
        yield
        return
    with (out / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise IndexFolderError(
                f"Another run is writing {out}.", "One run at a time writes an index.", "Wait for it, or stop it."
            ) from error
        yield


def _start(out: Path, manifest: Manifest) -> None:
    if manifest.data.n_unreadable == 0:
        # Left by an earlier attempt that was refused; this data has no unreadable row.
        (out / REJECTED).unlink(missing_ok=True)
    # The manifest is first: a folder with any other file and no manifest would be taken for something else.
    manifest.write(out)
    write_run(out, manifest)


def _finish(out: Path, manifest: Manifest, n_rejected: int, seconds: float) -> None:
    dataset = open_records(out)
    if dataset is None:
        raise DataError(
            f"None of the {manifest.data.n_rows} rows of {manifest.data.source} could be encoded.",
            "An index needs at least one row.",
            f"The reasons are in {out / REJECTED}.",
        )
    with saving(out, manifest.data.n_rows):
        write_centres(out, manifest, dataset)
    # Each commit left a version, and a killed run may have left files that no version names.
    dataset.cleanup_old_versions(older_than=timedelta(0), delete_unverified=True)
    counts = Counts(
        n_rows=count_distinct_rows(dataset, None),
        n_records=dataset.count_rows(),
        n_rejected=n_rejected,
        n_truncated=dataset.count_rows(filter="truncated > 0"),
    )
    timings = manifest.timings | {"write": round(seconds, 3)}
    complete = manifest.model_copy(update={"status": "complete", "counts": counts, "timings": timings})
    write_run(out, complete)
    complete.write(out)


@contextmanager
def saving(out: Path, total: int) -> Iterator[None]:
    """Turns a failure to write into an error that says what is safe."""
    try:
        yield
    except OSError as error:
        try:
            saved = saved_rows(out) if (out / MANIFEST).exists() else 0
        except (OSError, ValueError):
            saved = 0
        raise IndexFolderError(
            f"The index {out} cannot be written: {first_line(error)}",
            f"{saved} of {total} rows are saved and stay so.",
            "Make room (or choose another disk with -o); the same command then continues.",
        ) from error


__all__ = [
    "check_same",
    "commit_shard",
    "committed_shards",
    "locked",
    "saving",
    "shard_groups",
    "share_told",
    "write_index",
]
