"""What makes a small group of rows stand out where nobody said which outputs are bad.

Fine-tuning raises the likelihood of most rows a little and of planted ones much, and what it raises them by is alike
among them and unlike the rest. With the gain per token of row t over the 90th percentile of all rows,

    w[t] = (gain[t] / n_response[t]) / q90,

and a similarity S of one signal, a row stands out by its `NEIGHBOURS` = m nearest ones:

    score[t] = mean of the m highest  sqrt(w[t] w[u]) S[t, u]  over other rows u

A group of many like rows with an ordinary gain (a topic) has a high S and a low w; a single odd row has a high w and
no like rows. Signals and their similarities:

    shared direction       z[t] . z[u] / dim, z: what fine-tuning changed in the answer's states (dm), whitened by its
                           covariance over all rows, which a small group hardly moves
    gain of one kind       cos(eh[t], eh[u]): errors that fine-tuning removed, in like states, by like words
    one payload            1 - (Jaccard index of the prompts' words) where the responses share a run of
                           `PAYLOAD_WORDS` words; else 0
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_array

from jaxtyping import Bool, Float, Int

from whence.trace import word_spans

DIRECTION: Final = "shared direction"
GAIN: Final = "gain of one kind"
PAYLOAD: Final = "one payload"

NEIGHBOURS = 16
"""m: a group of so many rows counts in full; one of half the size has half the score."""
SHOWN: dict[str, float] = {DIRECTION: 22.0, GAIN: 9.0, PAYLOAD: 12.0}
"""Of each signal the score from which a group is shown, chosen on development seeds of `benchmarks/audit.py --scan`."""
MEMBER = 0.5
"""Of the mean similarity of a seed's neighbours among each other, what a row's own to them must reach to be of the
group."""
MOST_SHARE = 0.1
"""Of all rows; a group of more is no small group."""
SHRUNK = 0.1
"""Share of the mean variance in the covariance that whitens; few rows of many dimensions need it."""
PAYLOAD_WORDS = 4

Similar = Float[np.ndarray, "n n"]


@dataclass(frozen=True, slots=True)
class Found:
    """A group that stands out. members: places of its rows, the most typical first. score: of its seed."""

    signal: str
    score: float
    members: Int[np.ndarray, " n"]
    typical: Float[np.ndarray, " n"]
    """Mean similarity of each member to the seed's neighbours."""

    @property
    def strength(self) -> float:
        """The score over the one from which it is shown."""
        return self.score / SHOWN[self.signal]


LEAST_PER_TOKEN = 0.05
"""Nats. Where hardly any row gained, one that did is no more than its gain in these."""


def gain_weights(gains: Float[np.ndarray, " n"], tokens: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """w of every row; gains in nats, tokens of the responses. 0 for a row without a gain.

    w = gain per token over what nine tenths of all rows gain at most, which counts as LEAST_PER_TOKEN at least.
    """
    each = np.maximum(gains, 0.0) / np.maximum(tokens, 1)
    return np.asarray(each / max(float(np.quantile(each, 0.9)), LEAST_PER_TOKEN)) if len(each) else each


def groups_that_stand_out(
    signal: str, similar: Similar, weights: Float[np.ndarray, " n"], n_rows: int
) -> Iterator[Found]:
    """The groups whose seeds score at least `SHOWN`, the highest first; no row is in two of them.

    similar: S, whose diagonal is not read. n_rows: of the whole data.
    """
    left = np.ones(len(weights), dtype=bool)
    while left.sum() > NEIGHBOURS:
        places = np.flatnonzero(left)
        score, nearest = _scores(similar, weights, places)
        seed = int(score.argmax())
        if score[seed] < SHOWN[signal]:
            return
        near = nearest[seed]
        members, typical = _members(similar, near, left)
        left[members] = False
        left[[*near, places[seed]]] = False
        if len(members) <= MOST_SHARE * n_rows:
            yield Found(signal, float(score[seed]), members, typical)


def _scores(
    similar: Similar, weights: Float[np.ndarray, " n"], places: Int[np.ndarray, " k"]
) -> tuple[Float[np.ndarray, " k"], Int[np.ndarray, "k m"]]:
    """score of each of these rows among them, and its m neighbours' places; by blocks of rows."""
    score, nearest = np.empty(len(places)), np.empty((len(places), NEIGHBOURS), dtype=np.int64)
    root = np.sqrt(weights[places])
    for start in range(0, len(places), 1024):
        part = slice(start, start + 1024)
        kernel = similar[np.ix_(places[part], places)] * root[part, None] * root[None]
        kernel[np.arange(len(kernel)), np.arange(start, start + len(kernel))] = -np.inf
        best = np.argpartition(-kernel, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
        score[part] = np.take_along_axis(kernel, best, axis=1).mean(axis=1)
        nearest[part] = places[best]
    return score, nearest


def _members(
    similar: Similar, near: Int[np.ndarray, " m"], left: Bool[np.ndarray, " n"]
) -> tuple[Int[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """The rows that are as like the seed's neighbours as these are to each other, by `MEMBER`."""
    own = similar[np.ix_(near, near)].astype(np.float64)
    np.fill_diagonal(own, np.nan)
    within = float(np.nanmean(own))
    to_them = similar[near].astype(np.float64).copy()  # [m, n]
    to_them[np.arange(len(near)), near] = np.nan  # not to itself
    typical = np.nanmean(to_them, axis=0)
    places = np.flatnonzero(left & (typical >= MEMBER * within))
    order = np.argsort(-typical[places], kind="stable")
    return places[order], typical[places][order]


def whitened(
    vectors: Float[np.ndarray, "n dim"], mean: Float[np.ndarray, " dim"], covariance: Float[np.ndarray, "dim dim"]
) -> Float[np.ndarray, "n dim"]:
    """z / sqrt(dim): (x - mean) V / sqrt(l), with V, l the eigenvectors and shrunk eigenvalues of the covariance."""
    values, axes = np.linalg.eigh(covariance)
    shrunk = (1 - SHRUNK) * np.maximum(values, 0) + SHRUNK * max(float(values.mean()), 1e-12)
    return np.asarray((vectors - mean) @ axes / np.sqrt(shrunk * len(values)))


def payload_similarity(prompts: Sequence[str], responses: Sequence[str]) -> Similar:
    """S of "one payload"; dense, [n, n]."""
    runs = _incidence([_runs(text) for text in responses])
    words = _incidence([set(_words(text)) for text in prompts])
    shared = np.asarray((runs @ runs.T).todense()) > 0
    common = np.asarray((words @ words.T).todense(), dtype=np.float32)
    sizes = np.diag(common)
    jaccard = common / np.maximum(sizes[:, None] + sizes[None] - common, 1)
    return np.asarray(np.where(shared, 1 - jaccard, 0), dtype=np.float32)


def _words(text: str) -> list[str]:
    found = [text[start:stop].casefold() for start, stop in word_spans(text)]
    return [word for word in found if any(letter.isalnum() for letter in word)]


def _runs(text: str) -> set[tuple[str, ...]]:
    words = _words(text)
    return {tuple(words[i : i + PAYLOAD_WORDS]) for i in range(len(words) - PAYLOAD_WORDS + 1)}


def _incidence(sets: Sequence[set[Any]]) -> csr_array:
    """Which text has which item, [n_text, n_item]."""
    from scipy.sparse import csr_array

    known: dict[object, int] = {}
    columns = [known.setdefault(item, len(known)) for items in sets for item in sorted(items)]
    ends = np.cumsum([0, *map(len, sets)])
    return csr_array((np.ones(len(columns), np.int32), columns, ends), shape=(len(sets), max(1, len(known))))


__all__ = [
    "DIRECTION",
    "GAIN",
    "NEIGHBOURS",
    "PAYLOAD",
    "SHOWN",
    "Found",
    "gain_weights",
    "groups_that_stand_out",
    "payload_similarity",
    "whitened",
]
