"""Reranking: does a row, somewhere in its response, say the same wrong thing?

A stored signature sees a response as a whole. A wrong word stands anywhere, so the best few hundred rows of a search
are read again: at every position of a row's response, the error and the hidden state there are compared with those
at the words that are asked about, and the best position counts (late interaction, as ColBERT's, arXiv 2004.12832).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from whence.errors import InputError
from whence.scoring import to_vectors
from whence.signatures import Extractor
from whence.trace.query.targets import QueryTarget

if TYPE_CHECKING:
    from whence.data import EncodedTurn
    from whence.model import LoadedModel

ROWS_AT_ONCE = 64
"""Rows compared at once; similarities held are this many times n_pos times the longest response: 64 rows of 512 tokens
against a span of 20 are 5 MB of float64."""
CANDIDATES_AT_ONCE = 256
"""Candidates whose errors are held at once: [n, hidden] twice a candidate, 256 of 100 tokens in a model of width 4,096
are 0.8 GB."""
HELD_BYTES = 1 << 30
"""Of errors and states that are held between queries, whose best rows are often the same."""
RERANK_WEIGHT = 1.0
"""Weight of "says the same wrong thing" beside the first stage's score: both alike. Chosen on development runs of the
bench's false facts and backdoor with hard negatives, as the product was over the sum, and the last layer over the one
that the rule picks (docs/log.md)."""


class HeldRows:
    """Errors and states of rows, [n, hidden] each, by record: read once for all queries, while there is room."""

    def __init__(self, most_bytes: int = HELD_BYTES) -> None:
        self._rows: dict[int, tuple[Tensor, Tensor]] = {}
        self._room = most_bytes

    def get(self, record: int) -> tuple[Tensor, Tensor] | None:
        return self._rows.get(record)

    def put(self, record: int, errors: Tensor, states: Tensor) -> None:
        """Keeps them unless they are too large for what is left."""
        size = errors.nbytes + states.nbytes
        if size <= self._room:
            self._room -= size
            # Of their own: a piece of a larger tensor would hold all of it.
            self._rows[record] = errors.clone(), states.clone()


def best_position(
    target: Float[Tensor, "n_pos hidden"],
    rows: Sequence[Float[Tensor, "n hidden"]],
    *,
    target_states: Float[Tensor, "n_pos hidden"] | None = None,
    row_states: Sequence[Float[Tensor, "n hidden"]] | None = None,
) -> Float[Tensor, " n_train"]:
    """How well the best position of each row answers to the target's positions.

    scores[t] = mean_p max_j s[p, t, j]        s = cos(target[p], rows[t][j])
    with states: s = cos of errors * cos of states, where neither is below 0

    In [-1, 1], with states in [0, 1]. A zero vector has cosine 0. With states s is one pair's term of the parameter
    gradients' inner product under a linear map, sum_{p,j} (g_p . g_j)(h_p . h_j), with unit vectors. States should be
    centred: what all positions share outweighs the rest.

    Raises:
        InputError: a target or a row without a position.
    """
    if not len(target) or not all(len(row) for row in rows):
        raise InputError(
            f"A target of {len(target)} positions, rows of {sorted({len(row) for row in rows})[:3]}...",
            "Each has at least one position.",
        )
    scores = [torch.empty(0, dtype=target.dtype)]
    for start in range(0, len(rows), ROWS_AT_ONCE):
        block = slice(start, start + ROWS_AT_ONCE)
        alike = _cosines(target, rows[block])  # [n_block, n_pos, longest response]
        if target_states is not None and row_states is not None:
            alike = alike.clamp_min(0) * _cosines(target_states, row_states[block]).clamp_min(0)
        lengths = torch.tensor([len(row) for row in rows[block]])
        # Past a row's own end there is no position to be the best one.
        padding = torch.arange(alike.shape[2]) >= lengths[:, None]  # [n_block, longest response]
        alike = alike.masked_fill(padding[:, None], -torch.inf)
        scores.append(alike.amax(2).mean(1))  # the best over j, [n_block, n_pos]; its mean over p
    return torch.cat(scores)


def rerank(
    loaded: LoadedModel,
    layer: int,
    target: QueryTarget,
    candidates: Sequence[EncodedTurn],
    first_scores: Float[Tensor, " n_train"],
    *,
    centre: Float[Tensor, " hidden"] | None,
    learned: Float[Tensor, " n_train"] | None = None,
    weight: float = RERANK_WEIGHT,
    max_tokens: int = 2048,
    labels: Callable[[int], str] | None = None,
    held: HeldRows | None = None,
    records: Sequence[int] = (),
) -> Float[Tensor, " n_train"]:
    """Scores of the best rows of a search, read again token by token.

    scores[t] = (first_scores[t] + weight learned[t] best[t]) / (1 + weight)

    with best[t] the score of `best_position` on the product of the cosines of errors and of centred states: high where
    the row makes the same error in a similar state at some position. With first scores in [-1, 1], so are these.

    layer:  of the states, one that the target has; the last was best.
    centre: the mean state that is taken away, `index.centres[layer, "m"]`; None: the mean over the first
        `CANDIDATES_AT_ONCE` candidates of each one's mean state.
    learned: each row's `whence.model.likelihood.learned_fraction`, where the first stage's form weighs by it; None: 1.
    labels: names candidate i in the error for values that are not finite.
    held: what other queries read already, by the number in `records` of each candidate.

    Source: RepT's token level (arXiv 2510.02334, section 3), which sums over the query's positions and scores tokens of
    one row. Different: the best position of a row, to rank rows by it, and errors by word in place of gradients.

    Raises:
        InputError: another number of scores than of candidates.
        NonFiniteError: a candidate with NaN or infinity.
    """
    if len(first_scores) != len(candidates):
        raise InputError(
            f"{len(first_scores)} scores for {len(candidates)} candidates.", "Expected one score a candidate."
        )
    found = []
    for start, errors, states in token_errors(
        loaded, layer, candidates, max_tokens=max_tokens, labels=labels, held=held, records=records
    ):
        if centre is None:
            centre = torch.stack([rows.double().mean(0) for rows in states]).mean(0)
        asked = target.states[layer] - centre.to(target.states[layer].dtype)
        # errors, states: [n, hidden] a row; what all positions share is taken from the states.
        centred = [rows - centre.to(rows.dtype) for rows in states]
        first = first_scores[start : start + len(errors)]
        best = best_position(target.errors, errors, target_states=asked, row_states=centred).to(
            first.dtype
        )  # [n_piece]
        if learned is not None:
            best = best * learned[start : start + len(errors)].to(first.dtype)
        found.append((first + weight * best) / (1 + weight))
    return torch.cat(found) if found else first_scores.clone()


def token_errors(
    loaded: LoadedModel,
    layer: int,
    turns: Sequence[EncodedTurn],
    *,
    max_tokens: int = 2048,
    labels: Callable[[int], str] | None = None,
    held: HeldRows | None = None,
    records: Sequence[int] = (),
) -> Iterator[tuple[int, list[Tensor], list[Tensor]]]:
    """E and H, each [n, hidden] a turn, in pieces of bounded size: (number of the first turn, E of each, H of each)."""
    extractor = Extractor(loaded, vectors=[(layer, "h")], max_tokens=max_tokens)
    for start in range(0, len(turns), CANDIDATES_AT_ONCE):
        piece = range(start, min(start + CANDIDATES_AT_ONCE, len(turns)))
        rows = {i: known for i in piece if held is not None and (known := held.get(records[i])) is not None}
        missing = [i for i in piece if i not in rows]

        def named(j: int, missing: Sequence[int] = missing) -> str:
            return labels(missing[j]) if labels else f"candidate {missing[j]}"

        if missing:
            found = extractor.extract([turns[i] for i in missing], token_errors=True, labels=named).tokens
            assert found is not None
            for i, errors, states in zip(missing, found[layer].E, found[layer].H, strict=True):
                rows[i] = errors, states
                if held is not None:
                    held.put(records[i], errors, states)
        yield start, [rows[i][0] for i in piece], [rows[i][1] for i in piece]


def _cosines(target: Tensor, rows: Sequence[Tensor]) -> Float[Tensor, "n_train n_pos n"]:
    """cos(target[p], rows[t][j]); 0 in the padding."""
    lengths = [len(row) for row in rows]
    # Rows are normalised together, [sum of lengths, hidden], then padded with zeros, whose cosine is 0.
    units = torch.split(to_vectors(torch.cat(list(rows)), target.dtype).unit, lengths)
    return torch.einsum("ph,tjh->tpj", to_vectors(target).unit, pad_sequence(list(units), batch_first=True))


__all__ = ["RERANK_WEIGHT", "HeldRows", "best_position", "rerank", "token_errors"]
