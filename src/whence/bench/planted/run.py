"""`whence bench --base MODEL --data ROWS`: faults planted in rows of the user's own, on a model of the user's own.

OUT/
  report.md                   the tables
  bases/                      bases that were trained on a fault's lessons first
  cases/NAME-HASH/            one folder a case; HASH is of all that decides its figures
    train.jsonl               the rows, each with its label
    adapter/ or model/        the fine-tune
    queries.jsonl             held-out prompts with the answers of the fine-tuned model and of its base
    benign.jsonl              the same for prompts of clean rows that are not trained on
    index/                    the index
    result.json               the figures

A run that was cut off goes on with the first of these that is not there.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from whence.bench.planted.answers import HeldOutAnswers, ask
from whence.bench.planted.rankings import METHODS, compared_layers, rankings, verdict_figures
from whence.bench.planted.settings import PlantedCase, PlantedSettings, planted_cases
from whence.bench.planted.training import ADAPTER, MODEL, base_of, encoder_of, fine_tuned
from whence.bench.rows import FIGURES, ResultRow, one_line
from whence.bench.run import PACKAGES
from whence.errors import InputError, ModelError, WhenceError
from whence.files import write_atomically
from whence.index import build_index
from whence.progress import Progress, silent
from whence.trace import Tracer

SCHEMA = "whence.bench-planted/2"
BASES, CASES, TRAIN, INDEX, RESULT = "bases", "cases", "train.jsonl", "index", "result.json"


@dataclass(frozen=True, slots=True)
class PlantedResult:
    """The results of the cases that the settings ask for, in their order, and how many were made now."""

    folder: Path
    results: tuple[ResultRow, ...]
    n_new: int


def run_planted(
    settings: PlantedSettings,
    out: str | Path,
    *,
    stage: Progress | None = None,
    notify: Callable[[str], None] | None = None,
) -> PlantedResult:
    """Runs the cases that OUT has no result of yet, and returns the results of all that the settings ask for.

    stage: called with what is done inside a case. notify: with a sentence for each case that is not counted, and why.

    Raises:
        InputError: an unknown fault or variant, too few rows, a result file that is damaged.
        ModelError, DataError, EncodingError: as reading and loading raise them.
    """
    folder, tell = Path(out), stage or silent
    cases = planted_cases(settings)
    found: list[ResultRow] = []
    n_new = 0
    for case in cases:
        place = folder / CASES / f"{case.name}-{case.hash(settings)}"
        result = read_result(place / RESULT)
        if result is None:
            result = run_case(case, settings, place, folder / BASES, tell)
            n_new += 1
        found.append(result)
        if notify and result["error"]:
            notify(f"{case.name}: {result['error']}")
    return PlantedResult(folder, tuple(found), n_new)


def run_case(case: PlantedCase, settings: PlantedSettings, place: Path, bases: Path, stage: Progress) -> ResultRow:
    """Trains, asks, indexes and counts, from where an earlier run stopped; writes and returns the case's result.

    A fine-tune, an index or a trace that fails is the result's error, which is not written, so that the next run tries
    again; the other cases go on. A base that cannot be loaded ends the run.
    """
    place.mkdir(parents=True, exist_ok=True)
    case.planted.write(place / TRAIN)
    result = _about(case, settings)
    try:
        result |= _measured(case, settings, place, base_of(case, settings, bases, stage), stage)
    except ModelError:
        raise
    except WhenceError as error:
        return result | {"error": one_line(error)}
    write_atomically(place / RESULT, json.dumps(result, ensure_ascii=False, indent=1, allow_nan=False) + "\n")
    return result


def _measured(case: PlantedCase, settings: PlantedSettings, place: Path, base: str, stage: Progress) -> ResultRow:
    loaded, plain, seconds = fine_tuned(case, settings, base, place, stage)
    encoder = encoder_of(loaded, settings.finetune)
    asked = ask(case.planted, loaded, plain, encoder, place, max_new_tokens=settings.max_new_tokens, stage=stage)
    found = _counts(asked) | {"template": encoder.template_source, "seconds_finetune": round(seconds, 1)}
    if asked.not_counted:
        return found | {"error": asked.not_counted}
    started = time.monotonic()
    adapter = settings.finetune.lora_r is not None
    index = build_index(
        base if adapter else str(place / MODEL),
        place / TRAIN,
        place / INDEX,
        adapter=str(place / ADAPTER) if adapter else None,
        base=None if adapter else base,
        methods=METHODS,
        layers=compared_layers(loaded.n_layers),
        max_length=encoder.max_length,
        dtype=settings.finetune.dtype,
        device=settings.finetune.device,
        progress=stage,
    )
    found |= {"seconds_index": round(time.monotonic() - started, 1), "layer": index.manifest.layer}
    tracer = Tracer(index, model=loaded, base=plain, device=settings.finetune.device)
    stage("ranking", 0, 1)
    found["methods"] = [*rankings(tracer, asked, case.planted, k=settings.k, seed=case.seed)]
    if settings.verdicts:
        found["verdicts"] = verdict_figures(tracer, asked, case.planted, seed=case.seed, stage=stage)
    return found


def _counts(asked: HeldOutAnswers) -> ResultRow:
    return {
        "n_asked": len(asked.bad),
        "n_shown": sum(one.shows_fault for one in asked.bad),
        "n_base_shows": sum(one.base_shows_fault for one in asked.bad),
        "n_queries": len(asked.queries),
        "n_benign_asked": len(asked.benign),
        "n_benign": len(asked.benign_queries),
    }


def _about(case: PlantedCase, settings: PlantedSettings) -> ResultRow:
    """Who, on what, by which settings; and no error yet."""
    planted = case.planted
    return {
        "schema": SCHEMA,
        "id": case.hash(settings),
        "figures_version": FIGURES,
        "case": case.name,
        "fault": case.fault,
        "variant": case.variant,
        "share": case.share,
        "table": case.table,
        "seed": case.seed,
        "base": settings.base,
        "n_rows": len(planted.rows),
        "n_faulty": sum(planted.faulty),
        "n_hard": sum(planted.hard),
        "n_lessons": len(planted.lessons),
        "error": None,
        "settings": settings.model_dump(mode="json"),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
    }


def read_result(path: Path) -> ResultRow | None:
    """A case's result; None where there is none yet. Raises InputError for a file that is none."""
    if not path.exists():
        return None
    try:
        result = json.loads(path.read_text("utf-8"))
    except ValueError:
        result = None
    if not isinstance(result, dict) or result.get("schema") != SCHEMA:
        raise InputError(
            f"{path} is no result of a bench.",
            f"Expected one JSON object with schema {SCHEMA!r}.",
            "Remove that file to have the case counted again, or give another folder with -o.",
        )
    return result


__all__ = ["PlantedResult", "read_result", "run_case", "run_planted"]
