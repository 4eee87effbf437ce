"""What a server remembers beside the index: queries, baskets and jobs, in SQLite (write-ahead log).

FOLDER/                 named as the index, with `.serve` behind it
  state.sqlite          queries with their results, baskets, jobs
  jobs/ID/              request.json, and the retrainings (docs/confirm.md) or the audit (docs/audit.md) of a job
  audits/NAME.json      audits that were made elsewhere, put there by hand
  exports/ID/           a cleaned data set with its manifest (docs/clean.md)
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import IO, NamedTuple, cast

from whence.data import Json
from whence.errors import InputError
from whence.serve.failures import RefusedError

Object = dict[str, Json]

MIGRATIONS = (
    """
    CREATE TABLE queries (
        id TEXT PRIMARY KEY, index_hash TEXT NOT NULL, created REAL NOT NULL, prompt TEXT NOT NULL,
        response TEXT NOT NULL, n_flagged INTEGER NOT NULL, request TEXT NOT NULL, result TEXT NOT NULL
    );
    CREATE INDEX queries_by_time ON queries (index_hash, created);
    CREATE TABLE baskets (id TEXT PRIMARY KEY, index_hash TEXT NOT NULL, created REAL NOT NULL, name TEXT NOT NULL);
    CREATE TABLE basket_rows (
        basket TEXT NOT NULL REFERENCES baskets (id) ON DELETE CASCADE, row TEXT NOT NULL, position INTEGER NOT NULL,
        PRIMARY KEY (basket, row)
    );
    CREATE TABLE jobs (
        id TEXT PRIMARY KEY, index_hash TEXT NOT NULL, created REAL NOT NULL, state TEXT NOT NULL,
        request TEXT NOT NULL, progress TEXT, result TEXT, error TEXT
    );
    """,
    "ALTER TABLE jobs ADD COLUMN kind TEXT NOT NULL DEFAULT 'confirm';",
    "ALTER TABLE queries ADD COLUMN row_changes INTEGER;",
)
"""One script a version of the file; PRAGMA user_version says how many of them it has seen."""
VERDICTS_COUNTED = 3
"""The version of the file from which on a query without a verdict is told from one that flagged nothing."""
MOST_QUERIES = 2000
"""The oldest ones go."""
NO_VERDICT = -1
"""Kept in place of a number of flagged rows where none was tested."""
MOST_ROWS = 10_000
"""Of a basket, and of one request."""
ACTIVE = ("waiting", "running")


class KeptQuery(NamedTuple):
    """A past query. row_changes: `n_row_changes` of the index that it asked; None where it was not kept."""

    request: Object
    result: Object
    created: float
    row_changes: int | None


class State:
    """The database of one index. Its methods may be called from any thread.

    index_hash: of the model and of the data that the index was built from (`whence.index.index_hash`): what was
        remembered of another index under this name is not shown. before: what earlier versions had in its place.

    Raises InputError where the folder cannot be written, or the file is of a later version or damaged.
    """

    def __init__(self, folder: Path, index_hash: str, before: str | None = None) -> None:
        self.folder, self._hash = folder, index_hash
        self._lock = threading.RLock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._own = _taken(folder)
            self._db = sqlite3.connect(folder / "state.sqlite", check_same_thread=False, isolation_level=None)
            self._db.row_factory = sqlite3.Row
            for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON", "busy_timeout = 5000"):
                self._db.execute(f"PRAGMA {pragma}")
            self._migrate()
            for table in ("queries", "baskets", "jobs") if before is not None else ():
                self._db.execute(f"UPDATE {table} SET index_hash = ? WHERE index_hash = ?", (index_hash, before))
        except (OSError, sqlite3.Error) as error:
            raise InputError(
                f"{folder} cannot hold the server's state: {error}.",
                "Queries, baskets and jobs are kept there, beside the index.",
                "Make the folder writable, or move a damaged state.sqlite away.",
            ) from error

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._db.close()
            self._own.close()

    def _migrate(self) -> None:
        seen = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        if seen > len(MIGRATIONS):
            raise sqlite3.DatabaseError(f"version {seen}, written by a newer whence")
        for number, script in enumerate(MIGRATIONS[seen:], seen + 1):
            if number == VERDICTS_COUNTED:
                self._count_verdicts()  # before the version says that it was done
            self._db.executescript(f"BEGIN; {script} PRAGMA user_version = {number}; COMMIT;")

    def _count_verdicts(self) -> None:
        """Earlier versions kept 0 for a query that nothing was tested for."""
        rows = self._db.execute("SELECT id, result FROM queries WHERE n_flagged = 0").fetchall()
        without = [(NO_VERDICT, row["id"]) for row in rows if _n_flagged(json.loads(row["result"])) == NO_VERDICT]
        self._db.executemany("UPDATE queries SET n_flagged = ? WHERE id = ?", without)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk may have ended it
                    self._db.execute("ROLLBACK")
                raise

    def _read(self, sql: str, *values: object) -> list[sqlite3.Row]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    # Queries

    def add_query(self, request: Object, result: Object, row_changes: int | None = None) -> str:
        """Keeps a trace of one query; returns its id. row_changes: see `KeptQuery`."""
        first = _first_query(result)
        id = new_id()
        with self._writing() as db:
            db.execute(
                "INSERT INTO queries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(id, self._hash, time.time(), str(first["prompt"]), str(first["response"]), _n_flagged(result)),
                    *(_text(request), _text(result), row_changes),
                ),
            )
            db.execute(
                "DELETE FROM queries WHERE index_hash = ? AND id NOT IN "
                "(SELECT id FROM queries WHERE index_hash = ? ORDER BY created DESC LIMIT ?)",
                (self._hash, self._hash, MOST_QUERIES),
            )
        return id

    def set_result(self, id: str, result: Object) -> None:
        """Replaces a query's result, as when words have been added."""
        with self._writing() as db:
            db.execute("UPDATE queries SET result = ? WHERE id = ?", (_text(result), id))

    def queries(self, offset: int, limit: int) -> tuple[list[Object], int]:
        """The queries, the latest first, without their results; and how many there are."""
        rows = self._read(
            "SELECT id, created, prompt, response, n_flagged, row_changes FROM queries WHERE index_hash = ? "
            "ORDER BY created DESC, id LIMIT ? OFFSET ?",
            *(self._hash, limit, offset),
        )
        total = self._read("SELECT count(*) FROM queries WHERE index_hash = ?", self._hash)[0][0]
        known = [dict(row) for row in rows]
        for row in known:
            row["n_flagged"] = None if row["n_flagged"] == NO_VERDICT else row["n_flagged"]
        return known, int(total)

    def query(self, id: str) -> KeptQuery | None:
        """A query with its result."""
        rows = self._read(
            "SELECT request, result, created, row_changes FROM queries WHERE id = ? AND index_hash = ?", id, self._hash
        )
        return KeptQuery(json.loads(rows[0][0]), json.loads(rows[0][1]), *rows[0][2:]) if rows else None

    def delete_query(self, id: str) -> bool:
        """Forgets a query; whether it was there."""
        with self._writing() as db:
            return db.execute("DELETE FROM queries WHERE id = ? AND index_hash = ?", (id, self._hash)).rowcount > 0

    # Baskets

    def add_basket(self, name: str) -> str:
        """A new, empty basket; returns its id."""
        with self._writing() as db:
            return self._new_basket(db, name)

    def latest_basket(self, name: str) -> str:
        """The id of the latest basket; of a new, empty one where there is none."""
        with self._writing() as db:
            found = db.execute(
                "SELECT id FROM baskets WHERE index_hash = ? ORDER BY created DESC, id LIMIT 1", (self._hash,)
            ).fetchone()
            return str(found["id"]) if found else self._new_basket(db, name)

    def _new_basket(self, db: sqlite3.Connection, name: str) -> str:
        id = new_id()
        db.execute("INSERT INTO baskets VALUES (?, ?, ?, ?)", (id, self._hash, time.time(), name))
        return id

    def baskets(self) -> list[Object]:
        """All baskets with their rows, the latest first."""
        rows = self._read("SELECT id FROM baskets WHERE index_hash = ? ORDER BY created DESC, id LIMIT 500", self._hash)
        return [found for row in rows if (found := self.basket(row["id"])) is not None]

    def basket(self, id: str) -> Object | None:
        """A basket with the ids of its rows in the order in which they were put in."""
        found = self._read("SELECT id, name, created FROM baskets WHERE id = ? AND index_hash = ?", id, self._hash)
        if not found:
            return None
        rows = self._read("SELECT row FROM basket_rows WHERE basket = ? ORDER BY position", id)
        return {**dict(found[0]), "rows": [row["row"] for row in rows]}

    def set_basket(self, id: str, rows: Sequence[str], name: str | None = None) -> bool:
        """Gives a basket these rows, and a name; whether it was there."""
        with self._writing() as db:
            if self.basket(id) is None:
                return False
            if name is not None:
                db.execute("UPDATE baskets SET name = ? WHERE id = ?", (name, id))
            db.execute("DELETE FROM basket_rows WHERE basket = ?", (id,))
            unique = dict.fromkeys(rows)
            db.executemany("INSERT INTO basket_rows VALUES (?, ?, ?)", [(id, row, i) for i, row in enumerate(unique)])
        return True

    def edit_basket(self, id: str, add: Sequence[str], remove: Sequence[str]) -> bool:
        """Takes rows out of a basket, then puts others in behind those that it holds; whether it was there.

        Raises RefusedError (422) where it would hold more than MOST_ROWS; it then stays as it was.
        """
        with self._writing() as db:
            found = self.basket(id)
            if found is None:
                return False
            db.executemany("DELETE FROM basket_rows WHERE basket = ? AND row = ?", [(id, row) for row in remove])
            [[first]] = db.execute("SELECT coalesce(max(position), -1) + 1 FROM basket_rows WHERE basket = ?", (id,))
            added = [(id, row, first + i) for i, row in enumerate(add)]
            db.executemany("INSERT OR IGNORE INTO basket_rows VALUES (?, ?, ?)", added)
            [[n_rows]] = db.execute("SELECT count(*) FROM basket_rows WHERE basket = ?", (id,))
            if n_rows > MOST_ROWS:
                raise RefusedError(
                    HTTPStatus.UNPROCESSABLE_ENTITY,
                    f"The basket would hold {n_rows:,} rows.",
                    f"A basket holds at most {MOST_ROWS:,}.",
                    "Take rows out first, or use whence clean on the command line.",
                )
        return True

    def delete_basket(self, id: str) -> bool:
        """Forgets a basket; whether it was there."""
        with self._writing() as db:
            return db.execute("DELETE FROM baskets WHERE id = ? AND index_hash = ?", (id, self._hash)).rowcount > 0

    # Jobs

    def add_job(self, id: str, kind: str, request: Object) -> None:
        """A new job that waits. id: of `new_id`. kind: confirm or audit."""
        with self._writing() as db:
            db.execute(
                "INSERT INTO jobs (id, index_hash, created, state, request, kind) VALUES (?, ?, ?, 'waiting', ?, ?)",
                (id, self._hash, time.time(), _text(request), kind),
            )

    def set_job(self, id: str, **values: Json) -> None:
        """Changes state, progress, result or error of a job."""
        assert set(values) <= {"state", "progress", "result", "error"}
        texts = [value if name == "state" else _text(value) for name, value in values.items()]
        with self._writing() as db:
            db.execute(f"UPDATE jobs SET {', '.join(f'{name} = ?' for name in values)} WHERE id = ?", (*texts, id))

    def jobs(self, kind: str | None = None, *, active: bool = False) -> list[Object]:
        """All jobs, or those of one kind, the latest first. active: those that wait or run alone."""
        rows = self._read(
            "SELECT * FROM jobs WHERE index_hash = ? AND (? IS NULL OR kind = ?) "
            "AND (NOT ? OR state IN ('waiting', 'running')) ORDER BY created DESC, id LIMIT 500",
            *(self._hash, kind, kind, active),
        )
        return [_job(row) for row in rows]

    def job(self, id: str) -> Object | None:
        """A job."""
        rows = self._read("SELECT * FROM jobs WHERE id = ? AND index_hash = ?", id, self._hash)
        return _job(rows[0]) if rows else None


def _taken(folder: Path) -> IO[str]:
    """The lock of a folder: two servers would run the same job twice. The system lets go of it when a process ends.

    Raises InputError where another server holds it.
    """
    file = (folder / ".lock").open("w")
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows has no flock; two servers of one index are then the user's to avoid.
        pass
    except BlockingIOError as error:
        file.close()
        raise InputError(
            f"Another whence serve runs on this index: it holds {folder}.",
            "One server at a time serves an index, for any number of people.",
            "Open the page of the one that runs, or stop it.",
        ) from error
    return file


def _job(row: sqlite3.Row) -> Object:
    found: Object = {name: row[name] for name in ("id", "kind", "created", "state")}
    return found | {
        name: json.loads(row[name]) if row[name] is not None else None
        for name in ("request", "progress", "result", "error")
    }


def _first_query(result: Mapping[str, Json]) -> Object:
    queries = result["queries"]
    assert isinstance(queries, list)
    return cast("Object", queries[0])


def _n_flagged(result: Mapping[str, Json]) -> int:
    """Rows that the first query's verdict flags; NO_VERDICT where none was tested."""
    verdict = _first_query(result).get("verdict")
    if not isinstance(verdict, dict) or not verdict.get("null_model"):
        return NO_VERDICT
    if isinstance(n_rows := verdict.get("n_rows"), int):
        return n_rows
    flagged = verdict.get("flagged")
    return len(flagged) if isinstance(flagged, list) else 0


def _text(value: Json) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def new_id() -> str:
    """16 random hexadecimal digits."""
    return secrets.token_hex(8)
