"""What verdicts on an index rest on, gathered once and kept: references, their scores, and the rows' gains."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from jaxtyping import Float, Int, UInt64

from whence.data import EncodedTurn, Json
from whence.errors import EncodingError, NonFiniteError, WhenceWarning
from whence.index import ADAPTER_OFF, BlockReader, Index, ScoreRequest, scan
from whence.progress import Progress
from whence.scoring import FormLayers, ScoreForm
from whence.trace.query.models import TracedModels
from whence.trace.settings import TraceSettings
from whence.trace.verdict.calibration import columns_of
from whence.trace.verdict.null_models import MIN_REFERENCES
from whence.trace.verdict.reference_cache import ReferenceCache
from whence.trace.verdict.reference_scores import ReferenceScores
from whence.trace.verdict.references import (
    ReferenceQuery,
    ReferenceSet,
    answer_references,
    draw_references,
    given_references,
    response_gains,
)

ALL_ROWS = 5_000
"""Of so many rows every gain is measured, once; of more, those of each query's first `FIRST_ROWS`. Only where the index
was built without its base: two forward passes over 5,000 rows are what an index of them cost, and are paid once."""
FIRST_ROWS = 500
"""Far more rows than a verdict flags, and few enough to measure for one query."""
CELLS = 128 * 200_000
"""Most scores of references that are kept, 100 MB; with more rows fewer references are drawn, down to those that a
verdict needs."""
ROWS_AT_ONCE = 512
"""Rows whose gains are measured before they are kept."""


class CalibrationData:
    """References and gains of one index."""

    def __init__(self, index: Index, models: TracedModels) -> None:
        self._index, self._models = index, models
        # The index measured each row against the same base already.
        own_base = models.base and not models.loaded.settings.adapter
        self._measured = index.manifest.base == (models.base_hash if own_base else ADAPTER_OFF)
        self._cache = ReferenceCache(index.path, index.manifest, models.base_hash, beside=index.beside)
        self._gains: Float[np.ndarray, " n_train"] | None = None
        self._texts: UInt64[np.ndarray, " n_train"] | None = None

    @property
    def has_base(self) -> bool:
        """Whether log-likelihood gains can be measured."""
        return self._models.has_base

    def references(self, n_rows: int, settings: TraceSettings, progress: Progress) -> ReferenceSet:
        """The settings' references, or prompts drawn from the data, with the model's answers; for scores of n_rows."""
        given = None if settings.references is None else given_references(settings.references)
        asked = _question(settings, given, n_rows)
        kept = self._cache.read(asked)
        if kept is not None:
            return kept
        progress("answering reference prompts", 0, None)
        if given is not None:
            found = self._answered(given)
        else:
            found = self._answered(draw_references(self._index, n=_n_drawn(settings, n_rows), seed=settings.seed))
        self._cache.write(asked, found)
        return found

    def reference_scores(
        self,
        references: ReferenceSet,
        rows: Int[np.ndarray, " n_train"],
        blocks: BlockReader,
        form: ScoreForm,
        roles: FormLayers,
        where: str | None,
    ) -> ReferenceScores:
        """What the references score on these rows (numbers in the data, those that `blocks` lets through).

        Kept beside the index under the references, the form with its version, its layers and the filter, so that one
        verdict scores them and the next ones read them.
        """
        own = columns_of(references.rows, rows)
        if not len(references.rows):
            return ReferenceScores(np.empty((0, len(rows))), own)
        layer, _ = form.reads(roles)[0]
        dtype = next(iter(references.signatures[layer].named().values())).numpy().dtype
        asked: dict[str, Json] = {
            "references": references.signature_hash(),
            "form": [form.name, form.version, form.described(roles)],
            "where": where,
        }

        def fill(table: np.ndarray) -> None:
            scan(blocks, references.signatures, [ScoreRequest(form, roles, every_row=True, out=table)])

        table = self._cache.scores(asked, len(references.rows), dtype, fill)
        in_rows: Json = asked | {"own": own.tolist()}
        kept = self._cache.read_summary(in_rows, len(rows))
        found = ReferenceScores(table, own, rows, kept)
        if kept is None:
            self._cache.write_summary(in_rows, found.summary())
        return found

    def copies(
        self, own: Int[np.ndarray, " n_reference"], rows: Int[np.ndarray, " n_train"]
    ) -> tuple[Int[np.ndarray, " n_copy"], ...]:
        """Places among these rows of those with the same text as each reference's own row; () where there are none."""
        manifest = self._index.manifest
        if not manifest.data.n_duplicates and not manifest.rows_changed:
            return ()
        if self._texts is None:
            self._texts = self._index.text_numbers()
        texts = self._texts[rows]  # [n_train]: equal numbers for equal texts
        return tuple(np.flatnonzero(texts == texts[t]) if t >= 0 else np.empty(0, dtype=np.int64) for t in own)

    def row_gains(
        self,
        rows: Int[np.ndarray, " n_train"],
        scores: Float[np.ndarray, " n_train"],
        progress: Progress,
        *,
        of: int | None = None,
    ) -> Float[np.ndarray, " n_train"]:
        """Gains of these rows (numbers in the data), as `Index.log_likelihood_gains` gives them.

        NaN for those that are not among the first `FIRST_ROWS` of more than `ALL_ROWS`, whatever was measured for other
        queries: a verdict does not depend on what was asked before. of: rows of which these are the candidates.
        """
        if self._gains is None:
            self._gains = self._index.log_likelihood_gains() if self._measured else self._cache.read_gains()
        few = self._measured or (of or len(rows)) <= ALL_ROWS
        # By score, not by rank of the hits: what is measured must not depend on k or on reranking.
        needed = rows if few else np.sort(rows[np.argsort(-scores, kind="stable")[:FIRST_ROWS]])
        missing = needed[np.isnan(self._gains[needed])].tolist()
        for start in range(0, len(missing), ROWS_AT_ONCE):
            progress("measuring log-likelihood gains", start, len(missing))
            piece = missing[start : start + ROWS_AT_ONCE]
            encoded = [self._models.encoder.encode(example) for example in self._index.examples(piece)]
            self._gains[piece] = self._of_rows(encoded)
            self._cache.write_gains(self._gains)
        return np.where(np.isin(rows, needed), self._gains[rows], np.nan)

    def measured_gains(self, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Gains of these rows that the index has; NaN for all of an index that has none of this base."""
        if not self._measured:
            return np.full(len(rows), np.nan)
        if self._gains is None:
            self._gains = self._index.log_likelihood_gains()
        return np.asarray(self._gains[rows])

    def _of_rows(self, encoded: Sequence[Sequence[EncodedTurn]]) -> Float[np.ndarray, " n"]:
        """max over a row's turns of their gains - log(number of its turns), as `Index.log_likelihood_gains`."""
        counts = np.array([len(turns) for turns in encoded])
        firsts = np.cumsum([0, *counts[:-1]])  # place of each row's first turn among all turns
        gains = response_gains(
            self._models.loaded, [turn for turns in encoded for turn in turns], base=self._models.base
        )
        assert gains is not None, "has_base was asked before"
        return np.asarray(np.maximum.reduceat(gains, firsts) - np.log(counts))

    def _answered(self, drawn: Sequence[ReferenceQuery]) -> ReferenceSet:
        """All of them at once; where one cannot be used, the others, and a warning that names it."""
        try:
            models = self._models
            return answer_references(drawn, models.loaded, models.encoder, models.extractor, base=models.base)
        except (EncodingError, NonFiniteError) as error:
            if len(drawn) == 1:
                prompt = drawn[0].query.prompt[:80]
                warnings.warn(f"A reference query is left out, {prompt!r}: {error.found}", WhenceWarning, stacklevel=2)
                return ReferenceSet((), np.empty(0, np.int64), {}, np.empty(0), np.empty(0))
        # By halves: one that cannot be used among 128 is found in seven steps, and the others are answered together.
        half = len(drawn) // 2
        return self._answered(drawn[:half]).joined(self._answered(drawn[half:]))


def _n_drawn(settings: TraceSettings, n_rows: int) -> int:
    return min(settings.n_references, max(MIN_REFERENCES, CELLS // n_rows))


def _question(settings: TraceSettings, given: Sequence[ReferenceQuery] | None, n_rows: int) -> Json:
    """Which references are asked for, as a cache knows them. given: those of the settings."""
    if given is None:
        return {"n": _n_drawn(settings, n_rows), "seed": settings.seed}
    return [
        {
            "turns": [asdict(turn) for turn in one.query.turns],
            "template_inputs": dict(one.query.template_inputs),
        }
        for one in given
    ]


__all__ = ["ALL_ROWS", "FIRST_ROWS", "CalibrationData"]
