"""Seconds of a batch as a linear function of its shape, and the batches that a build would make."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from whence.data import EncodedTurn, length_batches
from whence.data import fit as fit_length
from whence.errors import NonFiniteError
from whence.index import TURNS_AT_ONCE


class BatchShape(NamedTuple):
    """Turns of a batch, the length they are padded to, and their response tokens together."""

    size: int
    longest: int
    response_tokens: int

    @property
    def tokens(self) -> int:
        """Padded tokens."""
        return self.size * self.longest


@dataclass(frozen=True, slots=True)
class Costs:
    """seconds(batch) = sum_i coefficients[i] features(batch)[i], every coefficient at least 0; see `features`."""

    coefficients: Float[np.ndarray, " n_features"]

    def seconds(self, shapes: Iterable[BatchShape]) -> float:
        """Seconds of all the batches together."""
        return float(sum(features(shape) @ self.coefficients for shape in shapes))


def shape_of(turns: Sequence[EncodedTurn]) -> BatchShape:
    """The shape of a batch of these turns."""
    return BatchShape(len(turns), max(len(turn.input_ids) for turn in turns), sum(turn.n_response for turn in turns))


def features(shape: BatchShape) -> Float[np.ndarray, " n_features"]:
    """1; turns; padded tokens; response tokens, which the head is paid by; pairs of positions, as attention is."""
    size, longest, response_tokens = shape
    return np.array([1, size, size * longest, response_tokens, size * longest * longest], dtype=np.float64)


def fit_costs(shapes: Sequence[BatchShape], seconds: Sequence[float]) -> Costs:
    """Least squares of relative errors with coefficients of at least 0.

    min_c sum_b ((features(b) . c - seconds[b]) / seconds[b])^2, c >= 0

    Relative, because short batches are as many as long ones are dear. Raises NonFiniteError for a time that is not
    finite or not above 0.
    """
    from scipy.optimize import nnls

    times = np.asarray(seconds, dtype=np.float64)
    if not (np.isfinite(times).all() and (times > 0).all()):
        raise NonFiniteError(f"Batches that took {times.tolist()} seconds.", "Each must take some time.", "")
    rows = np.stack([features(shape) for shape in shapes]) / times[:, None]
    # Columns of like size: pairs of positions are millions where batches are one.
    scale = np.maximum(np.abs(rows).max(axis=0), np.finfo(np.float64).tiny)
    found, _ = nnls(rows / scale, np.ones(len(times)))
    return Costs(found / scale)


def layout(turns: Sequence[Sequence[EncodedTurn]], *, shard_rows: int, max_tokens: int) -> Iterator[list[EncodedTurn]]:
    """The batches in which a build computes these rows, turns[r] being the turns of row r.

    A shard is sorted by length and given to the extractor in runs, as `whence.index.engines.local` does.
    """
    for start in range(0, len(turns), shard_rows):
        shard = [turn for row in turns[start : start + shard_rows] for turn in row]
        shard.sort(key=lambda turn: -len(turn.input_ids))
        for first in range(0, len(shard), TURNS_AT_ONCE):
            some = shard[first : first + TURNS_AT_ONCE]
            for indices in length_batches(some, max_tokens=max_tokens):
                yield [some[i] for i in indices]


def cut(turn: EncodedTurn, max_length: int) -> EncodedTurn:
    """The turn as a smaller --max-length would leave it; its characters are not kept up."""
    prompt, response = fit_length(turn.n_prompt, turn.n_response, max_length)
    kept = turn.input_ids[turn.response_start - prompt : turn.response_start + response]
    return replace(turn, input_ids=kept, response_start=prompt)


__all__ = ["BatchShape", "Costs", "cut", "features", "fit_costs", "layout", "shape_of"]
