"""Near-duplicate rows: one text several times, but for a few words. They count once."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

SHINGLE = 3
"""Words of a shingle."""
ALIKE = 0.8
"""Rows whose sets of shingles share this much are near-duplicates (Jaccard): in a row of twenty words, one word changed
in its middle leaves 0.74, at its end 0.9. Templates filled with different names stay different rows."""
AT_ONCE = 512
"""Texts that are compared with all others at once: where all share a shingle, memory is this many times the texts."""
_WORD = re.compile(r"\w+|[^\w\s]")


def near_duplicates(texts: Sequence[str], *, alike: float = ALIKE) -> Int[np.ndarray, " n"]:
    """A number for each text, the same for near-duplicates and for what is joined by a chain of them; from 0, in order.

        jaccard[a, b] = |S_a and S_b| / |S_a or S_b|,   S: the runs of `SHINGLE` words, letters' case aside

    A text shorter than a shingle is one shingle. Work follows the pairs that share a shingle.
    """
    if not texts:
        return np.empty(0, dtype=np.int64)
    from scipy.sparse import coo_array, csr_array
    from scipy.sparse.csgraph import connected_components

    known: dict[tuple[str, ...], int] = {}
    rows, columns = [], []
    for number, text in enumerate(texts):
        words = [word.casefold() for word in _WORD.findall(text)]
        grams = {tuple(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))}
        rows += [number] * len(grams)
        columns += [known.setdefault(gram, len(known)) for gram in sorted(grams)]
    has = csr_array((np.ones(len(rows), np.int32), (rows, columns)), shape=(len(texts), max(len(known), 1)))
    sizes = np.asarray(has.sum(axis=1)).ravel()
    pairs = []
    for start in range(0, len(texts), AT_ONCE):
        shared = coo_array(has[start : start + AT_ONCE] @ has.T)
        one, other = shared.row + start, shared.col
        near = shared.data >= alike * (sizes[one] + sizes[other] - shared.data)
        pairs.append(np.stack([one[near], other[near]]))
    # 32 bits: with others connected_components of scipy before 1.12 finds nothing, without an exception.
    one, other = np.concatenate(pairs, axis=1).astype(np.int32)
    linked = coo_array((np.ones(len(one), bool), (one, other)), shape=(len(texts),) * 2)
    _, labels = connected_components(linked, directed=False)
    # Numbered by first place, so that the order of the data decides.
    _, first, back = np.unique(labels, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    return np.asarray(order[back])


__all__ = ["ALIKE", "near_duplicates"]
