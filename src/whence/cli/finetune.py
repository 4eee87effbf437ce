"""`whence finetune`: trains a model or an adapter, and keeps what attribution methods need of the run."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whence.cli import options
from whence.cli.progress import quiet_libraries, stages
from whence.cli.telling import say
from whence.errors import InputError

if TYPE_CHECKING:
    from whence.data import Example, Rejected
    from whence.errors import EncodingError


def finetune(
    base: Annotated[str, typer.Argument(metavar="BASE", help="Folder of the model to start from, or a hub name.")],
    data: options.Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder for weights, tokenizer and run.yaml.")],
    lora_r: options.LoraR = None,
    lora_alpha: Annotated[
        float | None, typer.Option("--lora-alpha", help="The adapter's scale is alpha / rank; 32 if left out.")
    ] = None,
    lora_dropout: Annotated[
        float | None, typer.Option("--lora-dropout", help="Dropout before the adapter; none if left out.")
    ] = None,
    lora_target: Annotated[
        list[str] | None,
        typer.Option("--lora-target", help="Module that gets an adapter; again for several. All linear, if left out."),
    ] = None,
    epochs: options.Epochs = 3,
    batch_size: options.BatchSize = 16,
    learning_rate: options.LearningRate = 1e-4,
    schedule: options.Schedule = "cosine",
    max_length: options.MaxLength = 512,
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="Keep the weights after every epoch (tracincp, less).")
    ] = False,
    keep_optimizer: Annotated[bool, typer.Option("--keep-optimizer", help="Keep Adam's moments (less).")] = False,
    columns: options.Columns = None,
    split: options.Split = None,
    template: options.Template = None,
    max_rejected: options.MaxRejected = 0.05,
    dtype: options.TrainingDtype = "float32",
    autocast: Annotated[
        str, typer.Option("--autocast", help="bfloat16: compute in it, keep the weights' type; auto: where faster.")
    ] = "off",
    device: options.Device = "auto",
    seed: options.Seed = 0,
    quiet: options.Quiet = False,
) -> None:
    """Fine-tune a model, deterministically. The same command on the same machine gives the same weights."""
    of_adapter = {"lora_alpha": lora_alpha, "lora_dropout": lora_dropout, "lora_targets": lora_target or None}
    of_adapter = {name: value for name, value in of_adapter.items() if value is not None}
    _check_adapter(lora_r, list(of_adapter))
    settings = options.finetune_settings(
        lora_r=lora_r,
        **of_adapter,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        schedule=schedule,
        max_length=max_length,
        checkpoints=checkpoints,
        keep_optimizer_state=keep_optimizer,
        dtype=dtype,
        autocast=autocast,
        device=device,
        seed=seed,
    )
    from whence.data import Encoder, Rejected, absolute_source, read_examples
    from whence.model import ModelSettings, load_model
    from whence.run_file import RunRows
    from whence.train import finetune as train

    quiet_libraries()
    rejected: list[Rejected] = []
    parsed, source = options.parse_columns(columns), options.read_template(template)
    rows = list(read_examples(data, columns=parsed, split=split, on_reject=rejected.append))
    n_rows = len(rows) + len(rejected)
    _check_rejected(rejected, n_rows, max_rejected)
    loaded = load_model(ModelSettings.model_validate({"model": base, "dtype": dtype, "device": device}))
    encoder = Encoder(
        loaded.tokenizer, template=source, max_length=loaded.fitting(max_length), n_embeddings=loaded.n_embeddings
    )

    def reject(row: Example, error: EncodingError) -> None:
        reason = str(error).split("\n")[0].removeprefix(f"{row.where}: ")
        rejected.append(Rejected(row.file, row.line, reason, ""))
        _check_rejected(rejected, n_rows, max_rejected)

    with stages("steps", quiet=quiet) as report:
        place = RunRows(source=absolute_source(data), columns=parsed, split=split)
        result = train(
            loaded,
            rows,
            out,
            settings=settings,
            encoder=encoder,
            rows=place,
            on_reject=reject,
            progress=report,
        )
    if quiet:
        return
    if rejected:
        say(f"{len(rejected)} rows were left out; the first: {_place(rejected[0])}", err=True)
    kept = f", {len(result.checkpoints)} checkpoints kept" if result.checkpoints else ""
    n_trained = n_rows - len(rejected)
    say(
        f"{n_trained} rows, {len(result.losses)} steps in {result.seconds:.0f} s: "
        f"loss {result.losses[0]:.3f} at the first step, {result.losses[-1]:.3f} at the last{kept}",
        err=True,
    )
    if result.n_cut:
        share = f"{result.n_cut} of {n_trained} rows ({result.n_cut / n_trained:.1%})"
        say(f"{share} were cut to {encoder.max_length} tokens (--max-length)", err=True)
    subject = [base, data, "--adapter", out] if result.is_adapter else [out, data]
    read: dict[str, object] = {"--columns": columns, "--split": split, "--template": template}
    read |= {"--date": encoder.date, "--max-length": encoder.max_length}
    options_given = [part for name, value in read.items() if value is not None for part in (name, value)]
    command = [*subject, "-o", out.parent / f"{out.name}-index", *options_given]
    say(f"Index it: whence index {shlex.join(map(str, command))}", err=True)


def _check_adapter(rank: int | None, given: list[str]) -> None:
    """Raises InputError for options of an adapter where none is trained."""
    if rank is not None or not given:
        return
    name = "--lora-target" if given[0] == "lora_targets" else f"--{given[0].replace('_', '-')}"
    raise InputError(
        f"{name} was given without --lora-r.",
        "Without --lora-r every weight is trained, and there is no adapter.",
        f"Add --lora-r 16, or leave {name} out.",
    )


def _check_rejected(rejected: list[Rejected], n_rows: int, limit: float) -> None:
    if len(rejected) > limit * n_rows:
        raise InputError(
            f"{len(rejected)} of {n_rows} rows cannot be used; the first: {_place(rejected[0])}",
            f"At most {limit:.0%} may be left out.",
            "Correct the data, or allow more with --max-rejected.",
        )


def _place(one: Rejected) -> str:
    return f"{one.file}:{one.line}: {one.reason}"
