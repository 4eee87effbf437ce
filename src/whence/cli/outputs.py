"""Files that commands write results to: places that will not do are named before the work."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from glob import glob
from pathlib import Path

from whence.cli.telling import say
from whence.errors import IndexFolderError, InputError, WhenceError

STANDARD_OUTPUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
"""Names of it: as a file it would be replaced where the shell sends it into one."""


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
        if path is None or (standard_output and is_standard_output(path)):
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
            _require_writable(name, path)
        if path.is_file():
            _refuse_foreign(name, path)


def _take(name: str, path: Path, taken: dict[Path, str]) -> None:
    """Adds an output to the files that are taken. Raises InputError where it is one, or lies in a folder of them."""
    folder = next((folder for folder in path.resolve().parents if folder in taken), None)
    if folder is not None and path.is_file():
        raise InputError(f"{name} {path} is a file of {taken[folder]}.", "It would be replaced.", "Rename it.")
    other = taken.setdefault(path.resolve(), name)
    if other != name:
        raise InputError(f"{name} {path} is the file of {other} too.", "One replaces the other.", "Rename one.")


def _require_writable(name: str, path: Path) -> None:
    """A file appears whole: it is written beside its place first. Raises InputError where that cannot be."""
    folder = path.resolve().parent
    if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(
            f"Nothing can be written into {folder}.", f"{name} writes {path.name} there.", "Check the permissions."
        )


def _refuse_foreign(name: str, path: Path) -> None:
    """Raises InputError for a file of an index, and for JSON or a picture that whence did not write."""
    for folder in path.resolve().parents:
        if (folder / "manifest.json").is_file():
            from whence.index import require_manifest

            with suppress(IndexFolderError):
                require_manifest(folder)
                said = f"{name} {path} is a file of the index {folder}."
                raise InputError(said, "It would be replaced.", "Rename it.")
    made = _MADE.get(name)
    try:
        with path.open("rb") as file:
            begins = file.read(200)
    except OSError:  # said when it is written
        return
    if made is not None and begins and not any(sign in begins for sign in made):
        raise InputError(
            f"{name} {path} is a file that whence did not write.",
            "It would be replaced.",
            "Give another name, or take the file away.",
        )


_MADE = {
    "--json": (b'"schema": "whence.',),
    "--plot": (b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ', b"Software\0whence"),
}
"""What the first bytes of whence's own files have."""
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


def files_named(**given: str | Path | None) -> dict[str, Path]:
    """Files and folders on this machine that arguments name, also by a pattern: what no output may replace."""
    found: dict[str, Path] = {}
    for name, value in given.items():
        paths = [] if value is None else [value] if Path(value).exists() else glob(str(value), recursive=True)
        found |= {f"{name}{f' ({n})' if n > 1 else ''}": Path(path) for n, path in enumerate(paths, 1)}
    return found


def is_standard_output(path: Path | None) -> bool:
    """Whether the path stands for standard output."""
    return str(path) in STANDARD_OUTPUT


def require_folder(index: Path) -> None:
    """Raises IndexFolderError, as every command does, where there is no such folder, before it is locked."""
    from whence.object_path import is_remote

    if not is_remote(index) and not index.exists():
        from whence.index import require_manifest

        require_manifest(index)


def refuse_foreign_folder(out: Path) -> None:
    """Raises InputError for a folder that holds an index or a model: results are not written among its files."""
    for file, what in (
        ("manifest.json", "an index or a cleaning"),
        ("config.json", "a model"),
        ("adapter_config.json", "an adapter"),
    ):
        if (out / file).is_file():
            raise InputError(
                f"{out} is the folder of {what}: it has {file}.",
                "-o names a folder for the results alone.",
                "Give another.",
            )


def hand_out(writers: Iterable[Callable[[], object]], show: Callable[[], None], *, quiet: bool) -> None:
    """Writes the files of a result, each by itself, and shows it; nothing that was computed is lost where one fails.

    quiet: shows it only where a file cannot be written. Raises the first error of writing, at the end.
    """
    failed: list[OSError | WhenceError] = []
    for write in writers:
        try:
            write()
        except (OSError, WhenceError) as error:
            failed.append(error)
    if failed or not quiet:
        show()
    for other in failed[1:]:
        say(f"Neither: {other}", err=True)
    if failed:
        raise failed[0]


__all__ = [
    "check_outputs",
    "files_named",
    "files_of",
    "hand_out",
    "is_standard_output",
    "refuse_foreign_folder",
    "require_folder",
]
