"""A data set without some of its rows, in its own format, with all that is needed to put them back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whence.lazy import attach

if TYPE_CHECKING:
    from whence.cleaning.cleaning import Cleaning, clean, refuse_existing, undo_clean
    from whence.cleaning.relabel import relabel_with
    from whence.cleaning.review import export_review

__all__ = [
    "Cleaning",
    "clean",
    "export_review",
    "refuse_existing",
    "relabel_with",
    "undo_clean",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "cleaning": ["Cleaning", "clean", "refuse_existing", "undo_clean"],
        "relabel": ["relabel_with"],
        "review": ["export_review"],
    },
)
