"""Whether this machine computes faster in bfloat16."""

from __future__ import annotations

import time
from functools import cache

import torch

SIZE, REPEATS = 768, 3
GAIN = 1.5
"""How many times as fast a product of matrices must be for bfloat16 to be worth its rounding."""


@cache
def faster_in_bfloat16(device: str) -> bool:
    """Whether a product of matrices on this device is `GAIN` times as fast in bfloat16 as in float32, measured once."""
    seconds = {dtype: _seconds(device, dtype) for dtype in (torch.float32, torch.bfloat16)}
    return seconds[torch.float32] > GAIN * seconds[torch.bfloat16]


def _seconds(device: str, dtype: torch.dtype) -> float:
    """The least time of a few products, after one that warms up."""
    one = torch.ones(SIZE, SIZE, dtype=dtype, device=device)
    times = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        float((one @ one)[0, 0])
        times.append(time.perf_counter() - started)
    return min(times[1:])
