"""The rows of an index as the page reads them: counted, paged, one with its neighbours. None of it asks the model."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from threading import Lock
from typing import cast

import numpy as np
import pyarrow as pa

from whence.data import Json, Turn, answer_places
from whence.errors import InputError
from whence.index import Index
from whence.results import labels_of
from whence.serve.failures import RefusedError
from whence.serve.large import as_texts
from whence.serve.state import Object

CUT = 4000
"""Characters of a text in a list; the row by itself has all of them."""
NEIGHBOURS = 3
FACET_VALUES = 40
"""Most different values of a column that a filter can choose among; a column with more is not offered."""
KEPT_COUNTS = 100
"""Conditions whose rows have been counted are remembered."""
COLUMNS = ("row", "turn", "id", "file", "line", "prompt", "response", "metadata", "loss", "log_likelihood_gain")


class Rows:
    """Reads one index. show_text: False leaves the texts of rows out."""

    def __init__(self, index: Index, *, show_text: bool) -> None:
        self._index, self._show_text = index, show_text
        self._facets: list[Json] | None = None
        self._counts: dict[str | None, int] = {}
        self._lock = Lock()

    def page(self, where: str | None, offset: int, limit: int) -> Object:
        """Records that the filter lets through, in the order of the data: one a row and turn; n_rows counts the rows.

        Raises InputError for a filter that is none.
        """
        self.check(where)
        total = self._index.dataset.count_rows(filter=where)
        scanner = self._index.dataset.scanner(
            columns=list(COLUMNS), filter=where, offset=offset, limit=limit, scan_in_order=True
        )
        rows: list[Json] = [self._row(row, CUT) for row in scanner.to_table().to_pylist()]
        return {"rows": rows, "total": total, "n_rows": self._count(where, total)}

    def _count(self, where: str | None, n_records: int) -> int:
        """Rows that the filter lets through, of so many records."""
        if self._index.n_rows == self._index.n_records:
            return n_records
        found = self._counts.get(where)
        if found is None:
            if len(self._counts) >= KEPT_COUNTS:
                self._counts.clear()
            self._counts[where] = found = self._index.count_rows(where)
        return found

    def row(self, id: str) -> Object:
        """A row by its id: its first place in the data, its turns, and the rows before and after it in the same file.

        Raises RefusedError (404) for an id that is not in the index.
        """
        records = self._records(f"id = '{id}'", limit=1000)
        if not records:
            raise RefusedError(
                HTTPStatus.NOT_FOUND, f"There is no row {id}.", "Expected the id of a row of this index.", ""
            )
        number, first = records[0]["row"], records[0]
        assert isinstance(number, int)
        file = str(first["file"]).replace("'", "''")
        near = f"row >= {number - NEIGHBOURS} AND row <= {number + NEIGHBOURS} AND file = '{file}'"
        first_of = {cast("int", record["row"]): record for record in reversed(self._records(near, limit=10_000))}
        around = [first_of[row] for row in sorted(first_of)]
        example = self._index.examples([number])
        turns = _messages(example[0].turns) if example and self._show_text else []
        return {
            "row": self._row(first, None),
            "turns": turns,
            "before": [self._row(row, CUT) for row in around if cast("int", row["row"]) < number],
            "after": [self._row(row, CUT) for row in around if cast("int", row["row"]) > number],
            "copies": len({cast("int", record["row"]) for record in records}) - 1,
        }

    def known(self, ids: Iterable[str]) -> set[str]:
        """Those of the ids that the index has."""
        found: set[str] = set()
        wanted = list(dict.fromkeys(ids))
        for start in range(0, len(wanted), 500):
            piece = ", ".join(f"'{id}'" for id in wanted[start : start + 500])
            table = self._index.dataset.to_table(columns=["id"], filter=f"id IN ({piece})")
            found |= set(table.column("id").to_pylist())
        return found

    def facets(self) -> list[Json]:
        """Columns that a filter can name, with their values and counts where these are few."""
        with self._lock:
            if self._facets is None:
                columns = {column.column: column.name for column in self._index.manifest.filters}
                self._facets = [self._facet(column, name) for column, name in ({"file": "file"} | columns).items()]
            return self._facets

    def check(self, where: str | None) -> None:
        """Raises InputError for a filter that Lance cannot evaluate, also where that makes it panic."""
        try:
            self._index.check_where(where)
        except InputError as error:
            # Lance lists all columns there are, vectors among them; those that may be named follow.
            found = error.found.partition(" Valid fields are")[0]
            raise InputError(found, error.expected, "It is an SQL condition, such as source = 'vendor_b'.") from error
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise InputError("The filter cannot be used.", "It is an SQL condition.", "Simplify it.") from error

    def _facet(self, column: str, name: str) -> Object:
        scanner = self._index.dataset.scanner(columns=[column, "row"], scan_in_order=True)
        counts: dict[str | int | float | bool | None, int] = {}
        last = -1
        for batch in scanner.to_batches():
            rows = batch.column(1).to_numpy()
            # The records of a row are adjacent, and have its values.
            firsts = pa.array(np.diff(rows, prepend=last) != 0)
            last = int(rows[-1]) if len(rows) else last
            for pair in batch.column(0).filter(firsts).value_counts().to_pylist():
                counts[pair["values"]] = counts.get(pair["values"], 0) + int(pair["counts"])
            if len(counts) > FACET_VALUES:
                return {"column": column, "name": name, "values": None}
        values: list[Json] = [
            {
                "value": value,
                "rows": n,
                "text": value if isinstance(value, str) else json.dumps(value),
                "where": _condition(column, value),
            }
            for value, n in sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0])))
            if _finite(value) == value and (self._show_text or labels_of({name: value}))
        ]
        return {"column": column, "name": name, "values": values}

    def _records(self, where: str, limit: int) -> list[Object]:
        scanner = self._index.dataset.scanner(columns=list(COLUMNS), filter=where, limit=limit, scan_in_order=True)
        return cast("list[Object]", scanner.to_table().to_pylist())

    def _row(self, record: Mapping[str, Json], cut: int | None) -> Object:
        found: Object = {name: _finite(record[name]) for name in COLUMNS if name not in ("prompt", "response")}
        metadata = json.loads(str(record["metadata"]))
        found["metadata"] = as_texts(metadata if self._show_text else cast("Json", labels_of(metadata)))
        if self._show_text:
            for name in ("prompt", "response"):
                found[name] = str(record[name])[:cut]
                found[f"{name}_length"] = len(str(record[name]))
        return found


def _messages(turns: Sequence[Turn]) -> list[Json]:
    """A row's messages; `answer` is the number that an answer with a signature has as a record's `turn`."""
    answers = {place: number for number, place in enumerate(answer_places(turns))}
    return [
        {"role": turn.role, "content": turn.content, "answer": answers.get(place)} for place, turn in enumerate(turns)
    ]


def _condition(column: str, value: str | int | float | bool | None) -> str:
    """The SQL condition of rows that have this value."""
    if value is None:
        return f"`{column}` IS NULL"
    if isinstance(value, str):
        text = value.replace("'", "''")
        return f"`{column}` = '{text}'"
    return f"`{column}` = {json.dumps(value)}"


def _finite(value: Json) -> Json:
    """JSON has no infinite numbers."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
