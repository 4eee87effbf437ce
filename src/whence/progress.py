"""How long work reports its progress: one kind of callback, the same for everything that takes more than a moment."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int | None], None]
"""Called with the name of the stage, how much of it is done, and how much there is, where that is known."""


Count = Callable[[int, int], None]
"""The same within one stage: called with how much is done and how much there is."""


def counted(progress: Progress | None, stage: str) -> Count:
    """What a stage's own work calls."""
    return lambda done, total: None if progress is None else progress(stage, done, total)


def silent(stage: str, done: int, total: int | None) -> None:
    """Reports nothing."""
