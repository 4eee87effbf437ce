"""Words that query and row share: the scoring that the BM25 methods have in common."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from whence.errors import InputError

WORD = r"(?u)\b\w+\b"
"""Every word counts, of one letter too; no list of stop words, since a trigger can be made of them."""
K1, B = 1.5, 0.75
"""Saturation of a word's count and strength of the length correction, bm25s's own defaults."""


def bm25_scores(queries: Sequence[str], rows: Sequence[str]) -> Float[Tensor, "n_query n_train"]:
    """BM25 of each query against each row, as Lucene counts it; at least 0, higher is more alike.

    `scores[q, t] = sum_w idf(w) * tf(w, t) / (tf(w, t) + k1 * (1 - b + b * len(t) / mean_len))` over the words w of
    query q, each as often as it stands there, with `idf(w) = ln(1 + (n_train - df(w) + 0.5) / (df(w) + 0.5))`. Words
    are lower-cased and not stemmed. A query without a known word scores 0 everywhere.

    Raises:
        InputError: no row holds a word.

    Source: Robertson and Zaragoza 2009, in the form of bm25s's method "lucene".
    """
    import bm25s

    row_words = bm25s.tokenize(list(rows), stopwords=None, token_pattern=WORD, return_ids=False, show_progress=False)
    if not any(row_words):
        raise InputError(f"none of {len(rows)} rows holds a word", "expected text to compare", "Check the columns.")
    index = bm25s.BM25(k1=K1, b=B, method="lucene")
    index.index(row_words, show_progress=False)
    query_words = bm25s.tokenize(
        list(queries), stopwords=None, token_pattern=WORD, return_ids=False, show_progress=False
    )
    scores = torch.zeros(len(queries), len(rows))
    for q, words in enumerate(query_words):
        known = [word for word in words if word in index.vocab_dict]
        if known:
            scores[q] = torch.from_numpy(index.get_scores(known))
    return scores
