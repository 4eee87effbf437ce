"""Fine-tunes again without the rows and counts how often the behaviour is still there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whence.lazy import attach

if TYPE_CHECKING:
    from whence.confirmation.arms import CONTROLS
    from whence.confirmation.as_trained import (
        KnownSettings,
        known_settings,
        settings_beside,
        settings_recorded,
        training_base,
    )
    from whence.confirmation.result import ARM_LABELS, FLAGGED, Confirmation, apply, told_resolution
    from whence.confirmation.retrain import RESULT, check_enough, confirm

__all__ = [
    "ARM_LABELS",
    "CONTROLS",
    "FLAGGED",
    "RESULT",
    "Confirmation",
    "KnownSettings",
    "apply",
    "check_enough",
    "confirm",
    "known_settings",
    "settings_beside",
    "settings_recorded",
    "told_resolution",
    "training_base",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "arms": ["CONTROLS"],
        "as_trained": ["KnownSettings", "known_settings", "settings_beside", "settings_recorded", "training_base"],
        "result": ["ARM_LABELS", "Confirmation", "FLAGGED", "apply", "told_resolution"],
        "retrain": ["RESULT", "check_enough", "confirm"],
    },
)
