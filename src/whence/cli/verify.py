"""`whence verify`: is an index whole, and if not, can it be mended?"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from whence.cli import options
from whence.cli.outputs import require_folder
from whence.cli.progress import quiet_libraries, stages
from whence.cli.telling import say
from whence.errors import IndexFolderError, ModelError

if TYPE_CHECKING:
    from whence.index import Manifest, Workbench

Sample = Annotated[
    int, typer.Option("--sample", min=0, help="Rows to compute again and compare; 0 reads the files alone.")
]
Repair = Annotated[bool, typer.Option("--repair", help="Make again what is damaged, and nothing else.")]


def verify(
    index: options.IndexFolder,
    repair: Repair = False,
    sample: Sample = 8,
    model: options.MovedModel = None,
    adapter: options.Adapter = None,
    base: options.Base = None,
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    max_memory: options.MaxMemory = None,
    seed: options.Seed = 0,
    quiet: options.Quiet = False,
) -> None:
    """Check every file of an index by its checksum, every record by the manifest, and some rows by the model.

    Exit status 2 when something is wrong.
    """
    from whence.index import reopen, require_manifest
    from whence.index import repair as mend
    from whence.index import verify as check

    def tell(sentence: str) -> None:
        if not quiet:
            say(sentence, err=True)

    require_folder(index)
    quiet_libraries()
    placed = options.placement(device, device_map, max_memory)

    def workbench(manifest: Manifest) -> Workbench:
        return reopen(manifest, model=model, adapter=adapter, base=base, device=placed, notify=tell)

    with stages(quiet=quiet) as report:
        if repair:
            for line in mend(index, workbench=workbench, notify=tell):
                say(line)
        with suppress(IndexFolderError):
            options.tell_index(index, quiet=quiet)
        try:
            problems = check(index, sample=sample, seed=seed, workbench=workbench, progress=report)
        except ModelError as error:
            if model or adapter or base:
                raise
            problems = []
            tell(f"No row was computed again, as the model cannot be loaded; give --model.\n{error}")
    for problem in problems:
        say(problem)
    if problems:
        if not repair:
            tell(f"What is damaged can be made again: whence verify {index} --repair")
        raise typer.Exit(2)
    if not require_manifest(index).files:
        tell(f"It was built before checksums were kept. Add them: whence verify {index} --repair")
    say(f"{index}: nothing wrong was found")
