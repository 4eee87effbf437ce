"""The share of what fine-tuning added to the bad answers that is gone without the rows: foretold, and measured."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np
import torch
from jaxtyping import Float

from whence.confirmation.arms import places_of
from whence.data import EncodedTurn, Example
from whence.model import before_tuning, log_probabilities
from whence.trace import LEAST_GAIN, Query, Tracer, TraceSettings, explained

PerAnswer = Float[np.ndarray, " n_answer"]


def base_log_probs(tracer: Tracer, turns: Sequence[EncodedTurn]) -> PerAnswer | None:
    """log p_base of each whole answer, in nats; None without a base to compare with."""
    if not tracer.models.has_base or not turns:
        return None
    with before_tuning(tracer.loaded, tracer.models.base) as untuned:
        return summed(log_probabilities(untuned, turns))


def summed(log_probs: Sequence[torch.Tensor]) -> PerAnswer:
    """Of whole answers: the sum over their tokens, in nats."""
    return np.array([float(one.double().sum()) for one in log_probs])


def measured_share(all_rows: PerAnswer, without: PerAnswer, base: PerAnswer) -> float | None:
    """Mean over answers of (gain with all rows - gain without some) / gain with all rows.

    All three are log-probabilities of the same answers, in nats. Answers to which fine-tuning added less than
    `LEAST_GAIN` are left out; None where none remains.
    """
    gains = all_rows - base
    kept = gains >= LEAST_GAIN
    return float(((all_rows - without)[kept] / gains[kept]).mean()) if kept.any() else None


def foretold_share(
    tracer: Tracer, rows: Sequence[Example], removed: frozenset[str], queries: Sequence[Query]
) -> float | None:
    """The same without training, as a trace estimates it of its flagged rows; mean over the answers.

    rows: the index's data, in its order. queries: each with its response. None where the index's form is not one that
    the estimate was measured with, without a base, and where fine-tuning added too little to every answer.
    """
    settings = TraceSettings(k=1, confounds=False)
    if not tracer.models.has_base or not queries:
        return None
    ranked = tracer.rank(tracer.encode(tracer.answer(queries, settings), settings), settings)
    matrix, shifts = ranked.scores, ranked.batch.shifts
    if matrix is None or shifts is None or not ranked.form.by_learned_fraction:
        return None
    gone = np.array([place for place, row in enumerate(rows) if row.id in removed], dtype=np.int64)
    places = np.flatnonzero(np.isin(places_of(tracer.index.manifest, matrix.rows), gone))
    found = [explained(scores, places, shift) for scores, shift in zip(matrix.scores, shifts, strict=True)]
    shares = [one.share for one in found if one is not None]
    return fmean(shares) if shares else None


__all__ = ["base_log_probs", "foretold_share", "measured_share", "summed"]
