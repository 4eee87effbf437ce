"""What an index would cost, from a short probe of the real model on the real data: `planning.plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whence.lazy import attach

if TYPE_CHECKING:
    from whence.planning.arithmetic import Arithmetic, reckon
    from whence.planning.budget import clock, parse_budget
    from whence.planning.planning import plan, plan_settings
    from whence.planning.result import Plan

__all__ = [
    "Arithmetic",
    "Plan",
    "clock",
    "parse_budget",
    "plan",
    "plan_settings",
    "reckon",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "arithmetic": ["Arithmetic", "reckon"],
        "budget": ["clock", "parse_budget"],
        "planning": ["plan", "plan_settings"],
        "result": ["Plan"],
    },
)
