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
    """Who computes the shards of a build: this process, processes of this machine, or actors of a Ray cluster.

    engine:  "local", or "ray", which needs whence[ray].
    devices: of "local": one process each, as in ("0", "1") for two GPUs or ("cpu", "cpu"); () computes in this process.
    address: of "ray": the cluster, "auto" or "host:port"; None starts one here.
    n:       of "ray": how many actors; None is one for each GPU, or core where there is none.

    Raises InputError for another engine, and for settings of one engine given to the other.
    """

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
