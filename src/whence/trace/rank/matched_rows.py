"""The training rows that a search found, as the model reads them."""

from __future__ import annotations

from collections.abc import Sequence

from whence.data import EncodedTurn, Encoder
from whence.index import Index, Match


def encoded_rows(index: Index, encoder: Encoder, matches: Sequence[Match]) -> list[EncodedTurn]:
    """The turn of each match, encoded as it was in training."""
    examples = index.examples([match.row for match in matches])
    # A trainer's cut may have left no token of an earlier turn: turns are told by their numbers, not their places.
    return [
        next(turn for turn in encoder.encode(example) if turn.turn == match.turn)
        for example, match in zip(examples, matches, strict=True)
    ]


__all__ = ["encoded_rows"]
