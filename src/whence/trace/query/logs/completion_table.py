"""Completion tables: TRL's completions_N.parquet (`log_completions=True`) and tables of W&B as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from whence.trace.query.logs.entry import EvaluationLog, LogEntry, passed, plain, prompt_text, scalars

TOOL = "TRL completion table"
MARKS = frozenset({"step", "prompt", "completion"})
OWN = frozenset({*MARKS, "advantage", "timestamp"})
"""Columns that TRL writes itself; the others are rewards."""

Row = Mapping[str, object]


def is_table(row: Row) -> bool:
    """Whether a row is one of a completion table."""
    return row.keys() >= MARKS


def table_rows(value: Mapping[str, object]) -> list[Row] | None:
    """The rows of a W&B table, {"columns": [...], "data": [[...], ...]}; None for anything else."""
    names, data = value.get("columns"), value.get("data")
    if not isinstance(names, list) or not isinstance(data, list) or not all(isinstance(row, list) for row in data):
        return None
    return [dict(zip(map(str, names), row, strict=False)) for row in data]


def read(rows: Sequence[Row], path: Path) -> EvaluationLog:
    """Each prompt with its completion. TRL writes the prompt as the model read it, so it is plain text."""
    rewards = [name for name in rows[0] if name not in OWN and isinstance(rows[0][name], int | float)]
    judge = rewards[0] if rewards else ""
    entries = []
    for number, row in enumerate(rows, 1):
        asked, said = row.get("prompt"), row.get("completion")
        if isinstance(said, list) and said and isinstance(said[-1], Mapping):
            said = said[-1].get("content")
        if not isinstance(said, str) or not said.strip():
            continue
        given = prompt_text(asked) if isinstance(asked, str) else asked
        values = scalars({name: value for name, value in row.items() if name not in ("prompt", "completion")})
        prompt = plain(given) if isinstance(given, str) else [dict(one) for one in given if isinstance(one, Mapping)]  # type: ignore[attr-defined]
        entries.append(LogEntry(number, prompt, said, passed(row.get(judge)), values))
    left = len(rows) - len(entries)
    notes = [f"{left} rows without a completion are left out"] if left else []
    return EvaluationLog(TOOL, entries, "", judge, notes)


__all__ = ["TOOL", "is_table", "read", "table_rows"]
