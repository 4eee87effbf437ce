"""`whence append`: more rows for an index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from whence.cli import options
from whence.cli.outputs import require_folder
from whence.cli.progress import quiet_libraries, stages
from whence.cli.telling import say

if TYPE_CHECKING:
    from whence.index import Manifest, Workbench


def append(
    index: options.IndexFolder,
    data: options.Data,
    columns: options.Columns = None,
    split: options.Split = None,
    max_rejected: options.MaxRejected = 0.05,
    again: Annotated[
        bool, typer.Option("--again", help="Append the rows also where the last append brought the same ones.")
    ] = False,
    model: options.MovedModel = None,
    adapter: options.Adapter = None,
    base: options.Base = None,
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    max_memory: options.MaxMemory = None,
    quiet: options.Quiet = False,
) -> None:
    """Append rows to a complete index. The same command again continues where it stopped, and adds nothing
    where it was done."""
    from whence.index import append_rows, reopen

    require_folder(index)
    placed = options.placement(device, device_map, max_memory)

    def tell(sentence: str) -> None:
        if not quiet:
            say(sentence, err=True)

    def workbench(manifest: Manifest) -> Workbench:
        return reopen(manifest, model=model, adapter=adapter, base=base, device=placed, notify=tell)

    quiet_libraries()
    with stages(quiet=quiet) as report:
        append_rows(
            index,
            data,
            columns=options.parse_columns(columns),
            split=split,
            max_rejected=max_rejected,
            again=again,
            workbench=workbench,
            progress=report,
            notify=tell,
        )
