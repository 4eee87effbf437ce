"""Inspect: `.eval` files through Inspect's own reader (an extra), and its JSON logs as they stand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from whence.data import ASSISTANT
from whence.errors import DataError, InputError, install_extra
from whence.trace.query.logs.entry import (
    CUT_OFF,
    EvaluationLog,
    LogEntry,
    answer,
    as_message,
    has_media,
    passed,
    scalars,
    without_media,
)

TOOL = "Inspect log"
SUFFIX = ".eval"
MARKS = frozenset({"version", "status", "eval"})


def is_log(value: Mapping[str, object]) -> bool:
    """Whether a JSON object is an Inspect log."""
    return value.keys() >= MARKS and isinstance(value.get("eval"), Mapping)


def read_eval(path: Path) -> EvaluationLog:
    """An .eval file. Raises InputError where inspect_ai is not installed, DataError for a damaged file."""
    try:
        from inspect_ai.log import read_eval_log
    except ImportError:
        raise InputError(
            f"{path} is an Inspect log, and inspect_ai is not installed.",
            "An .eval file is read by Inspect's own reader.",
            f"{install_extra('eval')}. Or write the log as JSON: inspect log convert --to json.",
        ) from None
    try:
        log = read_eval_log(str(path))
    except Exception as error:  # a foreign library at a boundary: whatever is wrong with the file, say so
        raise DataError(
            f"{path} cannot be read as an Inspect log: {type(error).__name__}: {error}",
            "Expected what `inspect eval` writes.",
            "Copy it again; an evaluation that was cut off may have left a part.",
        ) from error
    return read(json.loads(log.model_dump_json()), path)


def read(value: Mapping[str, object], path: Path) -> EvaluationLog:
    """The last answer of each sample's conversation."""
    about = value["eval"]
    assert isinstance(about, Mapping), "recognised by it"
    samples = value.get("samples")
    entries: list[LogEntry] = []
    judges, n_media = {}, 0
    for number, sample in enumerate(samples if isinstance(samples, list) else [], 1):
        if not isinstance(sample, Mapping):
            continue
        scores = {name: score.get("value") for name, score in _scores(sample).items() if isinstance(score, Mapping)}
        judges.update(dict.fromkeys(scores))
        judge = next(iter(judges), "")
        found = _asked_and_said(sample)
        if found is not None and has_media(_before_answer(sample)):
            n_media += 1
        elif found is not None:
            labels = scalars({"id": sample.get("id"), "epoch": sample.get("epoch"), "target": sample.get("target")})
            labels |= scalars(scores)
            entries.append(LogEntry(number, *found, passed(scores.get(judge)), labels, _ended(sample)))
    notes = without_media(TOOL, entries, n_media, path)
    return EvaluationLog(TOOL, entries, str(about.get("model") or ""), next(iter(judges), ""), notes)


def _ended(sample: Mapping[str, object]) -> bool:
    """Whether the last answer ended by itself, as the sample's output says."""
    output = sample.get("output")
    choices = _list(output.get("choices")) if isinstance(output, Mapping) else []
    return not any(isinstance(one, Mapping) and one.get("stop_reason") in CUT_OFF for one in choices[:1])


def _scores(sample: Mapping[str, object]) -> Mapping[str, object]:
    scores = sample.get("scores")
    return scores if isinstance(scores, Mapping) else {}


def _asked_and_said(
    sample: Mapping[str, object],
) -> tuple[list[dict[str, object]], str | dict[str, object]] | None:
    """The messages before the last answer, and that answer; None where the model said nothing."""
    before = _before_answer(sample)
    said = answer(_messages(sample)[len(before)]) if before else None
    return (list(map(as_message, before)), said) if said is not None else None


def _before_answer(sample: Mapping[str, object]) -> list[Mapping[str, object]]:
    """The messages before the last answer; none where there is no answer."""
    messages = _messages(sample)
    places = [i for i, one in enumerate(messages) if one.get("role") == ASSISTANT]
    return messages[: places[-1]] if places else []


def _messages(sample: Mapping[str, object]) -> list[Mapping[str, object]]:
    return [one for one in _list(sample.get("messages")) if isinstance(one, Mapping)]


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


__all__ = ["SUFFIX", "TOOL", "is_log", "read", "read_eval"]
