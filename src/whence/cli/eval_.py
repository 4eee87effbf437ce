"""`whence eval`: how well the rows of a label are found, by every score form that the index can serve."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whence.cli import options
from whence.cli.outputs import check_outputs, files_of, hand_out, is_standard_output
from whence.cli.progress import quiet_libraries
from whence.cli.telling import print_json, printer

if TYPE_CHECKING:
    from whence.bench import Evaluation, MethodEvaluation

FIGURES = (("precision", "P@{k}"), ("recall", "R@{k}"), ("mrr", "MRR"), ("pooled", "pooled"), ("chance", "chance"))


def evaluate(
    index: options.IndexFolder,
    queries: Annotated[
        Path, typer.Option("--queries", help='JSONL, one {"prompt": ..., "response": ..., "label": ...} a line.')
    ],
    label_column: Annotated[
        str, typer.Option("--label-column", help="Column of queries and training rows that says what belongs together.")
    ] = "label",
    method: Annotated[
        list[str] | None, typer.Option("--method", "-m", help="A score form; again for several. All, if left out.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Rows that precision and recall look at.")] = 10,
    json: Annotated[
        Path | None, typer.Option("--json", help="Write every figure as JSON; - for standard output.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Where the index's model is now, if it moved.")] = None,
    adapter: options.Adapter = None,
    base: options.Base = None,
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    max_memory: options.MaxMemory = None,
    seed: options.Seed = 0,
    quiet: options.Quiet = False,
) -> None:
    """Measure how well each score form ranks the rows that carry the query's label."""
    check_outputs({"--json": json}, quiet=quiet, inputs={"--queries": queries} | files_of(index))
    placed = options.placement(device, device_map, max_memory)
    from whence.bench import evaluate as measure
    from whence.trace import Tracer

    asked = options.queries_of(index, queries, quiet=quiet)
    quiet_libraries()
    tracer = Tracer(index, model=model, adapter=adapter, base=base, device=placed)
    found = measure(tracer, asked, label_column=label_column, methods=method, k=k, seed=seed)
    to_terminal = not is_standard_output(json)

    def show() -> None:
        if to_terminal:
            _show(found, k)
        else:
            print_json(found.to_json())

    writers = [partial(found.to_json, json)] if json is not None and to_terminal else []
    hand_out(writers, show, quiet=quiet and to_terminal)


def _show(found: Evaluation, k: int) -> None:
    from rich.table import Table

    console = printer()
    title = f"{len(found.queries)} queries, {found.n_rows:,} rows, rows of the query's own {found.label_column}"
    table = Table(title=title, box=None)
    table.add_column("method")
    for head in ("AP [95% interval]", *(head.format(k=k) for _, head in FIGURES)):
        table.add_column(head, justify="right")
    for one in sorted(found.methods, key=_rank):
        table.add_row(one.method, *_cells(one, len(found.queries)))
    console.print(table)
    for one in found.methods:
        if one.error:
            console.print(f"{one.method}: {one.error}", markup=False, soft_wrap=True)
    if any(found.own_rows):
        n = sum(n > 0 for n in found.own_rows)
        said = f"queries that are training rows themselves: {n}; their own rows are not ranked for them"
        console.print(said, markup=False, soft_wrap=True)
    for skipped in found.skipped:
        console.print(f"not counted: {skipped.reason}", markup=False, soft_wrap=True)


def _rank(one: MethodEvaluation) -> tuple[bool, float]:
    return one.figures is None, -float((one.figures or {}).get("ap") or 0.0)


def _cells(one: MethodEvaluation, n: int) -> list[str]:
    from whence.metrics import shown

    if one.figures is None:
        return ["-"] * (1 + len(FIGURES))
    figures = one.figures
    mean, low, high = (float(figures[name] or 0.0) for name in ("ap", "ap_low", "ap_high"))
    ap = shown(mean, low, high, n)
    return [ap, *(f"{figures[name]:.3f}" for name, _ in FIGURES)]
