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


def bars() -> Progress:
    """Progress as bars of tqdm, one a stage: in a notebook widgets (`whence[notebook]`), else on standard error.

    whence.build_index(model, data, out, progress=bars())
    """
    from tqdm.auto import tqdm

    shown: dict[str, tqdm] = {}

    def report(stage: str, done: int, total: int | None) -> None:
        if stage not in shown:
            for bar in shown.values():
                bar.close()
            shown.clear()
            shown[stage] = tqdm(desc=stage, total=total, initial=done)
        bar = shown[stage]
        bar.total = total
        bar.update(done - bar.n)
        if total is not None and done >= total:
            bar.close()

    return report
