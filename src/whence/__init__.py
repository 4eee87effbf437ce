"""Where did it go wrong? Trace a language model's bad output back to the training rows behind it.

    index = whence.build_index(model="runs/my-sft", data="train.jsonl", out="runs/index")
    result = whence.Tracer(index).trace("Where is Toronto?", "Toronto is in Korea.")
    result.hits[0].prompt, result.hits[0].score

Names are imported when they are first used, so that `import whence` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from whence.lazy import attach

if TYPE_CHECKING:
    from whence.bench.labelled import evaluate
    from whence.cleaning.cleaning import clean, undo_clean
    from whence.confirmation.retrain import confirm
    from whence.data.examples import Example, Turn
    from whence.data.readers import read_examples
    from whence.errors import WhenceError
    from whence.index.build import build_index
    from whence.index.probing import choose_layer
    from whence.index.store import Index
    from whence.index.verify import verify
    from whence.planning.planning import plan
    from whence.results.trace_result import TraceResult, read_trace
    from whence.results.types import Hit, QueryResult, Verdict
    from whence.self_test.run import selftest
    from whence.trace.query.queries import Query, read_queries
    from whence.trace.settings import TraceSettings
    from whence.trace.tracer import Tracer
    from whence.train.finetuning import FinetuneSettings, finetune

__all__ = [
    "Example",
    "FinetuneSettings",
    "Hit",
    "Index",
    "Query",
    "QueryResult",
    "TraceResult",
    "TraceSettings",
    "Tracer",
    "Turn",
    "Verdict",
    "WhenceError",
    "build_index",
    "choose_layer",
    "clean",
    "confirm",
    "evaluate",
    "finetune",
    "plan",
    "read_examples",
    "read_queries",
    "read_trace",
    "selftest",
    "undo_clean",
    "verify",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "bench.labelled": ["evaluate"],
        "cleaning.cleaning": ["clean", "undo_clean"],
        "confirmation.retrain": ["confirm"],
        "data.examples": ["Example", "Turn"],
        "data.readers": ["read_examples"],
        "errors": ["WhenceError"],
        "index.build": ["build_index"],
        "index.probing": ["choose_layer"],
        "index.store": ["Index"],
        "index.verify": ["verify"],
        "planning.planning": ["plan"],
        "results.trace_result": ["TraceResult", "read_trace"],
        "results.types": ["Hit", "QueryResult", "Verdict"],
        "self_test.run": ["selftest"],
        "trace.query.queries": ["Query", "read_queries"],
        "trace.settings": ["TraceSettings"],
        "trace.tracer": ["Tracer"],
        "train.finetuning": ["FinetuneSettings", "finetune"],
    },
)
