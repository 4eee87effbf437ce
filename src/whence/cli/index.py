"""`whence index`: from a model and its training data to an index."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whence.cli import options
from whence.cli.progress import quiet_libraries, stages
from whence.cli.telling import say
from whence.cli.tracing import tell_few_rows
from whence.errors import InputError
from whence.object_path import place

if TYPE_CHECKING:
    from whence.index import Index, Job, JobState, Manifest


def index(
    model: options.Model,
    data: options.DataIfTold = None,
    *,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            parser=place,
            help="Folder of the index, here or s3://bucket/folder; the same command again resumes.",
        ),
    ],
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
    date: options.Date = None,
    no_record: options.NoRecord = False,
    max_rejected: options.MaxRejected = 0.05,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    max_memory: options.MaxMemory = None,
    quantization: options.Quantization = None,
    revision: options.Revision = None,
    blocks: options.BlocksPath = None,
    trust_remote_code: options.TrustRemoteCode = False,
    shard_rows: options.ShardRows = 1024,
    max_tokens: options.MaxTokens = 2048,
    shard: Annotated[
        str | None, typer.Option("--shard", help="Compute a part alone, as in 3/16: the third of 16 jobs.")
    ] = None,
    finish: Annotated[bool, typer.Option("--finish", help="All jobs are done: check their shards, seal.")] = False,
    devices: Annotated[
        str | None, typer.Option("--devices", help="A worker process on each, as in 0,1,2,3 or cpu,cpu.")
    ] = None,
    engine: Annotated[str, typer.Option("--engine", help="local, or ray for a cluster (whence[ray]).")] = "local",
    address: Annotated[
        str | None, typer.Option("--address", help="Of the Ray cluster: auto or host:port; left out, one starts here.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Actors; left out, one a GPU or core.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the index that is there.")] = False,
    seed: options.Seed = 0,
    quiet: options.Quiet = False,
) -> None:
    """Build an index of the training data's signatures. The same command again continues where it stopped.

    A folder that was trained with whence.TrainingRecord needs no DATA and no options: they are taken from its record.
    """
    placed = options.placement(device, device_map, max_memory)
    settings = options.model_settings(model, adapter, dtype, placed, quantization, revision, blocks, trust_remote_code)
    from whence.data import find_sources, is_remote

    if data is not None and not is_remote(data) and not Path(data).exists():
        find_sources(data, split)  # names a misspelt file before the libraries that take seconds to load
    from whence.index import Job, Workers, build_index, build_part, finish_index

    quiet_libraries()
    shape = settings.model_dump(exclude={"model"})
    shape |= options.row_encoding(max_length, truncation, append_eos, loss, date)
    if layer:
        shape["layers"] = options.parse_layers(layer)
    if methods:
        shape["methods"] = options.parse_names(methods)
    shape |= options.stored_as(precision, dimensions)
    job = Job.parse(shard) if shard is not None else None
    _check_steps(job, finish=finish, add=bool(add), overwrite=overwrite)
    tell = None if quiet else partial(say, err=True)
    shape |= {
        "columns": options.parse_columns(columns),
        "split": split,
        "base": base,
        "contrast": contrast,
        "template": options.read_template(template),
        "max_rejected": max_rejected,
        "shard_rows": shard_rows,
        "max_tokens": max_tokens,
        "seed": seed,
    }
    _check_device_map(device_map, devices, engine)
    by = Workers(engine, tuple(options.parse_names([devices or ""])), address, workers)
    use_record = not no_record
    with stages(quiet=quiet) as report:
        if job is not None:
            state = build_part(
                settings.model, data, out, job, use_record=use_record, workers=by, progress=report, notify=tell, **shape
            )
        elif finish:
            from whence.index import build_settings, require_manifest

            given = build_settings(settings.model, data or require_manifest(out).data.source, out, shape)
            built = finish_index(out, max_rejected=max_rejected, given=given)
            if tell is not None:
                tell(f"The index {out} is complete: {built.n_rows} rows, {built.n_records} records")
        else:
            built = build_index(
                settings.model,
                data,
                out,
                add=options.parse_names(add or ()),
                overwrite=overwrite,
                use_record=use_record,
                workers=by,
                progress=report,
                notify=tell,
                **shape,
            )
    if quiet:
        return
    if job is not None:
        _tell_job(out, job, state)
    else:
        if data is not None:
            _tell_gains(built)
        _tell_index(out, built.manifest)


def _check_steps(job: Job | None, *, finish: bool, add: bool, overwrite: bool) -> None:
    if job is not None and (finish or add or overwrite):
        other = "--finish" if finish else "--add" if add else "--overwrite"
        raise InputError(f"--shard with {other}.", "A job computes its part alone.", "Leave one of them out.")
    if finish and (add or overwrite):
        other = "--add" if add else "--overwrite"
        raise InputError(f"--finish with {other}.", "It seals what jobs computed.", "Leave one of them out.")


def _check_device_map(device_map: str | None, devices: str | None, engine: str) -> None:
    if device_map is not None and (devices is not None or engine == "ray"):
        other = "--devices" if devices is not None else "--engine ray"
        raise InputError(
            f"--device-map with {other}.",
            "A device map spreads one model over all devices of a machine; workers have a model and a device each.",
            f"Leave {other} out. On several machines, start one job each: --shard 1/4 --device-map {device_map}.",
        )


def _tell_job(out: Path, job: Job, state: JobState) -> None:
    say(f"Job {job.number} of {job.n} is done: {state.n_own} shards are its own", err=True)
    say(f"{state.n_committed} of {state.n_shards} shards of {out} are there", err=True)
    if state.sealed:
        say("The index is sealed already", err=True)
    elif state.n_committed >= state.n_shards:
        say("Seal the index: the same command with --finish in place of --shard", err=True)


def _tell_gains(built: Index) -> None:
    """Asks about rows of which more than half of the answers gained nothing, where it is known."""
    n = built.n_records_without_gain()
    if n is not None and n > built.n_records / 2:
        said = f"{n:,} of {built.n_records:,} answers gained nothing in fine-tuning"
        say(f"{said}: are these the rows it was trained on?", err=True)


def _tell_index(out: Path, manifest: Manifest) -> None:
    counts = manifest.counts
    if counts is None:
        return
    if counts.n_rejected:
        say(f"{counts.n_rejected} rows were set aside, each with its reason: {out / 'rejected.jsonl'}", err=True)
    if counts.n_truncated:
        say(f"{counts.n_truncated} records were cut to {manifest.max_length} tokens", err=True)
    tell_few_rows(counts.n_rows)
    say(f'Ask it: whence trace {out} --prompt "..." --response "..."', err=True)
