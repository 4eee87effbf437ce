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
    from whence.audit import AuditSettings, run_audit
    from whence.bench import evaluate
    from whence.cleaning import clean, undo_clean
    from whence.confirmation import confirm
    from whence.data import Example, Turn, read_examples
    from whence.errors import WhenceError
    from whence.index import (
        Index,
        Workers,
        append_rows,
        build_ann,
        build_index,
        choose_layer,
        compact_index,
        delete_rows,
        repair,
        verify,
    )
    from whence.model import Placement
    from whence.planning import plan
    from whence.records import TrainingRecord
    from whence.results import AuditResult, Hit, QueryResult, TraceResult, Verdict, read_audit, read_trace
    from whence.self_test import selftest
    from whence.serve import Client
    from whence.trace import Query, Tracer, TraceSettings, read_queries
    from whence.train import FinetuneSettings, finetune

__all__ = [
    "AuditResult",
    "AuditSettings",
    "Client",
    "Example",
    "FinetuneSettings",
    "Hit",
    "Index",
    "Placement",
    "Query",
    "QueryResult",
    "TraceResult",
    "TraceSettings",
    "Tracer",
    "TrainingRecord",
    "Turn",
    "Verdict",
    "WhenceError",
    "Workers",
    "append_rows",
    "build_ann",
    "build_index",
    "choose_layer",
    "clean",
    "compact_index",
    "confirm",
    "delete_rows",
    "evaluate",
    "finetune",
    "plan",
    "read_audit",
    "read_examples",
    "read_queries",
    "read_trace",
    "repair",
    "run_audit",
    "selftest",
    "undo_clean",
    "verify",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "audit": ["AuditSettings", "run_audit"],
        "bench": ["evaluate"],
        "cleaning": ["clean", "undo_clean"],
        "confirmation": ["confirm"],
        "data": ["Example", "Turn", "read_examples"],
        "errors": ["WhenceError"],
        "index": [
            "Index",
            "Workers",
            "append_rows",
            "build_ann",
            "build_index",
            "choose_layer",
            "compact_index",
            "delete_rows",
            "repair",
            "verify",
        ],
        "model": ["Placement"],
        "planning": ["plan"],
        "records": ["TrainingRecord"],
        "results": ["AuditResult", "Hit", "QueryResult", "TraceResult", "Verdict", "read_audit", "read_trace"],
        "self_test": ["selftest"],
        "serve": ["Client"],
        "trace": ["Query", "TraceSettings", "Tracer", "read_queries"],
        "train": ["FinetuneSettings", "finetune"],
    },
)
