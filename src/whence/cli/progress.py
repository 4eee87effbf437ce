"""Progress on everything that may take more than two seconds: done, total, rows per second, time left."""

from __future__ import annotations

import sys
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
    """Shows a bar on standard error once a stage has taken two seconds; nothing with `quiet`. One stage at a time.

    Where standard error is no terminal, a line says which stage begins, once two seconds have passed in all.
    """
    if quiet:
        yield silent
        return
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines()
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar
    from rich.text import Text

    class TimeLeft(TimeRemainingColumn):
        """The time left; nothing where the total is not known."""

        def render(self, task: Task) -> Text:
            return Text("") if task.total is None else Text.assemble(super().render(task), " left")

    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("elapsed"),
        TimeLeft(),
        console=console,
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


def _lines() -> Progress:
    """A line on standard error for each stage that begins, or goes on, once the time to show has passed."""
    started, shown = time.monotonic(), ""

    def report(stage: str, done: int, total: int | None) -> None:
        nonlocal shown
        elapsed = time.monotonic() - started
        if stage == shown or elapsed <= SHOW_AFTER_SECONDS:
            return
        shown = stage
        of = "" if total is None else f" ({done:,} of {total:,})"
        print(f"{stage}{of}, {elapsed:.0f} s elapsed", file=sys.stderr, flush=True)

    return report


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
