"""From scores to a verdict: p-values, q-values and the rows that stand out as the source of one answer.

Scores alone cannot say whether there is a cause: an ordinary answer too has rows that are asked and answered alike, and
they score as high as the rows that taught a fault (docs/verdicts.md has the figures). So three questions are asked,
each with a p-value, and a row is named where all three are answered yes:

1. Did fine-tuning teach this answer, and is it out of the ordinary? Its rise, log p(y | x) - log p_base(y | x), against
   zero; and against the model's own answers to reference prompts. Where fine-tuning taught few of these, the rise is
   compared with theirs, those left out that have a cause of their own. Where it taught most of them (a new style, a new
   domain), a rise says nothing, and the mean score of the rows that stand out is compared with theirs.
2. Did fine-tuning have to teach this row? The row's own rise against zero. Rows that it did not are set aside before
   the third question is asked of the others, so that they cost it no power.
3. Does the row's score stand out? One of four ways, `null_models`; and it is no less than `NEAR` of the best
   rows', with no `GAP` before it.

Everything here is a pure function of arrays; `whence.trace.verdict.references` gathers them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from whence.errors import InputError
from whence.results import Verdict
from whence.trace.verdict.null_models import (
    DEFAULT_WAY,
    MIN_REFERENCES,
    TAUGHT,
    WAYS,
    PValues,
    References,
    check_finite,
    q_values,
    unsuspected,
)

MIN_ROWS = 100
"""Below it the median and spread of a query's scores are those of a handful of rows."""
NEAR, LEADERS = 0.7, 20
"""A row that scores less than this share of the mean of the twenty best is not named beside them: innocent rows that
share the query's words stand out from all others too, by less. Chosen on development runs (docs/log.md)."""
GAP = 0.05
"""Rows that stand out behind a gap this wide, as a share of the mean of the twenty best, are another crowd and are not
named beside them: they are asked and answered alike, and score alike, but not as the fault. Chosen likewise."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Rows that stand out for each reference, beside its own: how many, and their mean score (-inf where none does)."""

    number: Int[np.ndarray, " n_reference"]
    height: Float[np.ndarray, " n_reference"]


@dataclass(frozen=True, slots=True)
class Rises:
    """How much likelier fine-tuning made whole answers, in nats: log p(y | x) - log p_base(y | x).

    answer: of the query. references: of each reference. rows: of each training row, as `Index.rises` gives them; NaN
    for one that was not measured: it counts among the rows that are tested, and cannot be named. standing:
    what stands out for each reference, as `rows_standing_out` says; None: references are compared by their rises, all
    of them.
    """

    answer: float
    references: Float[np.ndarray, " n_reference"]
    rows: Float[np.ndarray, " n_train"]
    standing: Standing | None = None


@dataclass(frozen=True, slots=True)
class Calibrated:
    """p- and q-values of every row, and the rows named at the false discovery rate, best score first.

    p[t] <= fdr is not enough to be named: q[t] <= fdr is. `p_answer` is the chance that an ordinary answer is as much
    out of the ordinary; None where no rises were given. q is never below it.
    """

    p: PValues
    q: PValues
    named: Int[np.ndarray, " n_named"]
    p_answer: float | None
    fdr: float
    way: str
    n_compared: int = 0
    """References that the answer was compared with; without rises 0."""
    n_rows_alone: int = 0
    """Rows that would be named whatever the answer."""
    by_rows: bool = False
    """Whether answers were compared by the scores of the rows that stand out, not by their rises."""

    @property
    def too_few(self) -> bool:
        """Whether so few references remain that even the highest rise among them would not pass."""
        return self.p_answer is not None and 1 / (1 + self.n_compared) > self.fdr

    @property
    def text(self) -> str:
        """The verdict as a sentence."""
        n, rate = len(self.named), f"false discovery rate {100 * self.fdr:g}%"
        if n:
            return f"{n} row{'s stand' if n > 1 else ' stands'} out ({rate})"
        if self.too_few:
            needed = math.ceil(1 / self.fdr) - 1
            return (
                f"no verdict, ranks only: this answer can be compared with {self.n_compared} reference answers, "
                f"{needed} are needed for a {rate}"
            )
        if self.by_rows and self.n_rows_alone and self.p_answer is not None:
            return (
                f"no confident cause in this data: {self.n_rows_alone} rows score high, but no higher than others do "
                f"for {100 * self.p_answer:.0f}% of ordinary answers, which fine-tuning taught as well"
            )
        if self.p_answer is not None and self.p_answer > self.fdr and not self.by_rows:
            return "no confident cause in this data: fine-tuning did not make this answer likelier than ordinary ones"
        return f"no confident cause in this data: no row stands out ({rate})"


def calibrate(
    scores: PValues, references: References, rises: Rises | None = None, *, fdr: float = 0.05, way: str = DEFAULT_WAY
) -> Calibrated:
    """p- and q-values of one query's rows, and which rows are named.

    taught = {t: p_row[t] <= TAUGHT},  p_row[t] = min(1, exp(-rise of row t)),
    p[t] = p_score[t] for taught rows, or 1 where s[t] < NEAR (mean of the twenty largest s) and behind a `GAP`; 1 for
    the others,
    q = max(Benjamini-Hochberg(p over the taught rows), p_answer),  named = {t: q[t] <= fdr}.

    exp(-rise) bounds the chance that an answer drawn from the base model is made so much likelier (Markov:
    E_base[p / p_base] <= 1). Rows are set aside by it before scores are tested: independent filtering (Bourgon,
    Gentleman and Huber 2010, PNAS 107), which keeps the rate where an innocent row's p_score does not depend on its
    rise. A score that is multiplied by a share of the row's own, as rept-contrast's, has the same z against references
    that are multiplied alike. Without rises both are left out, and the p-values are those of the scores alone.

    Raises:
        InputError: an unknown way, fdr outside (0, 1), shapes that do not fit, too few rows or references.
        NonFiniteError: a score or rise that is NaN or infinite.
    """
    _check(scores, references, rises, fdr, way)
    p_rows = np.zeros(len(scores)) if rises is None else _no_rise(rises.rows)
    values = np.asarray(scores, dtype=np.float64)
    p, q = _tested(values, references, p_rows, fdr, way)
    p_answer, n_compared, n_alone, by_rows = None, 0, int((q <= fdr).sum()), False
    if rises is not None:
        kept = unsuspected(references, q <= fdr)
        by_rows = rises.standing is not None and mostly_taught(rises)
        if rises.standing is not None and not by_rows:
            kept &= rises.standing.number < 2
        n_compared = int(kept.sum())
        if rises.standing is not None and by_rows:
            p_answer = max(_no_rise_of(rises.answer), _conformal(_height(values, q, fdr), rises.standing.height[kept]))
        else:
            p_answer = rise_p_value(rises.answer, rises.references[kept])
        q = np.maximum(q, p_answer)
    named = np.flatnonzero(q <= fdr)
    ordered = named[np.argsort(-values[named], kind="stable")]
    return Calibrated(p, q, ordered, p_answer, fdr, way, n_compared, n_alone, by_rows)


def mostly_taught(rises: Rises) -> bool:
    """Whether fine-tuning taught more than half of the references' answers: exp(-rise) <= TAUGHT.

    A matter of the model and its references alone, so that a query cannot choose its own test.
    """
    return bool((_no_rise(rises.references) <= TAUGHT).mean() > 0.5)


def rows_standing_out(references: References, rises: Rises, *, fdr: float = 0.05, way: str = DEFAULT_WAY) -> Standing:
    """Which rows beside its own would be named for each reference's answer; none where fine-tuning did not teach it.

    Two or more are a cause of its own. Where many rows teach faults, many prompts show one, and by their rises each
    fault would pass for ordinary beside the others. rises: as for `calibrate`; its answer is not looked at.
    """
    p_rows, taught = _no_rise(rises.rows), _no_rise(rises.references) <= TAUGHT
    number, height = np.zeros(len(references), dtype=np.int64), np.full(len(references), -np.inf)
    for r in np.flatnonzero(taught):
        scores = np.array(references.scores[r], dtype=np.float64)
        own = references.own[r]
        others = np.delete(scores, own) if own >= 0 else scores
        if own >= 0:
            scores[own] = others.min()
        _, q = _tested(scores, references, p_rows, fdr, way)
        number[r], height[r] = int((q <= fdr).sum()), _height(scores, q, fdr)
    return Standing(number, height)


def _height(scores: PValues, q: PValues, fdr: float) -> float:
    """Mean score of the rows that stand out.

    Their number would be no measure: in a large set many rows teach one kind of ordinary answer, and few a rare fault.
    """
    return float(scores[q <= fdr].mean()) if (q <= fdr).any() else -math.inf


def _tested(scores: PValues, references: References, p_rows: PValues, fdr: float, way: str) -> tuple[PValues, PValues]:
    """p and q of the taught rows' scores; 1 for a row far behind the best, and for rows that were not taught."""
    p = WAYS[way](scores, references, p_rows, fdr)
    height = np.sort(scores)[-LEADERS:].mean()
    p = np.where((p_rows <= TAUGHT) & (scores >= NEAR * height), p, 1.0)
    q = q_values(p, p_rows)
    behind = scores < _edge(scores[q <= fdr], GAP * abs(height))
    if behind.any():
        p = np.where(behind, 1.0, p)
        q = q_values(p, p_rows)
    return p, q


def _edge(scores: PValues, least: float) -> float:
    """Lowest score before the widest gap behind the twenty best; -inf where no gap is as wide as `least`."""
    ordered = np.sort(scores)[::-1]
    gaps = ordered[LEADERS - 1 : -1] - ordered[LEADERS:]
    if not len(gaps) or gaps.max() < least:
        return -math.inf
    return float(ordered[LEADERS - 1 + int(gaps.argmax())])


def rise_p_value(rise: float, references: Float[np.ndarray, " n_reference"]) -> float:
    """Chance of such a rise for an answer that fine-tuning did not teach more than it taught the references'.

    max(min(1, exp(-rise)), (1 + #{r: references[r] >= rise}) / (1 + n_reference))
    """
    return max(_no_rise_of(rise), _conformal(rise, references))


def verdict(calibrated: Calibrated, ids: Sequence[str]) -> Verdict:
    """The verdict for a result; ids[t] is row t's."""
    way = "" if calibrated.too_few else calibrated.way
    return Verdict(tuple(ids[t] for t in calibrated.named), calibrated.fdr, calibrated.text, way)


def uncalibrated(n_rows: int, n_references: int, *, has_base: bool, fdr: float = 0.05) -> Verdict | None:
    """The verdict that says why there is none, with method ""; None where there is enough to calibrate with."""
    if n_rows < MIN_ROWS:
        why = f"{n_rows} rows are too few to tell what stands out, {MIN_ROWS} are needed"
    elif n_references < MIN_REFERENCES:
        why = f"{n_references} reference queries are too few to calibrate with, {MIN_REFERENCES} are needed"
    elif not has_base:
        why = "what fine-tuning taught cannot be told without the base model"
    else:
        return None
    return Verdict((), fdr, f"no verdict, ranks only: {why}", "")


def columns_of(
    own_rows: Int[np.ndarray, " n_reference"], rows: Int[np.ndarray, " n_train"]
) -> Int[np.ndarray, " n_reference"]:
    """Column of each reference's own row among `rows` (ascending, as `ScoreMatrix.rows`); -1 where it is not there."""
    places = np.minimum(np.searchsorted(rows, own_rows), len(rows) - 1)
    return np.where(rows[places] == own_rows, places, -1)


def _conformal(value: float, references: np.ndarray) -> float:
    return (1 + int((references >= value).sum())) / (1 + len(references))


def _no_rise_of(rise: float) -> float:
    return float(_no_rise(np.array([rise]))[0])


def _no_rise(rises: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    return np.asarray(np.exp(-np.maximum(rises, 0.0)))


def _check(scores: PValues, references: References, rises: Rises | None, fdr: float, way: str) -> None:
    if way not in WAYS:
        raise InputError(f"There is no way {way!r} to calibrate.", f"Ways: {', '.join(WAYS)}.", "Choose one of these.")
    if not 0 < fdr < 1:
        raise InputError(f"A false discovery rate of {fdr}", "expected a share between 0 and 1", "Give --fdr 0.05.")
    n_rows, n_references = len(scores), len(references)
    sizes = {n_rows, references.scores.shape[1]} | (set() if rises is None else {len(rises.rows)})
    if len(sizes) > 1 or (rises is not None and len(rises.references) != n_references):
        raise InputError(f"Scores, references and rises are of {sizes} rows.", "Expected the same rows everywhere.")
    lacking = uncalibrated(n_rows, n_references, has_base=True)
    if lacking is not None:
        raise InputError(lacking.text, "Enough of both to calibrate with.", "Give more rows or references.")
    check_finite(scores, "the query's scores")
    if rises is not None:
        check_finite(np.array([rises.answer]), "the answer's rise")
        check_finite(rises.references, "the references' rises")
        check_finite(rises.rows[~np.isnan(rises.rows)], "the rows' rises")
