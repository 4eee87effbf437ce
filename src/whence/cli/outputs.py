"""Files that commands write results to: places that will not do are named before the work."""

from __future__ import annotations

from collections.abc import Mapping
from glob import glob
from pathlib import Path

from whence.errors import InputError


def check_outputs(
    outputs: Mapping[str, Path | None],
    *,
    quiet: bool,
    standard_output: bool = True,
    inputs: Mapping[str, Path | None] | None = None,
) -> None:
    """Places that cannot be written to, by their options, are named before the work, not after it.

    standard_output: whether `-` may stand for it. inputs: files that are read, and folders of them, which no output
    may replace.
    """
    taken = {path.resolve(): name for name, path in (inputs or {}).items() if path is not None}
    if quiet and not any(outputs.values()):
        raise InputError("--quiet without --json shows nothing.", "A result needs a place.", "Add --json out.json.")
    for name, path in outputs.items():
        if path is None or (str(path) == "-" and standard_output):
            continue
        if str(path) == "-":
            raise InputError(f"{name} - is not possible here.", "It writes a file.", f"Give {name} FILE.")
        if not path.absolute().parent.is_dir():
            raise InputError(
                f"There is no folder {path.absolute().parent}.", f"{name} writes into a folder that exists.", ""
            )
        if path.is_dir():
            raise InputError(
                f"{path} is a folder.", f"{name} writes a file.", f"Give {path / 'report'}{_SUFFIX[name]}."
            )
        if path.is_file() or not path.exists():
            _take(name, path, taken)


def _take(name: str, path: Path, taken: dict[Path, str]) -> None:
    """Adds an output to the files that are taken. Raises InputError where it is one, or lies in a folder of them."""
    folder = next((folder for folder in path.resolve().parents if folder in taken), None)
    if folder is not None and path.is_file():
        raise InputError(f"{name} {path} is a file of {taken[folder]}.", "It would be replaced.", "Rename it.")
    other = taken.setdefault(path.resolve(), name)
    if other != name:
        raise InputError(f"{name} {path} is the file of {other} too.", "One replaces the other.", "Rename one.")


_SUFFIX = {"--json": ".json", "--html": ".html", "--markdown": ".md", "--summary": ".md", "--plot": ".svg"}


def files_of(index: Path) -> dict[str, Path]:
    """The folder of an index and the data that its rows came from, appended ones too: what no output may replace."""
    from whence.index import require_manifest

    paths: list[Path] = []
    for part in require_manifest(index).parts():
        source = part.data.source
        paths += [Path(source)] if Path(source).exists() else [Path(path) for path in glob(source, recursive=True)]
    numbers = (f" ({n})" if n > 1 else "" for n in range(1, len(paths) + 1))
    return {"the index": index} | {f"the index's data{n}": path for n, path in zip(numbers, paths, strict=True)}


__all__ = ["check_outputs", "files_of"]
