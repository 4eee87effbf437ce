"""How an index, or a change of one, becomes visible: at one moment, which is when its manifest is replaced.

    records      a new version in Lance; the manifest of before goes on naming the old one
    small files  centres, rows set aside, the table of all files: under new names
    manifest     replaced; from here on the index is the new one
    backup/      copies of the small files
    clearing     what no manifest names any more

Cut before the manifest, a change has not happened; cut behind it, only clearing is left, which the next change does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import lance
import pyarrow as pa
from lance.fragment import FragmentMetadata
from pydantic import JsonValue

from whence.files import write_atomically
from whence.index.ann_summary import ANN
from whence.index.centres import Sums, centres_content
from whence.index.file_table import FileTable, Fragment, IndexFile, sha256, summed
from whence.index.manifest import (
    ADDED,
    BACKUP,
    MANIFEST,
    RECORDS,
    REFERENCES,
    RUN,
    SHARDS,
    Manifest,
    is_of_a_generation,
)
from whence.index.records import open_dataset, opened
from whence.index.remote_cache import cache_folder
from whence.index.run_yaml import write_run
from whence.object_path import is_remote, remove_tree, storage_options, tree_bytes

_TEN_YEARS = timedelta(days=3650)


def commit_all(out: Path, schema: pa.Schema, fragments: Sequence[Fragment]) -> lance.LanceDataset:
    """A version of the records that consists of these fragments, in this order. None of them may have deletions.

    schema: that of the records before (`LanceDataset.lance_schema`) where their files are among these; of a table where
        all files were written of such tables.
    """
    assert not any(fragment.has_deletions for fragment in fragments)
    # Without numbers of their own: Lance then numbers all. Older versions kept what was there, and gave one twice.
    unnumbered = [Fragment(lance={**one.lance, "id": 0}, shards=one.shards) for one in fragments]
    operation = lance.LanceOperation.Overwrite(schema, [_metadata(fragment) for fragment in unnumbered])
    return lance.LanceDataset.commit(str(out / RECORDS), operation, storage_options=storage_options(out))


def commit_more(out: Path, dataset: lance.LanceDataset, fragments: Sequence[Fragment]) -> lance.LanceDataset:
    """A version with these fragments behind those that are there."""
    operation = lance.LanceOperation.Append([_metadata(fragment) for fragment in fragments])
    return lance.LanceDataset.commit(
        str(out / RECORDS), operation, read_version=dataset.version, storage_options=storage_options(out)
    )


def current_records(out: Path, manifest: Manifest) -> lance.LanceDataset:
    """The records that the manifest names, as the newest version: what a change that was cut left is passed over."""
    dataset = opened(out / RECORDS, manifest.records_version)
    if dataset.version != dataset.latest_version:
        dataset.restore()
        dataset = opened(out / RECORDS)
    return dataset


def fragments_now(dataset: lance.LanceDataset, before: Sequence[Fragment]) -> list[Fragment]:
    """The fragments of a version, with the shards of those before that have a data file in common with them."""
    shards = {name: fragment.shards for fragment in before for name in fragment.data_files}
    found = []
    for one in dataset.get_fragments():
        described: dict[str, JsonValue] = one.metadata.to_json()
        files = Fragment(lance=described, shards=()).data_files
        found.append(Fragment(lance=described, shards=next(shards[name] for name in files if name in shards)))
    return found


def next_generation(manifest: Manifest, *, rows: bool = True) -> Manifest:
    """The manifest of a change. rows: whether the records changed, so that their centres are others."""
    number = manifest.generation + 1
    changes: dict[str, object] = {"generation": number}
    if rows:
        changes["centres"] = f"centres-{number}.safetensors"
    return manifest.model_copy(update=changes)


def publish(
    out: Path,
    manifest: Manifest,
    dataset: lance.LanceDataset,
    fragments: Sequence[Fragment],
    *,
    sums: Sums | None,
    run: bool = False,
    known: Mapping[str, IndexFile] | None = None,
) -> Manifest:
    """Makes this manifest, with this version of the records, the index. See the module.

    sums: of all records, for the centres; None where the manifest's file of centres is there and stays.
    run: whether run.yaml is written anew.
    known: files whose checksums are known already, by path.
    """
    assert manifest.counts is not None
    if sums is not None:
        write_atomically(out / manifest.centres, centres_content(sums, manifest.counts.n_records))
    manifest = manifest.model_copy(
        update={
            "records_version": dataset.version,
            "rejected": tuple(name for name in manifest.rejected if (out / name).exists()),
        }
    )
    if run:
        write_run(out, manifest)
    table = _file_table(out, manifest, dataset, fragments, known or {})
    write_atomically(out / manifest.files_name, table.text())
    manifest = manifest.model_copy(update={"files": sha256(table.text().encode("utf-8"))})
    manifest.write(out)
    back_up(out, manifest)
    return manifest


def back_up(out: Path, manifest: Manifest) -> None:
    """Copies the manifest and the small files that it names."""
    (out / BACKUP).mkdir(exist_ok=True)
    for name in small_files(manifest):
        if (out / name).exists():
            write_atomically(out / BACKUP / name, (out / name).read_bytes())


def small_files(manifest: Manifest) -> list[str]:
    """Names of the files beside the records."""
    return [MANIFEST, manifest.files_name, manifest.centres, RUN, *manifest.rejected]


def clear(out: Path, manifest: Manifest, *, before: Manifest | None = None, keep: Sequence[str] = ()) -> None:
    """Removes what the manifest does not name: versions, data files, centres, tables of files, shards' notes.

    before: the index as it was with other rows: what verdicts kept of these goes too, as it may hold their text; of an
        index in an object store, what this machine kept. keep: names that stay.
    """
    dataset = open_dataset(out / RECORDS)
    if dataset is not None and dataset.version == manifest.records_version:
        # Each change left a version, and a killed run may have left files that no version names. They go whatever the
        # clock says that wrote them.
        dataset.cleanup_old_versions(older_than=-_TEN_YEARS, delete_unverified=True)
    for name in (SHARDS, ADDED, *([REFERENCES, ANN] if before is not None else [])):
        remove_tree(out / name)
    if before is not None and is_remote(out):
        remove_tree(cache_folder(before))
    named = {*small_files(manifest), *keep}
    for folder in (out, out / BACKUP):
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name not in named and is_of_a_generation(path.name):
                path.unlink(missing_ok=True)


def size_of(folder: Path) -> int:
    """Bytes of all files in an index folder."""
    return tree_bytes(folder)


def read_table(out: Path, manifest: Manifest) -> FileTable | None:
    """The table of files that the manifest names; None where it is missing or another than the manifest says."""
    try:
        content = (out / manifest.files_name).read_bytes()
        return FileTable.of_text(content.decode("utf-8")) if sha256(content) == manifest.files else None
    except (OSError, ValueError):
        return None


def _file_table(
    out: Path,
    manifest: Manifest,
    dataset: lance.LanceDataset,
    fragments: Sequence[Fragment],
    known: Mapping[str, IndexFile],
) -> FileTable:
    # Data files never change, so that their checksums of when they were written still hold; the others are read.
    data = [f"{RECORDS}/data/{name}" for fragment in fragments for name in fragment.data_files]
    fresh = summed(out, (path for path in data if path not in known))
    small = [name for name in (manifest.centres, RUN, *manifest.rejected) if (out / name).exists()]
    rest = summed(out, [*_lance_files(out, dataset, fragments), *small])
    by_path = {file.path: file for file in fresh} | dict(known)
    files = (*(by_path[path] for path in data), *rest)
    return FileTable(columns=tuple(dataset.schema.names), files=files, fragments=tuple(fragments))


def _lance_files(out: Path, dataset: lance.LanceDataset, fragments: Iterable[Fragment]) -> list[str]:
    """Paths of Lance's own files of this version: its manifest, and the numbers of deleted records."""
    paths = [f"{RECORDS}/_versions/{version_file(out, dataset.version)}"]
    for fragment in fragments:
        deletion = fragment.lance.get("deletion_file")
        if isinstance(deletion, dict):
            suffix = "arrow" if deletion["file_type"] == "array" else "bin"
            name = f"{fragment.lance['id']}-{deletion['read_version']}-{deletion['id']}.{suffix}"
            paths.append(f"{RECORDS}/_deletions/{name}")
    return paths


def version_file(out: Path, version: int) -> str:
    """Name of a version's manifest, in either of Lance's two ways."""
    names = (f"{(1 << 64) - 1 - version}.manifest", f"{version}.manifest")
    folder = out / RECORDS / "_versions"
    return next((name for name in names if (folder / name).exists()), names[0])


def _metadata(fragment: Fragment) -> FragmentMetadata:
    return FragmentMetadata.from_json(json.dumps(fragment.lance))


__all__ = [
    "back_up",
    "clear",
    "commit_all",
    "commit_more",
    "current_records",
    "fragments_now",
    "next_generation",
    "publish",
    "read_table",
    "size_of",
    "small_files",
    "version_file",
]
