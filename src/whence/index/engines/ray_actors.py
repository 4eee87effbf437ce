"""Shards computed by the actors of a Ray cluster.

Each actor holds the model on a GPU or a core of its own, and computes and commits its shards itself, so the folder of
the index must be one that all machines of the cluster reach. Rows go to an actor and notes come back; no more than
`IN_FLIGHT` shards wait at one. An actor that dies is started again by Ray and given its shards again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

from whence.data import Example
from whence.errors import IndexFolderError, InputError, WhenceError, install_extra
from whence.index.engines.in_process import ShardWriter, Task
from whence.index.engines.processes import MAX_TRIES, OpenWriter
from whence.index.file_table import ShardRows
from whence.index.shard_commits import ShardNote

IN_FLIGHT = 2
"""Shards at one actor: the one that it computes, and the next."""


class ShardActor:
    """What lives in an actor: a writer, opened when it is first needed."""

    def __init__(self, open_writer: OpenWriter, device: str) -> None:
        self._open, self._device = open_writer, device
        self._writer: ShardWriter | None = None

    def write(self, rows: ShardRows, examples: list[Example]) -> ShardNote:
        """See `ShardWriter.write`."""
        if self._writer is None:
            self._writer = self._open(self._device)
        return self._writer.write(rows, examples)


@dataclass(frozen=True, slots=True)
class RayActors:
    """The engine of a cluster.

    address: as `ray.init` takes it: "auto", host:port, or None for a cluster on this machine that ends with the run.
    workers: number of actors; None for one on each GPU, or on each core where there is no GPU.
    """

    open_writer: OpenWriter
    address: str | None = None
    workers: int | None = None

    def run(self, tasks: Iterator[Task], committed: Callable[[ShardNote], None], tell: Callable[[float], None]) -> None:
        """See `Engine`; progress is told shard by shard."""
        ray = _connected(self.address)
        try:
            self._run(ray, tasks, committed)
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, WhenceError | OSError):
                raise cause from error
            raise
        except ray.exceptions.RayActorError as error:
            raise IndexFolderError(
                f"An actor ended {MAX_TRIES} times: {' '.join(str(error).split())[:300]}",
                "An actor ends when the work does.",
                "See Ray's dashboard for why (memory, most often); the same command goes on.",
            ) from error
        finally:
            ray.shutdown()

    def _run(self, ray: ModuleType, tasks: Iterator[Task], committed: Callable[[ShardNote], None]) -> None:
        actors = self._actors(ray)
        waiting: dict[Any, Any] = {}  # answer to come -> actor that owes it
        free = [actor for actor in actors for _ in range(IN_FLIGHT)]
        while True:
            while free and (task := next(tasks, None)) is not None:
                actor = free.pop(0)
                waiting[actor.write.remote(*task)] = actor
            if not waiting:
                return
            (answer, *_), _ = ray.wait(list(waiting), num_returns=1)
            committed(ray.get(answer))
            free.append(waiting.pop(answer))

    def _actors(self, ray: ModuleType) -> list[Any]:
        resources = ray.cluster_resources()
        n_gpus, n_cores = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
        share = {"num_gpus": 1} if n_gpus else {"num_cpus": 1}
        most = n_gpus or n_cores
        if self.workers is not None and self.workers > most:
            raise InputError(
                f"--workers {self.workers} are more than the cluster has: {n_gpus} GPUs, {n_cores} cores.",
                "A worker takes a GPU, or a core where there is no GPU.",
                f"Give --workers {most}, or add machines to the cluster.",
            )
        kind = ray.remote(max_restarts=MAX_TRIES, max_task_retries=MAX_TRIES, **share)(ShardActor)
        device = "cuda" if n_gpus else "cpu"
        return [kind.remote(self.open_writer, device) for _ in range(self.workers or most)]


def _connected(address: str | None) -> ModuleType:
    try:
        ray: ModuleType = import_module("ray")
    except ImportError as error:
        raise InputError("Ray is not installed.", "--engine ray needs it.", install_extra("ray")) from error
    try:
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        ray.init(address=address, include_dashboard=False if address is None else None, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(
            f"No Ray cluster answers at {address}: {' '.join(str(error).split())[:200]}",
            "Expected the address of a running cluster: auto on one of its machines, or host:port.",
            "Start one (ray start --head), or leave --address out for one on this machine.",
        ) from error
    return ray


__all__ = ["RayActors", "ShardActor"]
