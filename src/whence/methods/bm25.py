"""BM25: the words that query and row share, weighed by how rare they are among the rows."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from whence.methods.base import Method, TurnSet
from whence.scoring import bm25_scores


class BM25(Method):
    """scores[q, t] = BM25 of the query's prompt against the training row's prompt, at least 0; see bm25_scores.

    The responses, and with them the bad words themselves, stay unseen; `bm25-full` looks at both.
    """

    name = "bm25"
    version = "1"

    def fit(self, train: TurnSet) -> None:
        """Keeps the prompts."""
        self._rows = train.prompts

    def score(self, queries: TurnSet) -> Float[Tensor, "n_query n_train"]:
        """Raises InputError when no row holds a word."""
        return bm25_scores(queries.prompts, self._rows)

    def bytes_per_row(self) -> float:
        """The text."""
        return sum(len(text.encode()) for text in self._rows) / len(self._rows)
