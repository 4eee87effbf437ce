"""The rows to look at first: the smallest set that most outputs are flagged for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence, Set
from typing import NamedTuple

MOST_STEPS = 50
"""Of a coverage curve."""


class Step(NamedTuple):
    """The row that was taken, and the outputs that it adds."""

    row: int
    n_new: int


def greedy_cover(flagged: Sequence[Set[int]], counts: Sequence[int], *, most: int = MOST_STEPS) -> list[Step]:
    """Rows, each the one that the most outputs not yet covered are flagged for; of equal ones the first.

    flagged: the rows of each output. counts: how many outputs of the log each one stands for.

    The smallest set is hard to find (set cover); this one covers, with k rows, at least 1 - 1/e of what the best k
    rows would (Nemhauser, Wolsey and Fisher 1978).
    """
    outputs_of: dict[int, set[int]] = defaultdict(set)
    for number, rows in enumerate(flagged):
        for row in rows:
            outputs_of[row].add(number)
    steps: list[Step] = []
    while outputs_of and len(steps) < most:
        gains = {row: sum(counts[number] for number in left) for row, left in outputs_of.items()}
        row = min(gains, key=lambda row: (-gains[row], row))
        steps.append(Step(row, gains[row]))
        covered = outputs_of[row]
        outputs_of = {other: rest for other, left in outputs_of.items() if (rest := left - covered)}
    return steps


__all__ = ["MOST_STEPS", "Step", "greedy_cover"]
