"""Shards computed by several processes of this machine, each with the model on a device of its own.

Each process computes and commits its shards itself; only rows go to it and notes come back. A process that dies is
started again and given its shard again; a shard at which processes die `MAX_TRIES` times ends the run with an error.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from whence.errors import IndexFolderError, WhenceError
from whence.index.engines.in_process import ShardWriter, Task
from whence.index.shard_commits import ShardNote

MAX_TRIES = 3
STOP_SECONDS = 5.0
"""What a process is given to end by itself."""

OpenWriter = Callable[[str], ShardWriter]
"""Called in the process with its device; must be picklable."""


@dataclass(slots=True)
class _Worker:
    device: str
    process: BaseProcess
    connection: Connection
    task: Task | None = None


@dataclass(slots=True)
class Processes:
    """The engine of several processes, one for each device; the same device may be named several times."""

    open_writer: OpenWriter
    devices: Sequence[str]
    _again: deque[Task] = field(default_factory=deque)
    _tries: Counter[int] = field(default_factory=Counter)

    def run(self, tasks: Iterator[Task], committed: Callable[[ShardNote], None], tell: Callable[[float], None]) -> None:
        """See `Engine`; progress is told shard by shard."""
        first = next(tasks, None)
        if first is None:
            return
        self._again.append(first)
        workers = [self._started(device) for device in self.devices]
        try:
            while True:
                for place, worker in enumerate(workers):
                    if worker.task is None and (task := self._next(tasks)) is not None:
                        workers[place] = self._given(worker, task)
                busy = {worker.connection: place for place, worker in enumerate(workers) if worker.task is not None}
                if not busy and not self._again:
                    return
                for connection in wait(list(busy)) if busy else ():
                    place = busy[connection]  # type: ignore[index]
                    workers[place] = self._heard(workers[place], committed)
        finally:
            for worker in workers:
                _stop(worker)

    def _next(self, tasks: Iterator[Task]) -> Task | None:
        return self._again.popleft() if self._again else next(tasks, None)

    def _started(self, device: str) -> _Worker:
        # A fork would copy threads of torch and Lance that do not live on in it.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self.open_writer, device), daemon=True)
        process.start()
        theirs.close()
        return _Worker(device, process, ours)

    def _given(self, worker: _Worker, task: Task) -> _Worker:
        """The worker with the task; another one where it had died."""
        worker.task = task
        try:
            worker.connection.send(task)
        except (BrokenPipeError, ConnectionResetError):
            # What it said before it died is still to be heard.
            return self._heard(worker, lambda note: None)
        return worker

    def _heard(self, worker: _Worker, committed: Callable[[ShardNote], None]) -> _Worker:
        """The worker behind its answer, free for another task; another one where it had died."""
        try:
            answer = worker.connection.recv()
        except (EOFError, OSError):
            return self._replaced(worker)
        if isinstance(answer, BaseException):
            raise answer
        worker.task = None
        committed(answer)
        return worker

    def _replaced(self, worker: _Worker) -> _Worker:
        task = worker.task
        _stop(worker)
        if task is not None:
            rows = task[0]
            self._tries[rows.shard] += 1
            if self._tries[rows.shard] >= MAX_TRIES:
                raise IndexFolderError(
                    f"A worker on {worker.device} ended {MAX_TRIES} times while it computed rows {rows.first_row} to "
                    f"{rows.first_row + rows.n_rows - 1} (exit status {worker.process.exitcode}).",
                    "A worker ends when the work does; -9 is what a machine without memory does to it.",
                    "Give fewer devices or a lower --max-tokens; the same command goes on.",
                )
            self._again.append(task)
        return self._started(worker.device)


def _stop(worker: _Worker) -> None:
    worker.connection.close()
    worker.process.terminate()
    worker.process.join(STOP_SECONDS)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()


def _work(connection: Connection, open_writer: OpenWriter, device: str) -> None:
    """The life of a worker: opens what it needs, then a shard for each task, until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started it
    try:
        writer = open_writer(device)
        while True:
            rows, examples = connection.recv()
            connection.send(writer.write(rows, examples))
    except EOFError:
        return
    except (WhenceError, OSError) as error:
        connection.send(error)


__all__ = ["MAX_TRIES", "OpenWriter", "Processes"]
