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

    What the template writes behind the response, such as the end of the turn, is not looked at.
    """
    if shift.prob is None or shift.top_other_prob is None:
        return None
    starts = [start for start, _ in turn.offsets[turn.response_start :]]  # [n]
    written = turn.text[starts[0] :]
    end = starts[0] + len(written) - len(written.lstrip()) + len(turn.response.strip())
    for start, prob, other in zip(starts, shift.prob.tolist(), shift.top_other_prob.tolist(), strict=True):
        if start < end and prob < min(UNLIKELY, other):
            text = " ".join(turn.text[start:end].split())
            return Departure(
                text if len(text) <= SHOWN else f"{text[:SHOWN]}\N{HORIZONTAL ELLIPSIS}", float(f"{prob:.3g}")
            )
    return None


__all__ = ["SHOWN", "UNLIKELY", "departure"]
