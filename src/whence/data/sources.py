"""What a data argument names: a file, a folder of files, a glob, a saved data set, or a data set on the hub."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from whence.data.formats import FORMATS, Row, Rows, read_rows, suffix_of, table_rows
from whence.data.packing import SUFFIXES
from whence.data.remote import is_remote, remote_files
from whence.errors import DataError
from whence.files import nearest

DEFAULT_SPLIT = "train"
REJECTS_NAME = "rejected.jsonl"
"""Written by a scan; left out when a folder is read, so that it never becomes training data."""

SPLIT_NAMES = (DEFAULT_SPLIT, "test", "validation", "valid", "val", "dev", "eval")
"""Words in names of files and folders that tell splits apart."""

SHOWN = 10
"""Names of unread files that are said."""

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True, slots=True)
class Source:
    """One stream of rows and the name its rows carry as `file`."""

    file: str
    rows: Callable[[], Rows]
    note: str = ""
    """What is to be said on screen about the choice of files; on the first of them."""


def find_sources(source: str | Path, split: str | None = None) -> list[Source]:
    """The streams that `source` names, in order of their names.

    An address (s3://bucket/train/*.parquet) names files elsewhere, see `whence.data.remote`. Of a path are tried in
    turn: an existing file; an existing folder (saved by `datasets`, else the data files directly in it, else
    those of one folder inside it, as on the hub); a glob; a hub name. `split` picks a split of a saved or hub data set
    ("train" when not given), and in a folder or glob the files whose name has that word. Raises DataError when nothing
    usable is there.
    """
    try:
        return _find(str(source), Path(source), split)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{str(source)!r} cannot be looked at: {error}",
            "expected a file, a folder or a hub name",
            "check its spelling and permissions",
        ) from error


def absolute_source(source: str | Path) -> str:
    """A path that is there, or a pattern of paths, so that it works from any folder; a hub name or address as it is."""
    text, path = str(source), Path(source).expanduser()
    if path.exists():
        return str(path.resolve())
    if is_remote(text) or not glob.has_magic(text):
        return text
    # The brackets of the folder's own name are no pattern.
    return str(Path(glob.escape(str(Path.cwd())), path))


def folder_files(folder: Path) -> list[Path]:
    """The data files of a folder that is a data set, those of every split, and its README.md."""
    found = [path for path in folder.iterdir() if path.is_file()]
    if not _usable(found):
        found = _shown_files(folder)
    return sorted(
        path
        for path in found
        if not path.name.startswith(".") and (suffix_of(path) in FORMATS or path.name == "README.md")
    )


def _shown_files(folder: Path) -> list[Path]:
    """All files of a folder and of those in it, without hidden ones."""
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def _find(source: str, path: Path, split: str | None) -> list[Source]:
    if is_remote(source):
        return _remote(source, split)
    if path.is_file():
        if split is not None:
            raise DataError(
                f"{path} is one file and has no splits, but --split {split} was given",
                "expected a data set or folder of files where a split is named",
                "leave out --split, or give the file of that split",
            )
        return _files([path])
    if path.is_dir():
        if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
            return [_saved(path, split)]
        return _folder(path, split)
    if path.exists():
        raise DataError(
            f"{path} is neither a file nor a folder",
            "expected data that can be read more than once",
            "save a pipe's output to a file first",
        )
    if glob.has_magic(source):
        return _glob(source, split)
    if _HUB_NAME.fullmatch(source) and not _looks_local(path):
        return [_hub(source, split or DEFAULT_SPLIT)]
    raise _missing(path)


def _remote(address: str, split: str | None) -> list[Source]:
    files = remote_files(address)
    chosen = [one for one in files if split is None or _has_word(one.name, split)]
    if not chosen:
        raise _no_split(address, str(split), [one.name for one in files[:10]])
    return [Source(one.address, one.rows) for one in chosen]


def _files(paths: list[Path]) -> list[Source]:
    return [Source(str(path), lambda path=path: read_rows(path)) for path in paths]  # type: ignore[misc]


def _folder(folder: Path, split: str | None) -> list[Source]:
    usable = _usable(folder.iterdir())
    if not usable:
        return _inner_folders(folder, split)
    found = _files(_of_split(usable, split, folder))
    unread = _unread(folder, set(usable))
    notes = [f"not read in {folder.name}: {', '.join(unread)}"] if unread else []
    names = [name for name in SPLIT_NAMES if any(_has_word(path.name, name) for path in usable)]
    if split is None and len(names) > 1:
        notes.insert(0, f"the files of all splits are read ({', '.join(names)}): --split {names[0]} takes one")
    return [replace(found[0], note="; ".join(notes)), *found[1:]]


def _unread(folder: Path, usable: set[Path]) -> list[str]:
    """Names of a folder's other data files, and of the folders in it that hold some; at most SHOWN of them."""
    names = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path in usable or path.name == REJECTS_NAME:
            continue
        if path.is_file() and suffix_of(path) in FORMATS:
            names.append(path.name)
        elif path.is_dir() and _usable(_shown_files(path)):
            names.append(f"folder {path.name}")
    return [*names[:SHOWN], "..."] if len(names) > SHOWN else names


def _inner_folders(folder: Path, split: str | None) -> list[Source]:
    """A folder as on the hub: data/train-00000-of-00001.parquet, or train/0000.parquet. Of its splits one is read."""
    paths = _usable(_shown_files(folder))
    places = {path: path.relative_to(folder).as_posix() for path in paths}
    splits = [name for name in SPLIT_NAMES if any(_has_word(place, name) for place in places.values())]
    note = ""
    if split is not None:
        paths = _of_split(paths, split, folder, places)
    elif DEFAULT_SPLIT in splits:
        paths = [path for path in paths if _has_word(places[path], DEFAULT_SPLIT)]
        _check_one_split(folder, paths)
        others = [name for name in splits if name != DEFAULT_SPLIT]
        note = f"split {DEFAULT_SPLIT} is read, not {', '.join(others)}" if others else ""
    parents = sorted({path.parent.relative_to(folder).as_posix() for path in paths})
    if len(parents) == 1:
        found = _files(paths)
        return [replace(found[0], note=note), *found[1:]]
    if parents:
        raise DataError(
            f"{folder} holds data in several folders: {', '.join(parents[:10])}",
            "expected data files directly in it, or in one folder as on the hub (data/train-00000-of-00001.parquet)",
            f"give one of them, such as {folder / parents[0]}, or a pattern such as '{folder}/**/*.parquet'",
        )
    names = ", ".join(path.name for path in sorted(folder.iterdir())[:10]) or "nothing"
    raise DataError(
        f"{folder} holds no data file; found: {names}",
        f"expected files ending in {', '.join(FORMATS)}, or a data set saved by datasets.save_to_disk",
        f"name the file itself, or for folders inside it a pattern such as '{folder}/**/*.jsonl'",
    )


def _check_one_split(folder: Path, paths: list[Path]) -> None:
    """Raises DataError where the hub's names (train_sft-00000-of-00001.parquet) are of several splits."""
    named = {match[1] for path in paths if (match := re.match(r"(.+)-\d{5}-of-\d{5}\.", path.name))}
    if len(named) > 1:
        raise DataError(
            f"{folder} holds several splits: {', '.join(sorted(named))}",
            "one of them was trained on",
            f"say which: --split {min(named)}",
        )


def _usable(found: Iterable[Path]) -> list[Path]:
    paths = sorted(path for path in found if path.is_file() and not path.name.startswith("."))
    usable = [path for path in paths if suffix_of(path) in FORMATS and path.name != REJECTS_NAME]
    # A .json beside other data is most often a description of them.
    return [path for path in usable if suffix_of(path) != ".json"] or usable


def _glob(pattern: str, split: str | None) -> list[Source]:
    paths = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]
    paths = _of_split([path for path in paths if path.is_file()], split, pattern)
    if not paths:
        raise DataError(
            f"no file matches {pattern}",
            "expected at least one",
            "put the pattern in quotes, and check it with ls",
        )
    return _files(paths)


def _of_split(
    paths: list[Path], split: str | None, where: object, places: Mapping[Path, str] | None = None
) -> list[Path]:
    """The paths with the split's word in their name, or in their place within a folder."""
    if split is None or not paths:
        return paths
    names = places or {path: path.name for path in paths}
    chosen = [path for path in paths if _has_word(names[path], split)]
    if not chosen:
        raise DataError(
            f"no file of {where} is named after split {split!r}; found: {', '.join(list(names.values())[:10])}",
            f"expected a name such as {split}.jsonl or {split}-00000-of-00001.parquet",
            "leave out --split to read all, or name the file itself",
        )
    return chosen


def _has_word(name: str, word: str) -> bool:
    return re.search(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])", name) is not None


def _saved(folder: Path, split: str | None) -> Source:
    import datasets

    try:
        data = datasets.load_from_disk(str(folder))
    except Exception as error:  # a foreign library at a boundary: whatever is wrong with the folder, say so
        raise DataError(
            f"{folder} cannot be read as a saved data set: {type(error).__name__}: {error}",
            "expected what datasets.save_to_disk writes, with at least one row",
            "save it again",
        ) from error
    if isinstance(data, datasets.DatasetDict):
        wanted = split or DEFAULT_SPLIT
        if wanted not in data:
            raise _no_split(str(folder), wanted, sorted(data))
        data, name = data[wanted], str(folder / wanted)
    else:
        if split is not None and split != str(data.split):
            raise _no_split(str(folder), split, [str(data.split)] if data.split else [])
        name = str(folder)

    def rows() -> Iterator[Row]:
        # Arrow tables, because any other format would decode images and audio that nobody asked for.
        return table_rows(data.with_format("arrow").iter(batch_size=1000), name)

    return Source(name, rows)


def _hub(name: str, split: str) -> Source:
    import datasets

    try:
        data = datasets.load_dataset(name, split=split, streaming=True)
    except Exception as error:  # offline, unknown, gated, no such split: the library has an error for each
        raise _hub_error(name, split, error) from error

    def rows() -> Iterator[Row]:
        stream: Iterator[dict[str, Any]] = iter(data)
        line = 0
        while True:
            try:
                columns = next(stream)
            except StopIteration:
                return
            except Exception as error:
                raise _hub_error(name, split, error) from error
            line += 1
            yield Row(line, columns)

    return Source(f"{name}[{split}]", rows)


def _hub_error(name: str, split: str, error: Exception) -> DataError:
    return DataError(
        f"{name}: no such file or folder here, and split {split!r} of a hub data set of that name cannot be "
        f"read: {type(error).__name__}: {error}",
        "expected a path that exists, or a data set that the hub gives without running its code",
        "check the spelling, --split and the connection, or save the data as JSONL and give that file",
    )


def _no_split(where: str, split: str, found: list[str]) -> DataError:
    return DataError(
        f"{where} has no split {split!r}; found: {', '.join(found) or 'one data set without splits'}",
        "expected one of these",
        f"give --split {found[0]}" if found else "leave out --split",
    )


def _looks_local(path: Path) -> bool:
    """Whether a missing path was meant as a file here: by its suffix, its folder, or a neighbour's name."""
    in_folder = len(path.parts) > 1 and path.parent.is_dir()
    return suffix_of(path) in FORMATS or path.suffix in SUFFIXES or in_folder or bool(_nearest(path))


def _nearest(path: Path) -> str | None:
    if not path.parent.is_dir():
        return None
    names = sorted(one.name for one in path.parent.iterdir() if one.is_dir() or suffix_of(one) in FORMATS)
    close = nearest(path.name, names)
    return str(path.parent / close[0]) if close else None


def _missing(path: Path) -> DataError:
    nearest = _nearest(path)
    folder = next(parent for parent in (*path.parents, Path("/")) if parent.is_dir())
    where = f" (there is no {path.parent} either; the path ends at {folder})" if folder != path.parent else ""
    return DataError(
        f"no file or folder {path}{where}",
        f"expected a file ending in {', '.join(FORMATS)}, a folder of such files, or a hub name",
        f"did you mean {nearest}?" if nearest else "check the path",
    )
