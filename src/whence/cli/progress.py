"""Progress on everything that may take more than two seconds: done, total, rows per second, time left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from whence.progress import Progress, silent

if TYPE_CHECKING:
    from rich.progress import TaskID

SHOW_AFTER_SECONDS = 2.0


def quiet_libraries() -> None:
    """Silences the libraries' own bars and advice, which cut through ours. Called by commands, never on import."""
    import datasets
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()


@contextmanager
def stages(unit: str = "rows", *, quiet: bool = False) -> Iterator[Progress]:
    """Shows a bar on standard error once a stage has taken two seconds; nothing with `quiet`. One stage at a time."""
    if quiet:
        yield silent
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar

    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    clock = _StageClock()

    def report(stage: str, done: int, total: int | None) -> None:
        if clock.begins(stage, done):
            for task in bar.task_ids:
                bar.remove_task(task)
            clock.task = bar.add_task(stage, total=total, rate="")
        rate = clock.rate(done)
        bar.update(clock.task, completed=done, total=total, rate=f"{rate:,.1f} {unit}/s" if rate else "")
        if clock.elapsed > SHOW_AFTER_SECONDS and not bar.live.is_started:
            bar.start()

    try:
        yield report
    finally:
        if bar.live.is_started:
            bar.stop()


class _StageClock:
    """When the stage that is shown began, and with how many already done."""

    task: TaskID

    def __init__(self) -> None:
        self._stage, self._first, self._started = "", 0, time.monotonic()

    def begins(self, stage: str, done: int) -> bool:
        """Whether this is another stage than before; the clock then starts anew."""
        if stage == self._stage:
            return False
        # Counted from the first report on: what came before it may have been another stage, or an earlier run.
        self._stage, self._first, self._started = stage, done, time.monotonic()
        return True

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._started

    def rate(self, done: int) -> float:
        """Done a second in this stage."""
        return (done - self._first) / self.elapsed if self.elapsed > 0 else 0.0
