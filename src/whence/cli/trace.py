"""`whence trace`: which training rows rank highest for a bad output."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whence.cli import options
from whence.cli.progress import progress, quiet_libraries
from whence.errors import InputError

if TYPE_CHECKING:
    from whence.results import TraceResult
    from whence.trace.queries import Query


def trace(
    index: options.IndexFolder,
    prompt: Annotated[str | None, typer.Option("--prompt", "-p", help="What the model was asked.")] = None,
    response: Annotated[
        str | None, typer.Option("--response", "-r", help="What it said. Left out, the model answers now.")
    ] = None,
    queries: Annotated[
        Path | None, typer.Option("--queries", help='JSONL, one {"prompt": ..., "response": ...} a line.')
    ] = None,
    k: Annotated[int, typer.Option("-k", "--top", min=1, help="Rows to show for each query.")] = 10,
    method: Annotated[
        str | None, typer.Option("--method", "-m", help="How rows are scored; see docs/methods.md.")
    ] = None,
    weight: Annotated[float | None, typer.Option("--weight", help="Share of h in rept-balanced, 0 to 1.")] = None,
    layer: Annotated[int | None, typer.Option("--layer", help="One of the index's layers for both halves.")] = None,
    where: Annotated[
        str | None, typer.Option("--where", help="SQL condition on columns, as in \"source = 'vendor_b'\".")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Where the index's model is now, if it moved.")] = None,
    adapter: Annotated[str | None, typer.Option("--adapter", "-a", help="Where its adapter is now.")] = None,
    device: options.Device = "auto",
    json: Annotated[
        Path | None, typer.Option("--json", help="Write the result as JSON; - for standard output.")
    ] = None,
    no_text: Annotated[bool, typer.Option("--no-text", help="Show places and scores, not the rows' text.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Rank the training rows behind a bad output."""
    asked = _queries(prompt, response, queries)
    if quiet and json is None:
        raise InputError("--quiet without --json shows nothing.", "A result needs a place.", "Add --json out.json.")
    if json is not None and str(json) != "-" and not json.absolute().parent.is_dir():
        raise InputError(
            f"There is no folder {json.absolute().parent}.", "--json writes into a folder that exists.", ""
        )
    from whence.trace.scoring import DEFAULT_METHOD
    from whence.trace.tracer import Tracer

    quiet_libraries()
    tracer = Tracer(index, model=model, adapter=adapter, device=device)
    with progress("tracing", "queries", quiet=quiet) as report:
        result = tracer.trace_many(
            asked, k=k, method=method or DEFAULT_METHOD, weight=weight, layer=layer, where=where, progress=report
        )
    _show(result, json, quiet=quiet, no_text=no_text)


def _queries(prompt: str | None, response: str | None, queries: Path | None) -> list[Query]:
    from whence.trace.queries import Query, read_queries

    if (prompt is None) == (queries is None):
        raise InputError(
            "Both --prompt and --queries were given."
            if prompt is not None
            else "Neither --prompt nor --queries was given.",
            "A trace needs one of them.",
            'Give --prompt "..." --response "...", or --queries bad.jsonl.',
        )
    if queries is not None:
        if response is not None:
            raise InputError(
                "--response with --queries.", "Each line of --queries has its own response.", "Leave it out."
            )
        return read_queries(queries)
    assert prompt is not None
    return [Query.of(prompt, response)]


def _show(result: TraceResult, json: Path | None, *, quiet: bool, no_text: bool) -> None:
    if json is not None and str(json) == "-":
        sys.stdout.write(result.to_json())
        return
    if json is not None:
        result.to_json(json)
    if quiet:
        return
    from rich.console import Console

    from whence.report.terminal import render_query

    console = Console(highlight=False)
    for query in result:
        for part in render_query(query, texts=not no_text):
            console.print(part)
        console.print()
    if json is not None:
        console.print(f"written: {json}", highlight=False, markup=False)
