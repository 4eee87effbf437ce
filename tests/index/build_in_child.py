"""Builds an index in children of this process, as an argument says, and reports on them. Started by the tests.

A child is forked before Lance has done anything, so that it starts at once and with Lance's threads its own.

    build_in_child.py kill OUT N_ROWS      kills builds of one index at many moments, then prints how often it did
    build_in_child.py memory OUT N_ROWS... prints the peak memory in KiB of a build of each size
    build_in_child.py full OUT N_ROWS      builds with files limited in size; prints the error's message
"""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from fake_index import FakeEncoder, FakeExtractor, fake_examples, fake_manifest, write_index
from whence.errors import IndexFolderError
from whence.index import shard_commits, shards
from whence.index.engines import in_process

SHARD_BYTES = 150_000
"""More than a shard of 16 rows of the fake index, less than one of 64."""


def build(out: Path, n_rows: int, *, dim: int = 8, shard_rows: int = 16) -> None:
    manifest = fake_manifest(n_rows, dim=dim, shard_rows=shard_rows)
    write_index(out, fake_examples(n_rows, unencodable=(3, 40)), FakeEncoder(), FakeExtractor(dim=dim), manifest)


def in_child(work: Callable[[], None], kill_after: float | None = None) -> tuple[int, int]:
    """Exit status (negative: the signal) and peak memory in KiB."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(status)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), usage.ru_maxrss


def dying(function: str, call: int, *, after: bool) -> None:
    """Makes the module's function kill the process at its n-th call, before or after doing its work."""
    module = {"write_fragment": shard_commits, "commit_shard": in_process}.get(function, shards)
    original = getattr(module, function)
    calls = iter(range(1, 1 << 30))

    def replacement(*args: object, **kwargs: object) -> object:
        now = next(calls) == call
        if now and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if now:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(module, function, replacement)


def kill(out: Path, n_rows: int) -> None:
    """Each run gets further, at most two shards; the ones killed by the clock die anywhere, also inside a commit."""
    killed = 0
    moments = [("_start", 1, False), ("_start", 1, True), ("write_fragment", 1, False), ("write_fragment", 1, True)]
    moments += [("commit_shard", 1, False), ("commit_shard", 2, False)]
    moments += [("write_fragment", 2, False), ("write_fragment", 2, True)]
    for function, call, after in moments:

        def work(function: str = function, call: int = call, after: bool = after) -> None:
            dying(function, call, after=after)
            build(out, n_rows)

        killed += in_child(work)[0] == -signal.SIGKILL
    rng = random.Random(0)
    for _ in range(10):
        killed += in_child(lambda: build(out, n_rows), kill_after=rng.uniform(0.01, 0.06))[0] == -signal.SIGKILL

    def last() -> None:
        dying("seal", 1, after=False)
        build(out, n_rows)

    killed += in_child(last)[0] == -signal.SIGKILL
    assert in_child(lambda: build(out, n_rows))[0] == 0
    print(killed, len(moments) + 10 + 1)


def memory(out: Path, n_rows: int) -> int:
    """The lowest of three runs: threads that happen to wait for each other only ever add to it."""
    places = [out / f"{n_rows}-{run}" for run in range(3)]
    return min(in_child(lambda place=place: build(place, n_rows, dim=2048, shard_rows=128))[1] for place in places)


def full(out: Path, n_rows: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SHARD_BYTES, SHARD_BYTES))
    try:
        build(out, n_rows, dim=2048, shard_rows=64)
    except IndexFolderError as error:
        print(error)


if __name__ == "__main__":
    command, folder, rows = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    if command == "kill":
        kill(folder, rows)
    elif command == "memory":
        print(*(memory(folder, int(n_rows)) for n_rows in sys.argv[3:]))
    else:
        full(folder, rows)
