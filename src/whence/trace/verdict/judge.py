"""Verdicts and confounds of ranked queries: calibration put to work on an index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from whence.index import Index, Match, ScoreMatrix
from whence.progress import Progress
from whence.results import Approximate, Comparison, Explained, Verdict
from whence.trace.rank.ranking import RankedBatch
from whence.trace.settings import TraceSettings
from whence.trace.verdict.calibrated import Calibrated
from whence.trace.verdict.calibration import (
    BEST_ROWS,
    Gains,
    PeakGains,
    ReferenceFlags,
    base_chance,
    calibrate,
    heights_times_gains,
    mostly_learned,
    reference_flags,
    uncalibrated,
    verdict,
)
from whence.trace.verdict.calibration_data import CalibrationData
from whence.trace.verdict.confounds import Confound, sentence
from whence.trace.verdict.explained_gain import explained
from whence.trace.verdict.null_models import LEARNED_P, MIN_REFERENCES
from whence.trace.verdict.reference_kinds import outlying
from whence.trace.verdict.reference_scores import ReferenceScores
from whence.trace.verdict.references import ReferenceSet
from whence.trace.verdict.row_table import MOST_RECORDS, RowTable

SHOWN_SCORES = 200
"""Of the rows with the highest scores, for a picture; the flagged ones are among them unless they are many."""


@dataclass(frozen=True, slots=True)
class QueryVerdict:
    """What is said of one query: its verdict, and of each row of its ranking p and q (by number) and confounds.

    `sentence` is not empty where something simple explains the ranking as well. The rest is for who tests many queries
    together: the answer's own p-value (None without calibration), and of the flagged rows, best first, their number in
    the data, their score, and their q-value without the answer's.
    """

    verdict: Verdict
    p_and_q: Mapping[int, tuple[float, float]]
    confounds: Sequence[Confound]
    sentence: str
    comparison: Comparison | None = None
    explained: Explained | None = None
    p_answer: float | None = None
    rows: Int[np.ndarray, " n_flagged"] | None = None
    scores: Float[np.ndarray, " n_flagged"] | None = None
    q_rows: Float[np.ndarray, " n_flagged"] | None = None
    n_compared: int = 0
    """References that the answer was compared with."""


@dataclass(frozen=True, slots=True)
class _Judged:
    """Rows (numbers, ascending) with each query's scores and the references' on them; the references on every row."""

    rows: Int[np.ndarray, " n_train"]
    scores: Float[np.ndarray, "n_query n_train"]
    references: ReferenceScores
    whole: ReferenceScores
    every: Int[np.ndarray, " n_every"]


def _judged(
    ranked: RankedBatch, matrix: ScoreMatrix, references: ReferenceScores, every: Int[np.ndarray, " n_every"]
) -> _Judged:
    """All rows; or the candidates, and beside them the references' own rows, which are judged too."""
    if ranked.candidates is None:
        return _Judged(matrix.rows, matrix.scores, references, references, every)
    rows = np.union1d(matrix.rows, every[references.own[references.own >= 0]])
    places = np.searchsorted(every, rows)
    return _Judged(rows, ranked.candidates.scores(rows), references.at(places), references, every)


def _of_candidates(said: Verdict, about: Approximate) -> Verdict:
    return replace(said, text=f"{said.text}, from {about.n_candidates:,} candidates of an approximate search")


class Judge:
    """Verdicts and confounds of queries against one index."""

    def __init__(self, index: Index, data: CalibrationData) -> None:
        self._index, self.data = index, data
        self._table: tuple[str | None, RowTable] | None = None
        self._references: tuple[object, ReferenceScores, ReferenceSet] | None = None
        self._outlying: tuple[tuple[bytes, float], Bool[np.ndarray, " n_reference"]] | None = None
        self._flags: tuple[ReferenceScores, tuple[float, bytes], ReferenceFlags] | None = None

    def shows_confounds(self) -> bool:
        """Whether the index is small enough for confounds."""
        return self._index.n_records <= MOST_RECORDS

    def verdicts(self, ranked: RankedBatch, settings: TraceSettings, progress: Progress) -> list[QueryVerdict]:
        """One for each query. p and q are of the form's own scores, whatever stage came after it.

        Where there are too few rows or references, or no base to compare with, the verdict says so and p and q are
        left out.

        Raises:
            NonFiniteError: a query's or a row's value that is NaN or infinite.
        """
        matrix = ranked.scores
        assert matrix is not None, "the ranking kept every row's score"
        confounds, sentences = self._confounds(ranked, settings.where)
        every = matrix.rows if ranked.candidates is None else ranked.candidates.search.rows
        lacking = uncalibrated(len(every), MIN_REFERENCES, has_base=self.data.has_base, fdr=settings.fdr)
        if lacking is None:
            references, answered = self._scored(ranked, every, settings, progress)
            lacking = uncalibrated(len(every), len(references), has_base=True, fdr=settings.fdr)
        if lacking is not None:
            return [QueryVerdict(lacking, {}, *rest) for rest in zip(confounds, sentences, strict=True)]
        judged = _judged(ranked, matrix, references, every)
        calibrated, p_and_q, compared, together, batch = [], [], [], [], ranked.batch
        for number, (scores, answer, peak, matches) in enumerate(
            zip(judged.scores, batch.gains, batch.peak_gains, ranked.matches, strict=True)
        ):
            # scores: [n_train] of one query; matches: its ranking, whose scores reranking may have changed.
            gains, n_others = self._gains(
                judged, scores, answered, (float(answer), float(peak)), settings.fdr, progress
            )
            one = calibrate(scores, judged.references, gains, fdr=settings.fdr, n_others=n_others)
            p_and_q.append(_p_and_q(one, judged.rows, matches))
            assert gains.peaks is not None
            compared.append(
                (_comparison(one, scores, judged.references, gains.peaks), _explained(ranked, number, one, scores))
            )
            # Only the rows of the ranking show p and q: every row's would be 16 bytes times rows times queries.
            assert one.q_rows is not None
            of_flagged = (judged.rows[one.flagged], scores[one.flagged], one.q_rows[one.flagged])
            together.append((one.p_answer, *of_flagged, one.n_compared))
            one = replace(one, of_training_prompts=settings.references is None)
            calibrated.append(replace(one, p=np.empty(0), q=np.empty(0), q_rows=None))
        told = self._told(calibrated, judged.rows)
        if ranked.candidates is not None:
            told = [_of_candidates(said, about) for said, about in zip(told, ranked.candidates.told, strict=True)]
        parts = zip(told, p_and_q, confounds, sentences, compared, together, strict=True)
        return [QueryVerdict(said, pairs, own, why, *beside, *more) for said, pairs, own, why, beside, more in parts]

    def _gains(
        self,
        judged: _Judged,
        scores: Float[np.ndarray, " n_train"],
        answered: ReferenceSet,
        of_answer: tuple[float, float],
        fdr: float,
        progress: Progress,
    ) -> tuple[Gains, int]:
        """The gains that one query's verdict rests on, and how many tested rows there are beside those judged.

        of_answer: the answer's gain and peak gain.
        """
        assert answered.gains is not None, "references are answered where there is a base"
        assert answered.peaks is not None
        of_rows = self.data.row_gains(judged.rows, scores, progress, of=len(judged.every))
        gains = Gains(of_answer[0], answered.gains, of_rows, peaks=PeakGains(of_answer[1], answered.peaks))
        whole, n_others = gains, 0
        if len(judged.rows) < len(judged.every):
            places = np.searchsorted(judged.every, judged.rows)
            of_all = self.data.measured_gains(judged.every)
            of_all[places] = of_rows
            chance = np.delete(base_chance(of_all), places)
            n_others = int((np.isnan(chance) | (chance <= LEARNED_P)).sum())
            whole = replace(gains, rows=of_all)
        if mostly_learned(gains):
            gains = replace(gains, outlying=self._outlying_of(judged.whole, gains.peaks, fdr))
        else:
            gains = replace(gains, flags=self._reference_flags(judged.whole, whole, judged.every, fdr))
        return gains, n_others

    def _outlying_of(
        self, references: ReferenceScores, peaks: PeakGains | None, fdr: float
    ) -> Bool[np.ndarray, " n_reference"]:
        """References of a kind that is out of the ordinary, found once for queries that ask alike."""
        assert peaks is not None
        key = references.best_means.tobytes(), fdr
        if self._outlying is None or self._outlying[0] != key:
            v = heights_times_gains(references, peaks)
            self._outlying = key, outlying(references.best_rows, v, fdr)
        return self._outlying[1]

    def _reference_flags(
        self, references: ReferenceScores, gains: Gains, rows: Int[np.ndarray, " n_every"], fdr: float
    ) -> ReferenceFlags:
        """Rows flagged for each reference, found once for queries that ask alike and know the same gains."""
        # Gains of a large index without its base are known for each query's first rows only, others for each.
        known = np.isnan(gains.rows).tobytes()
        if self._flags is None or self._flags[0] is not references or self._flags[1] != (fdr, known):
            copies = self.data.copies(references.own, rows)
            self._flags = references, (fdr, known), reference_flags(references, gains, fdr=fdr, copies=copies)
        return self._flags[2]

    def _told(self, calibrated: Sequence[Calibrated], rows: Int[np.ndarray, " n_train"]) -> list[Verdict]:
        """The verdicts with the ids of the flagged rows, which are looked up together: each look-up is a scan."""
        flagged = [rows[one.flagged].tolist() for one in calibrated]
        numbers = sorted({row for own in flagged for row in own})
        ids = {row: example.id for row, example in zip(numbers, self._index.examples(numbers), strict=True)}
        return [verdict(one, [ids[row] for row in own]) for one, own in zip(calibrated, flagged, strict=True)]

    def _scored(
        self, ranked: RankedBatch, rows: Int[np.ndarray, " n_train"], settings: TraceSettings, progress: Progress
    ) -> tuple[ReferenceScores, ReferenceSet]:
        """What the references score on these rows, and what they are; held for the next queries that ask alike."""
        form, roles = ranked.form, ranked.roles
        key = (
            form.name,
            form.version,
            roles,
            settings.where,
            settings.references,
            settings.n_references,
            settings.seed,
        )
        # The table is mapped from its file: holding it costs its columns' statistics, five numbers a row.
        if self._references is None or self._references[0] != key:
            found = self.data.references(len(rows), settings, progress)
            scores = self.data.reference_scores(found, rows, ranked.blocks, form, roles, settings.where)
            self._references = key, scores, found
        return self._references[1:]

    def _confounds(self, ranked: RankedBatch, where: str | None) -> tuple[list[Sequence[Confound]], list[str]]:
        """Confounds of each query's ranking, and its sentence; none for an index too large for them."""
        turns = ranked.batch.answers.turns
        if ranked.baseline is None or not any(ranked.matches):
            return [()] * len(turns), [""] * len(turns)
        if self._table is None or self._table[0] != where:
            self._table = where, RowTable(self._index, where)
        table, baseline = self._table[1], ranked.baseline
        confounds: list[Sequence[Confound]] = [
            table.confounds(turn, baseline, query, matches)
            for query, (turn, matches) in enumerate(zip(turns, ranked.matches, strict=True))
        ]
        return confounds, [sentence(one, len(table), method=ranked.form.name) for one in confounds]


def _p_and_q(
    calibrated: Calibrated, rows: Int[np.ndarray, " n_train"], matches: Sequence[Match]
) -> dict[int, tuple[float, float]]:
    """Of the rows of a ranking, by their number in the data."""
    columns = np.searchsorted(rows, [match.row for match in matches])
    return {int(rows[t]): (float(calibrated.p[t]), float(calibrated.q[t])) for t in columns}


def _explained(
    ranked: RankedBatch, number: int, calibrated: Calibrated, scores: Float[np.ndarray, " n_train"]
) -> Explained | None:
    """What the flagged rows account for; None where not every row has a score, or the form is not the one measured."""
    shifts = ranked.batch.shifts
    every = ranked.candidates is None and ranked.blocks.where is None
    if not len(calibrated.flagged) or shifts is None or not every or not ranked.form.by_learned_fraction:
        return None
    return explained(scores, calibrated.flagged, shifts[number])


def _comparison(
    calibrated: Calibrated, scores: Float[np.ndarray, " n_train"], references: ReferenceScores, peaks: PeakGains
) -> Comparison:
    """What a picture of the verdict shows; numbers in four digits."""
    order = np.argsort(-scores, kind="stable")[:SHOWN_SCORES]  # [n_shown], rows by score
    flagged = np.flatnonzero(np.isin(order, calibrated.flagged)) + 1
    kept = calibrated.compared if calibrated.compared is not None else np.zeros(len(references), dtype=bool)
    return Comparison(
        scores=_short(scores[order]),
        flagged_ranks=tuple(flagged.tolist()),
        peak_gain=float(f"{peaks.answer:.4g}"),
        best_score=float(f"{scores[order[:BEST_ROWS]].mean():.4g}"),
        reference_peak_gains=_short(peaks.references[kept]),
        reference_best_scores=_short(references.best_means[kept]),
    )


def _short(values: Float[np.ndarray, " n"]) -> tuple[float, ...]:
    return tuple(float(f"{value:.4g}") for value in values)


__all__ = ["Judge", "QueryVerdict"]
