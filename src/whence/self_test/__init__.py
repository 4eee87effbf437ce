"""Does tracing work with this model and these data? Harmless faults, planted, learned and traced: `run.selftest`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whence.lazy import attach

if TYPE_CHECKING:
    from whence.self_test.plant import FAULTS, usable_rows
    from whence.self_test.result import SelfTest
    from whence.self_test.run import selftest

__all__ = [
    "FAULTS",
    "SelfTest",
    "selftest",
    "usable_rows",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "plant": ["FAULTS", "usable_rows"],
        "result": ["SelfTest"],
        "run": ["selftest"],
    },
)
