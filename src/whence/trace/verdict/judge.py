"""Which rows stand out, and what else could explain their rank: calibration and confounds put to work on an index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from whence.data import EncodedTurn
from whence.index import Index, Match, held_layers, score_matrix
from whence.results import Verdict
from whence.scoring import SCORES, FormLayers, ScoreForm
from whence.signatures import Signatures
from whence.trace.settings import Progress, TraceSettings
from whence.trace.verdict.calibration import (
    Calibrated,
    Rises,
    Standing,
    calibrate,
    columns_of,
    rows_standing_out,
    uncalibrated,
)
from whence.trace.verdict.calibration_data import Evidence
from whence.trace.verdict.confounds import Confound, sentence
from whence.trace.verdict.null_models import MIN_REFERENCES, References
from whence.trace.verdict.row_table import MOST_RECORDS, RowTable

REPSIM = SCORES["repsim"]


@dataclass(frozen=True, slots=True)
class Asked:
    """Queries that were searched for together: their turns, signatures by layer, and rankings."""

    turns: Sequence[EncodedTurn]
    signatures: Mapping[int, Signatures]
    matches: Sequence[Sequence[Match]]


@dataclass(frozen=True, slots=True)
class Judged:
    """What is said of one query: its verdict, and of each row of its ranking p and q (by number) and confounds.

    `sentence` is not empty where something simple explains the ranking as well.
    """

    verdict: Verdict
    chances: Mapping[int, tuple[float, float]]
    confounds: Sequence[Confound]
    sentence: str


class Diagnosis:
    """Verdicts and confounds of queries against one index."""

    def __init__(self, index: Index, evidence: Evidence) -> None:
        self._index, self._evidence = index, evidence
        self._table: tuple[str | None, RowTable] | None = None
        self._references: tuple[object, References, Float[np.ndarray, " n_reference"]] | None = None
        self._compared: tuple[References, tuple[float, bytes], Standing] | None = None

    def judge(
        self, asked: Asked, form: ScoreForm, roles: FormLayers, settings: TraceSettings, progress: Progress
    ) -> list[Judged]:
        """One for each query. p and q are of the form's own scores, whatever stage came after it.

        Where there are too few rows or references, or no base to compare with, the verdict says so and p and q are
        left out.

        Raises:
            NonFiniteError: a query's or a row's value that is NaN or infinite.
        """
        matrix = score_matrix(self._index, asked.signatures, method=form, roles=roles, where=settings.where)
        confounds, sentences = self._confounds(asked, form, settings)
        lacking = uncalibrated(len(matrix.rows), MIN_REFERENCES, has_base=self._evidence.has_base, fdr=settings.fdr)
        if lacking is None:
            references, reference_rises = self._scored(matrix.rows, form, roles, settings, progress)
            lacking = uncalibrated(len(matrix.rows), len(references), has_base=True, fdr=settings.fdr)
        if lacking is not None:
            return [Judged(lacking, {}, *rest) for rest in zip(confounds, sentences, strict=True)]
        found = []
        answers = self._evidence.rises(asked.turns)
        for query, scores in enumerate(matrix.scores):
            row_rises = self._evidence.row_rises(matrix.rows, scores, progress)
            known = Rises(float(answers[query]), reference_rises, row_rises)
            known = replace(known, standing=self._standing(references, known, settings.fdr))
            calibrated = calibrate(scores, references, known, fdr=settings.fdr)
            chances = _chances(calibrated, matrix.rows, asked.matches[query])
            found.append(Judged(self._verdict(calibrated, matrix.rows), chances, confounds[query], sentences[query]))
        return found

    def _standing(self, references: References, rises: Rises, fdr: float) -> Standing:
        """Rows that stand out for each reference, found once for queries that ask alike and know the same rises."""
        known = np.isnan(rises.rows).tobytes()
        if self._compared is None or self._compared[0] is not references or self._compared[1] != (fdr, known):
            self._compared = references, (fdr, known), rows_standing_out(references, rises, fdr=fdr)
        return self._compared[2]

    def _verdict(self, calibrated: Calibrated, rows: Int[np.ndarray, " n_train"]) -> Verdict:
        """With the ids of the named rows; copies of a row share an id, which stands there once."""
        named = self._index.examples(rows[calibrated.named].tolist())
        ids = tuple(dict.fromkeys(example.id for example in named))
        return Verdict(ids, calibrated.fdr, calibrated.text, "" if calibrated.too_few else calibrated.way)

    def _scored(
        self,
        rows: Int[np.ndarray, " n_train"],
        form: ScoreForm,
        roles: FormLayers,
        settings: TraceSettings,
        progress: Progress,
    ) -> tuple[References, Float[np.ndarray, " n_reference"]]:
        """What the references score on these rows, and their rises; kept for the next queries that ask alike."""
        key = (
            form.name,
            form.version,
            roles,
            settings.where,
            settings.references,
            settings.n_references,
            settings.seed,
        )
        if self._references is None or self._references[0] != key:
            found = self._evidence.references(len(rows), settings, progress)
            scores = np.empty((0, len(rows)))
            if len(found.rows):
                scores = score_matrix(
                    self._index, found.signatures, method=form, roles=roles, where=settings.where
                ).scores
            assert found.rises is not None, "references are answered only where there is a base"
            self._references = key, References(scores, columns_of(found.rows, rows)), found.rises
        return self._references[1:]

    def _confounds(
        self, asked: Asked, form: ScoreForm, settings: TraceSettings
    ) -> tuple[list[Sequence[Confound]], list[str]]:
        """Confounds of each query's ranking, and its sentence; none for an index too large for them."""
        if self._index.n_records > MOST_RECORDS or not any(asked.matches):
            return [()] * len(asked.turns), [""] * len(asked.turns)
        if self._table is None or self._table[0] != settings.where:
            self._table = settings.where, RowTable(self._index, settings.where)
        table = self._table[1]
        roles = held_layers(REPSIM, self._index.manifest)
        assert roles is not None, "every default form reads h"
        repsim = score_matrix(self._index, asked.signatures, method=REPSIM, roles=roles, where=settings.where)
        confounds: list[Sequence[Confound]] = [
            table.confounds(turn, repsim, query, matches)
            for query, (turn, matches) in enumerate(zip(asked.turns, asked.matches, strict=True))
        ]
        return confounds, [sentence(one, len(table), method=form.name) for one in confounds]


def _chances(
    calibrated: Calibrated, rows: Int[np.ndarray, " n_train"], matches: Sequence[Match]
) -> dict[int, tuple[float, float]]:
    columns = np.searchsorted(rows, [match.row for match in matches])
    return {int(rows[t]): (float(calibrated.p[t]), float(calibrated.q[t])) for t in columns}


__all__ = ["Asked", "Diagnosis", "Judged"]
