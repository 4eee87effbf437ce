"""Progress on everything that may take more than two seconds: done, total, rows per second, time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[int, int], None]
"""Called with how many are done and how many there are."""

SHOW_AFTER_SECONDS = 2.0


def quiet_libraries() -> None:
    """Silences the libraries' own bars and advice, which cut through ours. Called by commands, never on import."""
    import datasets
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()


@contextmanager
def progress(what: str, unit: str = "rows", *, quiet: bool = False) -> Iterator[Report]:
    """Shows a bar on standard error once the work has taken two seconds; nothing with `quiet`."""
    if quiet:
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )
    task = bar.add_task(what, total=None, rate="")
    started = time.monotonic()
    first: list[int] = []

    def report(done: int, total: int) -> None:
        first.append(done) if not first else None
        elapsed = time.monotonic() - started
        rate = (done - first[0]) / elapsed if elapsed > 0 else 0.0
        bar.update(task, completed=done, total=total, rate=f"{rate:,.1f} {unit}/s" if rate else "")
        if elapsed > SHOW_AFTER_SECONDS and not bar.live.is_started:
            bar.start()

    try:
        yield report
    finally:
        if bar.live.is_started:
            bar.stop()
