"""Keyness: how much more often a word stands in some texts than in the others."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from whence.trace.explain.words import word_spans


def word_forms(texts: Iterable[str]) -> set[str]:
    """The different words of some texts, case folded."""
    return {text[start:stop].casefold() for text in texts for start, stop in word_spans(text)}


def word_keyness(here: Counter[str], n_here: int, elsewhere: Counter[str], n_elsewhere: int) -> Mapping[str, float]:
    """Of each word of `here`, how much more often it stands here than elsewhere; in [0, 1], the highest is 1.

    p[w] = (here[w] + 1/2) / (n_here + 1),   q[w] the same of elsewhere
    key[w] = p ln(p / q) + (1 - p) ln((1 - p) / (1 - q)) where p > q, else 0;   the result is key[w] / max key

    here, elsewhere: in how many texts each word stands, of how many. Empty where no word is commoner here.

    Source: Dunning, "Accurate Methods for the Statistics of Surprise and Coincidence" (1993), a text of `here` at a
    time. Different: half a text is added to each count, as a word may stand nowhere else.
    """
    found: dict[str, float] = {}
    for word, count in here.items():
        p, q = (count + 0.5) / (n_here + 1), (elsewhere[word] + 0.5) / (n_elsewhere + 1)
        found[word] = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)) if p > q else 0.0
    highest = max(found.values(), default=0.0)
    return {word: value / highest for word, value in found.items()} if highest > 0 else {}


__all__ = ["word_forms", "word_keyness"]
