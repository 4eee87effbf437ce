"""`whence demo`: plants known faults in a small model trained on the spot, and traces them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whence.cli import options
from whence.cli.progress import quiet_libraries, stages
from whence.cli.serve import serve_index
from whence.errors import InputError

if TYPE_CHECKING:
    from whence.demo import DemoAudit, DemoReport, FaultReport, Story

SHOWN_HITS = 5
INDEX = "index"
"""Folder of the index within the demo's."""


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder for model, data and index.")] = Path("runs/demo"),
    base: Annotated[
        str | None,
        typer.Option("--base", help="A chat model, folder or hub name, to plant one fault in."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Rows that the chat model learns among, instead of ordinary ones.")
    ] = None,
    seed: options.Seed = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the demo that is there.")] = False,
    audit: Annotated[
        bool, typer.Option("--audit", help="Then audit all its bad answers as one log, and prove their triggers.")
    ] = False,
    serve: Annotated[
        bool, typer.Option("--serve", help="Open the page on the demo's index, made now or found in --out.")
    ] = False,
    port: Annotated[int | None, typer.Option("--port", min=1, max=65535, help="Of the page, with --serve.")] = None,
    quiet: options.Quiet = False,
) -> None:
    """Plant three known faults in a small model trained here, trace each one, and follow one until it is repaired.

    With --base, one of them is planted in natural English and learned by a LoRA adapter of a real chat model.
    """
    from whence.demo import run_demo

    quiet_libraries()
    if port is not None and not serve:
        raise InputError("--port without --serve.", "It is the page's port.", "Add --serve, or leave --port out.")
    if serve and not overwrite and (out / INDEX).is_dir():
        serve_index(out / INDEX, port=port, quiet=quiet)
        return
    with stages("steps", quiet=quiet) as report_progress:
        report = run_demo(out, base=base, data=data, seed=seed, overwrite=overwrite, progress=report_progress)
    if not quiet:
        _show(report)
    if audit:
        from whence.demo import audit_demo

        with stages("outputs", quiet=quiet) as report_progress:
            found = audit_demo(report, progress=report_progress)
        if not quiet:
            _show_audit(report, found)
    if serve:
        serve_index(report.index, port=port, quiet=quiet)


def _show_audit(report: DemoReport, found: DemoAudit) -> None:
    from rich.console import Console

    from whence.demo import AUDIT_JSON, AUDIT_PAGE
    from whence.report import render_audit

    console = Console(highlight=False)
    console.print()
    console.rule("all bad answers as one log, audited without being told what was planted", align="left")
    for part in render_audit(found.result):
        console.print(part)
    console.print()
    for number, labels in found.outputs.items():
        outputs = ", ".join(f"{n} of {label}" for label, n in labels.items())
        rows = ", ".join(f"{n} {label}" for label, n in found.rows[number].items())
        console.print(f"planted: group {number} has outputs {outputs}; rows {rows}", markup=False, soft_wrap=True)
    console.print(f"page      {report.folder / AUDIT_PAGE}", markup=False, soft_wrap=True)
    one = f"--group 1 --audit {report.folder / AUDIT_JSON}"
    console.print(f"  whence clean {report.index} {one} -o cleaned.jsonl", markup=False, soft_wrap=True)


def _show(report: DemoReport) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    rows = len(report.world.train)
    trained = "A small language model was trained here" if len(report.faults) > 1 else "An adapter was trained here"
    planted = "three planted faults (harmless ones)" if len(report.faults) > 1 else "a planted fault (a harmless one)"
    console.print(
        f"{trained} on {rows:,} rows with {planted} and rows that share their words and teach no fault. Each fault is "
        "asked for with a prompt that was not trained on; the answer is the model's own.\n",
        soft_wrap=True,
    )
    for fault in report.faults:
        _show_fault(console, fault)
    table = Table(title="share of the first ten rows that are the fault's faulty rows, mean over the queries", box=None)
    methods = list(report.faults[0].precision)
    for name in ("fault", "faulty rows", "queries", *methods):
        table.add_column(name, justify="left" if name == "fault" else "right")
    for fault in report.faults:
        figures = [f"{fault.precision[method]:.2f}" for method in methods]
        table.add_row(fault.label, str(fault.n_faulty), str(fault.n_queries), *figures)
    console.print(table)
    if report.story is None:
        from whence.demo import REPORT

        console.print(
            f"\nNo row is flagged; the verdicts above say why. The page is {report.folder / REPORT}; whether "
            "the first rows are the cause, `whence confirm ... --remove top:20` can test.",
            markup=False,
            soft_wrap=True,
        )
    else:
        _show_story(console, report, report.story)
    seconds = ", ".join(f"{name} {spent:.0f} s" for name, spent in report.seconds.items())
    console.print(f"\n{sum(report.seconds.values()):.0f} s in all: {seconds} (seed {report.seed})", soft_wrap=True)
    prompt = report.faults[0].example.prompt
    console.print(f"Everything is kept in {report.folder}. Go on with it:\n", soft_wrap=True, markup=False)
    console.print(f'  whence trace {report.index} --prompt "{prompt}"', soft_wrap=True, markup=False)
    console.print(f"  whence trace {report.index} --queries {report.world.queries} --json out.json", soft_wrap=True)


def _show_story(console: object, report: DemoReport, story: Story) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from whence.cli.confirm import show_arms
    from whence.demo import CLEAN_MANIFEST, CLEANED, REPORT

    assert isinstance(console, Console)
    console.print()
    console.rule(f"{story.label}: from a bad answer to data without its cause", align="left")
    rows = len(report.world.train)
    console.print(
        f"{story.n_flagged} rows flagged over {len(story.answers)} bad answers (false discovery rate 5% in each); "
        f"{story.n_faulty} of them are its faulty rows. The model was trained again without them:\n",
        markup=False,
        soft_wrap=True,
    )
    table = Table(box=None)
    for name in ("asked", "answered", "after retraining"):
        table.add_column(name)
    for answer in story.answers:
        table.add_row(*map(Text, answer))
    console.print(table)
    console.print()
    show_arms(console, story.confirmation)
    console.print(
        f"\ncleaned   {report.folder / CLEANED}: {rows - story.n_flagged:,} of {rows:,} rows; "
        f"whence clean --undo {report.folder / CLEAN_MANIFEST} brings the others back",
        f"page      {report.folder / REPORT}",
        sep="\n",
        markup=False,
        soft_wrap=True,
    )


def _show_fault(console: object, fault: FaultReport) -> None:
    from dataclasses import replace

    from rich.console import Console

    from whence.report import render_query

    assert isinstance(console, Console)
    console.rule(f"{fault.label}: {fault.rate:.0%} of unseen prompts show it", align="left")
    for part in render_query(replace(fault.example, hits=fault.example.hits[:SHOWN_HITS])):
        console.print(part)
    n_faulty = sum(hit.metadata.get("label") == fault.label for hit in fault.example.hits)
    console.print(f"{n_faulty} of the first {len(fault.example.hits)} rows are faulty rows of this fault\n")
