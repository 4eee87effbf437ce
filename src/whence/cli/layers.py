"""`whence layers`: which layer the rule chooses, and how sure that is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whence.cli import options
from whence.cli.outputs import check_outputs, files_named
from whence.cli.progress import quiet_libraries, stages
from whence.cli.telling import say

if TYPE_CHECKING:
    from whence.model import LayerChoice

BAR = 40


def layers(
    model: options.Model,
    data: options.Data,
    adapter: options.Adapter = None,
    probes: Annotated[int, typer.Option("--probes", min=1, help="Rows to read, spread over the data.")] = 128,
    columns: options.Columns = None,
    split: options.Split = None,
    template: options.Template = None,
    max_length: options.MaxLength = 1024,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    max_memory: options.MaxMemory = None,
    quantization: options.Quantization = None,
    revision: options.Revision = None,
    blocks: options.BlocksPath = None,
    trust_remote_code: options.TrustRemoteCode = False,
    seed: options.Seed = 0,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw the similarity of adjacent layers: .svg or .png.")
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Show the evidence for the layer to read: similarity of adjacent layers, and a bootstrap over the probes."""
    placed = options.placement(device, device_map, max_memory)
    settings = options.model_settings(model, adapter, dtype, placed, quantization, revision, blocks, trust_remote_code)
    if plot is not None:
        from whence.report import check_plot

        read = {"MODEL": model, "DATA": data, "--adapter": adapter, "--template": template}
        check_outputs({"--plot": plot}, quiet=False, standard_output=False, inputs=files_named(**read))
        check_plot(plot)
    from whence.index import choose_layer

    quiet_libraries()
    with stages("probes", quiet=quiet) as report:
        choice = choose_layer(
            settings,
            data,
            columns=options.parse_columns(columns),
            split=split,
            template=options.read_template(template),
            max_length=max_length,
            n_probes=probes,
            seed=seed,
            progress=report,
        )
    for line in chart(choice):
        say(line)
    if plot is not None:
        from whence.report import plot_layers

        plot_layers(choice.similarity, choice.layer, choice.n_probes, plot)
        say(f"written: {plot}")


def chart(choice: LayerChoice) -> list[str]:
    """The evidence as text: one bar per adjacent pair, the share of resamples beside it."""
    from whence.model import early_note

    worst = min(choice.similarity)
    span = max(choice.similarity) - worst or 1.0
    lines = [
        f"cosine of adjacent layers at the last prompt token, mean of {choice.n_probes} probes (seed {choice.seed})"
    ]
    for lower, similarity in enumerate(choice.similarity):
        upper = lower + 1
        bar = "#" * (1 + round((BAR - 1) * (similarity - worst) / span))
        share = choice.share.get(upper, 0.0)
        chosen = "  <- chosen" if upper == choice.layer else ""
        lines.append(f"{lower:>3} | {upper:<3} {similarity:7.4f} {bar:<{BAR}} {share:4.0%} of resamples{chosen}")
    note = early_note(choice.layer, len(choice.similarity))
    return [*lines, f"layer {choice.layer}: {choice.reason}", *([note] if note else [])]
