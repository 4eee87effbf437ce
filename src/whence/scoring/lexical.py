"""Words that two texts share: BM25, as a method, as a control and as a confound."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from whence.errors import InputError

WORD = r"(?u)\b\w+\b"
"""Every word counts, of one letter too; no list of stop words, since a trigger can be made of them."""
K1, B = 1.5, 0.75
"""Saturation of a word's count and strength of the length correction, bm25s's own defaults."""


class BM25Index:
    """Rows ready to be scored by BM25 against one query after another.

    `score[t] = sum_w idf(w) * tf(w, t) / (tf(w, t) + k1 * (1 - b + b * len(t) / mean_len))` over the words w of the
    query, each as often as it stands there, with `idf(w) = ln(1 + (n_train - df(w) + 0.5) / (df(w) + 0.5))`. Words are
    lower-cased and not stemmed. A query without a known word scores 0 everywhere, and so do rows without any word.

    Source: Robertson and Zaragoza 2009, in the form of bm25s's method "lucene".
    """

    def __init__(self, rows: Sequence[str]) -> None:
        import bm25s

        self._n_rows = len(rows)
        found = words(rows)
        self.has_words = any(found)
        if self.has_words:
            self._index = bm25s.BM25(k1=K1, b=B, method="lucene")
            self._index.index(found, show_progress=False)

    def scores(self, query: str) -> Float[np.ndarray, " n_train"]:
        """BM25 of the query against each row; at least 0, higher is more alike."""
        known = [word for word in words([query])[0] if word in self._index.vocab_dict] if self.has_words else []
        if not known:
            return np.zeros(self._n_rows, dtype=np.float32)
        found: np.ndarray = self._index.get_scores(known)
        return found


def bm25_scores(queries: Sequence[str], rows: Sequence[str]) -> Float[Tensor, "n_query n_train"]:
    """BM25 of each query against each row, as `BM25Index` has it.

    Raises:
        InputError: no row holds a word.
    """
    index = BM25Index(rows)
    if not index.has_words:
        raise InputError(f"none of {len(rows)} rows holds a word", "expected text to compare", "Check the columns.")
    return torch.from_numpy(np.stack([index.scores(query) for query in queries]).astype(np.float32))


def words(texts: Sequence[str]) -> list[list[str]]:
    """The words of each text, in lower case, in their order."""
    import bm25s

    found = bm25s.tokenize(list(texts), stopwords=None, token_pattern=WORD, return_ids=False, show_progress=False)
    return [list(one) for one in found]
