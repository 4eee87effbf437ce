"""What a Ray cluster costs beside processes of the same machine, at the same number of workers.

    python benchmarks/engines.py [--workers 2 4] [--rows 4000] [--repeats 3] [--seed 0]

The rows and the model of benchmarks/index_changes.py, or with --model and --data others. Each round builds the index
by processes (`--devices cpu,cpu`) and by the actors of a cluster that runs on this machine already, in turn the one and
the other first; one thread a worker. The time of every committed shard is noted. Given are

start     seconds until every worker has committed two shards: starting it, loading the model, its first batches
work      rows a second from then on to the last shard but the number of workers: what a long build costs
whole     seconds of the build

and Ray's overhead at work: the rate of processes over the rate of actors, less 1. With more workers than cores both
share them. Needs `pip install -e ".[ray]"`.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

import whence
from common import spread
from index_changes import make_model, write_rows
from whence.index import Workers
from whence.index.engines.in_process import Engine, Task
from whence.index.shard_commits import ShardNote

SHARD_ROWS = 64


@dataclass
class Timed:
    """An engine, and when each of its shards was committed: (seconds, rows so far)."""

    engine: Engine
    commits: list[tuple[float, int]] = field(default_factory=list)

    def run(self, tasks: Iterator[Task], committed: Callable[[ShardNote], None], tell: Callable[[float], None]) -> None:
        """See `Engine`."""

        def noted(note: ShardNote) -> None:
            before = self.commits[-1][1] if self.commits else 0
            self.commits.append((time.perf_counter(), before + note.rows.n_rows))
            committed(note)

        self.engine.run(tasks, noted, tell)


@dataclass(frozen=True)
class Found:
    """Of one build: seconds until all workers are warm, rows a second behind, seconds in all."""

    start: float
    rate: float
    whole: float


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", help="a model folder, with --data; else one is made")
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, seed {options.seed}")
    with tempfile.TemporaryDirectory() as place, cluster(max(options.workers)) as address:
        folder = Path(place)
        data = options.data or write_rows(folder / "train.jsonl", 0, options.rows, options.seed)
        model = options.model or make_model(folder / "model", data, options.seed)
        print("| workers | engine | start, s | rows a second | whole, s |\n|---|---|---|---|---|", flush=True)
        for n in options.workers:
            kinds = {
                "processes": Workers(devices=("cpu",) * n),
                "Ray": Workers(engine="ray", address=address, n=n),
            }
            found: dict[str, list[Found]] = {kind: [] for kind in kinds}
            for repeat in range(options.repeats):
                for kind in list(kinds)[:: 1 if repeat % 2 else -1]:
                    found[kind].append(built(folder / f"{kind}-{n}-{repeat}", str(model), data, kinds[kind], n))
            show(n, found)


def show(n: int, found: dict[str, list[Found]]) -> None:
    """Medians of the builds with each; then the overhead, round by round."""
    for kind, builds in found.items():
        cells = [spread([getattr(one, name) for one in builds]) for name in ("start", "rate", "whole")]
        print(f"| {n} | {kind} | {' | '.join(cells)} |")
    over = [a.rate / b.rate - 1 for a, b in zip(found["processes"], found["Ray"], strict=True)]
    print(f"| {n} | Ray's overhead at work | | {spread(over)} | |", flush=True)


def built(out: Path, model: str, data: Path, workers: Workers, n: int) -> Found:
    """One build."""
    timed: list[Timed] = []
    plain = Workers.open

    def opened(self: Workers, *args: object) -> Timed:
        timed.append(Timed(plain(self, *args)))  # type: ignore[arg-type]
        return timed[-1]

    Workers.open = opened  # type: ignore[assignment, method-assign]
    started = time.perf_counter()
    try:
        whence.build_index(model, data, out, shard_rows=SHARD_ROWS, device="cpu", workers=workers)
    finally:
        Workers.open = plain  # type: ignore[method-assign]
    whole = time.perf_counter() - started
    commits = timed[-1].commits
    # Behind the last shards but n some workers have nothing left to do.
    (first, rows_first), (last, rows_last) = commits[2 * n - 1], commits[-n]
    return Found(first - started, (rows_last - rows_first) / (last - first), whole)


@contextmanager
def cluster(n_cores: int) -> Iterator[str]:
    """A Ray cluster of this process that says it has so many cores; its address. The engine finds and leaves it up."""
    import ray

    init, stop = ray.init, ray.shutdown
    os.environ["OMP_NUM_THREADS"] = "1"
    context = init(num_cpus=n_cores, include_dashboard=False, log_to_driver=False)
    ray.init = lambda **options: init(**{**options, "ignore_reinit_error": True})
    ray.shutdown = lambda: None
    try:
        yield context.address_info["gcs_address"]
    finally:
        ray.init, ray.shutdown = init, stop
        stop()


if __name__ == "__main__":
    main()
