"""Makes again what is damaged of an index, and nothing else.

small files    from their copies; run.yaml and centres also from what is left
records        see whence.index.record_repair
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from whence.errors import IndexFolderError
from whence.files import write_atomically
from whence.index.centres import sums_of_records
from whence.index.file_checks import FileDamage, Files, check_files
from whence.index.file_table import FileTable, Fragment, ShardRows, sha256
from whence.index.locking import locked
from whence.index.manifest import BACKUP, MANIFEST, RECORDS, RUN, Manifest
from whence.index.publishing import back_up, clear, fragments_now, next_generation, publish
from whence.index.record_repair import remade_records
from whence.index.records import open_records
from whence.index.reopening import OpenWorkbench, reopen
from whence.index.saving import saving
from whence.object_path import place


def repair(
    index: str | Path, *, workbench: OpenWorkbench | None = None, notify: Callable[[str], None] | None = None
) -> list[str]:
    """Repairs a complete index; what was done, one line each. An index that is whole, or unfinished, is left as it is.

    workbench: opens what computes rows; left out, the model that the manifest names is loaded where a row is needed.

    Raises:
        IndexFolderError: what is damaged cannot be made again.
        DataError: the data that rows are to be computed from have changed.
        InputError: the model cannot be loaded, or is another one.
    """
    folder = place(index)
    with locked(folder):
        found = check_files(folder)
        manifest, table = found.manifest, found.table
        if manifest.status != "complete" or (manifest.files and not found.damage):
            return []
        with saving(folder, manifest.data.n_rows):
            if not manifest.files:
                return _add_checksums(folder, manifest)
            if table is None:
                raise _lost(folder, manifest.files_name)
            damaged = {one.path for one in found.damage}
            done, from_copies = _restore_small(folder, found)
            if any(path.startswith(RECORDS) for path in damaged):
                opener = workbench or partial(reopen, notify=notify)
                dataset, fragments, told = remade_records(folder, manifest, table, damaged, opener, notify)
                done, from_copies = [*done, *told], False
                known = {file.path: file for file in table.files if file.path not in damaged}
                manifest = next_generation(manifest, rows=False)
                manifest = publish(folder, manifest, dataset, fragments, sums=None, run=True, known=known)
                clear(folder, manifest)
            elif not from_copies:
                _publish_again(folder, manifest, table)
            else:
                back_up(folder, manifest)
            return done


def _restore_small(folder: Path, found: Files) -> tuple[list[str], bool]:
    """Puts back the small files: what was done, and whether all of it came from copies."""
    done, from_copies = [], True
    for one in found.damage:
        if one.path.startswith(RECORDS):
            continue
        if one.path.startswith(f"{BACKUP}/"):
            done.append(f"{one.path} was copied again")
            continue
        if one.path == MANIFEST:
            found.manifest.write(folder)
        elif not _from_copy(folder, found, one):
            _from_rest(folder, found, one)
            from_copies = False
        done.append(f"{one.path} was restored")
    return done, from_copies


def _from_copy(folder: Path, found: Files, one: FileDamage) -> bool:
    expected = found.table.by_path().get(one.path) if found.table is not None else None
    sums = {found.manifest.files_name: found.manifest.files} | ({one.path: expected.sha256} if expected else {})
    try:
        content = (folder / BACKUP / one.path).read_bytes()
    except OSError:
        return False
    if sha256(content) != sums[one.path]:
        return False
    write_atomically(folder / one.path, content)
    return True


def _from_rest(folder: Path, found: Files, one: FileDamage) -> None:
    """run.yaml is the manifest's settings, centres are the means of the records; nothing else is there twice."""
    whole = not any(other.path.startswith(RECORDS) for other in found.damage)
    remade = one.path == found.manifest.centres and whole and not found.manifest.rows_changed
    if one.path != RUN and not remade:
        raise _lost(folder, one.path)


def _publish_again(folder: Path, manifest: Manifest, table: FileTable) -> None:
    """Writes what can be made of the manifest and the records."""
    dataset = open_records(folder, manifest.records_version)
    assert dataset is not None, "the records are whole"
    fragments = fragments_now(dataset, table.fragments)
    sums = None if manifest.rows_changed else sums_of_records(manifest, dataset)
    again = next_generation(manifest, rows=sums is not None)
    again = publish(folder, again, dataset, fragments, sums=sums, run=True, known=table.by_path())
    clear(folder, again)


def _add_checksums(folder: Path, manifest: Manifest) -> list[str]:
    """The table of files of an index that was built before it was kept; its fragments are its shards, in order."""
    dataset = open_records(folder, manifest.records_version)
    if dataset is None:
        raise _lost(folder, RECORDS)
    fragments = []
    for one in dataset.get_fragments():
        shards = sorted(set(one.to_table(columns=["shard"])["shard"].to_pylist()))
        fragments.append(Fragment(lance=one.metadata.to_json(), shards=tuple(_shard_rows(manifest, n) for n in shards)))
    publish(folder, manifest, dataset, fragments, sums=None)
    return ["checksums of all files were added"]


def _shard_rows(manifest: Manifest, shard: int) -> ShardRows:
    first = shard * manifest.shard_rows
    return ShardRows(shard=shard, first_row=first, n_rows=min(manifest.shard_rows, manifest.data.n_rows - first))


def _lost(folder: Path, name: str) -> IndexFolderError:
    return IndexFolderError(
        f"{folder / name} is damaged, and so is its copy in {folder / BACKUP}.",
        "It cannot be made of what is left.",
        f"Build the index again with --overwrite (all settings: {folder / RUN}).",
    )


__all__ = ["repair"]
