"""Tracing on the way to something else: commands that need to know which rows, and were given bad outputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from whence.cli import options
from whence.cli.telling import say
from whence.errors import InputError

if TYPE_CHECKING:
    from whence.results import AuditResult, TraceResult
    from whence.trace import Query

TRACED_FOR_EACH = 10
"""Rows that are ranked for each one that is asked for: copies of a row and turns of a conversation count once."""


def trace_now(
    index: Path, queries: Path | None, top: int | None, base: str | None = None, device: str = "auto"
) -> TraceResult:
    """A trace of the queries with as many rows as the first `top`, or the verdict, need."""
    from whence.trace import Tracer

    assert queries is not None, "asked for with --queries alone"
    found = options.base_of(index, base) if top is None else moved(index, base)
    tracer = Tracer(index, base=found, device=device)
    asked = options.queries_of(index, queries, quiet=True)
    return tracer.trace_many(asked, k=TRACED_FOR_EACH * (top or TRACED_FOR_EACH), verdict=top is None)


def read_trace_of(index: Path, trace: Path) -> TraceResult:
    """The trace in the file. Raises InputError for a file that is no trace, and for the trace of another index."""
    from whence.results import read_trace

    found = read_trace(trace)
    _require_same(index, trace, found, "trace")
    return found


def tell_few_rows(n_rows: int) -> None:
    """Says that an index of so few rows gives ranks only, where it does."""
    from whence.trace import MIN_ROWS

    if n_rows < MIN_ROWS:
        say(f"{n_rows} rows: traces give ranks only, a verdict needs {MIN_ROWS} rows", err=True)


def audit_group(index: Path, group: int | None, audit: Path | None) -> tuple[AuditResult, int] | None:
    """The audit and the number of its group that --group and --audit name; None where neither is given.

    Raises InputError where one is given without the other, for a file that is no audit or one of another index, and for
    no such group.
    """
    if group is None and audit is None:
        return None
    if group is None or audit is None:
        given, missing = ("--audit", "--group") if group is None else ("--group", "--audit")
        raise InputError(
            f"{given} without {missing}.",
            "A group is named by its number, and by the audit that it is of.",
            "Give --group 3 --audit audit.json, written by whence audit --json audit.json.",
        )
    from whence.results import read_audit

    found = read_audit(audit)
    _require_same(index, audit, found, "audit")
    found.group(group)
    return found, group


def _require_same(index: Path, file: Path, found: TraceResult | AuditResult, command: str) -> None:
    """Raises InputError where the file was made with another model, or of other data, than the index.

    A file without the hash is one of this index where it names this folder or the same model and adapter: folders move.
    """
    from whence.index import index_hash, require_manifest

    manifest = require_manifest(index)
    if found.index_hash:
        same = found.index_hash == index_hash(manifest)
    else:
        of = [_name(found.model), _name(found.adapter)]
        same = Path(found.index).resolve() == index.resolve() or of == [_name(manifest.model), _name(manifest.adapter)]
    if not same:
        raise InputError(
            f"{file} is the {command} of another index: {found.index}, of {_of(found.model, found.adapter)}.",
            f"Expected one of {index}, of {_of(manifest.model, manifest.adapter)}, with the same data.",
            f"Make it again: whence {command} {index} ... --json {file.name}; or name the index that it is of.",
        )


def _of(model: str, adapter: str | None) -> str:
    return f"the model {model}" + (f" with the adapter {adapter}" if adapter else "")


def _name(place: str | None) -> str | None:
    """The last part of a folder or hub name."""
    return None if place is None else place.rstrip("/").rpartition("/")[2]


def group_outputs(audit: AuditResult, group: int) -> list[Query]:
    """The outputs of a group as queries, each once. Raises InputError for a hint of a scan, which has none."""
    from whence.trace import Query

    if audit.group(group).hint is not None:
        raise InputError(
            f"Group {group} is a hint of a scan: it has no outputs.",
            "A confirmation asks prompts whose answers show the behaviour.",
            "Give them with --queries bad.jsonl.",
        )
    asked = [audit.queries[number] for number in audit.group(group).queries]
    queries = [Query.of(list(query.messages) or query.prompt, query.response) for query in asked]
    return [replace(one, template_inputs=said.template_inputs) for one, said in zip(queries, asked, strict=True)]


def moved(index: Path, base: str | None) -> str | None:
    """The base, where the index was built with one and must have it again, wherever it is now; else None."""
    from whence.index import ADAPTER_OFF, require_manifest

    return base if require_manifest(index).base not in ("", ADAPTER_OFF) else None
