"""Many people at one `whence serve`: how long they wait, what fails, whether memory grows, whether answers are right.

    python benchmarks/serve_load.py runs/demo/index [--clients 50] [--seconds 120] [--think 2] [--json out.json]

A server is started on a free port of loopback, for this run alone: its state lies in a temporary folder, and it ends
with the run. Each client is a thread that thinks (exponential, --think seconds in the mean) and then, at random,
searches (four times of five: a page of rows by a condition) or traces (ten rows with verdict, one of --different
queries, which are rows of the index). First one client alone asks for a tenth of the time, but at least ten seconds:
the baseline.

Every answer is compared with the library's own, made before in this process: of a trace the whole result,
of a search the ids that a loop over all rows finds. Printed are seconds (median, 95th percentile, most) of each kind,
requests, errors by kind, answers that differ, and the server's memory (resident, and of it what no file backs) a tenth
into the run and at its end. Clients and server share the machine's cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch

import whence
from whence.data import Json
from whence.errors import WhenceError
from whence.index import Index
from whence.results import TraceResult

K, PAGE = 10, 50
SEARCHES = 0.8
"""Of all requests."""
PATIENCE = 120.0
"""Seconds until a request counts as an error."""
MOST_CLIENTS, MOST_SECONDS = 200, 600.0


@dataclass(frozen=True)
class Search:
    """A condition, where its page begins, and the library's answer."""

    where: str
    offset: int
    ids: tuple[str, ...]
    total: int


@dataclass(frozen=True)
class Trace:
    """A query and the library's answer as JSON."""

    prompt: str
    response: str
    result: Json


@dataclass
class Seen:
    """What happened in one stage."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {"search": [], "trace": []})
    errors: Counter[str] = field(default_factory=Counter)
    different: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)


def main() -> None:
    """Runs the load and prints what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--think", type=float, default=2.0)
    parser.add_argument("--different", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    clients, seconds = min(options.clients, MOST_CLIENTS), min(options.seconds, MOST_SECONDS)
    rng = random.Random(options.seed)
    searches, traces = expected(options.index, options.different, rng)
    with server(options.index, queue=clients + 8) as (url, pid):
        client = whence.Client(url, timeout=PATIENCE)
        for trace in traces[:2]:  # the first makes what the verdict compares with
            client.trace(trace.prompt, trace.response, k=K)
        alone = stage(url, 1, max(10.0, seconds / 10), 0.0, searches, traces, rng)
        sizes: list[tuple[float, dict[str, float]]] = []
        load = stage(url, clients, seconds, options.think, searches, traces, rng, pid=pid, sizes=sizes)
        waits = client.health()["waiting"]
    found = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads of torch",
        "whence": version("whence"),
        "index": describe(options.index),
        "clients": clients,
        "seconds": seconds,
        "think": options.think,
        "seed": options.seed,
        "alone": summary(alone),
        "load": summary(load),
        "memory_mib": memory(sizes),
        "waiting_at_the_end": waits,
    }
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def expected(index: Path, different: int, rng: random.Random) -> tuple[list[Search], list[Trace]]:
    """Searches and traces with the library's own answers."""
    tracer = whence.Tracer(index)
    records = list(tracer.index.texts(None))
    chosen = rng.sample(records, min(different, len(records)))
    traces = []
    for record in chosen:
        queries = tracer.trace(record.prompt, record.response, k=K).to_dict()["queries"]
        assert isinstance(queries, list)
        traces.append(Trace(record.prompt, record.response, json.loads(json.dumps(queries[0]))))
    lines = sorted(record.line for record in records)
    searches = []
    for _ in range(different):
        low, high = sorted(rng.sample(lines, 2))
        ids = [record.id for record in records if low <= record.line < high]
        offset = rng.randrange(max(1, len(ids)))
        searches.append(
            Search(f"line >= {low} AND line < {high}", offset, tuple(ids[offset : offset + PAGE]), len(ids))
        )
    return searches, traces


@contextmanager
def server(index: Path, queue: int) -> Iterator[tuple[str, int]]:
    """`whence serve` in a process of its own, over another name of the index; its address and number."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="whence-load-") as folder:
        place = Path(folder) / "index"
        place.symlink_to(index.resolve())
        command = [
            sys.executable,
            "-c",
            "from whence.cli.main import main; main()",
            "serve",
            str(place),
            "--port",
            str(port),
        ]
        process = subprocess.Popen([*command, "--queue", str(queue), "--rate", "100000", "-q"])
        try:
            url = f"http://127.0.0.1:{port}"
            _until_it_answers(url, process)
            yield url, process.pid
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _until_it_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 300
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"The server ended with status {process.returncode}.")
        try:
            whence.Client(url, timeout=5).health()
            return
        except WhenceError:
            time.sleep(0.5)
    raise SystemExit("The server did not answer within five minutes.")


def stage(
    url: str,
    clients: int,
    seconds: float,
    think: float,
    searches: list[Search],
    traces: list[Trace],
    rng: random.Random,
    *,
    pid: int | None = None,
    sizes: list[tuple[float, dict[str, float]]] | None = None,
) -> Seen:
    """Has so many clients ask for so long; what a request in flight at the end gives still counts."""
    seen, begin = Seen(), time.monotonic()
    args = [(url, random.Random(rng.random()), begin + seconds, think, searches, traces, seen) for _ in range(clients)]
    threads = [threading.Thread(target=ask, args=own, daemon=True) for own in args]
    for thread in threads:
        thread.start()
    while time.monotonic() < begin + seconds:
        if pid is not None and sizes is not None:
            sizes.append((time.monotonic() - begin, memory_of(pid)))
        time.sleep(1.0)
    for thread in threads:
        thread.join(timeout=PATIENCE)
    return seen


def ask(
    url: str,
    rng: random.Random,
    end: float,
    think: float,
    searches: list[Search],
    traces: list[Trace],
    seen: Seen,
) -> None:
    """One client until the end."""
    client = whence.Client(url, timeout=PATIENCE)
    while (pause := rng.expovariate(1 / think) if think else 0.0) < end - time.monotonic():
        time.sleep(pause)
        kind = "search" if rng.random() < SEARCHES else "trace"
        begin = time.perf_counter()
        try:
            right = searched(client, rng.choice(searches)) if kind == "search" else traced(client, rng.choice(traces))
        except WhenceError as error:
            with seen.lock:
                seen.errors[f"{kind}: {error.found[:80]}"] += 1
            continue
        took = time.perf_counter() - begin
        with seen.lock:
            seen.seconds[kind].append(took)
            seen.different[kind] += not right


def searched(client: whence.Client, search: Search) -> bool:
    """Whether a page of rows is the library's."""
    found = client.rows(search.where, offset=search.offset, limit=PAGE)
    rows = found["rows"]
    assert isinstance(rows, list)
    ids = tuple(str(row["id"]) for row in rows if isinstance(row, dict))
    return (ids, found["total"]) == (search.ids, search.total)


def traced(client: whence.Client, trace: Trace) -> bool:
    """Whether a trace is the library's, member by member."""
    _, result = client.trace(trace.prompt, trace.response, k=K)
    queries = TraceResult("", "", None, (result,)).to_dict()["queries"]
    assert isinstance(queries, list)
    return bool(json.loads(json.dumps(queries[0])) == trace.result)


def memory_of(pid: int) -> dict[str, float]:
    """MiB of a process: resident, and of it what no file backs."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    named = dict(line.split(":", 1) for line in lines if ":" in line)
    return {name: int(named[key].split()[0]) / 1024 for name, key in (("resident", "VmRSS"), ("own", "RssAnon"))}


def memory(sizes: list[tuple[float, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """A tenth into the run and at its end: medians of a twentieth of the samples; growth in percent."""
    n = max(1, len(sizes) // 20)
    early, late = sizes[len(sizes) // 10 :][:n], sizes[-n:]
    found = {}
    for name in ("resident", "own"):
        before, after = (statistics.median(size[name] for _, size in part) for part in (early, late))
        growth = 100 * (after / before - 1)
        found[name] = {"early": round(before, 1), "end": round(after, 1), "growth_percent": round(growth, 2)}
    return found


def summary(seen: Seen) -> dict[str, object]:
    """Seconds of each kind, errors, and answers that are not the library's."""
    return {
        **{kind: percentiles(values) for kind, values in seen.seconds.items()},
        "errors": dict(seen.errors),
        "different": {kind: seen.different[kind] for kind in seen.seconds},
    }


def percentiles(values: list[float]) -> Mapping[str, float]:
    """How many, and their median, 95th percentile and most, in seconds."""
    if not values:
        return {"n": 0}
    ordered = sorted(values)
    at = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return {
        "n": len(ordered),
        "median": round(statistics.median(ordered), 4),
        "p95": round(at, 4),
        "most": round(ordered[-1], 4),
    }


def describe(folder: Path) -> str:
    """Rows and model of an index."""
    index = Index.open(folder)
    manifest = index.manifest
    return f"{index.n_rows} rows, {manifest.n_layers} layers, {Path(manifest.model).name}"


if __name__ == "__main__":
    main()
