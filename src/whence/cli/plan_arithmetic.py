"""`whence plan` of a model that is not loaded, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from whence.planning import clock

if TYPE_CHECKING:
    from whence.planning import Arithmetic

NOTHING_MEASURED = (
    "Computed from the config and the data; nothing was loaded or timed. What a batch takes beside the weights is an "
    "estimate from above, and accelerate may spread the layers a little otherwise."
)


def show_arithmetic(found: Arithmetic) -> None:
    """Prints what was computed, and that it was not measured."""
    console = Console(highlight=False)
    console.print(
        f"{found.n_parameters / 1e9:.2f} billion parameters in {found.n_layers} layers, {found.dtype}; "
        f"{found.n_rows} rows, {found.n_records} records",
        markup=False,
    )
    table = Table("whence index", "computed", "of which")
    alone = "the model, which is its own base" if found.n_passes > 1 else "the model; no base is known"
    of = "the model and its base" if found.n_models == 2 else alone
    table.add_row("weights", size_text(found.weights), of)
    table.add_row("beside them, a device", size_text(found.beside), "a batch's states, logits, the averaged head")
    for one in found.gpus:
        name = f"GPUs of {one.gpu_memory / 2**30:.0f} GiB"
        if one.n_gpus is None:
            table.add_row(name, "none", "a single layer does not fit")
            continue
        each = f"on one: {size_text(one.offloaded or 0)} on CPU or disk, moved once a batch and pass"
        table.add_row(name, str(one.n_gpus), each if one.offloaded else "--device-map is not needed")
    table.add_row("disk", size_text(found.disk), f"{found.record} bytes a record, text included")
    if found.operations is None:
        table.add_row("operations", "unknown", "tokens are not known without a tokenizer in the folder")
    else:
        of = f"{found.tokens:.0f} tokens a row, passes: {found.n_passes}"
        table.add_row("operations", f"{found.operations:.3g}", of)
    if found.seconds is not None:
        table.add_row("time", clock(found.seconds), "at the rate given; without loading, reading and writing")
    console.print(table)
    console.print(NOTHING_MEASURED, markup=False)


def size_text(n_bytes: int) -> str:
    """Bytes as a person says them: 4.1 GB."""
    size = float(n_bytes)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
