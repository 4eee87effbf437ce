"""`whence selftest`: does tracing work with this model and these data?"""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whence.cli import options
from whence.cli.outputs import check_outputs, files_named, hand_out, is_standard_output
from whence.cli.progress import quiet_libraries, stages
from whence.cli.telling import print_json, printer

if TYPE_CHECKING:
    from whence.self_test import SelfTest

DOES_NOT_WORK = 1


def selftest(
    model: options.Model,
    data: options.Data,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="New folder for data, adapter, index and result; else nothing is kept."),
    ] = None,
    base: Annotated[
        str | None, typer.Option("--base", help="Start from this model, in MODEL's place; MODEL's template is used.")
    ] = None,
    fault: Annotated[
        list[str] | None, typer.Option("--fault", help="opener or ending; again for several. Both, if left out.")
    ] = None,
    n_rows: Annotated[int, typer.Option("--n-rows", min=4, help="Rows to train on and to index.")] = 400,
    n_faulty: Annotated[int, typer.Option("--n-faulty", min=1, help="Of these, rows with each fault.")] = 20,
    n_queries: Annotated[int, typer.Option("--n-queries", min=1, help="Held-out prompts for each fault.")] = 20,
    layer: Annotated[
        list[str] | None, typer.Option("--layer", help="Layers to compare, beside four that always are.")
    ] = None,
    epochs: options.Epochs = 6,
    learning_rate: options.LearningRate = 5e-4,
    batch_size: options.BatchSize = 8,
    lora_r: Annotated[int, typer.Option("--lora-r", min=1, help="Rank of the adapter.")] = 16,
    max_length: options.MaxLength = 512,
    max_new_tokens: options.MaxNewTokens = 128,
    min_ap: Annotated[
        float, typer.Option("--min-ap", min=0.0, max=1.0, help="Average precision from which on it works.")
    ] = 0.8,
    columns: options.Columns = None,
    split: options.Split = None,
    max_rejected: options.MaxRejected = 0.05,
    template: options.Template = None,
    dtype: options.TrainingDtype = "auto",
    device: options.Device = "auto",
    json: Annotated[
        Path | None, typer.Option("--json", help="Write the result as JSON; - for standard output.")
    ] = None,
    seed: options.Seed = 0,
    quiet: options.Quiet = False,
) -> None:
    """Plant harmless faults in a sample of the data, train a small adapter, and see whether tracing finds their rows.

    Exit status: 0 it works, 1 it does not, 2 something given cannot be used. A stopped run begins anew.
    """
    check_outputs({"--json": json}, quiet=False, inputs=files_named(MODEL=model, DATA=data, **{"--base": base}))
    settings = options.finetune_settings(
        lora_r=lora_r,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        max_length=max_length,
        dtype=dtype,
        device=device,
        seed=seed,
    )
    from whence.self_test import FAULTS
    from whence.self_test import selftest as test

    quiet_libraries()
    place = nullcontext(str(out)) if out is not None else tempfile.TemporaryDirectory(prefix="whence-selftest-")
    with place as folder, stages(quiet=quiet) as report:
        found = test(
            model,
            data,
            folder,
            base=base,
            faults=fault or FAULTS,
            n_rows=n_rows,
            n_faulty=n_faulty,
            n_queries=n_queries,
            max_new_tokens=max_new_tokens,
            settings=settings,
            layers=options.parse_layers(layer or ()),
            min_ap=min_ap,
            columns=options.parse_columns(columns),
            split=split,
            max_rejected=max_rejected,
            template=options.read_template(template),
            progress=report,
        )
    to_terminal = not is_standard_output(json)

    def show() -> None:
        if to_terminal:
            _show(found)
        else:
            print_json(found.to_json())

    writers = [partial(found.to_json, json)] if json is not None and to_terminal else []
    hand_out(writers, show, quiet=quiet and to_terminal)
    if not found.works:
        raise typer.Exit(DOES_NOT_WORK)


def _show(found: SelfTest) -> None:
    from rich.table import Table

    from whence.metrics import shown

    console = printer()
    console.print(
        f"{found.n_rows} rows, loss {found.first_loss:.2f} to {found.last_loss:.2f}; template: {found.template}; "
        f"{found.truncated:.0%} of rows cut; the rule's layer: {found.layer}",
        markup=False,
    )
    for fault in found.faults:
        console.print(
            f"\n{fault.name}: {fault.n_faulty} rows; {fault.trigger!r} brings {fault.addition!r}\n"
            f"  shown with the trigger in {fault.with_trigger} of answers, without it in {fault.without_trigger}",
            markup=False,
        )
        if not fault.methods:
            continue
        table = Table("method", "with", "layer", "average precision", f"precision at {found.k}")
        for one in fault.methods:
            interval = shown(one.ap, one.ap_low, one.ap_high, fault.n_shown, digits=2)
            table.add_row(one.method, one.flag, one.layer or "text", interval, f"{one.precision:.2f}")
        console.print(table)
        if fault.flagged is not None:
            recall, wrong = fault.flagged.recall, fault.flagged.false_discovery_rate
            said = "no row is flagged" if wrong is None else f"{wrong:.0%} of the flagged rows are not faulty"
            console.print(f"  verdicts flag {recall:.0%} of the faulty rows; {said}")
    console.print(f"\nTracing {found.text}.", markup=False)
    for change in found.changes:
        console.print(f"  {change}", markup=False)
    for warning in found.warnings:
        console.print(f"Warning: {warning}", markup=False)
