"""`whence plan`: what an index would cost, before it is built."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from whence.cli import options
from whence.cli.outputs import check_outputs, files_named, hand_out, is_standard_output
from whence.cli.progress import quiet_libraries, stages
from whence.cli.telling import print_json, printer, say
from whence.cli.tracing import tell_few_rows
from whence.errors import InputError

if TYPE_CHECKING:
    from whence.planning import Arithmetic, Plan

    Made = TypeVar("Made", Plan, Arithmetic)


def plan(
    model: options.Model,
    data: options.DataIfTold = None,
    *,
    adapter: options.Adapter = None,
    base: options.Base = None,
    contrast: options.Contrast = True,
    budget: Annotated[
        str | None, typer.Option("--budget", help="Time there is, as in 2h or 90m: chooses settings, or says no.")
    ] = None,
    gpu_memory: Annotated[
        str | None,
        typer.Option("--gpu-memory", help="Of one GPU, as in 80GiB: only compute how many it takes, load nothing."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option("--rate", min=1.0, help="Operations a second of all GPUs, as in 4e14; without it no time."),
    ] = None,
    layer: options.Layers = None,
    methods: options.Methods = None,
    precision: options.Precision = None,
    dimensions: options.Dimensions = None,
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
    device_map: options.DeviceMap = None,
    max_memory: options.MaxMemory = None,
    quantization: options.Quantization = None,
    revision: options.Revision = None,
    blocks: options.BlocksPath = None,
    trust_remote_code: options.TrustRemoteCode = False,
    date: options.Date = None,
    shard_rows: options.ShardRows = 1024,
    max_tokens: options.MaxTokens = 2048,
    json: Annotated[Path | None, typer.Option("--json", help="Write the plan as JSON; - for standard output.")] = None,
    seed: options.Seed = 0,
    quiet: options.Quiet = False,
) -> None:
    """Predict time, memory and disk of `whence index` with the same options, from half a minute's work.

    As there, a folder with a record of its training needs no DATA and no options.
    """
    read = {"MODEL": model, "DATA": data, "--adapter": adapter, "--base": base, "--template": template}
    check_outputs({"--json": json}, quiet=quiet, inputs=files_named(**read))
    placed = options.placement(device, device_map, max_memory)
    settings = options.model_settings(model, adapter, dtype, placed, quantization, revision, blocks, trust_remote_code)
    from whence.cli.plan_arithmetic import show_arithmetic
    from whence.model import is_config_only
    from whence.planning import parse_budget, plan_settings, reckon
    from whence.planning import plan as predict

    shape = settings.model_dump(exclude={"model"})
    if layer:
        shape["layers"] = options.parse_layers(layer)
    if methods:
        shape["methods"] = options.parse_names(methods)
    shape |= options.stored_as(precision, dimensions)
    shape |= {
        "columns": options.parse_columns(columns),
        "split": split,
        "base": base,
        "contrast": contrast,
        "template": options.read_template(template),
        **options.row_encoding(max_length, truncation, append_eos, loss, date),
        "max_rejected": max_rejected,
        "shard_rows": shard_rows,
        "max_tokens": max_tokens,
        "seed": seed,
    }
    seconds = parse_budget(budget) if budget is not None else None
    if rate is not None and not math.isfinite(rate):
        raise InputError(f"--rate {rate} is no rate.", "Expected operations a second, as in 4e14.", "Leave it out.")
    quiet_libraries()
    tell = None if quiet else partial(say, err=True)
    planned = plan_settings(settings.model, data, shape, use_record=not no_record, notify=tell)
    check_outputs({"--json": json}, quiet=quiet, inputs=files_named(**read | {"DATA": str(planned.data)}))
    if gpu_memory is not None or rate is not None or is_config_only(planned.model_settings):
        _check_arithmetic(budget)
        size = None if gpu_memory is None else _bytes(gpu_memory)
        reckoned = reckon(planned, gpu_memory=size, rate=rate)
        return _write(reckoned, json, quiet=quiet, show=show_arithmetic)
    with stages(quiet=quiet) as report:
        given = planned.model_dump(exclude={"model", "data", "out"})
        found = predict(planned.model, planned.data, budget=seconds, use_record=False, progress=report, **given)
    _write(found, json, quiet=quiet, show=_show)


def _write(found: Made, json: Path | None, *, quiet: bool, show: Callable[[Made], None]) -> None:
    def shown() -> None:
        if is_standard_output(json):
            print_json(found.to_json())
            return
        show(found)
        tell_few_rows(found.n_rows)

    to_file = json is not None and not is_standard_output(json)
    hand_out([partial(found.to_json, json)] if to_file else [], shown, quiet=quiet and not is_standard_output(json))


def _check_arithmetic(budget: str | None) -> None:
    if budget is not None:
        raise InputError(
            "--budget where nothing is measured.",
            "Whether a time is kept needs the model's weights and a run of it.",
            "Leave --budget out; --rate gives a time by arithmetic.",
        )


def _bytes(size: str) -> int:
    from whence.model import parse_limits

    try:
        return parse_limits({"0": size})[0]
    except InputError:
        raise InputError(
            f"--gpu-memory {size!r} cannot be read.", "Expected a size, as in 80GiB.", "See --help."
        ) from None


def _show(found: Plan) -> None:
    from rich.table import Table

    from whence.cli.plan_arithmetic import size_text
    from whence.planning import clock

    seconds = found.seconds
    table = Table("whence index", "predicted", "of which")
    stages_text = ", ".join(
        f"{name} {clock(value)}"
        for name, value in (
            ("signatures", seconds.extract),
            ("writing", seconds.write),
            ("reading", seconds.scan),
            ("loading", seconds.load),
            ("choosing the layer", seconds.choose_layer),
        )
    )
    table.add_row("time", clock(seconds.total), stages_text)
    measured = "measured with the largest batch" if found.memory_measured else "extrapolated to the largest batch"
    table.add_row("memory", size_text(found.memory), measured)
    if found.device_memory is not None:
        table.add_row(f"memory of {found.device}", size_text(found.device_memory), measured)
    table.add_row("disk", size_text(found.disk), f"{found.n_records} records of {len(found.layers)} layers")
    table.add_row("one whence trace", clock(found.trace_seconds), "without a verdict; loading included")
    console = printer()
    console.print(
        f"{found.n_rows} rows, {found.prompt_tokens:.0f} + {found.response_tokens:.0f} tokens on average "
        f"({found.truncated:.0%} cut to {found.max_length}); {found.dtype} on {found.device}, "
        f"--max-tokens {found.max_tokens}; {found.n_sampled} rows sampled in {clock(found.probe_seconds)}",
        markup=False,
    )
    for note in found.notes:
        console.print(f"Note: {note}", markup=False)
    console.print(table)
    if found.budget is not None:
        console.print(found.budget.text, markup=False)
        for change in found.budget.changes:
            console.print(f"  {change}", markup=False)
