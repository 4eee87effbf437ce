"""How long work says how far it is: one kind of callback, the same for everything that takes more than a moment."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int | None], None]
"""Called with the name of the stage, how much of it is done, and how much there is, where that is known."""


def silent(stage: str, done: int, total: int | None) -> None:
    """Says nothing."""
