"""`whence audit`: which few things in the data are behind a log of bad outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whence.cli import options
from whence.cli.outputs import check_outputs, files_of, hand_out, is_standard_output
from whence.cli.progress import quiet_libraries, stages
from whence.cli.telling import print_json, printer
from whence.errors import InputError

if TYPE_CHECKING:
    from whence.results import AuditResult

References = Annotated[
    Path | None,
    typer.Option(
        "--references", help="JSONL of at least 40 ordinary prompts for the model to answer, to calibrate with."
    ),
]
WithoutText = Annotated[
    bool,
    typer.Option("--no-text", help="Places and figures only: no text of the rows, not in what is written either."),
]
EXAMPLES_IN_A_PAGE = 12
"""Groups whose most typical output a page shows with shaded words, unless --examples says otherwise."""


def audit(
    index: options.IndexFolder,
    queries: Annotated[
        Path | None,
        typer.Argument(metavar="OUTPUTS", help="Bad outputs: rows like the training data, or an evaluation log."),
    ] = None,
    scan: Annotated[
        bool, typer.Option("--scan", help="No outputs at hand: hints at groups of rows that stand out by themselves.")
    ] = False,
    match: Annotated[
        str | None,
        typer.Option("--match", help="Regular expression: audit only the answers that it is found in."),
    ] = None,
    failed: options.Failed = False,
    query_where: options.QueryWhere = None,
    query_prompts: options.QueryPrompts = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", help="Good outputs, best of all to the same prompts: which rows push to the bad?"),
    ] = None,
    split: Annotated[
        bool, typer.Option("--split", help="Answers in which --match is not found are the good ones.")
    ] = False,
    by: Annotated[
        str | None, typer.Option("--by", help="Columns to share responsibility by, as in source,date.")
    ] = None,
    fdr: Annotated[float, typer.Option("--fdr", help="False discovery rate over all outputs and their rows.")] = 0.05,
    method: options.ScoreMethod = None,
    where: Annotated[
        str | None, typer.Option("--where", help="SQL condition on columns, as in \"source = 'vendor_b'\".")
    ] = None,
    references: References = None,
    examples: Annotated[
        int | None,
        typer.Option("--examples", min=0, help="Groups with a typical output down to its words; 12 with --html."),
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option("--work", help="Folder for finished blocks, to go on after a cut; else in the index's folder."),
    ] = None,
    block: Annotated[
        int, typer.Option("--block", min=1, help="Outputs that share one scan; memory is this many times the rows.")
    ] = 256,
    base: Annotated[
        str | None, typer.Option("--base", help="The model before fine-tuning, for an index without an adapter.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Where the index's model is now, if it moved.")] = None,
    adapter: Annotated[str | None, typer.Option("--adapter", "-a", help="Where its adapter is now.")] = None,
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    max_memory: options.MaxMemory = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write one self-contained page.")] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", help="Write the same as Markdown.")] = None,
    json: Annotated[
        Path | None, typer.Option("--json", help="Write the result as JSON; - for standard output.")
    ] = None,
    no_text: WithoutText = False,
    quiet: options.Quiet = False,
) -> None:
    """Group a log of bad outputs by the training rows behind them, and say which rows to look at first."""
    from whence.audit import AuditSettings, compare_behaviour, run_audit
    from whence.trace import Tracer

    outputs = {"--json": json, "--html": html, "--markdown": markdown}
    inputs = {"OUTPUTS": queries, "--against": against, "--references": references, "--query-prompts": query_prompts}
    check_outputs(outputs, quiet=quiet, inputs=inputs | files_of(index))
    if scan:
        given: dict[str, object] = {
            "OUTPUTS": queries,
            "--match": match,
            "--against": against,
            "--by": by,
            "--method": method,
        }
        given |= {"--failed": failed, "--query-where": query_where, "--query-prompts": query_prompts}
        given |= {"--split": split, "--references": references, "--examples": examples, "--work": work}
        show(_scan(index, where, given, quiet=quiet), outputs, quiet=quiet, no_text=no_text)
        return
    if queries is None:
        raise InputError(
            "OUTPUTS is missing.",
            "An audit groups bad outputs by the rows behind them.",
            "Give a file of them, or --scan to look at the rows alone.",
        )
    asked = options.queries_of(
        index, queries, quiet=quiet, failed=failed, where=query_where, prompts=query_prompts, keep_silent=True
    )
    settings = AuditSettings(
        match=match,
        by=options.parse_names([by]) if by is not None else (),
        fdr=fdr,
        method=method,
        where=where,
        references=options.queries_of(index, references, quiet=quiet) if references is not None else None,
        examples=(EXAMPLES_IN_A_PAGE if html is not None else 0) if examples is None else examples,
        block=block,
    )
    if (against is not None or split) and examples is None:
        settings = replace(settings, examples=0)
    if against is not None and split:
        raise InputError("--against with --split.", "Each of them says which outputs are good.", "Leave one out.")
    good = options.queries_of(index, against, quiet=quiet, keep_silent=True) if against is not None else None
    placed = options.placement(device, device_map, max_memory)
    quiet_libraries()
    options.tell_index(index, quiet=quiet)
    tracer = Tracer(index, model=model, adapter=adapter, base=options.base_of(index, base, adapter), device=placed)
    with stages("outputs", quiet=quiet) as report:
        if against is not None or split:
            result = compare_behaviour(tracer, asked, good, settings, work=work, progress=report)
        else:
            result = run_audit(tracer, asked, settings, work=work, progress=report)
    show(result, outputs, quiet=quiet, no_text=no_text)


def _scan(index: Path, where: str | None, given: dict[str, object], *, quiet: bool) -> AuditResult:
    """Hints of the rows alone. given: what a scan has no use for, by its option."""
    from whence.audit import scan_index
    from whence.index import Index

    for name, value in given.items():
        if value:
            raise InputError(
                f"--scan with {name}.", "A scan looks at the index alone, without outputs.", f"Leave {name} out."
            )
    with stages("signals", quiet=quiet) as report:
        return scan_index(Index.open(index), where, report)


def show(
    result: AuditResult,
    outputs: Mapping[str, Path | None],
    *,
    quiet: bool,
    no_text: bool,
) -> None:
    """Writes the files and shows the result, or with `--json -` its JSON alone.

    quiet: shows it only where a file cannot be written.
    """
    json, html, markdown = outputs.values()
    to_terminal = not is_standard_output(json)
    writers = {json: result.to_json if to_terminal else None, html: result.to_html, markdown: result.to_markdown}
    places: list[Path] = []

    def write(place: Path, writer: Callable[..., object]) -> None:
        writer(place, show_text=not no_text)
        places.append(place)

    def shown() -> None:
        if not to_terminal:
            print_json(result.to_json(show_text=not no_text))
            return
        from whence.report import render_audit

        console = printer()
        for part in render_audit(result, texts=not no_text):
            console.print(part)
        for path in places:
            console.print(f"written: {path}", markup=False, soft_wrap=True)

    given = [partial(write, place, writer) for place, writer in writers.items() if place is not None and writer]
    hand_out(given, shown, quiet=quiet and to_terminal)
