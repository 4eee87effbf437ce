"""Tracing on the way to something else: commands that need to know which rows, and were given bad outputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from whence.cli import options

if TYPE_CHECKING:
    from whence.results import TraceResult

TRACED_FOR_EACH = 10
"""Rows that are ranked for each one that is asked for: copies of a row and turns of a conversation count once."""


def trace_now(
    index: Path, queries: Path | None, top: int | None, base: str | None = None, device: str = "auto"
) -> TraceResult:
    """A trace of the queries with as many rows as the first `top`, or the verdict, need."""
    from whence.trace import Tracer, read_queries

    assert queries is not None, "asked for with --queries alone"
    found = options.base_of(index, base) if top is None else moved(index, base)
    tracer = Tracer(index, base=found, device=device)
    return tracer.trace_many(read_queries(queries), k=TRACED_FOR_EACH * (top or TRACED_FOR_EACH), verdict=top is None)


def moved(index: Path, base: str | None) -> str | None:
    """The base, where the index was built with one and must have it again, wherever it is now; else None."""
    from whence.index import ADAPTER_OFF, require_manifest

    return base if require_manifest(index).base not in ("", ADAPTER_OFF) else None
