"""The rows of an index as the confounds see them: read once, asked by row and turn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from whence.data import EncodedTurn
from whence.index import Index, Match, ScoreMatrix
from whence.trace.verdict.confounds import Confound, Confounds

MOST_RECORDS = 200_000
"""Of larger indexes no confounds are shown: their texts and the word index over them would fill the memory."""


class RowTable:
    """Texts, lengths and gradient norms of every record, in the order of the data; a row's turns count each."""

    def __init__(self, index: Index, where: str | None = None) -> None:
        texts, responses, lengths, norms, places = [], [], [], [], []
        for record in index.texts(where):
            texts.append(f"{record.prompt} {record.response}")
            responses.append(record.response)
            lengths.append(record.n_response)
            norms.append(record.gradient_norm)
            places.append((record.row, record.turn))
        self._entry = {place: entry for entry, place in enumerate(places)}
        self._row = np.array([row for row, _ in places], dtype=np.int64)
        self._confounds = Confounds(texts, responses, length=np.array(lengths), norm=np.array(norms), row=self._row)

    def __len__(self) -> int:
        """Rows, not turns."""
        return len(np.unique(self._row))

    def confounds(self, turn: EncodedTurn, repsim: ScoreMatrix, query: int, matches: Sequence[Match]) -> list[Confound]:
        """What else could explain each match's rank, for query `query` of the RepSim scores."""
        scores = repsim.scores[query][np.searchsorted(repsim.rows, self._row)]
        entries = [self._entry[match.row, match.turn] for match in matches]
        return self._confounds.of(f"{turn.prompt} {turn.response}", turn.response, scores, entries)


__all__ = ["MOST_RECORDS", "RowTable"]
