"""Where did it go wrong? Trace a language model's bad output back to the training rows behind it.

    index = whence.build_index(model="runs/my-sft", data="train.jsonl", out="runs/index")
    result = whence.Tracer(index).trace("Where is Toronto?", "Toronto is in Korea.")
    result.hits[0].prompt, result.hits[0].score

Names are imported when they are first used, so that `import whence` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from whence.data.examples import Example, Turn
    from whence.errors import WhenceError
    from whence.index.build import build_index
    from whence.index.probing import choose_layer
    from whence.index.store import Index
    from whence.results.trace_result import TraceResult
    from whence.results.types import Hit, QueryResult
    from whence.trace.queries import Query, read_queries
    from whence.trace.tracer import Tracer

__all__ = [
    "Example",
    "Hit",
    "Index",
    "Query",
    "QueryResult",
    "TraceResult",
    "Tracer",
    "Turn",
    "WhenceError",
    "build_index",
    "choose_layer",
    "read_queries",
]

_HOMES = {
    "Example": "whence.data.examples",
    "Hit": "whence.results.types",
    "Index": "whence.index.store",
    "Query": "whence.trace.queries",
    "QueryResult": "whence.results.types",
    "TraceResult": "whence.results.trace_result",
    "Tracer": "whence.trace.tracer",
    "Turn": "whence.data.examples",
    "WhenceError": "whence.errors",
    "build_index": "whence.index.build",
    "choose_layer": "whence.index.probing",
    "read_queries": "whence.trace.queries",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'whence' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
