"""One pass over training data before any work: counts, rejected rows, duplicates, a content hash, column types."""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO
from uuid import uuid4

from whence.data.examples import Example
from whence.data.formats import Rejected
from whence.data.metadata import ColumnType, is_wide, unify, without_rounding
from whence.data.notes import Notes
from whence.data.readers import read_examples
from whence.data.shape import Shape
from whence.errors import DataError
from whence.files import TEMPORARY
from whence.object_path import place
from whence.progress import Progress

MAX_REJECTED = 0.05
"""Share of the rows that may be set aside where nobody says otherwise."""
MAX_GROUPS = 20
MAX_PLACES = 10
SHOWN_REASONS = 3
PROGRESS_ROWS = 1000

_CACHE_KIB = 65536
"""Memory of the table of ids; beyond it SQLite moves pages to its temporary file."""


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Rows with the same turns: their id and the first places ("file:line") they stand in."""

    id: str
    places: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scan:
    """What one pass over the data found."""

    n_rows: int
    """Usable rows, duplicates included."""
    n_rejected: int
    n_duplicates: int
    """Usable rows whose turns already stood in an earlier row."""
    duplicates: tuple[DuplicateGroup, ...]
    """The first MAX_GROUPS groups found, MAX_PLACES places each."""
    content_hash: str
    """BLAKE2b of (id, metadata) of all usable rows in order, 32 hexadecimal digits; no file names, no lines."""
    metadata_types: Mapping[str, ColumnType]
    """Column -> the type that holds all its values: "int", "float", "bool"; "str" for what is mixed or nested, and for
    floats beside whole numbers that a float would round."""
    shape: str
    """The columns the turns came from, such as "prompt/response"; several where files differ."""
    notes: tuple[str, ...] = ()
    """What a reader of the data should know, a clause each: turns that give no signature, columns that are not used."""
    beside_ids: str | None = ""
    """Hash of what the ids of the rows leave out (`Example.beside_id`), "" for nothing; None where it is not known."""
    wide: frozenset[str] = frozenset()
    """Columns with a whole number that a float would round."""


def scan(
    source: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    max_rejected: float = MAX_REJECTED,
    rejects_path: str | Path | None = None,
    progress: Progress | None = None,
) -> Scan:
    """Read all of `source` once (see `read_examples`) and report on it; memory does not grow with the rows.

    Rejected rows are written to `rejects_path`, one JSON object a line with file, line, reason and raw; the file
    appears whole, at the end, and only when there are any. `progress` counts the usable rows.

    Raises DataError when more than the share `max_rejected` of the rows is rejected, or all of them (the rejects
    are written all the same), and for whatever `read_examples` raises.
    """
    tally = _Tally()
    with closing(sqlite3.connect("")) as database, _RejectsFile(rejects_path) as rejects:
        seen = _Seen(database)

        def reject(rejected: Rejected) -> None:
            tally.reject(rejected)
            rejects.write(rejected)

        examples = read_examples(
            source,
            columns=columns,
            split=split,
            on_reject=reject,
            on_shape=tally.take_shape,
            on_left_out=tally.notes.leave_out,
            on_note=tally.notes.say,
        )
        for example in examples:
            tally.take(example)
            seen.take(example)
            if progress is not None and tally.n_rows % PROGRESS_ROWS == 0:
                progress("reading", tally.n_rows, None)
        rejects.publish()
    if tally.n_rows == 0 and tally.notes.n_left_out:
        raise _none_trained(source, tally)
    if tally.n_rejected and (tally.n_rows == 0 or tally.n_rejected > max_rejected * (tally.n_rows + tally.n_rejected)):
        raise _too_many(source, tally, max_rejected, rejects_path)
    return Scan(
        n_rows=tally.n_rows,
        n_rejected=tally.n_rejected,
        n_duplicates=seen.n_duplicates,
        duplicates=tuple(DuplicateGroup(id, tuple(places)) for id, places in seen.groups.items()),
        content_hash=tally.hash.hexdigest(),
        metadata_types=without_rounding({name: type or "str" for name, type in tally.types.items()}, tally.wide),
        shape=", ".join(tally.shapes),
        notes=tally.notes.clauses(),
        beside_ids=tally.hash.beside_ids(),
        wide=frozenset(tally.wide),
    )


class ContentHash:
    """The hash of rows and their metadata, in order; of constant size. Files, lines and formats are not in it."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._beside_ids = hashlib.blake2b(digest_size=16)
        self._n_rows = self._n_beside = 0

    def take(self, example: Example) -> None:
        """Adds a row."""
        metadata = json.dumps(example.metadata, ensure_ascii=False, sort_keys=True, allow_nan=False)
        # A newline ends an entry: JSON has none, so no two lists of rows give the same bytes.
        self._hash.update(f"{example.id} {metadata}\n".encode())
        if beside := example.beside_id:
            self._beside_ids.update(f"{self._n_rows} {beside}\n".encode("utf-8", "surrogatepass"))
            self._n_beside += 1
        self._n_rows += 1

    def hexdigest(self) -> str:
        """Of the rows so far."""
        return self._hash.hexdigest()

    def beside_ids(self) -> str:
        """Of what the ids of the rows so far leave out (`Example.beside_id`); "" where they leave out nothing."""
        return self._beside_ids.hexdigest() if self._n_beside else ""


class _Tally:
    """Counts, hash and types; everything of a scan that is constant in size."""

    def __init__(self) -> None:
        self.n_rows = 0
        self.n_rejected = 0
        self.reasons: list[str] = []
        self.hash = ContentHash()
        self.types: dict[str, ColumnType | None] = {}
        self.wide: set[str] = set()
        self.shapes: dict[str, None] = {}
        self.notes = Notes()

    def take_shape(self, shape: Shape) -> None:
        self.shapes[shape.name] = None
        self.notes.take_shape(shape)

    def take(self, example: Example) -> None:
        self.n_rows += 1
        self.hash.take(example)
        unify(self.types, example.metadata)
        self.wide.update(name for name, value in example.metadata.items() if is_wide(value))
        self.notes.take(example)

    def reject(self, rejected: Rejected) -> None:
        self.n_rejected += 1
        if len(self.reasons) < SHOWN_REASONS:
            self.reasons.append(f"{rejected.file}:{rejected.line}: {rejected.reason}")


class _Seen:
    """Ids seen so far, in a private SQLite table that moves to a temporary file when it outgrows its cache."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self.n_duplicates = 0
        self.groups: dict[str, list[str]] = {}
        self._database = database
        database.isolation_level = None
        database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("CREATE TABLE seen (id INTEGER PRIMARY KEY, place TEXT)")
        database.execute("BEGIN")

    def take(self, example: Example) -> None:
        # SQLite's integers are signed.
        key = int(example.id, 16) - 2**63
        try:
            new = self._database.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (key, example.where))
            if new.rowcount:
                return
            self.n_duplicates += 1
            places = self.groups.get(example.id)
            if places is None and len(self.groups) < MAX_GROUPS:
                first = self._database.execute("SELECT place FROM seen WHERE id = ?", (key,)).fetchone()[0]
                places = self.groups[example.id] = [first]
            if places is not None and len(places) < MAX_PLACES:
                places.append(example.where)
        except sqlite3.OperationalError as error:
            raise DataError(
                f"the temporary table of row ids cannot grow: {error}",
                "expected about 60 bytes a row in the folder for temporary files",
                "free some space, or point SQLITE_TMPDIR at a folder with more",
            ) from error


class _RejectsFile:
    """`rejected.jsonl` in the making: a temporary neighbour that `publish` moves into place."""

    def __init__(self, path: str | Path | None) -> None:
        self._path = place(path) if path is not None else None
        self._stream: IO[bytes] | None = None
        self._mark = uuid4().hex[:12]

    def __enter__(self) -> _RejectsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            # On a full disk closing flushes and fails again; the first error is the one to show.
            with suppress(OSError):
                self._stream.close()
            self._temporary.unlink(missing_ok=True)

    @property
    def _temporary(self) -> Path:
        assert self._path is not None
        return self._path.with_name(f"{TEMPORARY}{self._mark}-{self._path.name}")

    def write(self, rejected: Rejected) -> None:
        if self._path is None:
            return
        # What UTF-8 cannot hold (a lone surrogate) becomes \udXXX, which is just how JSON spells it.
        line = json.dumps(asdict(rejected), ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        try:
            if self._stream is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._stream = self._temporary.open("wb")
            self._stream.write(line)
        except OSError as error:
            raise self._unwritable(error) from error

    def publish(self) -> None:
        if self._stream is None or self._path is None:
            return
        try:
            self._stream.close()
            self._temporary.replace(self._path)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> DataError:
        return DataError(
            f"the rejected rows cannot be written to {self._path}: {error}",
            "expected a folder that can be written to, with space",
            "free some space or choose another folder",
        )


def _none_trained(source: str | Path, tally: _Tally) -> DataError:
    return DataError(
        f"no row of {source} was trained on: {'; '.join(tally.notes.clauses())}",
        "expected rows with a response that was trained on",
        "check the marks (weight, train, label), or name the columns with --columns to read all rows",
    )


def _too_many(source: str | Path, tally: _Tally, max_rejected: float, rejects_path: str | Path | None) -> DataError:
    total = tally.n_rows + tally.n_rejected
    reasons = "".join(f"\n  {reason}" for reason in tally.reasons)
    more = f"\n  ... all are in {rejects_path}" if rejects_path is not None else ""
    if tally.n_rows == 0:
        found = f"all {total} rows of {source} are rejected:{reasons}{more}"
        return DataError(
            found, "expected usable rows", "correct the data (--max-rejected does not help: no row is left)"
        )
    share = tally.n_rejected / total
    allowed = min(1.0, math.ceil(share * 100) / 100)
    return DataError(
        f"{tally.n_rejected} of {total} rows of {source} are rejected ({share:.1%}):{reasons}{more}",
        f"expected at most {max_rejected:.1%}",
        f"correct the rows, or go on without them: --max-rejected {allowed:g}",
    )
