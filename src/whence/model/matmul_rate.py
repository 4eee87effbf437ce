"""How fast this processor multiplies matrices in float32 and in bfloat16, at a model's own shape."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from whence.model.loading import LoadedModel

TOKENS = 512
REPEATS = 5
LEAST_WIDTH = 512
"""Hidden size below which a product is too short for its time to say anything."""
WORTH_SAYING = 2.0
"""Measured with matrix instructions for bfloat16 (AMX): 3.6 to 5.0, and half the time for an index (docs/log.md)."""


def bfloat16_speedup(hidden: int) -> float:
    """Seconds of a product of states [512, hidden] and weights [hidden, 4 hidden]: float32 over bfloat16."""
    return _seconds(hidden, torch.float32) / _seconds(hidden, torch.bfloat16)


def dtype_note(loaded: LoadedModel) -> str:
    """The sentence that says how much faster bfloat16 is here; "" where it is not, and where a dtype was asked for."""
    if loaded.settings.dtype != "auto" or loaded.device.type != "cpu" or loaded.hidden_size < LEAST_WIDTH:
        return ""
    times = bfloat16_speedup(loaded.hidden_size)
    if times < WORTH_SAYING:
        return ""
    dtype = str(loaded.dtype).removeprefix("torch.")
    return (
        f"Computing in {dtype}; this processor multiplies matrices {times:.1f} times faster in bfloat16 "
        "(--dtype bfloat16)"
    )


def _seconds(hidden: int, dtype: torch.dtype) -> float:
    """The shortest of some products: what else the machine does makes them longer, never shorter."""
    states, weights = torch.ones(TOKENS, hidden, dtype=dtype), torch.ones(4 * hidden, hidden, dtype=dtype)
    shortest = float("inf")
    for _ in range(REPEATS):
        start = time.perf_counter()
        torch.nn.functional.linear(states, weights)
        shortest = min(shortest, time.perf_counter() - start)
    return shortest


__all__ = ["bfloat16_speedup", "dtype_note"]
