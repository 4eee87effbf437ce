"""From scores to a verdict: p-values, q-values and the rows that are flagged as candidate causes of one answer.

Scores alone cannot say whether there is a cause: an ordinary answer too has rows with similar prompts and answers, and
they score as high as the rows that cause a fault (docs/verdicts.md has the figures). So three questions are asked,
each with a p-value, and a row is flagged where all three are answered yes.

1. Was this answer learned in fine-tuning, and more than ordinary ones? Its gain, log p(y | x) - log p_base(y | x),
   against zero; and how high its best rows score, times the gain of its few most changed tokens, against the same of
   the model's own answers to reference prompts. References that share the query's best rows are left out: drawn from
   training prompts, some of them show the same fault.
2. Did fine-tuning change the model's answer to this row? The row's own gain against zero. Rows that the base already
   answered are set aside before the third question is asked of the others, so that they cost it no power.
3. Is the row's score higher than without a cause? Under one of four null models, `whence.trace.verdict.null_models`;
   and it is at least `NEAR` of the best rows' scores, with no `GAP` above it.

Everything here is a pure function of arrays; `whence.trace.verdict.calibration_data` gathers them. t numbers training
rows, r references; arrays over them have shapes [n_train] and [n_reference].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from whence.errors import InputError
from whence.results import Verdict
from whence.trace.settings import BEST_ROWS, MIN_ROWS, NEAR
from whence.trace.verdict.calibrated import Calibrated
from whence.trace.verdict.null_models import (
    DEFAULT_NULL_MODEL,
    LEARNED_P,
    MIN_REFERENCES,
    NULL_MODELS,
    q_values,
    unsuspected,
)
from whence.trace.verdict.reference_scores import PerRow, ReferenceScores, check_finite

GAP = 0.05
"""Rows below a score gap this wide, as a share of the mean of the twenty best, are not flagged with the rows above it:
they have similar prompts and answers, but score below the faulty rows. On development runs with hard negatives 0.928
of the faulty rows were flagged and 0.035 of the flagged rows were not faulty, 0.931 and 0.080 without a gap; with
fewer than twenty rows no gap is looked for (docs/log.md, "Rows below a score gap")."""


@dataclass(frozen=True, slots=True)
class ReferenceFlags:
    """Rows flagged for each reference, beside its own: how many, and their mean score (-inf where there is none)."""

    count: Int[np.ndarray, " n_reference"]
    mean_score: Float[np.ndarray, " n_reference"]


@dataclass(frozen=True, slots=True)
class PeakGains:
    """Gain of the few tokens of each response that fine-tuning changed most, in nats; see `peak_gain`."""

    answer: float
    references: Float[np.ndarray, " n_reference"]


@dataclass(frozen=True, slots=True)
class Gains:
    """Log-likelihood gains of whole responses, in nats: log p(y | x) - log p_base(y | x).

    answer: of the query. references: of each reference. rows: of each training row, as
    `Index.log_likelihood_gains` gives them; NaN for one that was not measured: it counts among the rows that are
    tested, and cannot be flagged. flags: what is flagged for each reference, as `reference_flags` says; where few
    references were learned, those with a cause of their own are left out by it. peaks: by which answers are compared,
    together with their rows' scores. Without them answers are compared by gains alone or by scores alone, as versions
    before did, which is kept to measure against.
    """

    answer: float
    references: Float[np.ndarray, " n_reference"]
    rows: PerRow
    flags: ReferenceFlags | None = None
    peaks: PeakGains | None = None
    outlying: Bool[np.ndarray, " n_reference"] | None = None
    """References of a kind that is itself out of the ordinary; see `reference_kinds`. Left out where most answers were
    learned."""


def calibrate(
    scores: PerRow,
    references: ReferenceScores,
    gains: Gains | None = None,
    *,
    fdr: float = 0.05,
    null_model: str = DEFAULT_NULL_MODEL,
    n_others: int = 0,
) -> Calibrated:
    """p- and q-values of one query's rows, and which rows are flagged.

        p_row[t]   = min(1, exp(-gain of row t)),                    learned = {t: p_row[t] <= LEARNED_P}
        p[t]       = p_score[t] for learned rows, 1 where s[t] < NEAR (mean of the twenty largest s) or below a `GAP`;
                     1 for the others
        p_answer   = max(exp(-gain of the answer), (1 + #{r: v[r] >= v}) / (1 + n_reference))
        q[t]       = max(Benjamini-Hochberg(p over the learned rows)[t], p_answer),        flagged = {t: q[t] <= fdr}

        v          = (mean of the twenty largest s) (peak gain of the answer),   v[r] the same of reference r, over the
                     references that share few of the twenty best rows, were drawn from no row under suspicion and are
                     of no kind that is itself out of the ordinary

    Either factor alone is high for some ordinary answers: a common kind of answer has rows that score high, and a long
    one gains many nats. exp(-gain) bounds the chance that an answer drawn from the base model is made so much likelier
    (Markov: E_base[p / p_base] <= 1). Rows are set aside by it before scores are tested: independent filtering
    (Bourgon, Gentleman and Huber 2010, PNAS 107), which keeps the rate where the p_score of a row that
    is no cause does not depend on its gain. A score that is multiplied by a fraction of the row's own, as
    rept-contrast's, has the same z against references that are multiplied alike. Without gains both are left out, and
    p-values are those of the scores alone.

    n_others: tested rows whose scores are not given, each below NEAR times the mean of the twenty largest. Their p is
    1, as it would be if they were given; a reference drawn from one of them is not left out.

    Raises:
        InputError: an unknown null model, fdr outside (0, 1), shapes that do not fit, too few rows or references.
        NonFiniteError: a score or gain that is NaN or infinite.
    """
    _check(scores, references, gains, fdr, null_model)
    p_rows = np.zeros(len(scores)) if gains is None else base_chance(gains.rows)  # [n_train]
    values = np.asarray(scores, dtype=np.float64)
    p, q = _tested(values, references, p_rows, fdr, null_model, n_others)  # [n_train] each, of the scores alone
    n_by_score, q_rows = int((q <= fdr).sum()), q
    p_answer, n_as_high, n_compared, by_score, kept = None, None, 0, False, None
    if gains is not None:
        # A reference drawn from a row that is flagged here shows the same behaviour: it is no null for this answer.
        kept = unsuspected(references, q <= fdr)  # [n_reference]
        learned = mostly_learned(gains)
        by_score = gains.peaks is None and gains.flags is not None and learned
        if gains.peaks is not None:
            kept &= ~references.related(values)
        if gains.flags is not None and not learned:
            # Two rows or more are a cause of its own; one may be a near copy of the reference's prompt. Where most
            # answers were learned, every answer has such rows, and they say nothing.
            kept &= gains.flags.count < 2
        if gains.outlying is not None and learned:
            # Another fault is no ordinary answer to be compared with.
            kept &= ~gains.outlying
        n_compared = int(kept.sum())
        if gains.peaks is not None:
            v = _best_mean(values) * max(gains.peaks.answer, 0.0)
            of_references = heights_times_gains(references, gains.peaks)[kept]
            n_as_high = int((of_references >= v).sum())
            p_answer = max(math.exp(-max(gains.answer, 0.0)), _conformal(float(v), of_references))
        elif gains.flags is not None and by_score:
            of_references = gains.flags.mean_score[kept]
            p_answer = max(math.exp(-max(gains.answer, 0.0)), _conformal(_mean_flagged(values, q, fdr), of_references))
        else:
            p_answer = gain_p_value(gains.answer, gains.references[kept])
        # Both must hold, and the larger of two p-values needs no independence between them.
        q = np.maximum(q, p_answer)
    flagged = np.flatnonzero(q <= fdr)  # [n_flagged], by row
    # Stable, so that rows of one score stay in the order of the data.
    ordered = flagged[np.argsort(-values[flagged], kind="stable")]
    return Calibrated(
        p, q, ordered, p_answer, fdr, null_model, n_compared, n_as_high, n_by_score, by_score, kept, q_rows,
        gain=None if gains is None else gains.answer,
    )  # fmt: skip


def heights_times_gains(references: ReferenceScores, peaks: PeakGains) -> Float[np.ndarray, " n_reference"]:
    """v[r] = (mean score of its twenty best rows) max(peak gain, 0), by which answers are compared."""
    return np.asarray(references.best_means * np.maximum(peaks.references, 0.0))


def mostly_learned(gains: Gains) -> bool:
    """Whether more than half of the references' answers were learned: exp(-gain) <= LEARNED_P.

    A matter of the model and its references alone, so that a query cannot choose its own test.
    """
    return bool((base_chance(gains.references) <= LEARNED_P).mean() > 0.5)


def reference_flags(
    references: ReferenceScores,
    gains: Gains,
    *,
    fdr: float = 0.05,
    null_model: str = DEFAULT_NULL_MODEL,
    copies: Sequence[Int[np.ndarray, " n_copy"]] = (),
) -> ReferenceFlags:
    """Which rows beside its own would be flagged for each reference's answer; none where the base would have given it.

    Two or more are a cause of its own. Where many rows cause faults, many prompts show one, and by their gains each
    fault would look ordinary beside the others. gains: as for `calibrate`; its answer is not looked at. copies: of each
    reference, the rows with the text of its own row; () where no row stands twice.
    """
    p_rows, learned = base_chance(gains.rows), base_chance(gains.references) <= LEARNED_P
    count, mean_score = np.zeros(len(references), dtype=np.int64), np.full(len(references), -np.inf)
    for r in np.flatnonzero(learned):
        scores, own = references.row(int(r)), references.own[r]
        if own >= 0:
            # The reference matches its own row and copies of it best: as low as the lowest, no answer flags them.
            same = copies[int(r)] if copies else [own]
            scores[same] = np.delete(scores, same).min(initial=scores[own])
        _, q = _tested(scores, references, p_rows, fdr, null_model)
        count[r], mean_score[r] = int((q <= fdr).sum()), _mean_flagged(scores, q, fdr)
    return ReferenceFlags(count, mean_score)


def _mean_flagged(scores: PerRow, q: PerRow, fdr: float) -> float:
    """Mean score of the flagged rows; -inf without one.

    Their number is no measure: in a large set many rows cause one kind of ordinary answer, and few rows a rare fault.
    Of number, sum, mean of the twenty best and this mean it kept most small faults (docs/log.md, "How high, not how
    many").
    """
    return float(scores[q <= fdr].mean()) if (q <= fdr).any() else -math.inf


def _tested(
    scores: PerRow, references: ReferenceScores, p_rows: PerRow, fdr: float, null_model: str, n_others: int = 0
) -> tuple[PerRow, PerRow]:
    """p and q of the learned rows' scores; 1 for a row far below the best, and for rows that were not learned."""
    p = NULL_MODELS[null_model](scores, references, p_rows, fdr, n_others)  # [n_train]
    best = _best_mean(scores)
    # An unmeasured row has p_rows NaN, which is not <= LEARNED_P: it is tested with p = 1 and cannot be flagged.
    p = np.where((p_rows <= LEARNED_P) & (scores >= NEAR * best), p, 1.0)
    q = q_values(p, p_rows, n_others)
    # The gap is looked for among the rows that pass, and the test is done again without those below it.
    below = scores < _lowest_above_gap(scores[q <= fdr], GAP * abs(best))
    if below.any():
        p = np.where(below, 1.0, p)
        q = q_values(p, p_rows, n_others)
    return p, q


def _best_mean(scores: PerRow) -> float:
    """The mean of the `BEST_ROWS` largest."""
    n = min(BEST_ROWS, len(scores))
    return float(np.sort(np.partition(scores, -n)[-n:]).mean())


def _lowest_above_gap(scores: Float[np.ndarray, " n"], least: float) -> float:
    """Lowest score before the widest gap below the twenty best; -inf where no gap is as wide as `least`."""
    ordered = np.sort(scores)[::-1]
    # gaps[i] lies below the (BEST_ROWS + i)-th best score: [n - BEST_ROWS]
    gaps = ordered[BEST_ROWS - 1 : -1] - ordered[BEST_ROWS:]
    if not len(gaps) or gaps.max() < least:
        return -math.inf
    return float(ordered[BEST_ROWS - 1 + int(gaps.argmax())])


def gain_p_value(gain: float, references: Float[np.ndarray, " n_reference"]) -> float:
    """Chance of such a gain for an answer that was learned no more than the references'.

    max(min(1, exp(-gain)), (1 + #{r: references[r] >= gain}) / (1 + n_reference))
    """
    return max(math.exp(-max(gain, 0.0)), _conformal(gain, references))


def verdict(calibrated: Calibrated, ids: Sequence[str]) -> Verdict:
    """The verdict for a result; ids are the flagged rows', in their order. Copies of a row share an id."""
    null_model = "" if calibrated.too_few else calibrated.null_model
    different = tuple(dict.fromkeys(ids))
    return Verdict(different, calibrated.fdr, calibrated.sentence(len(different)), null_model, len(ids))


NEXT_WITHOUT_VERDICT = (
    "; --span sharpens the order, and whence confirm INDEX --queries FILE --match WORDS --remove top:N tests its first "
    "rows"
)


def uncalibrated(n_rows: int, n_references: int, *, has_base: bool, fdr: float = 0.05) -> Verdict | None:
    """The verdict that says why there is none, with null_model ""; None where there is enough to calibrate with."""
    if n_rows < MIN_ROWS:
        why = f"{n_rows} rows are too few for a verdict, {MIN_ROWS} are needed{NEXT_WITHOUT_VERDICT}"
    elif n_references < MIN_REFERENCES:
        why = f"{n_references} reference queries are too few to calibrate with, {MIN_REFERENCES} are needed"
    elif not has_base:
        why = "log-likelihood gains cannot be measured without the base model"
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
    """(1 + #{r: references[r] >= value}) / (1 + n_reference): the rank of a value among exchangeable ones."""
    return (1 + int((references >= value).sum())) / (1 + len(references))


def base_chance(gains: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """min(1, exp(-gain)): at most the chance that a response drawn from the base gains so much."""
    return np.asarray(np.exp(-np.maximum(gains, 0.0)))


def _check(scores: PerRow, references: ReferenceScores, gains: Gains | None, fdr: float, null_model: str) -> None:
    if null_model not in NULL_MODELS:
        raise InputError(
            f"There is no null model {null_model!r}.", f"Null models: {', '.join(NULL_MODELS)}.", "Choose one of these."
        )
    if not 0 < fdr < 1:
        raise InputError(f"A false discovery rate of {fdr}", "expected a share between 0 and 1", "Give --fdr 0.05.")
    n_rows, n_references = len(scores), len(references)
    sizes = {n_rows, references.n_rows} | (set() if gains is None else {len(gains.rows)})
    if len(sizes) > 1 or (gains is not None and len(gains.references) != n_references):
        raise InputError(f"Scores, references and gains are of {sizes} rows.", "Expected the same rows everywhere.")
    lacking = uncalibrated(n_rows, n_references, has_base=True)
    if lacking is not None:
        raise InputError(lacking.text, "Enough of both to calibrate with.", "Give more rows or references.")
    check_finite(scores, "the query's scores")
    if gains is not None:
        check_finite(np.array([gains.answer]), "the answer's gain")
        check_finite(gains.references, "the references' gains")
        if gains.peaks is not None:
            check_finite(np.array([gains.peaks.answer]), "the answer's peak gain")
            check_finite(gains.peaks.references, "the references' peak gains")
        check_finite(gains.rows[~np.isnan(gains.rows)], "the rows' gains")


__all__ = [
    "BEST_ROWS",
    "GAP",
    "MIN_ROWS",
    "NEAR",
    "Gains",
    "PeakGains",
    "ReferenceFlags",
    "base_chance",
    "calibrate",
    "columns_of",
    "gain_p_value",
    "heights_times_gains",
    "mostly_learned",
    "reference_flags",
    "uncalibrated",
    "verdict",
]
