"""Who computes the shards of a build, as it was asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from whence.errors import InputError
from whence.index.engines.in_process import Engine, InProcess, ShardWriter
from whence.index.engines.processes import Processes
from whence.index.engines.ray_actors import RayActors
from whence.index.jobs import ReopenedWriter
from whence.index.manifest import Manifest

ENGINES = ("local", "ray")


@dataclass(frozen=True, slots=True)
class Workers:
    """engine: "local" or "ray". devices: one process of this machine each, as ("0", "1") or ("cpu", "cpu"); none for
    this process alone. address, n: of a Ray cluster, and how many actors."""

    engine: str = "local"
    devices: tuple[str, ...] = ()
    address: str | None = None
    n: int | None = None

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise InputError(f"--engine {self.engine!r} is none.", "Expected local or ray.", "")
        if self.engine == "ray" and self.devices:
            raise InputError(
                "--devices with --engine ray.", "Ray gives each worker a device.", "Leave --devices out; see --workers."
            )
        if self.engine == "local" and (self.address is not None or self.n is not None):
            raise InputError("--address or --workers without --engine ray.", "They are for a cluster.", "Add it.")

    @property
    def elsewhere(self) -> bool:
        """Whether other processes load the model."""
        return self.engine == "ray" or bool(self.devices)

    def open(self, out: Path, manifest: Manifest, here: Callable[[], ShardWriter]) -> Engine:
        """The engine. here: makes the writer of this process."""
        if self.engine == "ray":
            return RayActors(ReopenedWriter(out, manifest), self.address, self.n)
        if not self.devices:
            return InProcess(here())
        on_cores = sum(device == "cpu" for device in self.devices)
        threads = max(1, (os.cpu_count() or 1) // on_cores) if on_cores > 1 else None
        return Processes(ReopenedWriter(out, manifest, threads), [_device(name) for name in self.devices])


def _device(name: str) -> str:
    """ "0" is the first GPU."""
    return f"cuda:{name}" if name.isdecimal() else name


__all__ = ["Workers"]
