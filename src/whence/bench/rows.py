"""One row of a bench: a method fitted and asked, its figures, and what they cost."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import torch
from jaxtyping import Bool, Float

from whence.bench.cases import BenchSettings
from whence.bench.costs import ChargedWork, Cost, measured
from whence.bench.subject import TrainedCase
from whence.data import Json
from whence.errors import WhenceError
from whence.methods import TurnSet, checked_scores, make_method
from whence.metrics import average_precision, measure

ResultRow = dict[str, Json]
FIGURES = 2
"""Version of the figures, part of a row's identity: goes up where the same scores get other figures. In version 1 rows
with equal scores had an order."""


def method_row(name: str, planted: TrainedCase, settings: BenchSettings, work: ChargedWork) -> ResultRow:
    """Figures and costs of a method on a planted case; with `error` where it cannot run or a figure is undefined.

    What the method refuses, and too little GPU memory, become the row's error and the other methods go on. Any other
    exception is a defect and ends the run; the rows before it are kept.
    """
    case, queries = planted.case, planted.queries
    about: ResultRow = {
        "n_rows": len(case.train),
        "n_faulty": sum(case.faulty),
        "n_hard": sum(case.hard),
        **planted.asked,
        "layer": planted.subject.rep_layer,
        "seconds_finetune": round(planted.seconds, 3),
        "hashes": dict(planted.hashes),
    }
    if queries is None:
        return about | {"error": planted.not_counted}
    try:
        scores, costs = _scored(name, planted, queries, settings, work)
        faulty, hard = labels(planted, len(queries), shuffle=settings.shuffle_labels)
        figures: ResultRow = dict(measure(scores, faulty, hard=hard, k=settings.k, seed=case.seed))
        by_query = [average_precision(*one) for one in zip(scores, faulty, strict=True)] if faulty.any() else []
        figures["ap_by_query"] = [round(value, 6) for value in by_query]
    except (WhenceError, torch.OutOfMemoryError) as error:
        return about | {"error": one_line(error)}
    undefined = None if any(case.faulty) else "No row is faulty: a ranking cannot be right or wrong."
    return about | figures | costs | {"error": undefined}


def _scored(
    name: str, planted: TrainedCase, queries: TurnSet, settings: BenchSettings, work: ChargedWork
) -> tuple[Float[np.ndarray, "n_query n_train"], ResultRow]:
    """Scores of the case's rows, each by its best turn, and the method's costs."""
    work.charge()
    method = make_method(name, planted.subject, **settings.method_options.get(name, {}))
    device = planted.subject.loaded.device
    with measured(work, device) as fitting:
        method.fit(planted.train)
    with measured(work, device) as asking:
        scores = checked_scores(method.score(queries), method, queries, planted.train)
    costs: ResultRow = {
        "seconds_fit": round(fitting.seconds, 4),
        "seconds_score": round(asking.seconds, 4),
        "bytes_per_row": method.bytes_per_row(),
        "peak_bytes": _highest(fitting, asking),
    }
    starts = np.unique(planted.row_of, return_index=True)[1]
    return np.maximum.reduceat(scores.double().cpu().numpy(), starts, axis=1), costs


def labels(
    planted: TrainedCase, n_queries: int, *, shuffle: bool
) -> tuple[Bool[np.ndarray, "n_query n_train"], Bool[np.ndarray, "n_query n_train"]]:
    """Which rows are faulty, and which hard negatives, for each query; shuffled, in another order for each query.

    The order depends on the case alone, so it is the same for every method.
    """
    case = planted.case
    faulty, hard = (np.tile(np.array(marks, dtype=bool), (n_queries, 1)) for marks in (case.faulty, case.hard))
    if shuffle:
        rng = np.random.default_rng([case.seed, crc32(case.name.encode())])
        order = np.argsort(rng.random(faulty.shape), axis=1)
        faulty, hard = np.take_along_axis(faulty, order, 1), np.take_along_axis(hard, order, 1)
    return faulty, hard


def one_line(error: BaseException) -> str:
    """What went wrong, as it stands in a row; an error of another library is called by its type."""
    text = " ".join(str(error).split())
    return text if isinstance(error, WhenceError) else f"{type(error).__name__}: {text}"


def _highest(*costs: Cost) -> int | None:
    peaks = [cost.peak_bytes for cost in costs if cost.peak_bytes is not None]
    return max(peaks) if peaks else None
