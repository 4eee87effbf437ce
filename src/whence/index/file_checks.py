"""Are the files of an index those that were written? Each is read and held against its checksum."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from whence.errors import IndexFolderError
from whence.index.file_table import FileTable, ShardRows, difference, sha256
from whence.index.history import DataPart
from whence.index.manifest import BACKUP, MANIFEST, RECORDS, Manifest, read_manifest, require_manifest
from whence.index.publishing import small_files
from whence.progress import Count


class FileDamage(NamedTuple):
    """A file that is not what was written: its path in the folder, what is wrong, and which rows lie in it."""

    path: str
    what: str
    rows: str = ""

    def line(self) -> str:
        """For a person."""
        return f"{self.path} {self.what}" + (f": {self.rows}" if self.rows else "")


class Files(NamedTuple):
    """What was found: the manifest and the table to go by, copies where the files themselves are damaged."""

    manifest: Manifest
    table: FileTable | None
    damage: list[FileDamage]


def check_files(folder: Path, progress: Count | None = None) -> Files:
    """Reads every file that the index knows of.

    The table is None where the index was built before it was kept, and where it and its copy are damaged.

    Raises IndexFolderError for a folder that is no index, and where neither the manifest nor its copy can be read.
    """
    damage: list[FileDamage] = []
    manifest = whole_manifest(folder, damage)
    if manifest.status != "complete" or not manifest.files:
        return Files(manifest, None, damage)
    table = _whole_table(folder, manifest, damage)
    if table is None:
        return Files(manifest, None, damage)
    rows = rows_in_files(manifest, table)
    for i, file in enumerate(table.files):
        what = difference(folder, file)
        if what is not None:
            damage.append(FileDamage(file.path, what, rows.get(file.path, "")))
        if progress is not None:
            progress(i + 1, len(table.files))
    damaged = {one.path for one in damage}
    for name in small_files(manifest):
        if name not in damaged and (folder / name).exists() and _bytes(folder / BACKUP / name) != _bytes(folder / name):
            damage.append(FileDamage(f"{BACKUP}/{name}", f"is not a copy of {name}"))
    return Files(manifest, table, damage)


def whole_manifest(folder: Path, damage: list[FileDamage]) -> Manifest:
    """The manifest, or its copy where it is damaged, which is noted."""
    copy = copied_manifest(folder)
    try:
        if copy is not None and not (folder / MANIFEST).exists():
            damage.append(FileDamage(MANIFEST, "is missing"))
            return copy
        return require_manifest(folder)
    except IndexFolderError as error:
        if copy is None:
            raise
        damage.append(FileDamage(MANIFEST, f"is damaged ({error.found.splitlines()[0]})"))
        return copy


def copied_manifest(folder: Path) -> Manifest | None:
    """The manifest's copy; None where there is none that is whole."""
    try:
        return read_manifest(folder / BACKUP) if (folder / BACKUP / MANIFEST).exists() else None
    except (IndexFolderError, ValidationError):
        return None


def rows_in_files(manifest: Manifest, table: FileTable) -> dict[str, str]:
    """Which rows lie in each data file, as "rows 16 to 31 (train.jsonl)"; of a file of several sources each."""
    parts = manifest.parts()
    found: dict[str, str] = {}
    for fragment in table.fragments:
        by_source = groupby(fragment.shards, lambda rows: part_of(parts, rows.shard).data.source)
        said = ", ".join(_described(list(shards), source) for source, shards in by_source)
        found |= {f"{RECORDS}/data/{name}": f"rows {said}" for name in fragment.data_files}
    return found


def _described(shards: list[ShardRows], source: str) -> str:
    first, last = shards[0], shards[-1]
    return f"{first.first_row} to {last.first_row + last.n_rows - 1} ({Path(source).name})"


def part_of(parts: list[DataPart], shard: int) -> DataPart:
    """The data that a shard's rows came from."""
    return next(part for part in reversed(parts) if part.first_shard <= shard)


def _whole_table(folder: Path, manifest: Manifest, damage: list[FileDamage]) -> FileTable | None:
    for place in (folder, folder / BACKUP):
        content = _bytes(place / manifest.files_name)
        if content is not None and sha256(content) == manifest.files:
            return FileTable.of_text(content.decode("utf-8"))
        if place == folder:
            what = "is missing" if content is None else "was changed since it was written"
            damage.append(FileDamage(manifest.files_name, what))
    damage.append(FileDamage(f"{BACKUP}/{manifest.files_name}", "cannot stand in for it"))
    return None


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


__all__ = ["FileDamage", "Files", "check_files", "copied_manifest", "part_of", "rows_in_files", "whole_manifest"]
