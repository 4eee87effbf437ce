"""A data set without some of its rows, in its own format, with all that is needed to put them back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whence.lazy import attach

if TYPE_CHECKING:
    from whence.cleaning.cleaning import Cleaning, clean, copy_data
    from whence.cleaning.outputs import refuse_existing
    from whence.cleaning.relabel import relabel_with
    from whence.cleaning.review import export_review
    from whence.cleaning.undoing import undo_clean

__all__ = [
    "Cleaning",
    "clean",
    "copy_data",
    "export_review",
    "refuse_existing",
    "relabel_with",
    "undo_clean",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "cleaning": ["Cleaning", "clean", "copy_data"],
        "outputs": ["refuse_existing"],
        "relabel": ["relabel_with"],
        "review": ["export_review"],
        "undoing": ["undo_clean"],
    },
)
