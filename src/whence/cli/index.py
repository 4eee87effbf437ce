"""`whence index`: from a model and its training data to an index."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from whence.cli import options
from whence.cli.progress import quiet_libraries, stages


def index(
    model: options.Model,
    data: options.DataIfTold = None,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the index; the same command again resumes.")],
    adapter: options.Adapter = None,
    base: options.Base = None,
    contrast: options.Contrast = True,
    layer: options.Layers = None,
    methods: options.Methods = None,
    precision: options.Precision = None,
    dimensions: options.Dimensions = None,
    add: Annotated[
        list[str] | None,
        typer.Option("--add", help="Methods that a complete index shall answer too; only what it lacks is computed."),
    ] = None,
    columns: options.Columns = None,
    split: options.Split = None,
    template: options.Template = None,
    max_length: options.MaxLengthIfTold = None,
    truncation: options.Truncation = None,
    append_eos: options.AppendEos = None,
    loss: options.LossOn = None,
    no_record: options.NoRecord = False,
    max_rejected: options.MaxRejected = 0.05,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    quantization: options.Quantization = None,
    revision: options.Revision = None,
    blocks: options.BlocksPath = None,
    trust_remote_code: options.TrustRemoteCode = False,
    shard_rows: options.ShardRows = 1024,
    max_tokens: options.MaxTokens = 2048,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the index that is there.")] = False,
    seed: options.Seed = 0,
    quiet: options.Quiet = False,
) -> None:
    """Build an index of the training data's signatures. The same command again continues where it stopped.

    A folder that was trained with whence.TrainingRecord needs no DATA and no options: they are taken from its record.
    """
    settings = options.model_settings(model, adapter, dtype, device, quantization, revision, blocks, trust_remote_code)
    from whence.data import loss_named, truncation_named
    from whence.index import build_index

    quiet_libraries()
    shape = settings.model_dump(exclude={"model"})
    told = {
        "max_length": max_length,
        "truncation": truncation_named(truncation) if truncation is not None else None,
        "append_eos": append_eos,
        "loss": loss_named(loss) if loss is not None else None,
    }
    shape |= {name: value for name, value in told.items() if value is not None}
    if layer:
        shape["layers"] = options.parse_layers(layer)
    if methods:
        shape["methods"] = options.parse_names(methods)
    shape |= options.stored_as(precision, dimensions)
    with stages(quiet=quiet) as report:
        built = build_index(
            settings.model,
            data,
            out,
            add=options.parse_names(add or ()),
            overwrite=overwrite,
            use_record=not no_record,
            progress=report,
            notify=None if quiet else lambda sentence: typer.echo(sentence, err=True),
            columns=options.parse_columns(columns),
            split=split,
            base=base,
            contrast=contrast,
            template=options.read_template(template),
            max_rejected=max_rejected,
            shard_rows=shard_rows,
            max_tokens=max_tokens,
            seed=seed,
            **shape,
        )
    counts = built.manifest.counts
    if quiet or counts is None:
        return
    if counts.n_rejected:
        typer.echo(f"{counts.n_rejected} rows were set aside, each with its reason: {out / 'rejected.jsonl'}", err=True)
    if counts.n_truncated:
        typer.echo(f"{counts.n_truncated} records were cut to {built.manifest.max_length} tokens", err=True)
    typer.echo(f'Ask it: whence trace {out} --prompt "..." --response "..."', err=True)
