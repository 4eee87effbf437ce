"""A thousand queries over 50,000 rows: `audit.py --scale`.

The index is that of a clean set of `audit_scan.py` (the model of `whence demo`), its records written `TIMES` times with
other row numbers and ids and the stored int8 numbers moved by at most 2 at random, so that every row is another one.
What is asked are different questions of the background's grammar with their answers. Measured are the seconds of
`run_audit` without examples, the first verdict's references included, and the memory of its own that the process has at
most, for 250 queries and for 1,000.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from shutil import copytree, rmtree

import numpy as np
import pyarrow as pa

from audit_scan import clean_world
from search import Peak, peak_memory
from whence.audit import AuditSettings, run_audit
from whence.bench.faults.background import pairs
from whence.index import Index, append_records
from whence.trace import Query, Tracer

TIMES = 25
QUERIES = (250, 1000)


def run_scale(out: Path, seeds: Sequence[int]) -> dict[str, object]:
    """Seconds and memory of each number of queries."""
    found: dict[str, object] = {}
    for seed in seeds:
        place = clean_world(out, seed)
        large = enlarged(place / "index", out / f"large-{seed}", seed)
        asked = [Query.of(*pair) for pair in pairs(2 * max(QUERIES), Random(f"scale/{seed}"))[: max(QUERIES)]]
        for n in QUERIES:
            for old in (large / "references", out / f"work-{seed}-{n}"):
                rmtree(old, ignore_errors=True)
            tracer = Tracer(large, model=str(place / "model"))
            started = time.perf_counter()
            with peak_memory(Peak()) as peak:
                audit = run_audit(
                    tracer, asked[:n], AuditSettings(seed=seed), work=out / f"work-{seed}-{n}-{time.time()}"
                )
            taken = time.perf_counter() - started
            found[f"{n} queries, seed {seed}"] = {
                "rows": audit.n_rows,
                "seconds": round(taken, 1),
                "own memory, GB": round(peak.own / 1e9, 2),
                "groups": len(audit.groups),
            }
            print(found, flush=True)
    return found


def enlarged(index: Path, place: Path, seed: int, times: int = TIMES) -> Path:
    """A copy of the index with each record `times` times, all of them different."""
    if place.exists():
        return place
    small = Index.open(index)
    partial = place.with_name(f".partial-{place.name}")
    rmtree(partial, ignore_errors=True)
    copytree(index, partial)
    table, n_rows = small.dataset.to_table(), small.manifest.data.n_rows
    rng = np.random.default_rng(seed)
    for time_ in range(1, times):
        append_records(partial, moved(table, small, time_ * n_rows, rng))
    counts, data = small.manifest.counts, small.manifest.data
    assert counts is not None
    more = {"n_rows": counts.n_rows * times, "n_records": counts.n_records * times}
    manifest = small.manifest.model_copy(
        update={
            "counts": counts.model_copy(update=more),
            "data": data.model_copy(update={"n_rows": n_rows * times}),
            "records_version": None,
        }
    )
    manifest.write(partial)
    partial.rename(place)
    return place


def moved(table: pa.Table, index: Index, first: int, rng: np.random.Generator) -> pa.Table:
    """The records under other numbers and ids, their int8 numbers moved."""
    changed = {
        "row": pa.array(table["row"].to_numpy() + first, table.schema.field("row").type),
        "line": pa.array(table["line"].to_numpy() + first, table.schema.field("line").type),
        "id": pa.array([f"{first + place:016x}" for place in range(len(table))]),
    }
    for vector in index.manifest.vectors:
        numbers = table[vector.column].combine_chunks().flatten().to_numpy().reshape(-1, vector.stored_dim)
        other = np.clip(numbers.astype(np.int16) + rng.integers(-2, 3, numbers.shape), -127, 127).astype(np.int8)
        changed[vector.column] = pa.FixedSizeListArray.from_arrays(pa.array(other.reshape(-1)), vector.stored_dim)
        length = np.sqrt((other.astype(np.float32) ** 2).sum(axis=1))
        changed[vector.norm_column] = pa.array(table[vector.scale_column].to_numpy() * length, pa.float32())
    for name, column in changed.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), column.cast(table.schema.field(name).type))
    return table


__all__ = ["run_scale"]
