"""Which outputs have a cause, and which rows are flagged, at one false discovery rate over all outputs and rows.

Two steps, for m outputs at the rate a (Benjamini and Bogomolov 2014, JRSS B 76, selective inference on families):

    p[i] = max(p_answer[i], the least q of output i's rows),      selected = Benjamini-Hochberg(p, a),  R of them
    row t is flagged for a selected output i where q_rows[i, t] <= a R / m

p[i] is the chance of output i under the null that it is an ordinary answer, or that no row scores higher than rows do
for ordinary answers; the least Benjamini-Hochberg q of its rows is Simes' p-value of the second. Among the outputs
that are said to have a cause at most a share a have none in expectation, and the share of false rows, averaged over
these outputs, is at most a. Both hold where the p-values hold and are independent or positively dependent, which those
of one log are: they are ranks among the same references.

The least p-value that a rank can have is 1 / (1 + number of references): where few outputs of a long log are bad, no
rank is low enough. `least_outputs` says how many must be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from whence.audit.blocks import OutputVerdict


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is said of one output among all: numbers and scores of its flagged rows, and their turns.

    p, q: None without a verdict.
    """

    p: float | None
    q: float | None
    rows: tuple[int, ...] = ()
    scores: tuple[float, ...] = ()
    turns: tuple[int, ...] = ()

    @property
    def has_cause(self) -> bool:
        return bool(self.rows)


def evidence(verdicts: Sequence[OutputVerdict], fdr: float) -> list[Evidence]:
    """The outputs with a cause, and their rows, at one rate over all; see above."""
    from scipy.stats import false_discovery_control

    tested = [place for place, said in enumerate(verdicts) if said.p_answer is not None]
    found = [Evidence(None, None) for _ in verdicts]
    if not tested:
        return found
    p = np.array([_p_value(verdicts[place]) for place in tested])
    q = false_discovery_control(p)
    level = fdr * int((q <= fdr).sum()) / len(tested)
    for place, own_p, own_q in zip(tested, p.tolist(), q.tolist(), strict=True):
        said = verdicts[place]
        kept = [i for i, q_row in enumerate(said.q_rows) if q_row <= level] if own_q <= fdr else []
        rows, scores = tuple(said.rows[i] for i in kept), tuple(said.scores[i] for i in kept)
        turns = tuple(said.turns[i] for i in kept) if said.turns else ()
        found[place] = Evidence(own_p, own_q, rows, scores, turns)
    return found


def least_outputs(verdicts: Sequence[OutputVerdict], fdr: float) -> int:
    """How many outputs with the least p-value that their references allow are needed for any of them to be selected.

    n p_least <= fdr k  ->  k = ceil(m p_least / fdr); 0 without a tested output.
    """
    tested = [said.p_least for said in verdicts if said.p_answer is not None]
    return math.ceil(len(tested) * min(tested) / fdr - 1e-9) if tested else 0


def _p_value(said: OutputVerdict) -> float:
    assert said.p_answer is not None
    # Without flagged rows the least q of the rows is above the rate of the output's own verdict; 1 is never too low.
    return max(said.p_answer, min(said.q_rows, default=1.0))


__all__ = ["Evidence", "evidence", "least_outputs"]
