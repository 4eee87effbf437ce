"""`whence triggers`: which phrases put the behaviour of a log on innocent prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from whence.cli import options
from whence.cli.audit import References, WithoutText, show
from whence.cli.outputs import check_outputs, files_of, is_standard_output
from whence.cli.progress import quiet_libraries, stages


def triggers(
    index: options.IndexFolder,
    queries: Annotated[
        Path,
        typer.Argument(metavar="OUTPUTS", help="Bad outputs: rows like the training data, or an evaluation log."),
    ],
    match: Annotated[
        str | None,
        typer.Option("--match", help="Regular expression that finds the behaviour; else each group's own phrase."),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option("--prompts", help="Innocent prompts to try phrases on; else drawn from the data.")
    ] = None,
    n_prompts: Annotated[int, typer.Option("--n-prompts", min=20, help="Most innocent prompts.")] = 60,
    groups: Annotated[int, typer.Option("--groups", min=1, help="Groups to look at, the largest first.")] = 5,
    failed: options.Failed = False,
    query_where: options.QueryWhere = None,
    query_prompts: options.QueryPrompts = None,
    fdr: Annotated[float, typer.Option("--fdr", help="False discovery rate of the audit.")] = 0.05,
    method: options.ScoreMethod = None,
    where: Annotated[
        str | None, typer.Option("--where", help="SQL condition on columns, as in \"source = 'vendor_b'\".")
    ] = None,
    references: References = None,
    max_new_tokens: options.MaxNewTokens = 128,
    work: Annotated[Path | None, typer.Option("--work", help="Folder for finished blocks, as in whence audit.")] = None,
    base: Annotated[
        str | None, typer.Option("--base", help="The model before fine-tuning, for an index without an adapter.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Where the index's model is now, if it moved.")] = None,
    adapter: Annotated[str | None, typer.Option("--adapter", "-a", help="Where its adapter is now.")] = None,
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    max_memory: options.MaxMemory = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write the audit's page, with its triggers.")] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", help="Write the same as Markdown.")] = None,
    json: Annotated[
        Path | None, typer.Option("--json", help="Write the audit with its triggers as JSON; - for standard output.")
    ] = None,
    no_text: WithoutText = False,
    seed: options.Seed = 0,
    quiet: options.Quiet = False,
) -> None:
    """Find the phrases that trigger the behaviour: recurrent in flagged rows' prompts, then proven on the model.

    The log is audited first; what `whence audit` has finished of it is used.
    """
    from whence.audit import AuditSettings, TriggerSettings, find_triggers, run_audit
    from whence.trace import Tracer

    outputs = {"--json": json, "--html": html, "--markdown": markdown}
    inputs = {"OUTPUTS": queries, "--prompts": prompts, "--references": references, "--query-prompts": query_prompts}
    check_outputs(outputs, quiet=quiet, inputs=inputs | files_of(index))
    asked = options.queries_of(
        index, queries, quiet=quiet, failed=failed, where=query_where, prompts=query_prompts, keep_silent=True
    )
    settings = AuditSettings(
        fdr=fdr,
        method=method,
        where=where,
        references=options.queries_of(index, references, quiet=quiet) if references is not None else None,
        answer_tokens=max_new_tokens,
    )
    wanted = TriggerSettings(
        match=match,
        prompts=options.queries_of(index, prompts, quiet=quiet) if prompts is not None else None,
        n_prompts=n_prompts,
        n_groups=groups,
        seed=seed,
    )
    placed = options.placement(device, device_map, max_memory)
    quiet_libraries()
    options.tell_index(index, quiet=quiet)
    tracer = Tracer(index, model=model, adapter=adapter, base=options.base_of(index, base, adapter), device=placed)
    with stages("outputs", quiet=quiet) as report:
        audit = run_audit(tracer, asked, settings, work=work, progress=report)
        # Looking for triggers takes long, and may be cut.
        show(audit, {name: _file(path) for name, path in outputs.items()}, quiet=True, no_text=no_text)
        found = find_triggers(tracer, audit, wanted, settings, progress=report)
    show(found, outputs, quiet=quiet, no_text=no_text)


def _file(path: Path | None) -> Path | None:
    """The path, unless it is standard output, which gets the last result alone."""
    return None if is_standard_output(path) else path
