"""None"""

from __future__ import annotations

from typing import TYPE_CHECKING

from whence.lazy import attach

if TYPE_CHECKING:
    from whence.methods.base import SharedWork, Subject, TraceSet, checked_scores
    from whence.methods.gradients.checkpoints import FolderCheckpoint, run_checkpoints
    from whence.methods.registry import make_method, method_class, resolve_names

__all__ = [
    "FolderCheckpoint",
    "SharedWork",
    "Subject",
    "TraceSet",
    "checked_scores",
    "make_method",
    "method_class",
    "resolve_names",
    "run_checkpoints",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "base": ["SharedWork", "Subject", "TraceSet", "checked_scores"],
        "gradients.checkpoints": ["FolderCheckpoint", "run_checkpoints"],
        "registry": ["make_method", "method_class", "resolve_names"],
    },
)
