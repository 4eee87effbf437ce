"""How long one person waits at `whence serve`: the first piece of an answer, and the ranked rows.

    python benchmarks/serve_first.py INDEX [--rows 10000] [--repeats 5]

A server is started on a free port of loopback over a copy of the index that holds each record so many times that it
has --rows records, all of them different (their stored numbers are moved at random, seed 0). After one request of each
kind, which loads the model and has the references answered, each is timed --repeats times:

first piece    from the request to the first text of the model's answer to a prompt of the index
ranked rows    from the request to the ranking of a row's prompt and response, before its verdict, as the page shows it
verdict        from the same request to the whole answer
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import whence
from audit_scale import enlarged
from serve_load import describe, server
from whence.index import Index


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    small = Index.open(given.index)
    with tempfile.TemporaryDirectory() as folder:
        times = -(-given.rows // small.n_records)
        large = enlarged(given.index, Path(folder) / "large", 0, times)
        rows = [(one.prompt, one.response) for one in small.fetch(range(given.repeats + 1))]
        print(f"{describe(given.index)}; {times * small.n_records:,} records", flush=True)
        with server(large, 16) as (url, _):
            client = whence.Client(url)
            found = [timed(client, prompt, response) for prompt, response in rows]
    for name, values in zip(("first piece", "ranked rows", "verdict"), zip(*found[1:], strict=True), strict=True):
        each = ", ".join(f"{value:.2f}" for value in values)
        print(f"{name}: {statistics.median(values):.2f} s ({each})", flush=True)


def timed(client: whence.Client, prompt: str, response: str) -> tuple[float, float, float]:
    """Seconds to the first piece of an answer, to the ranked rows, and to the verdict."""
    started = time.perf_counter()
    pieces = client.generate(prompt, max_new_tokens=16)
    next(pieces)
    first = time.perf_counter() - started
    for _ in pieces:
        pass
    started, ranked = time.perf_counter(), 0.0
    events = client._events("POST", "/v1/trace", {"prompt": prompt, "response": response, "k": 20})
    for name, _ in events:
        if name == "ranked":
            ranked = time.perf_counter() - started
    return first, ranked, time.perf_counter() - started


if __name__ == "__main__":
    main()
