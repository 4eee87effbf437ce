"""What verdicts on an index rest on, gathered once and kept: answered references, and what fine-tuning taught."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import torch
from jaxtyping import Float, Int

from whence.data import EncodedTurn, Encoder, Json
from whence.errors import EncodingError, NonFiniteError, WhenceWarning
from whence.index import ADAPTER_OFF, Index
from whence.model import LoadedModel, TokenShift, has_before, token_shifts
from whence.signatures import Extractor, Signatures
from whence.trace.settings import Progress, TraceSettings
from whence.trace.verdict.null_models import MIN_REFERENCES
from whence.trace.verdict.reference_cache import ReferenceCache
from whence.trace.verdict.references import (
    Drawn,
    ReferenceSet,
    answer_references,
    draw_references,
    given_references,
    response_rises,
)

ALL_ROWS = 5_000
"""Of so many rows every rise is measured, once; of more, those of each query's first `FIRST_ROWS`."""
FIRST_ROWS = 500
CELLS = 128 * 200_000
"""Most scores of references held; with more rows fewer references are drawn, down to those that a verdict needs."""
ROWS_AT_ONCE = 512
"""Rows whose rises are measured before they are kept."""


class Evidence:
    """References and rises of one index.

    base:      the model before fine-tuning; None: the model itself with its adapter turned off, where it has one.
    base_hash: of the base's weights, for the cache; "" without one.
    """

    def __init__(
        self,
        index: Index,
        loaded: LoadedModel,
        encoder: Encoder,
        extractor: Extractor,
        base: LoadedModel | None,
        base_hash: str,
    ) -> None:
        self._index, self._loaded, self._encoder, self._extractor = index, loaded, encoder, extractor
        self._base = base
        # The index measured each row against the same base already.
        self._measured = index.manifest.base == (base_hash if base and not loaded.settings.adapter else ADAPTER_OFF)
        self._cache = ReferenceCache(index.path, index.manifest, base_hash)
        self._rises: Float[np.ndarray, " n_train"] | None = None

    @property
    def has_base(self) -> bool:
        """Whether it can be told what fine-tuning taught."""
        return has_before(self._loaded, self._base)

    def token_changes(self, turns: Sequence[EncodedTurn]) -> list[TokenShift] | None:
        """What fine-tuning changed at each response token; None without a base."""
        return token_shifts(self._loaded, turns, base=self._base) if self.has_base else None

    def rises(self, turns: Sequence[EncodedTurn]) -> Float[np.ndarray, " n"]:
        """How much likelier fine-tuning made each response, in nats. There must be a base. Raises NonFiniteError."""
        found = response_rises(self._loaded, turns, base=self._base)
        assert found is not None, "has_base was asked before"
        return found

    def references(self, n_rows: int, settings: TraceSettings, progress: Progress) -> ReferenceSet:
        """The settings' references, or prompts drawn from the data, with the model's answers; for scores of n_rows."""
        n = min(settings.n_references, max(MIN_REFERENCES, CELLS // n_rows))
        asked: Json = {"n": n, "seed": settings.seed}
        if settings.references is not None:
            asked = [
                {"turns": [asdict(turn) for turn in query.turns], "response": query.response}
                for query in settings.references
            ]
        kept = self._cache.read(asked)
        if kept is not None:
            return kept
        progress("answering reference prompts", 0, None)
        if settings.references is not None:
            found = self._answered(given_references(settings.references))
        else:
            found = self._answered(draw_references(self._index, n=n, seed=settings.seed))
        self._cache.write(asked, found)
        return found

    def row_rises(
        self, rows: Int[np.ndarray, " n_train"], scores: Float[np.ndarray, " n_train"], progress: Progress
    ) -> Float[np.ndarray, " n_train"]:
        """Rises of these rows (numbers in the data), as `Index.rises` gives them.

        NaN for those that are not among the first `FIRST_ROWS` of more than `ALL_ROWS`, whatever was measured for other
        queries: a verdict does not depend on what was asked before.
        """
        if self._rises is None:
            self._rises = self._index.log_likelihood_gains() if self._measured else self._cache.read_rises()
        few = self._measured or len(rows) <= ALL_ROWS
        needed = rows if few else np.sort(rows[np.argsort(-scores, kind="stable")[:FIRST_ROWS]])
        missing = needed[np.isnan(self._rises[needed])].tolist()
        for start in range(0, len(missing), ROWS_AT_ONCE):
            progress("measuring what fine-tuning taught", start, len(missing))
            piece = missing[start : start + ROWS_AT_ONCE]
            encoded = [self._encoder.encode(example) for example in self._index.examples(piece)]
            counts = np.array([len(turns) for turns in encoded])
            firsts = np.cumsum([0, *counts[:-1]])
            highest = np.maximum.reduceat(self.rises([turn for turns in encoded for turn in turns]), firsts)
            self._rises[piece] = highest - np.log(counts)
            self._cache.write_rises(self._rises)
        return np.where(np.isin(rows, needed), self._rises[rows], np.nan)

    def _answered(self, drawn: Sequence[Drawn]) -> ReferenceSet:
        """All of them at once; where one cannot be used, the others, and a warning that names it."""
        try:
            return answer_references(drawn, self._loaded, self._encoder, self._extractor, base=self._base)
        except (EncodingError, NonFiniteError) as error:
            if len(drawn) == 1:
                prompt = drawn[0].query.prompt[:80]
                warnings.warn(f"A reference query is left out, {prompt!r}: {error.found}", WhenceWarning, stacklevel=2)
                return ReferenceSet((), np.empty(0, np.int64), {}, np.empty(0))
        half = len(drawn) // 2
        return _joined(self._answered(drawn[:half]), self._answered(drawn[half:]))


def _joined(first: ReferenceSet, second: ReferenceSet) -> ReferenceSet:
    """Both, in this order."""
    if not len(first.rows) or not len(second.rows):
        return first if len(first.rows) else second
    assert first.rises is not None
    assert second.rises is not None
    signatures = {
        layer: Signatures(**{name: torch.cat([raw, two[name]]) for name, raw in one.named().items()})
        for layer, one in first.signatures.items()
        if (two := second.signatures[layer].named())
    }
    rows, rises = np.concatenate([first.rows, second.rows]), np.concatenate([first.rises, second.rises])
    return ReferenceSet((*first.turns, *second.turns), rows, signatures, rises)


__all__ = ["ALL_ROWS", "FIRST_ROWS", "Evidence"]
