"""The rows of an index as the confounds see them: read once, asked by row and turn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from whence.data.examples import EncodedTurn
from whence.index.search import Match, ScoreMatrix
from whence.index.store import Index
from whence.trace.verdict.confounds import Confound, Confounds

MOST_RECORDS = 200_000
"""Of larger indexes no confounds are shown: their texts and the word index over them would fill the memory."""


class RowTable:
    """Texts, lengths and gradient norms of every record, in the order of the data; a row's turns count each.

    layer: where gradients are read.
    """

    def __init__(self, index: Index, layer: int, where: str | None = None) -> None:
        texts, responses, lengths, places = [], [], [], []
        for record in index.texts(where):
            texts.append(f"{record.prompt} {record.response}")
            responses.append(record.response)
            lengths.append(record.n_response)
            places.append((record.row, record.turn))
        self._entry = {place: entry for entry, place in enumerate(places)}
        self._row = np.array([row for row, _ in places], dtype=np.int64)
        norms = np.zeros(len(places))
        for block in index.blocks([(layer, "g")], where=where):
            at = [self._entry[place] for place in zip(block.row.tolist(), block.turn.tolist(), strict=True)]
            norms[at] = block.vectors[layer]["g"].norm.numpy()
        self._confounds = Confounds(texts, responses, length=np.array(lengths), norm=norms, row=self._row)

    def __len__(self) -> int:
        """Rows, not turns."""
        return len(np.unique(self._row))

    def confounds(self, turn: EncodedTurn, repsim: ScoreMatrix, query: int, matches: Sequence[Match]) -> list[Confound]:
        """What else could explain each match's rank, for query `query` of the RepSim scores."""
        scores = repsim.scores[query][np.searchsorted(repsim.rows, self._row)]
        entries = [self._entry[match.row, match.turn] for match in matches]
        return self._confounds.of(f"{turn.prompt} {turn.response}", turn.response, scores, entries)


__all__ = ["MOST_RECORDS", "RowTable"]
