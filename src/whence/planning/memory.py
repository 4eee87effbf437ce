"""How much memory this process holds, and the most it has held."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")


def peak_bytes() -> int:
    """The most memory that the process has held (resident set), in bytes."""
    found = _from_status("VmHWM")
    if found is not None:
        return found
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def held_bytes() -> int:
    """The memory that the process holds now (resident set), in bytes; its peak where that cannot be told."""
    found = _from_status("VmRSS")
    return peak_bytes() if found is None else found


def device_peak_bytes(device: torch.device) -> int | None:
    """The most memory that tensors on a CUDA device have held since `forget_device_peak`; None for other devices."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def forget_device_peak() -> None:
    """Starts `device_peak_bytes` anew."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _from_status(name: str) -> int | None:
    """A field of Linux's /proc/self/status. getrusage's peak may be that of the process that started this one."""
    if not _STATUS.exists():
        return None
    for line in _STATUS.read_text("utf-8").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    return None


__all__ = ["device_peak_bytes", "forget_device_peak", "held_bytes", "peak_bytes"]
