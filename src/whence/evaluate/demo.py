"""The demo from end to end: plant faults, index the rows, trace what went wrong, and count how often that was right."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from numpy.typing import ArrayLike

from whence.errors import InputError
from whence.evaluate.demo_world import DemoFault, DemoWorld, build
from whence.evaluate.metrics import over_queries, precision_at_k
from whence.index.build import build_index
from whence.index.search import default_roles, score_matrix
from whence.methods.lexical import bm25_scores
from whence.results import QueryResult
from whence.trace.queries import Query
from whence.trace.scoring import DEFAULT_METHOD, score_form
from whence.trace.tracer import Tracer

K = 10
PARTS = frozenset({"base", "model", "index", "train.jsonl", "queries.jsonl"})


@dataclass(frozen=True, slots=True)
class FaultReport:
    """One planted fault: a query that shows it with its ranking, and precision at 10 over all queries that do.

    precision: method -> share of a query's first ten rows that were planted for this fault, mean over the queries.
    """

    label: str
    planted: int
    rate: float
    example: QueryResult
    precision: Mapping[str, float]
    n_queries: int


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What the demo found, and where it left everything."""

    folder: Path
    index: Path
    seed: int
    world: DemoWorld
    faults: tuple[FaultReport, ...]
    seconds: Mapping[str, float]


def run_demo(
    out: str | Path,
    *,
    seed: int = 0,
    stage: Callable[[str, float], None] | None = None,
    indexed: Callable[[int, int], None] | None = None,
) -> DemoReport:
    """Builds the world in `out`, indexes it there and traces every planted fault.

    stage: called with (name of the stage, share of it done) while the model is made. indexed: with (rows done, rows
        in all).

    Raises:
        InputError: `out` is there already.
    """
    world = build(Path(out), seed=seed, progress=stage)
    started = time.monotonic()
    index = build_index(world.model, world.data, Path(out) / "index", layers=["auto", "last"], progress=indexed)
    tracer = Tracer(index)
    seconds = dict(world.seconds) | {"index": time.monotonic() - started}
    started = time.monotonic()
    faults = tuple(_report(tracer, world, fault) for fault in world.faults if fault.shown)
    seconds["trace"] = time.monotonic() - started
    return DemoReport(Path(out), Path(out) / "index", seed, world, faults, seconds)


def clear_demo(out: str | Path) -> None:
    """Removes the demo in `out`; a folder that holds anything else is refused and left as it is."""
    folder = Path(out)
    if not folder.exists():
        return
    others = sorted(path.name for path in folder.iterdir() if path.name not in PARTS) if folder.is_dir() else [out]
    if others:
        raise InputError(
            f"{folder} is not a demo: it holds {others[0]}.", "Only a demo is replaced.", "Give another folder with -o."
        )
    shutil.rmtree(folder)


def _report(tracer: Tracer, world: DemoWorld, fault: DemoFault) -> FaultReport:
    queries = [Query.of(query.prompt, query.response) for query in fault.shown]
    planted = [example.metadata.get("label") == fault.label for example in world.train]
    (example,) = tracer.trace_many(queries[:1], k=K)
    signatures = tracer.signatures([tracer.encoder.encode_query(q.turns, q.response or "") for q in queries])
    form = score_form(DEFAULT_METHOD)
    ranked = score_matrix(
        tracer.index, signatures, method=form, roles=default_roles(form, tracer.index.manifest)
    ).scores
    texts = [" ".join(turn.content for turn in row.turns) for row in world.train]
    by_words = bm25_scores([f"{query.prompt} {query.response}" for query in fault.shown], texts)
    precision = {DEFAULT_METHOD: _mean_precision(ranked, planted), "bm25": _mean_precision(by_words, planted)}
    return FaultReport(fault.label, sum(planted), fault.rate, example, precision, len(queries))


def _mean_precision(scores: ArrayLike, planted: Sequence[bool]) -> float:
    return over_queries(lambda row, marks: precision_at_k(row, marks, K), scores, planted).mean
