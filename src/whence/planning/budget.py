"""A time budget: reading it, and what would have to change for a run to keep within it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from whence.data import EncodedTurn
from whence.errors import InputError
from whence.planning.costs import BatchShape, Costs, cut, layout, shape_of

CHOICES = (1024, 2048, 4096, 8192)
"""Padded tokens of a batch that are tried for a budget."""
SHORTEST = 64
"""Tokens below which a row is no longer the row."""

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_BUDGET = re.compile(r"(?:(\d+(?:\.\d+)?)([dhms]))+")


@dataclass(frozen=True, slots=True)
class Whole:
    """Seconds of a whole run, split into what does not depend on the rows' number, what does, and the batches.

    `turns` are those of the sampled rows; every one of them stands for `scale` rows of the data.
    """

    fixed_seconds: float
    row_seconds: float
    costs: Costs
    turns: Sequence[Sequence[EncodedTurn]]
    scale: float
    shard_rows: int
    max_tokens: int

    def seconds(self) -> float:
        """The whole run."""
        return self.fixed_seconds + self.row_seconds + self.extract_seconds()

    def extract_seconds(self) -> float:
        """Signatures of all rows."""
        groups = layout(self.turns, shard_rows=self.shard_rows, max_tokens=self.max_tokens)
        return self.scale * self.costs.seconds(shape_of(group) for group in groups)

    def single(self) -> Iterator[BatchShape]:
        """A batch of one turn of the sample's mean length."""
        turns = [turn for row in self.turns for turn in row]
        n = len(turns)
        yield BatchShape(1, sum(len(t.input_ids) for t in turns) // n, sum(t.n_response for t in turns) // n)

    def shortened(self, max_length: int) -> Whole:
        """The same with every turn cut to `max_length` tokens."""
        return replace(self, turns=[[cut(turn, max_length) for turn in row] for row in self.turns])


def parse_budget(text: str) -> float:
    """Seconds of a time such as 2h, 90m, 1h30m, 45s or 1.5d. Raises InputError."""
    spelled = text.strip().lower().replace(" ", "")
    parts = re.findall(r"(\d+(?:\.\d+)?)([dhms])", spelled)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not _BUDGET.fullmatch(spelled) or not 0 < seconds < float("inf"):
        raise InputError(f"--budget {text!r} is no time.", "Expected one such as 2h, 90m, 1h30m or 45s.", "")
    return seconds


def changes(whole: Whole, budget: float, last_alone: Whole | None, *, on_cpu: bool) -> tuple[str, ...]:
    """What would have to change for the run to take at most `budget` seconds, each with what it would then take."""
    found = []
    by_row = whole.seconds() - whole.fixed_seconds
    share = (budget - whole.fixed_seconds) / by_row if by_row > 0 else 0.0
    if share > 0:
        found.append(f"fewer rows: {share:.0%} of them take {clock(budget)}")
    else:
        found.append(f"a longer budget: reading the data and loading the model alone take {clock(whole.fixed_seconds)}")
    longest = max(len(turn.input_ids) for row in whole.turns for turn in row)
    length = 1 << (longest - 1).bit_length()
    while length // 2 >= SHORTEST and share > 0:
        length //= 2
        shorter = whole.shortened(length)
        if shorter.seconds() <= budget:
            kept = sum(len(turn.input_ids) <= length for row in whole.turns for turn in row)
            n = sum(map(len, whole.turns))
            said = f"takes {clock(shorter.seconds())} and cuts {1 - kept / n:.0%} of them"
            found.append(f"shorter rows: --max-length {length} {said}")
            break
    if last_alone is not None and last_alone.seconds() < whole.seconds():
        fits = "" if last_alone.seconds() <= budget else ", still too long"
        found.append(f"one layer: --layer last takes {clock(last_alone.seconds())}{fits}")
    if on_cpu:
        found.append("a GPU: --device cuda; plan there again")
    return tuple(found)


def clock(seconds: float) -> str:
    """Seconds as a person says them: 4.2 s, 12 min, 3 h 20 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


__all__ = ["CHOICES", "Whole", "changes", "clock", "parse_budget"]
