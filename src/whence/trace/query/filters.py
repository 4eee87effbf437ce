"""Which queries of a file are asked: the failed ones, or those that an SQL condition holds for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from whence.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

    from whence.trace.query.logs.entry import EvaluationLog, LogEntry

NUMBER = "_number"
OWN = ("prompt", "response")
"""Columns of every query, which keep their names beside others that SQL takes for the same."""
SHOWN = 12
EXACT = 2**53
"""Up to it a 64-bit float has every whole number."""


def failed_only(log: EvaluationLog) -> list[LogEntry]:
    """The entries whose first score is a fail. Raises InputError where the scores are no passes and fails."""
    if all(entry.passed is None for entry in log.entries):
        why = f"its score {log.judged_by!r} is neither pass nor fail" if log.judged_by else "it has no scores"
        names = sorted({name for entry in log.entries for name in entry.values})
        raise InputError(
            f"--failed with a {log.tool}: {why}.",
            "Expected scores that are 0 or 1, true or false, or C or I.",
            f"Give a condition with --query-where. Its columns: {', '.join(names[:SHOWN]) or 'none'}.",
        )
    return [entry for entry in log.entries if entry.passed is False]


def where_holds(
    rows: Sequence[Mapping[str, object]], condition: str, notify: Callable[[str], None] | None = None
) -> list[int]:
    """Numbers, from 0, of the rows for which the SQL condition holds, as `--where` takes it.

    A row's texts, numbers and truth values are columns. notify: told of those that have another name in the condition.
    Raises InputError for a condition that cannot be read.
    """
    import lance

    given = dict.fromkeys(name for row in rows for name in row)
    names = _sql_names(sorted(given, key=lambda name: name not in OWN))
    renamed = [f"{name!r} is {column}" for name, column in names.items() if name != column]
    if renamed and notify is not None:
        more = f", and {len(renamed) - SHOWN} more" if len(renamed) > SHOWN else ""
        notify(f"In --query-where the column {', '.join(renamed[:SHOWN])}{more}")
    table = _table(rows, names)
    try:
        found = lance.write_dataset(table, "memory://queries").to_table(columns=[NUMBER], filter=condition)
    except Exception as error:  # a foreign library at a boundary: its errors are of several kinds
        known = [name for name in table.column_names if name != NUMBER]
        raise InputError(
            f"--query-where {condition!r} cannot be used: {str(error).splitlines()[0][:200]}",
            f"Expected an SQL condition on the columns {', '.join(known[:SHOWN])}.",
            'For example --query-where "score < 0.5".',
        ) from error
    return sorted(int(number) for number in found.column(NUMBER).to_pylist())


def _sql_names(names: Iterable[str]) -> dict[str, str]:
    """name -> its column, as in an index (`whence.index.filter_columns`).

    A dot would mean a field of a struct, a backtick ends a quoted name; SQL names do not know upper case.
    """
    columns, taken = {}, {NUMBER}
    for name in names:
        column = name.replace(".", "_").replace("`", "_")
        while not column or column.lower() in taken:
            column = f"meta_{column}"
        taken.add(column.lower())
        columns[name] = column
    return columns


def _table(rows: Sequence[Mapping[str, object]], names: Mapping[str, str]) -> pa.Table:
    """One column for each name whose values are of one kind; mixed ones are texts. names: of each its column."""
    import pyarrow as pa

    columns: dict[str, pa.Array] = {NUMBER: pa.array(range(len(rows)), pa.int64())}
    for name, column in names.items():
        values = [row.get(name) for row in rows]
        kinds = {type(value) for value in values if value is not None}
        if kinds == {int} and EXACT < max(abs(value) for value in values if isinstance(value, int)) < 2**63:
            # Not for all whole numbers: `score < 0.5` cannot be asked of them.
            columns[column] = pa.array(values, pa.int64())
        elif kinds <= {int, float}:
            columns[column] = pa.array([None if value is None else float(str(value)) for value in values], pa.float64())
        elif kinds == {bool}:
            columns[column] = pa.array(values, pa.bool_())
        elif kinds & {str, bool, int, float}:
            columns[column] = pa.array([None if value is None else str(value) for value in values], pa.string())
    return pa.table(columns)


__all__ = ["failed_only", "where_holds"]
