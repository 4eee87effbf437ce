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
3. Does the row's score stand out? One of four ways, `WAYS`; and it is no less than `NEAR` of the best rows'.

Everything here is a pure function of arrays; `whence.trace.references` gathers them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np
from jaxtyping import Float, Int

from whence.errors import InputError, NonFiniteError
from whence.results import Verdict

PValues = Float[np.ndarray, " n_train"]

MIN_ROWS = 100
"""Below it the median and spread of a query's scores are those of a handful of rows."""
MIN_REFERENCES = 40
"""A conformal p-value of 5% needs 19 references; some are left out because their own row is under suspicion."""
TAUGHT = 0.05
"""A row is tested if an answer drawn from the base would be made so much likelier with at most this chance."""
NEAR, LEADERS = 0.7, 20
"""A row that scores less than this share of the mean of the twenty best is not named beside them: innocent rows that
share the query's words stand out from all others too, by less. Chosen on development runs (docs/log.md)."""
MAD_TO_SD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


@dataclass(frozen=True)
class References:
    """What reference queries score on the same rows: scores[r, t] of reference r and row t.

    own[r] is the column of the training row whose prompt reference r is, or -1. That cell is left out everywhere: a row
    matches itself, which says nothing about other rows.
    """

    scores: Float[np.ndarray, "n_reference n_train"]
    own: Int[np.ndarray, " n_reference"]

    def __post_init__(self) -> None:
        if len(self.own) != len(self.scores):
            raise InputError(f"{len(self.own)} own rows for {len(self.scores)} references.", "One each; -1 for none.")
        _check_finite(self.scores, "the references' scores")

    def __len__(self) -> int:
        return len(self.scores)

    @cached_property
    def others(self) -> Float[np.ndarray, "n_reference n_train"]:
        """The scores with NaN in each reference's own row."""
        found = np.array(self.scores, dtype=np.float64)
        drawn = np.flatnonzero(self.own >= 0)
        found[drawn, self.own[drawn]] = np.nan
        return found

    @cached_property
    def bulk(self) -> tuple[Float[np.ndarray, " n_train"], Float[np.ndarray, " n_train"]]:
        """Median and robust standard deviation of each row over the references."""
        middle = np.nanmedian(self.others, axis=0)
        return middle, MAD_TO_SD * np.nanmedian(np.abs(self.others - middle), axis=0)

    @cached_property
    def best(self) -> Float[np.ndarray, " n_reference"]:
        """The score of each reference's best row, ascending."""
        return np.sort(np.nanmax(self.others, axis=1))

    @cached_property
    def tail(self) -> Float[np.ndarray, " n"]:
        """Robust z of every score over the rows of its reference, ascending."""
        z = _over_rows(self.others).ravel()
        return np.sort(z[~np.isnan(z)])


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


Way = Callable[[PValues, References, PValues, float], PValues]
"""(scores of the query, references, p-values of the rows' rises, fdr) -> p-values of the scores."""


def robust_z(scores: PValues, references: References, p_rows: PValues, fdr: float) -> PValues:
    """p[t] = 1 - Phi((s[t] - median s) / (1.4826 MAD s)), over the rows of the query alone."""
    return _normal_tail(_over_rows(scores))


def reference_z(scores: PValues, references: References, p_rows: PValues, fdr: float) -> PValues:
    """Each row against what benign references score on it, so that a row near everything counts for nothing.

    p[t] = 1 - Phi((s[t] - mean_r R[r, t]) / sd_r R[r, t]), over the references that are not suspects. A first pass with
    median and MAD, which bear suspects among the references, finds the rows under suspicion; a reference drawn from
    such a row shows the same behaviour as the query and cannot vouch for it.
    """
    middle, spread = references.bulk
    suspects = _q_values(_normal_tail(_ratio(scores - middle, spread)), p_rows) <= fdr
    kept = _unsuspected(references, suspects)
    others = references.others[kept if kept.sum() >= MIN_REFERENCES // 2 else slice(None)]
    return _normal_tail(_ratio(scores - np.nanmean(others, axis=0), np.nanstd(others, axis=0)))


def empirical_null(scores: PValues, references: References, p_rows: PValues, fdr: float) -> PValues:
    """Location and scale from the middle of the query's scores, the tail from the references' scores, taken alike.

    p[t] = (1 + #{(r, u): z[r, u] >= z[t]}) / (1 + #(r, u)), z over the rows of each query as in `robust_z`. Heavy tails
    of benign queries are in the null.

    Source: Efron 2004 (JASA 99), the empirical null. Different: its tail is not normal but what references show.
    """
    return _share_above(references.tail, _over_rows(scores))


def conformal(scores: PValues, references: References, p_rows: PValues, fdr: float) -> PValues:
    """p[t] = (1 + #{r: max_u R[r, u] >= s[t]}) / (1 + n_reference): is it more than a benign query's best row?

    Source: Vovk, Gammerman and Shafer 2005, with the references as calibration set.
    """
    return _share_above(references.best, scores)


WAYS: Mapping[str, Way] = MappingProxyType(
    {
        "robust-z": robust_z,
        "reference-z": reference_z,
        "empirical-null": empirical_null,
        "conformal": conformal,
    }
)
DEFAULT_WAY = "reference-z"
"""The best by measurement: docs/verdicts.md."""


def calibrate(
    scores: PValues, references: References, rises: Rises | None = None, *, fdr: float = 0.05, way: str = DEFAULT_WAY
) -> Calibrated:
    """p- and q-values of one query's rows, and which rows are named.

    taught = {t: p_row[t] <= TAUGHT},  p_row[t] = min(1, exp(-rise of row t)),
    p[t] = p_score[t] for taught rows, or 1 where s[t] < NEAR (mean of the twenty largest s); 1 for the others,
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
        kept = _unsuspected(references, q <= fdr)
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
    least = NEAR * np.sort(scores)[-LEADERS:].mean()
    p = np.where((p_rows <= TAUGHT) & (scores >= least), p, 1.0)
    return p, _q_values(p, p_rows)


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


def _unsuspected(references: References, suspects: np.ndarray) -> np.ndarray:
    """Which references were not drawn from a row under suspicion."""
    return np.asarray((references.own < 0) | ~suspects[references.own])


def _share_above(null: Float[np.ndarray, " n"], values: np.ndarray) -> PValues:
    """(1 + #{null >= value}) / (1 + n) of each value; `null` is ascending."""
    above = len(null) - np.searchsorted(null, values, side="left")
    return np.asarray((1 + above) / (1 + len(null)))


def _conformal(value: float, references: np.ndarray) -> float:
    return (1 + int((references >= value).sum())) / (1 + len(references))


def _no_rise_of(rise: float) -> float:
    return float(_no_rise(np.array([rise]))[0])


def _no_rise(rises: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    return np.asarray(np.exp(-np.maximum(rises, 0.0)))


def _over_rows(scores: np.ndarray) -> np.ndarray:
    """Robust z over the last axis."""
    middle = np.nanmedian(scores, axis=-1, keepdims=True)
    return _ratio(scores - middle, MAD_TO_SD * np.nanmedian(np.abs(scores - middle), axis=-1, keepdims=True))


def _ratio(above: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """above / spread; 0 where nothing spreads, since then nothing can be said to stand out."""
    spread = np.broadcast_to(spread, above.shape)
    return np.asarray(np.divide(above, spread, out=np.zeros_like(above), where=~(spread <= 0)))


def _normal_tail(z: np.ndarray) -> PValues:
    from scipy.stats import norm

    return np.asarray(norm.sf(z))


def _q_values(p: PValues, p_rows: PValues) -> PValues:
    """Benjamini-Hochberg over the taught rows and those of which it is not known; 1 for the others."""
    from scipy.stats import false_discovery_control

    unknown = np.isnan(p_rows)
    tested = unknown | (p_rows <= TAUGHT)
    q = np.ones(len(p))
    if tested.any():
        q[tested] = false_discovery_control(np.where(unknown, 1.0, p)[tested])
    return q


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
    _check_finite(scores, "the query's scores")
    if rises is not None:
        _check_finite(np.array([rises.answer]), "the answer's rise")
        _check_finite(rises.references, "the references' rises")
        _check_finite(rises.rows[~np.isnan(rises.rows)], "the rows' rises")


def _check_finite(values: np.ndarray, what: str) -> None:
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        raise NonFiniteError(
            f"{len(bad)} of {what} are NaN or infinite, the first at {bad[0].tolist()}.", "Every value must be finite."
        )
