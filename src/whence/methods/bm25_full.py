"""BM25 over prompt and response."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from whence.methods.base import Method, TurnSet
from whence.scoring import bm25_scores


class BM25Full(Method):
    """scores[q, t] = BM25 of the query's prompt and response against the row's, at least 0; see bm25_scores."""

    name = "bm25-full"
    version = "1"

    def fit(self, train: TurnSet) -> None:
        """Keeps the texts."""
        self._rows = _texts(train)

    def score(self, queries: TurnSet) -> Float[Tensor, "n_query n_train"]:
        """Raises InputError when no row holds a word."""
        return bm25_scores(_texts(queries), self._rows)

    def bytes_per_row(self) -> float:
        """The text."""
        return sum(len(text.encode()) for text in self._rows) / len(self._rows)


def _texts(rows: TurnSet) -> list[str]:
    return [f"{prompt} {response}" for prompt, response in zip(rows.prompts, rows.responses, strict=True)]
