"""What a method costs: seconds, with shared work charged in full and once, and memory."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch

from whence.methods import SharedWork, TurnSet

T = TypeVar("T")

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"
"""What Linux wants to be told to forget a process's highest memory use so far (man 5 proc)."""


@dataclass(slots=True)
class ChargedWork(SharedWork):
    """Shared work that charges a method for each piece once, as if it had done that piece itself and kept it.

    `SharedWork` counts a piece every time it is spared, also when the method that did it asks again. `charge` begins
    the account of a method; `bytes_spared` is the memory of the pieces that others had made.
    """

    bytes_spared: int = 0
    _charged: set[tuple[Hashable, ...]] = field(default_factory=set)

    def charge(self) -> None:
        """Begins a new method's account."""
        self._charged.clear()
        self.seconds_spared, self.bytes_spared = 0.0, 0

    def get(self, key: tuple[Hashable, ...], rows: TurnSet, n_bytes: int, work: Callable[[], T]) -> T | None:
        """As `SharedWork.get`."""
        whole = (id(rows), *key)
        known, before = whole in self._kept, self.seconds_spared
        done = SharedWork.get(self, key, rows, n_bytes, work)
        if known and whole in self._charged:
            self.seconds_spared = before
        elif known:
            self.bytes_spared += n_bytes
        if done is not None:
            self._charged.add(whole)
        return done


@dataclass(slots=True)
class Cost:
    """Seconds of a stage as if its method ran alone, and the memory that it added at its highest."""

    seconds: float = 0.0
    peak_bytes: int | None = None
    """None where the system does not tell."""


@contextmanager
def measured(work: ChargedWork, device: torch.device) -> Iterator[Cost]:
    """Fills the cost of what runs inside. Seconds hold what shared work spared; memory holds the spared pieces."""
    cost = Cost()
    spared, kept = work.seconds_spared, work.bytes_spared
    gc.collect()
    on_gpu = device.type == "cuda"
    before = _begin_gpu(device) if on_gpu else _begin_rss()
    started = time.perf_counter()
    yield cost
    if on_gpu:
        torch.cuda.synchronize(device)
    cost.seconds = time.perf_counter() - started + work.seconds_spared - spared
    peak = torch.cuda.max_memory_allocated(device) if on_gpu else _status("VmHWM")
    if peak is not None and before is not None:
        cost.peak_bytes = max(0, peak - before) + work.bytes_spared - kept


def _begin_gpu(device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _begin_rss() -> int | None:
    """Resident bytes now, the process's record set back to them; None where Linux's /proc is not there."""
    try:
        CLEAR.write_text(RESET_PEAK, encoding="ascii")
    except OSError:
        return None
    return _status("VmRSS")


def _status(name: str) -> int | None:
    """A field of /proc/self/status, in bytes."""
    try:
        lines = STATUS.read_text("ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:")), None)
