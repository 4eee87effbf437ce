"""What a cleaning or its undo writes: new files and folders alone, each known by its content."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from whence.cleaning import text
from whence.data import folder_files
from whence.errors import InputError
from whence.files import appears_whole

SPLITS = "dataset_dict.json"
"""Beside the splits of a saved data set."""
STATE = "state.json"
"""In a saved data set, or in each of its splits."""


def refuse_existing(*places: Path) -> None:
    """Raises InputError for the first place that is there already, or is named twice: nothing is overwritten."""
    named: set[Path] = set()
    for place in places:
        if (whole := place.absolute()) in named:
            raise InputError(
                f"{place} is named for two of what is written.",
                "The data, the manifest and the rows taken are files of their own.",
                "Give other names; without --manifest it is manifest.json beside the data (or OUT.manifest.json).",
            )
        named.add(whole)
        if place.exists():
            raise InputError(f"{place} is there already.", "whence clean overwrites nothing.", "Give another name.")


@contextmanager
def new_output(out: Path) -> Iterator[Path]:
    """As `appears_whole`, but what is there by then is left as it is, and refused."""
    with appears_whole(out) as partial:
        yield partial
        refuse_existing(out)


def write_new(path: Path, content: str) -> None:
    """Writes a text file that is not there yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_output(path) as partial:
        partial.write_text(content, encoding="utf-8", newline="")


def copy_splits(source: Path, target: Path, *, of_folders: bool = True) -> list[str]:
    """Copies what else a data set holds: the splits that were not read, and of a folder of files its README.md.

    of_folders: False leaves out those of a folder of files; a data set that `datasets` saved is none without them.
    Returns the names, in the folder, of the files that were copied of one.
    """
    if (source / SPLITS).is_file():
        for entry in sorted(source.iterdir()):
            place = target / entry.name
            if not place.exists():
                shutil.copytree(entry, place) if entry.is_dir() else copy_file(entry, place)
        return []
    if not of_folders or not source.is_dir() or (source / STATE).is_file():
        return []
    others = [entry.relative_to(source) for entry in folder_files(source)]
    others = [name for name in others if not (target / name).exists()]
    for name in others:
        copy_file(source / name, target / name)
    return [name.as_posix() for name in others]


def copy_file(source: Path, target: Path) -> None:
    """Copies a file, into a folder that is made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def content_hash(path: Path) -> str:
    """SHA-256 of a file's unpacked content, or of the names and contents of a folder's files."""
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_dir():
            continue
        if file != path:
            digest.update(f"{file.relative_to(path)}\n".encode())
        with text.open_text(file) as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
