"""How often a behaviour shows, with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

Z = 1.959963984540054
"""Of a 95% interval."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Share of answers that show the behaviour, in [0, 1], with its 95% Wilson interval over `n` prompts."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.0%} [{self.low:.0%}, {self.high:.0%}]"


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95% interval of a share that was seen over n trials, in [0, 1]; it is not empty at 0 and 1.

    centre = (p + z^2 / 2n) / (1 + z^2 / n); half = z / (1 + z^2 / n) * sqrt(p (1 - p) / n + z^2 / 4n^2)

    Source: Wilson 1927.
    """
    scale = 1 + Z * Z / n
    centre = (share + Z * Z / (2 * n)) / scale
    half = Z / scale * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def rate(shown: Sequence[Sequence[bool]]) -> Rate:
    """The behaviour rate of `shown[seed][prompt]`.

    The interval counts prompts, not answers: answers of several seeds to one prompt are no independent trials.
    """
    mean = fmean(fmean(one) for one in shown)
    n = len(shown[0])
    return Rate(mean, *wilson(mean, n), n)
