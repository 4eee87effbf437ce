"""A pytest plugin under which the system's clock jumps by up to five years, back and forth, every few milliseconds.

The process must have been started with libfaketime before the C library, reading its offset from the file that
FAKETIME_TIMESTAMP_FILE names. The monotonic clock is left as it is.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from random import Random

import pytest

DAYS = 5 * 365
EVERY = 0.02
"""Seconds."""


def pytest_configure(config: pytest.Config) -> None:
    """Starts the jumps, and ends the run where the clock does not follow."""
    place = Path(os.environ["FAKETIME_TIMESTAMP_FILE"])
    stop = threading.Event()

    def moved(days: int) -> None:
        new = place.with_suffix(".new")
        new.write_text(f"{days:+d}d\n")
        new.replace(place)

    def jump() -> None:
        rng = Random(0)
        while not stop.wait(EVERY):
            moved(rng.randint(-DAYS, DAYS))

    before = time.time()
    moved(DAYS)
    if time.time() - before < 86400:
        raise pytest.UsageError("the clock does not move: was libfaketime loaded?")
    threading.Thread(target=jump, daemon=True).start()
    config.add_cleanup(stop.set)
