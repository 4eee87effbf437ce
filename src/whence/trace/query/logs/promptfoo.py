"""promptfoo: `promptfoo eval -o results.json` or `-o results.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from whence.trace.query.logs.entry import EvaluationLog, LogEntry, prompt_text, scalars

TOOL = "promptfoo results"
MARKS = frozenset({"prompt", "success", "vars"})

Row = Mapping[str, object]


def rows_of(value: Mapping[str, object]) -> list[Row] | None:
    """The results of an exported evaluation; None for anything else."""
    results = value.get("results")
    if isinstance(results, Mapping):
        results = results.get("results")
    if not isinstance(results, list) or not results or not all(isinstance(row, Mapping) for row in results):
        return None
    return list(results) if is_result(results[0]) else None


def is_result(row: Row) -> bool:
    """Whether a row is one result."""
    return row.keys() >= MARKS and isinstance(row.get("prompt"), Mapping)


def read(rows: Sequence[Row], path: Path) -> EvaluationLog:
    """Each prompt as it was sent, with the provider's output."""
    models: dict[str, None] = {}
    entries, silent = [], 0
    for number, row in enumerate(rows, 1):
        prompt, response = row["prompt"], row.get("response")
        output = response.get("output") if isinstance(response, Mapping) else response
        raw = prompt.get("raw") if isinstance(prompt, Mapping) else None
        if not isinstance(raw, str) or output in (None, ""):
            silent += 1
            continue
        said = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
        variables = row.get("vars")
        values = scalars(variables if isinstance(variables, Mapping) else {})
        values |= scalars({"success": row.get("success"), "score": row.get("score")})
        success = row.get("success")
        models[_provider(row)] = None
        entries.append(LogEntry(number, prompt_text(raw), said, success if isinstance(success, bool) else None, values))
    notes = [f"{silent} results without an output (errors of the provider) are left out"] if silent else []
    if len(models) > 1:
        notes.append(f"the answers are of several providers: {', '.join(models)}")
    return EvaluationLog(TOOL, entries, next(iter(models), "") if len(models) == 1 else "", "success", notes)


def _provider(row: Row) -> str:
    provider = row.get("provider")
    if isinstance(provider, Mapping):
        provider = provider.get("id")
    return provider if isinstance(provider, str) else ""


__all__ = ["TOOL", "is_result", "read", "rows_of"]
