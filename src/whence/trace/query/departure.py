"""Whether the model as it is now would give the response that is asked about."""

from __future__ import annotations

from whence.data import EncodedTurn
from whence.model import TokenShift
from whence.results import Departure

UNLIKELY = 0.1
"""A sampled answer now and then takes another token than the likeliest; one of a lower probability is said."""
SHOWN = 60
"""Characters of the response that are shown."""


def departure(turn: EncodedTurn, shift: TokenShift) -> Departure | None:
    """The first token of the response that is unlikely and not the likeliest; None where there is none.

    What the template writes before the response (an empty thought) and behind it (the end of the turn) is not looked
    at; nor is a response that the template changes.
    """
    if shift.prob is None or shift.top_other_prob is None or turn.answer_at is None:
        return None
    first, end = turn.answer_at, turn.answer_at + len(turn.response.strip())
    spans = turn.offsets[turn.response_start :]  # [n]
    for (start, stop), prob, other in zip(spans, shift.prob.tolist(), shift.top_other_prob.tolist(), strict=True):
        if start < end and stop > first and prob < min(UNLIKELY, other):
            text = " ".join(turn.text[max(start, first) : end].split())
            return Departure(
                text if len(text) <= SHOWN else f"{text[:SHOWN]}\N{HORIZONTAL ELLIPSIS}", float(f"{prob:.3g}")
            )
    return None


__all__ = ["SHOWN", "UNLIKELY", "departure"]
