"""Which tool wrote a file, by what the file holds; a file that no tool wrote is read as rows."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from whence.data import Row, read_rows, suffix_of
from whence.errors import DataError
from whence.trace.query.logs import completion_table, inspect_log, lm_eval, openai, promptfoo
from whence.trace.query.logs.entry import EvaluationLog

LOOKED_FOR = (
    f"{lm_eval.TOOL} (doc_id, arguments, resps)",
    f"{inspect_log.TOOL} (.eval, or JSON with version, status, eval)",
    f"{openai.BATCH} (custom_id, response)",
    f"{openai.CHAT} (messages, choices)",
    f"{completion_table.TOOL} (step, prompt, completion)",
    f"{promptfoo.TOOL} (prompt, vars, success)",
)
"""Every log that is known, with the keys that it is known by."""
JSON_LINES, JSON, TABLES = (".jsonl", ".ndjson"), ".json", (".parquet", ".arrow", ".feather")


def read_log(path: Path, prompts: Path | None = None) -> EvaluationLog | None:
    """The evaluation log that the file is; None for any other file.

    prompts: the input file of a batch, for an output that has the answers alone.

    Raises:
        DataError: a log with scores and no text, a batch's output without its prompts, or a damaged file.
        InputError: an Inspect log, and inspect_ai is not installed.
    """
    if path.suffix == inspect_log.SUFFIX:
        return _with_text(inspect_log.read_eval(path), path)
    rows = _rows(path)
    if not rows:
        return None
    log = _of_rows(rows, path, prompts)
    return _with_text(log, path) if log is not None else None


def _of_rows(rows: Sequence[Mapping[str, object]], path: Path, prompts: Path | None) -> EvaluationLog | None:
    first = rows[0]
    if lm_eval.is_samples(first):
        return lm_eval.read(rows, path)
    if openai.is_batch(first):
        return openai.read_batch(rows, path, _rows(prompts) if prompts is not None else None)
    if promptfoo.is_result(first):
        return promptfoo.read(rows, path)
    if completion_table.is_table(first):
        return completion_table.read(rows, path)
    if len(rows) == 1 and inspect_log.is_log(first):
        return inspect_log.read(first, path)
    if len(rows) == 1 and (inner := promptfoo.rows_of(first) or completion_table.table_rows(first)):
        return _of_rows(inner, path, prompts)
    if lm_eval.is_summary(first):
        raise _no_text(path, "lm-evaluation-harness results")
    if any(map(openai.is_chat, rows)):
        return openai.read_chat(rows, path)
    return None


def _rows(path: Path) -> list[Mapping[str, object]]:
    """The objects of a JSON, JSONL or table file; [] for a file of another kind, or one that its reader must refuse."""
    suffix = suffix_of(path)
    if suffix in TABLES:
        found = [row.columns for row in read_rows(path) if isinstance(row, Row)]
        return [dict(columns) for columns in found]
    if suffix not in (*JSON_LINES, JSON):
        return []
    from whence.data import open_unpacked

    try:
        with open_unpacked(path) as file:
            text = file.read().decode("utf-8-sig")
        values = [json.loads(line) for line in text.split("\n") if line.strip()] if suffix in JSON_LINES else None
        if values is None:
            whole = json.loads(text)
            values = whole if isinstance(whole, list) else [whole]
    except (OSError, EOFError, zlib.error, ValueError, RecursionError):
        # The reader of rows says what is wrong, and where.
        return []
    return values if all(isinstance(value, dict) for value in values) else []


def _with_text(log: EvaluationLog, path: Path) -> EvaluationLog:
    if not log.entries:
        raise _no_text(path, log.tool)
    return log


def _no_text(path: Path, tool: str) -> DataError:
    return DataError(
        f"{path} ({tool}) has scores and no answer of the model.",
        "A query is what the model was asked and what it said.",
        "Give the log with the texts: lm_eval --log_samples writes samples_*.jsonl, inspect eval writes its samples "
        "unless --no-log-samples says otherwise.",
    )


__all__ = ["LOOKED_FOR", "read_log"]
