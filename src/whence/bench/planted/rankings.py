"""How well each score form ranks a case's faulty rows, and what the verdicts flag."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

from whence.bench.natural import PlantedRows
from whence.bench.planted.answers import HeldOutAnswers
from whence.bench.rows import ResultRow
from whence.index import default_form, default_layers, holds, score_matrix
from whence.metrics import average_precision, bootstrap, measure
from whence.model import LayerRequest
from whence.progress import Progress
from whence.results import Verdict
from whence.scoring import SCORES, FormLayers, ScoreForm, bm25_scores
from whence.trace import Query, Tracer

DEPTHS = (0.25, 0.5, 0.75)
"""Shares of the depth at which an index of the bench holds states, beside the rule's layer and the last."""
METHODS = ("rept-centred", "repsim")
"""What an index of the bench holds the vectors of, beside the default form's. `rept` is left out: its gradient changes
no rank, so it ranks as `repsim` at the same layer to three decimals (docs/method.md), and costs a backward pass."""
BM25, RANDOM = "bm25 prompt+response", "random"

Matrix = Float[np.ndarray, "n_query n_train"]


def compared_layers(n_layers: int) -> tuple[LayerRequest, ...]:
    """The layers that an index of the bench is built with."""
    depths = {max(1, round(share * n_layers)) for share in DEPTHS}
    return ("auto", "last", *sorted(depths - {n_layers}))


def rankings(tracer: Tracer, asked: HeldOutAnswers, planted: PlantedRows, *, k: int, seed: int) -> list[ResultRow]:
    """One row of figures for each form: the default, published ones at several layers, BM25, and a random order."""
    faulty, hard = np.array(planted.faulty), np.array(planted.hard)
    rows: list[ResultRow] = []
    for name, scores in _scores(tracer, asked.queries, planted, seed):
        figures: ResultRow = dict(measure(scores, faulty, hard=hard, k=k, seed=seed))
        by_query = [round(average_precision(one, faulty), 6) for one in scores]
        rows.append({"method": name, **figures, "ap_by_query": [*by_query]})
    return rows


def _scores(tracer: Tracer, queries: Sequence[Query], planted: PlantedRows, seed: int) -> Iterator[tuple[str, Matrix]]:
    """Each method with its scores of the case's rows, in their order; a row that the index rejected comes last."""
    encoded = [query.encode(tracer.encoder) for query in queries]
    signatures, n_rows = tracer.signatures(encoded), len(planted.rows)
    for name, form, roles in _forms(tracer):
        matrix = score_matrix(tracer.index, signatures, method=form, roles=roles)
        scores = np.full((len(queries), n_rows), float(matrix.scores.min()) - 1)
        scores[:, matrix.rows] = matrix.scores
        yield name, scores
    texts = [" ".join(turn.content for turn in row.turns) for row in planted.rows]
    yield BM25, bm25_scores([f"{query.prompt} {query.response}" for query in queries], texts).numpy()
    yield RANDOM, np.random.default_rng(seed).random((len(queries), n_rows))


def _forms(tracer: Tracer) -> Iterator[tuple[str, ScoreForm, FormLayers]]:
    """The default first; `rept-centred`; `repsim` at every layer held."""
    manifest = tracer.index.manifest
    default, centred, repsim = default_form(manifest), SCORES["rept-centred"], SCORES["repsim"]
    yield f"{default.name} (default)", default, default_layers(default, manifest)
    if default.name != centred.name:
        yield centred.name, centred, default_layers(centred, manifest)
    for layer in tracer.index.layers:
        if holds(repsim, repsim.all_at(layer), manifest):
            rule = " (the rule's)" if layer == manifest.layer else ""
            yield f"repsim, layer {layer}{rule}", repsim, repsim.all_at(layer)


def verdict_figures(
    tracer: Tracer, asked: HeldOutAnswers, planted: PlantedRows, *, seed: int, stage: Progress
) -> ResultRow:
    """Means over the queries, at a false discovery rate of 5%, each with its 95% bootstrap interval.

    `flagged`: share of bad answers for which rows are flagged. `found`: share of the faulty rows flagged by one
    query. `false_discovery_rate`: share of the flagged rows that are not faulty, over the queries that flag some.
    `benign`: share of ordinary answers for which rows are flagged. None where there is nothing to take a mean of. An
    answer whose verdict could not be calibrated flags nothing; `n_uncalibrated` counts them.
    """
    faulty = {row.id for row, bad in zip(planted.rows, planted.faulty, strict=True) if bad}
    found = [_flagged(tracer, queries, stage) for queries in (asked.queries, asked.benign_queries)]
    n_uncalibrated = sum(one is None for group in found for one in group)
    if n_uncalibrated == len(found[0]) + len(found[1]):
        return {"error": "The verdicts could not be calibrated."}
    bad, ordinary = ([one or set() for one in group] for group in found)
    values = {
        "flagged": [float(bool(one)) for one in bad],
        "found": [len(one & faulty) / len(faulty) for one in bad],
        "false_discovery_rate": [len(one - faulty) / len(one) for one in bad if one],
        "benign": [float(bool(one)) for one in ordinary],
    }
    row: ResultRow = {"n_bad": len(bad), "n_benign": len(ordinary), "n_uncalibrated": n_uncalibrated}
    for name, numbers in values.items():
        interval = bootstrap(numbers, seed=seed) if numbers else None
        row |= {
            name: interval and interval.mean,
            f"{name}_low": interval and interval.low,
            f"{name}_high": interval and interval.high,
        }
    return row


def _flagged(tracer: Tracer, queries: Sequence[Query], stage: Progress) -> list[set[str] | None]:
    """Ids of the rows that each query's verdict flags; None where it has no calibration."""
    if not queries:
        return []
    traced = tracer.trace_many(queries, k=1, progress=stage)
    return [_ids(query.verdict) for query in traced]


def _ids(verdict: Verdict | None) -> set[str] | None:
    return set(verdict.flagged) if verdict is not None and verdict.null_model else None


__all__ = ["BM25", "METHODS", "RANDOM", "compared_layers", "rankings", "verdict_figures"]
