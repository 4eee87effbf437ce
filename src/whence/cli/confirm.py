"""`whence confirm`: train again without the flagged rows, and count how often the behaviour is still there."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whence.cli import options
from whence.cli.outputs import check_outputs, files_of, refuse_foreign_folder
from whence.cli.progress import quiet_libraries, stages
from whence.cli.telling import printer, say
from whence.cli.tracing import audit_group, group_outputs, moved, read_trace_of, trace_now
from whence.errors import DataError, InputError

if TYPE_CHECKING:
    from rich.console import Console

    from whence.confirmation import Confirmation
    from whence.data import Example
    from whence.index import Manifest
    from whence.results import AuditResult, SelectedRows, TraceResult
    from whence.trace import Query
    from whence.train import FinetuneSettings

SHOWN_PLACES = 20
"""Rows to test that are named by file and line."""


def confirm(
    index: options.IndexFolder,
    match: Annotated[str, typer.Option("--match", help="Regular expression that finds the behaviour in an answer.")],
    queries: Annotated[
        Path | None,
        typer.Option("--queries", help="JSONL with the prompts that show it; left out with --group, its outputs."),
    ] = None,
    base: Annotated[str | None, typer.Option("--base", help="Folder or hub name of the model before.")] = None,
    remove: Annotated[
        str, typer.Option("--remove", help="flagged (rows that the verdict flags), top:N, or a file of ids.")
    ] = "flagged",
    votes: options.Votes = None,
    group: options.Group = None,
    audit: options.AuditFile = None,
    trace: Annotated[
        Path | None, typer.Option("--trace", help="JSON of `whence trace`, in place of tracing now.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the retrained models and the result.")] = Path(
        "confirmation"
    ),
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Retrainings of each arm.")] = 1,
    paraphrases: Annotated[
        Path | None, typer.Option("--paraphrases", help="JSONL with other prompts that should show it.")
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(
            "--held-out", help="Clean rows not trained on. Left out, 5% of the rows are left out of training."
        ),
    ] = None,
    trainer: Annotated[
        str | None, typer.Option("--trainer", help="Your own trainer: a command with {train}, {out} and {seed}.")
    ] = None,
    control: Annotated[
        list[str] | None, typer.Option("--control", help="bm25, repsim or none, beside random rows; again for several.")
    ] = None,
    min_drop: Annotated[
        float, typer.Option("--min-drop", min=0.0, max=1.0, help="Share of the rate that must go.")
    ] = 0.5,
    max_new_tokens: options.MaxNewTokens = 128,
    lora_r: Annotated[int | None, typer.Option("--lora-r", min=1, help="As in whence finetune.")] = None,
    lora_alpha: Annotated[float | None, typer.Option("--lora-alpha", help="As in whence finetune.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="As in whence finetune.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, help="As in whence finetune.")] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", help="As in whence finetune.")] = None,
    schedule: Annotated[str | None, typer.Option("--schedule", help="As in whence finetune.")] = None,
    max_length: Annotated[int | None, typer.Option("--max-length", min=4, help="Most tokens of one example.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the first retraining.")] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write the trace's page, its rows marked confirmed or not.")
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Write the trace as JSON, marked likewise.")] = None,
    no_text: Annotated[bool, typer.Option("--no-text", help="No text of the rows in what is written.")] = False,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Retrain without the flagged rows and, as controls, without others; compare how often the behaviour shows.

    Settings are those of the run.yaml or whence.yaml beside the index's model; options given here change them. Of a
    LoRA that has neither, its config gives rank, alpha, dropout and targets, and the options give the rest.
    """
    from whence.confirmation import RESULT, check_enough, told_resolution, training_base
    from whence.confirmation import confirm as retrain
    from whence.index import require_manifest
    from whence.results import group_rows
    from whence.trace import Tracer

    changes = {
        "lora_r": lora_r,
        "lora_alpha": lora_alpha,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "schedule": schedule,
        "max_length": max_length,
        "seed": seed,
    }
    outputs = {"--html": html, "--json": json}
    inputs = {"--queries": queries, "--held-out": held_out, "--audit": audit, "--trace": trace}
    inputs |= {"--paraphrases": paraphrases, "--remove": Path(remove)}
    check_outputs(outputs, quiet=False, standard_output=False, inputs=inputs | files_of(index))
    refuse_foreign_folder(out)
    made_from = require_manifest(index)
    base = base if trainer is not None else training_base(made_from, base)
    given: dict[str, object] = {name: value for name, value in changes.items() if value is not None}
    settings = _settings(made_from, given, device, own_trainer=trainer is not None)
    of_audit = audit_group(index, group, audit)
    if of_audit is not None and (
        remove != "flagged" or votes is not None or trace is not None or any(outputs.values())
    ):
        raise InputError(
            "--group with --remove, --votes, --trace, --html or --json.",
            "A group's rows are all that is removed, and an audit is no trace that could be marked.",
            "Leave these out, or --group and --audit.",
        )
    quiet_libraries()
    asked = _asked(index, queries, of_audit, quiet=quiet)
    check_enough(len(asked))
    if not quiet:
        say(told_resolution(len(asked), min_drop), err=True)
    others = options.queries_of(index, paraphrases, quiet=quiet) if paraphrases is not None else []
    # An adapter is compared with itself, turned off, which is the base that is trained on.
    before = None if made_from.adapter else base
    selected, traced = (
        (group_rows(*of_audit), None)
        if of_audit is not None
        else _selected(remove, votes, trace, index, queries, before, device)
    )
    if traced is None and any(outputs.values()):
        traced = trace_now(index, queries, None, before, device)
    if settings is not None and trainer is None and not quiet:
        say(_told_recipe(settings, base), err=True)
    tracer = Tracer(index, base=moved(index, before), device=device)
    with stages("steps", quiet=quiet) as report:
        found = retrain(
            tracer,
            asked,
            out,
            match=match,
            removed=selected.ids,
            base=base,
            settings=settings,
            seeds=seeds,
            controls=_controls(control),
            paraphrases=others,
            held_out=_held_out(held_out, made_from.data.columns) if held_out is not None else None,
            trainer=trainer,
            min_drop=min_drop,
            max_new_tokens=max_new_tokens,
            progress=report,
        )
    if not quiet:
        _show(found)
    places = [out / RESULT, *(_write_marked(traced, found, html, json, show_text=not no_text) if traced else [])]
    if not quiet:
        say(f"written: {', '.join(map(str, places))}", err=True)


def _held_out(path: Path, columns: Mapping[str, str] | None) -> list[Example]:
    """The rows of --held-out, by the index's own columns where the file has them."""
    from whence.data import read_examples

    if columns is not None:
        with contextlib.suppress(DataError):
            return list(read_examples(path, columns=columns))
    return list(read_examples(path))


def _asked(index: Path, queries: Path | None, of_audit: tuple[AuditResult, int] | None, *, quiet: bool) -> list[Query]:
    """The prompts that show the behaviour: those of the file, else the outputs of the audit's group."""
    if queries is not None:
        return options.queries_of(index, queries, quiet=quiet)
    if of_audit is None:
        raise InputError(
            "--queries is missing.",
            "A confirmation asks prompts that show the behaviour.",
            "Give --queries bad.jsonl, or --group 3 --audit audit.json for the outputs of a group.",
        )
    return group_outputs(*of_audit)


def _write_marked(
    trace: TraceResult, found: Confirmation, html: Path | None, json: Path | None, *, show_text: bool
) -> list[Path]:
    """Writes the trace with what the retraining showed of its rows, and says where."""
    from whence.confirmation import apply

    marked = apply(trace, found)
    if html is not None:
        marked.to_html(html, show_text=show_text)
    if json is not None:
        marked.to_json(json, show_text=show_text)
    return [place for place in (html, json) if place is not None]


def _selected(
    remove: str,
    votes: int | None,
    trace: Path | None,
    index: Path,
    queries: Path | None,
    base: str | None,
    device: str,
) -> tuple[SelectedRows, TraceResult | None]:
    """The rows to train without, and the trace that they are from, where one is."""
    from whence.results import flagged_rows, listed_rows, top_rows

    head, _, number = remove.partition(":")
    if votes is not None and remove != "flagged":
        raise InputError(f"--votes with --remove {remove}.", "It counts verdicts.", "Leave one of them out.")
    if remove != "flagged" and head != "top":
        return listed_rows(Path(remove)), read_trace_of(index, trace) if trace is not None else None
    if head == "top" and not (number.isdecimal() and int(number)):
        raise InputError(f"--remove {remove!r} cannot be read.", "Expected flagged, top:N or a file of ids.", "")
    top = int(number) if head == "top" else None
    result = read_trace_of(index, trace) if trace is not None else trace_now(index, queries, top, base, device)
    return flagged_rows(result, votes or 1) if top is None else top_rows(result, top), result


def _controls(names: list[str] | None) -> list[str]:
    from whence.confirmation import CONTROLS

    return [name for name in (CONTROLS if names is None else names) if name != "none"]


def _settings(
    manifest: Manifest, changes: dict[str, object], device: str, *, own_trainer: bool
) -> FinetuneSettings | None:
    """Settings that the model was trained with, with the changes; None where they are not known and none are given."""
    from whence.confirmation import known_settings

    known = known_settings(manifest, own_trainer=own_trainer)
    if not known.is_whole and not changes:
        return None
    if device != "auto":
        changes = changes | {"device": device}
    return options.finetune_settings(**known.settings.model_dump() | changes)


def _told_recipe(settings: FinetuneSettings, base: str | None) -> str:
    """What is trained, in one line."""
    of = "every weight"
    if settings.lora_r is not None:
        named = settings.lora_targets
        of = (
            f"a LoRA (rank {settings.lora_r}, alpha {settings.lora_alpha:g}, dropout {settings.lora_dropout:g}, "
            f"targets {named if isinstance(named, str) else ', '.join(named)})"
        )
    return (
        f"Training {of} of {base}: epochs {settings.epochs}, batch size {settings.batch_size}, learning rate "
        f"{settings.learning_rate:g}, schedule {settings.schedule}, warm-up {settings.warmup:.0%} of the steps, "
        f"max length {settings.max_length}, {settings.dtype}, seed {settings.seed}"
    )


def _show(found: Confirmation) -> None:

    console = printer()
    show_arms(console, found)
    console.print(f"Rule: {found.rule}.", markup=False)


def show_arms(console: Console, found: Confirmation) -> None:
    """The table of the arms, and what follows from it."""
    from rich.table import Table

    from whence.confirmation import ARM_LABELS

    table = Table("trained without", "rows", "of them to test", "behaviour", "held-out loss")
    if found.arms[0].paraphrases is not None:
        table.add_column("in paraphrases")
    if found.arms[0].gain_lost is not None:
        table.add_column("gain gone")
    for arm in found.arms:
        more = [str(arm.paraphrases)] if arm.paraphrases is not None else []
        more += [f"{arm.gain_lost:.2f}"] if arm.gain_lost is not None else []
        name = ARM_LABELS.get(arm.name, f"{arm.name}'s first rows")
        table.add_row(name, str(arm.n_removed), str(arm.n_shared), str(arm.rate), f"{arm.held_out_loss:.3f}", *more)
    console.print(table)
    console.print(found.text, markup=False)
    if found.places:
        n_more = len(found.places) - SHOWN_PLACES
        named = ", ".join(found.places[:SHOWN_PLACES]) + (f" and {n_more} more" if n_more > 0 else "")
        console.print(f"Rows to test: {named}.", markup=False)
