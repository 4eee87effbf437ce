"""Writing an index shard by shard: a shard is the unit of work and of commit.

A shard is `shard_rows` consecutive rows. Its records become visible in one atomic commit, so after a crash a shard is
there or not, and the same command continues with the first one that is not. A shard is always computed in the same
batches, whoever computes it, so its values do not depend on where a run was interrupted.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from whence.data.examples import EncodedTurn, Example
from whence.data.formats import RAW_LIMIT
from whence.errors import DataError, EncodingError, IndexFolderError
from whence.index.centres import write_centres
from whence.index.manifest import (
    LOCK,
    MANIFEST,
    REJECTED,
    TEMPORARY,
    Counts,
    Manifest,
    differences,
    read_manifest,
    write_run,
)
from whence.index.records import EncodedRow, append_records, open_records, record_table
from whence.index.store import Index, count_distinct_rows, first_line, saved_rows
from whence.signatures.types import Extracted

TURNS_AT_ONCE = 256
"""Turns given to the extractor in one call: several batches of like length, and a progress bar that moves."""

SHOWN_REASONS = 3
Progress = Callable[[int, int], None]
"""Called with (rows done, rows in all)."""


class EncodesExamples(Protocol):
    """What the build needs of an encoder."""

    def encode(self, example: Example) -> list[EncodedTurn]:
        """One encoded turn per assistant turn. Raises EncodingError."""


class ExtractsSignatures(Protocol):
    """What the build needs of an extractor."""

    def extract(self, turns: Sequence[EncodedTurn], *, labels: Callable[[int], str] | None = None) -> Extracted:
        """Signatures in the order of the turns. Raises NonFiniteError."""


def write_index(
    out: Path,
    examples: Callable[[], Iterator[Example]],
    encoder: EncodesExamples,
    extractor: ExtractsSignatures,
    manifest: Manifest,
    *,
    max_rejected: float = 0.05,
    progress: Progress | None = None,
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
    with _saving(out, total):
        out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        existing = read_manifest(out)
        if existing is None:
            with _saving(out, total):
                _start(out, manifest)
        else:
            check_same(out, existing, manifest)
            if existing.status == "complete":
                return Index.open(out)
        done = _committed_shards(out)
        with _saving(out, total):
            rejects = _Rejects(out, done, manifest, max_rejected)
        seen = 0
        stream = examples()
        for shard, group in enumerate(_groups(stream, manifest.shard_rows)):
            first, seen = seen, seen + len(group)
            if shard not in done:
                _write_shard(out, manifest, shard, first, group, encoder, extractor, rejects, progress)
            if progress is not None:
                progress(seen, total)
        if seen != total:
            raise DataError(
                f"{manifest.data.source} gave {seen} usable rows, but {total} when it was scanned.",
                "The data must not change while it is indexed.",
                "Run the same command again; if the data is meant to be another now, add --overwrite.",
            )
        with _saving(out, total):
            _finish(out, manifest, rejects.count, time.monotonic() - started)
    return Index.open(out)


def check_same(out: Path, existing: Manifest, manifest: Manifest) -> None:
    """Raises IndexFolderError, with what differs, unless both describe the same records."""
    lines = differences(existing.identity(), manifest.identity())
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


def _write_shard(
    out: Path,
    manifest: Manifest,
    shard: int,
    first: int,
    group: Sequence[Example],
    encoder: EncodesExamples,
    extractor: ExtractsSignatures,
    rejects: _Rejects,
    progress: Progress | None,
) -> None:
    rows: list[EncodedRow] = []
    for row, example in enumerate(group, start=first):
        try:
            rows.extend(EncodedRow(row, example, turn) for turn in encoder.encode(example))
        except EncodingError as error:
            rejects.add(shard, row, example, " ".join(str(error).split()))
    # Before the commit: a crash between the two leaves lines of a shard that is not there, which are dropped.
    with _saving(out, manifest.data.n_rows):
        rejects.save()
    rejects.check()
    if not rows:
        return

    def tell(n_turns: int) -> None:
        if progress is not None:
            progress(first + len(group) * n_turns // len(rows), manifest.data.n_rows)

    table = _extract(manifest, shard, rows, extractor, tell)
    with _saving(out, manifest.data.n_rows):
        append_records(out, table)


def _extract(
    manifest: Manifest,
    shard: int,
    rows: Sequence[EncodedRow],
    extractor: ExtractsSignatures,
    tell: Callable[[int], None],
) -> pa.Table:
    """The shard's records in order of (row, turn), computed longest first: memory runs out early or never."""
    order = sorted(range(len(rows)), key=lambda i: (-rows[i].turn.n_prompt, -rows[i].turn.n_response, i))
    parts = []
    for start in range(0, len(order), TURNS_AT_ONCE):
        some = [rows[i] for i in order[start : start + TURNS_AT_ONCE]]
        extracted = extractor.extract([item.turn for item in some], labels=partial(_place, some))
        parts.append(record_table(manifest, shard, some, extracted))
        tell(start + len(some))
    return pa.concat_tables(parts).sort_by([("row", "ascending"), ("turn", "ascending")]).combine_chunks()


def _place(rows: Sequence[EncodedRow], i: int) -> str:
    return rows[i].example.where


def _groups(examples: Iterator[Example], size: int) -> Iterator[list[Example]]:
    while group := list(islice(examples, size)):
        yield group


def _committed_shards(out: Path) -> set[int]:
    dataset = open_records(out)
    if dataset is None:
        return set()
    done: set[int] = set()
    for batch in dataset.scanner(columns=["shard"]).to_batches():
        done.update(batch.column("shard").unique().to_pylist())
    return done


def _finish(out: Path, manifest: Manifest, n_rejected: int, seconds: float) -> None:
    dataset = open_records(out)
    if dataset is None:
        raise DataError(
            f"None of the {manifest.data.n_rows} rows of {manifest.data.source} could be encoded.",
            "An index needs at least one row.",
            f"The reasons are in {out / REJECTED}.",
        )
    with _saving(out, manifest.data.n_rows):
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
def _saving(out: Path, total: int) -> Iterator[None]:
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


class _Rejects:
    """rejected.jsonl: the reader's lines, then those of rows that could not be encoded, with row and shard."""

    def __init__(self, out: Path, done: set[int], manifest: Manifest, max_rejected: float) -> None:
        self._path = out / REJECTED
        self._pending: list[str] = []
        self._max_rejected = max_rejected
        self._total = manifest.data.n_rows + manifest.data.n_unreadable
        self._reasons: list[str] = []
        self.count = manifest.data.n_unreadable
        if self._path.exists():
            self.count += self._keep_only(done)

    def add(self, shard: int, row: int, example: Example, reason: str) -> None:
        raw = json.dumps([[turn.role, turn.content] for turn in example.turns], ensure_ascii=False)[:RAW_LIMIT]
        line = {"file": example.file, "line": example.line, "reason": reason, "raw": raw, "row": row, "shard": shard}
        self._pending.append(json.dumps(line, ensure_ascii=False) + "\n")
        self.count += 1
        if len(self._reasons) < SHOWN_REASONS:
            self._reasons.append(f"\n  {reason}")

    def save(self) -> None:
        if not self._pending:
            return
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(self._pending)
            file.flush()
            os.fsync(file.fileno())
        self._pending.clear()

    def check(self) -> None:
        """Raises DataError above the allowed share."""
        if self.count > self._max_rejected * self._total:
            share = self.count / self._total
            raise DataError(
                f"{self.count} of {self._total} rows cannot be used ({share:.1%}), so far:{''.join(self._reasons)}",
                f"At most {self._max_rejected:.1%} may be set aside.",
                f"All reasons are in {self._path}. Correct the data, or allow more with --max-rejected.",
            )

    def _keep_only(self, done: set[int]) -> int:
        """Drops lines of shards that are not committed, which will be made again; returns how many are left."""
        kept = 0
        temporary = self._path.with_name(TEMPORARY)
        with self._path.open("rb") as old, temporary.open("wb") as new:
            for line in old:
                shard = _shard_of(line)
                if shard is None or shard in done:
                    new.write(line)
                    kept += shard is not None
            new.flush()
            os.fsync(new.fileno())
        os.replace(temporary, self._path)
        return kept


def _shard_of(line: bytes) -> int | None:
    """The shard that wrote the line, None for the reader's lines, -1 for the torn last line of a killed run."""
    try:
        shard = json.loads(line).get("shard")
    except ValueError:
        return -1
    return shard if isinstance(shard, int) else None
