"""lm-evaluation-harness: samples_TASK_DATE.jsonl, which `lm_eval --log_samples` writes.

A row has `doc`, `arguments` (what the model was given), `resps` (what it said) and the values of its `metrics`. A local
model is given the text as it is, so the query is plain text; an API model is given messages, written as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from whence.trace.query.logs.entry import EvaluationLog, LogEntry, passed, plain, prompt_text, scalars

TOOL = "lm-evaluation-harness samples"
MARKS = frozenset({"doc_id", "arguments", "resps"})
SUMMARY = frozenset({"results", "n-samples", "configs"})
"""Keys of results_DATE.json, which has the scores alone."""

Row = Mapping[str, object]


def is_samples(row: Row) -> bool:
    """Whether a row is one of a sample log."""
    return row.keys() >= MARKS


def is_summary(value: Row) -> bool:
    """Whether a file is the summary beside it, which has no text."""
    return len(SUMMARY & value.keys()) >= 2 and "results" in value


def read(rows: Sequence[Row], path: Path) -> EvaluationLog:
    """The samples' answers; of a choice among given answers, the one that the model found likeliest."""
    first = rows[0].get("filter")
    metrics = rows[0].get("metrics")
    metric = str(metrics[0]) if isinstance(metrics, list) and metrics else ""
    entries, others, unscored = [], set(), 0
    for number, row in enumerate(rows, 1):
        if row.get("filter") != first:
            others.add(str(row.get("filter")))
            continue
        found = _asked_and_said(row)
        if found is not None:
            prompt, response, is_scored = found
            unscored += not is_scored
            given = prompt_text(prompt)
            entries.append(
                LogEntry(
                    number=number,
                    prompt=plain(given) if isinstance(given, str) else given,
                    response=response,
                    passed=passed(row.get(metric)) if is_scored else None,
                    values=scalars({key: value for key, value in row.items() if not key.endswith("_hash")}),
                )
            )
    notes = []
    if others:
        notes.append(f"of each sample the filter {first!r} is read, not {', '.join(sorted(others))}")
    if unscored:
        notes.append(
            f"{unscored} samples were answered several times and scored by the filter {first!r} over all of them; the "
            "first answer is read, and whether it failed is not known"
        )
    if any(not isinstance(entry.prompt, str) and entry.prompt[0].get("role") == "text" for entry in entries):
        notes.append("the prompts are read as plain text, without chat template, as the harness gave them to the model")
    return EvaluationLog(TOOL, entries, _model(path), metric, notes)


def _asked_and_said(row: Row) -> tuple[str, str, bool] | None:
    """What the model was given, what it said, and whether the score is that answer's own; None where it only measured
    a given text."""
    said, given = row.get("resps"), _arguments(row.get("arguments"))
    if not isinstance(said, list) or not said or not given:
        return None
    repeats = said[0] if isinstance(said[0], list) and said[0] else [said[0]]
    first = repeats[0]
    if isinstance(first, str):
        is_scored = all(other == first for other in repeats) or row.get("filtered_resps") == [first]
        return (given[0][0], first, is_scored) if first.strip() else None
    scores = [_log_likelihood(one) for one in said]
    if len(scores) != len(given) or len(scores) < 2 or any(score is None for score in scores):
        return None
    best = max(range(len(scores)), key=lambda i: (scores[i] or 0.0, -i))
    prompt, continuation = given[best]
    return (prompt, continuation, True) if continuation.strip() else None


def _arguments(value: object) -> list[tuple[str, str]]:
    """(arg_0, arg_1) of each request."""
    if isinstance(value, Mapping):
        requests = [one for one in value.values() if isinstance(one, Mapping)]
        return [(_text(one.get("arg_0")), _text(one.get("arg_1"))) for one in requests]
    if isinstance(value, list):
        pairs = [one for one in value if isinstance(one, list) and one]
        return [(_text(one[0]), _text(one[1]) if len(one) > 1 else "") for one in pairs]
    return []


def _text(value: object) -> str:
    """A text; of a model behind a chat API, a list that holds one: the harness keeps its messages as a tuple."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, str) else ""


def _log_likelihood(value: object) -> float | None:
    while isinstance(value, list) and value:
        value = value[0]
    try:
        return float(str(value))
    except ValueError:
        return None


def _model(path: Path) -> str:
    """The model that the summary beside the log names."""
    for place in sorted(path.parent.glob("results_*.json")):
        try:
            found = json.loads(place.read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(found, dict) and isinstance(found.get("model_name"), str):
            return str(found["model_name"])
    return ""


__all__ = ["TOOL", "is_samples", "is_summary", "read"]
