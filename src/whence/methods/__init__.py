"""Every attribution method behind one interface, `fit` and `score`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whence.lazy import attach

if TYPE_CHECKING:
    from whence.methods.base import Method, SharedWork, Subject, TurnSet, checked_scores
    from whence.methods.gradients.checkpoints import FolderCheckpoint, run_checkpoints
    from whence.methods.registry import make_method, method_class, method_names, resolve_names
    from whence.methods.representations import RepresentationMethod

__all__ = [
    "FolderCheckpoint",
    "Method",
    "RepresentationMethod",
    "SharedWork",
    "Subject",
    "TurnSet",
    "checked_scores",
    "make_method",
    "method_class",
    "method_names",
    "resolve_names",
    "run_checkpoints",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "base": ["Method", "SharedWork", "Subject", "TurnSet", "checked_scores"],
        "gradients.checkpoints": ["FolderCheckpoint", "run_checkpoints"],
        "registry": ["make_method", "method_class", "method_names", "resolve_names"],
        "representations": ["RepresentationMethod"],
    },
)
