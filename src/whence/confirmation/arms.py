"""Which rows each arm is trained without: the flagged rows, and as many by chance, by words and by hidden state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from jaxtyping import Float, Int

from whence.confirmation.result import ALL, FLAGGED, RANDOM
from whence.data import EncodedTurn, Example
from whence.errors import InputError
from whence.index import Manifest, default_layers, held_layers, score_matrix
from whence.metrics import ranking
from whence.scoring import bm25_scores, score_form
from whence.trace import Tracer

CONTROLS = ("bm25", "repsim")
"""Rankings whose first rows are removed beside random ones."""
HELD_OUT_SHARE, HELD_OUT_AT_MOST = 0.05, 200


@dataclass(frozen=True, slots=True)
class Arm:
    """An arm's name and the ids that it is trained without; `n_rows` rows carry them, copies counted."""

    name: str
    removed: frozenset[str]
    n_rows: int


def choose_arms(
    rows: Sequence[Example], removed: Sequence[str], rankings: Mapping[str, Sequence[int]], *, seed: int = 0
) -> list[Arm]:
    """The arms: all rows, without `removed`, without as many of the others at random, and without the first of each
    ranking (positions in `rows`, best first). Rows go by content, so copies go together.

    Raises InputError: ids that are not in the data, none or all of them, or too few others for a control.
    """
    ids = [row.id for row in rows]
    missing = sorted(set(removed) - set(ids))
    if missing:
        raise InputError(
            f"{len(missing)} of {len(set(removed))} ids are not in the data; the first: {missing[0]}.",
            "Rows to train without are rows of the index's data.",
            "Give ids from a trace of this index.",
        )
    flagged = frozenset(removed)
    n = sum(id in flagged for id in ids)
    if n == 0 or 2 * n >= len(ids):
        found = "No row is given." if n == 0 else f"{n} of {len(ids)} rows are given."
        raise InputError(
            found,
            "Expected at least one, and fewer than half: as many random rows go in the control.",
            "Give some rows with --remove." if n == 0 else "Give fewer rows, such as --remove top:20.",
        )
    others = [i for i, id in enumerate(ids) if id not in flagged]
    Random(f"random arm/{seed}").shuffle(others)
    arms = [Arm(ALL, frozenset(), 0), Arm(FLAGGED, flagged, n)]
    return arms + [_first(name, ids, order, n) for name, order in ({RANDOM: others} | dict(rankings)).items()]


def first_rows(scores: Float[np.ndarray, "n_query n_train"]) -> list[int]:
    """Rows by their mean rank over the queries, best first; equal ones in the order of the data."""
    ranks: Int[np.ndarray, "n_query n_train"] = np.stack([np.argsort(ranking(one)) for one in scores])
    return [int(row) for row in ranking(-ranks.mean(axis=0))]


def bm25_ranking(rows: Sequence[Example], queries: Sequence[EncodedTurn]) -> list[int]:
    """Rows by the words of prompt and response that they share with the queries."""
    texts = [" ".join(turn.content for turn in row.turns) for row in rows]
    return first_rows(bm25_scores([f"{query.prompt} {query.response}" for query in queries], texts).double().numpy())


def repsim_ranking(tracer: Tracer, queries: Sequence[EncodedTurn]) -> list[int]:
    """Places of the index's rows by the cosine of hidden states, at the layer where it holds them. A row that could not
    be encoded has none. Raises MismatchError for an index without hidden states."""
    form, manifest = score_form("repsim"), tracer.index.manifest
    layers = held_layers(form, manifest) or default_layers(form, manifest)
    matrix = score_matrix(tracer.index, tracer.signatures(queries), method=form, roles=layers)
    numbers = np.asarray([int(matrix.rows[i]) for i in first_rows(matrix.scores)], dtype=np.int64)
    places: list[int] = places_of(manifest, numbers).tolist()
    return places


def places_of(manifest: Manifest, numbers: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Where rows of these numbers stand among those that the index has now; deleted ones leave gaps in the numbers."""
    return np.asarray(numbers - np.searchsorted(manifest.deleted_rows(), numbers))


def draw_held_out(rows: Sequence[Example], arms: Sequence[Arm], *, seed: int = 0) -> list[Example]:
    """A twentieth, at most 200, of the rows that no arm removes and that have no copy.

    They must then be left out of every arm, which makes the arm `all` a little less than the model that was traced.

    Raises InputError when there is no such row.
    """
    ids = [row.id for row in rows]
    counts = Counter(ids)
    gone = frozenset().union(*(arm.removed for arm in arms))
    free = [i for i, id in enumerate(ids) if id not in gone and counts[id] == 1]
    if not free:
        raise InputError(
            "Every row is removed in one arm or another, or has a copy.",
            "Clean rows that were not trained on show whether anything else broke.",
            "Give them with --held-out FILE.",
        )
    n = min(HELD_OUT_AT_MOST, max(1, round(HELD_OUT_SHARE * len(free))))
    return [rows[i] for i in sorted(Random(f"held out/{seed}").sample(free, n))]


def _first(name: str, ids: Sequence[str], order: Sequence[int], n: int) -> Arm:
    """The arm without the first rows of an order, until n rows (with their copies) are gone."""
    counts = Counter(ids)
    removed: dict[str, None] = {}
    total = 0
    for place in order:
        if total >= n:
            break
        if ids[place] not in removed:
            removed[ids[place]] = None
            total += counts[ids[place]]
    return Arm(name, frozenset(removed), total)
