"""Fine-tunes again without the rows and counts how often the behaviour is still there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whence.lazy import attach

if TYPE_CHECKING:
    from whence.confirmation.arms import CONTROLS
    from whence.confirmation.recipe import settings_beside, settings_recorded
    from whence.confirmation.result import FLAGGED, Confirmation, apply
    from whence.confirmation.retrain import RESULT, confirm

__all__ = [
    "CONTROLS",
    "FLAGGED",
    "RESULT",
    "Confirmation",
    "apply",
    "confirm",
    "settings_beside",
    "settings_recorded",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "arms": ["CONTROLS"],
        "recipe": ["settings_beside", "settings_recorded"],
        "result": ["Confirmation", "FLAGGED", "apply"],
        "retrain": ["RESULT", "confirm"],
    },
)
