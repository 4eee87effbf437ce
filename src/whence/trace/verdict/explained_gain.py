"""How much of what fine-tuning added to an answer some rows account for: an estimate that a retraining can check.

A retraining without the rows S would leave the answer with another gain, log p(y | x) - log p_base(y | x):

    explained share = (gain - gain without S) / gain

Learning saturates: half of the rows that teach an answer often teach it as well as all of them. So the share is no sum
over rows. What is taken to shrink is the log-odds that fine-tuning added to each token, as a norm of the positive
scores that are left shrinks:

    r      = ( sum_{t not in S} max(s[t], 0)^NORM / sum_t max(s[t], 0)^NORM )^(1 / NORM)
    l_j    = logit p_base(y_j) + r (logit p(y_j) - logit p_base(y_j))
    share  = ( sum_j log p(y_j) - log sigmoid(l_j) ) / gain,    cut to [0, 1]

A token that became near certain loses little until few of the rows are left; one that fine-tuning did not change loses
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from whence.model import TokenShift
from whence.results import Explained

NORM = 3.0
"""Chosen on development models by retraining, of 2 to 5 (docs/log.md, "Explained share"): the higher, the more the
nearest rows alone stand for what all of them teach."""
LEAST_GAIN = 1.0
"""Nats. Of a gain below it no share is given: a retraining with another order of the rows changes it by as much."""
HIGHEST_LOG_PROB = -1e-6
"""A log-probability in float32 says no more: 1 - p below it is rounding, and log-odds above 14 would be made up."""
LEAST_PROB = 1e-30


def explained(
    scores: Float[np.ndarray, " n_train"], rows: Int[np.ndarray, " n_removed"] | Sequence[int], shift: TokenShift
) -> Explained | None:
    """What rows (places in `scores`) account for in one answer, whose tokens fine-tuning changed as `shift` says.

    scores: of every row for the answer, by a form that weighs rows by their learned fraction. None where fine-tuning
    added less than `LEAST_GAIN` to the answer, or no row scores above 0.
    """
    gains = shift.gain.double().numpy()  # [n_token]
    total = float(gains.sum())
    mass = np.maximum(np.asarray(scores, dtype=np.float64), 0.0) ** NORM  # [n_train]
    if shift.prob is None or total < LEAST_GAIN or not mass.any():
        return None
    left = mass.copy()
    left[np.asarray(rows, dtype=np.int64)] = 0.0
    after = np.log(np.maximum(shift.prob.double().numpy(), LEAST_PROB))  # [n_token]
    lost = after - _shrunk(after - gains, after, float(left.sum() / mass.sum()) ** (1 / NORM))
    return Explained(gain=total, share=min(1.0, max(0.0, float(lost.sum()) / total)))


def _shrunk(
    before: Float[np.ndarray, " n_token"], after: Float[np.ndarray, " n_token"], kept: float
) -> Float[np.ndarray, " n_token"]:
    """log p of each token where this part of the log-odds that were added is left; at 1 `after`, at 0 `before`."""
    start, end = _log_odds(before), _log_odds(after)
    return np.asarray(-np.logaddexp(0.0, -(start + kept * (end - start))))


def _log_odds(log_prob: Float[np.ndarray, " n_token"]) -> Float[np.ndarray, " n_token"]:
    """log p - log(1 - p)"""
    bounded = np.minimum(log_prob, HIGHEST_LOG_PROB)
    return np.asarray(bounded - np.log(-np.expm1(bounded)))


__all__ = ["LEAST_GAIN", "explained"]
