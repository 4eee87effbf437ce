"""`whence clean`: a data set without the selected rows, in its own format, and the undo.

A row is identified by its content, so identical copies go together. Order is kept. Text formats are copied byte for
byte but for the rows that go; tables keep their schema. The source is only read.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from whence.cleaning import tables, text
from whence.cleaning.manifest import CleanedFile, CleanManifest, Kind, TakenRow
from whence.cleaning.outputs import SPLITS, STATE, content_hash, copy_splits, new_output, refuse_existing, write_new
from whence.data import FORMATS, TABLE_FORMATS, Row, find_sources, is_remote, read_examples, read_rows, suffix_of
from whence.errors import DataError, InputError
from whence.progress import Progress, silent
from whence.results import SelectedRow, SelectedRows

Columns = Mapping[str, object]
Relabel = Callable[[Columns], Columns | None]
"""Given a row's columns, the columns to put in its place, or None to take the row out."""


@dataclass(frozen=True, slots=True)
class Cleaning:
    """What a cleaning did, and where it left everything."""

    manifest: CleanManifest
    path: Path
    """Of the manifest."""


@dataclass(slots=True)
class _Part:
    """One file (or saved data set) of the source: its flagged rows, line -> id, and their columns."""

    path: Path
    out: Path
    kind: Kind
    ids: dict[int, str] = field(default_factory=dict)
    columns: dict[int, Columns] = field(default_factory=dict)
    n_rows: int = 0

    @property
    def lines(self) -> list[int]:
        return sorted(self.ids)


def clean(
    source: str | Path,
    out: str | Path,
    remove: SelectedRows | Iterable[str],
    *,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    manifest: str | Path | None = None,
    quarantine: str | Path | None = None,
    relabel: Relabel | None = None,
    other_splits: bool = True,
    progress: Progress | None = None,
) -> Cleaning:
    """Writes `source` without the rows of `remove` into the new `out`, and the manifest.

    source, columns, split: as `read_examples` takes them; a data set on the hub has no file to write like.
    remove: the selected rows (see `whence.results.selection`), or their ids alone.
    out: a file for a file, a folder for a folder, a glob or a saved data set.
    manifest: where it goes; None: manifest.json beside `out`, or, where that is there, OUT.manifest.json.
    quarantine: a new JSONL file for the rows that were taken, with their reasons.
    other_splits: whether files of a folder that are not read, and its README.md, are copied.

    Raises InputError: an output that is there already, another format for `out`, an id that is not in the data, no id
        or those of all rows; DataError as `read_examples`, and for a replacement with other columns.
    """
    _check_local(source)
    # The manifest may be read from another folder.
    source, out = os.path.abspath(source), Path(out).absolute()
    place = Path(manifest) if manifest is not None else _own_place(out)
    refuse_existing(out, place, *([Path(quarantine)] if quarantine is not None else []))
    tell = progress or silent
    selected = remove if isinstance(remove, SelectedRows) else SelectedRows.given(remove)
    wanted = {row.id: row for row in selected.rows}
    parts = _parts(source, out, split)
    _find(parts, wanted, columns, tell)
    n_copies = _check_found(parts, wanted, source)
    replaced = _relabelled(parts, relabel, tell)
    with new_output(out) as partial:
        files = [
            _written(part, partial / part.out.relative_to(out), wanted, replaced[i]) for i, part in enumerate(parts)
        ]
        copied = copy_splits(Path(source), partial, of_folders=other_splits)
    n_replaced = sum(map(len, replaced))
    record = CleanManifest(
        whence=version("whence"),
        source=source,
        output=str(out),
        split=split,
        copied=tuple(copied),
        method=selected.method,
        method_version=selected.method_version,
        n_rows=sum(part.n_rows for part in parts),
        n_removed=sum(len(part.ids) for part in parts) - n_replaced,
        n_replaced=n_replaced,
        n_copies=n_copies,
        files=tuple(files),
    )
    if quarantine is not None:
        write_new(Path(quarantine), _quarantined(files, record))
    write_new(place, record.to_json())
    return Cleaning(record, place)


def _own_place(out: Path) -> Path:
    """manifest.json beside the output; of a further output in the same folder by its name, cleaned.manifest.json."""
    place = out.parent / "manifest.json"
    return out.with_name(f"{out.stem}.manifest.json") if place.exists() else place


def copy_data(source: str | Path, out: str | Path, *, split: str | None = None) -> None:
    """Copies the files that `source` and `split` name into the new `out`, under the names that `clean` gives them.

    Raises InputError as `clean`: data that are not on this machine, an output that is there already or is of another
        format; DataError as `read_examples`.
    """
    _check_local(source)
    out = Path(out).absolute()
    refuse_existing(out)
    parts = _parts(os.path.abspath(source), out, split)
    with new_output(out) as partial:
        for part in parts:
            place = partial / part.out.relative_to(out)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(part.path, place) if part.path.is_dir() else shutil.copy2(part.path, place)
        copy_splits(Path(source), partial, of_folders=False)


def _check_local(source: str | Path) -> None:
    """Raises InputError for data that are no files of this machine."""
    if is_remote(str(source)):
        raise InputError(
            f"{source} is not on this machine.",
            "Cleaned data are written file by file, as the source's own.",
            "Copy the data to this machine and clean the copy.",
        )
    if not Path(source).exists() and not glob.has_magic(str(source)):
        raise InputError(
            f"There is no file or folder {source}.",
            "A cleaning writes files like those it reads; a data set on the hub has none.",
            "Check the path, or save the data set as a file and index that.",
        )


def _parts(source: str, out: Path, split: str | None) -> list[_Part]:
    """The files of the source, each with its place under `out`."""
    path = Path(source)
    files = [Path(found.file) for found in find_sources(source, split)]
    if (path / SPLITS).is_file() or (path / STATE).is_file():
        return [_Part(files[0], out / files[0].relative_to(path), "saved")]
    if path.is_file():
        if suffix_of(out) != suffix_of(path):
            raise InputError(
                f"{out} ends in {suffix_of(out) or 'nothing'}, the data in {suffix_of(path)}.",
                "The cleaned data keep their format.",
                f"Give a name that ends in {suffix_of(path)}.",
            )
        return [_Part(path, out, _kind(path))]
    if suffix_of(out) in FORMATS:
        raise InputError(f"{out} is named as a file; {source} is several.", "Expected a folder.", "Give a folder.")
    common = path if path.is_dir() else Path(os.path.commonpath([file.parent for file in files]))
    return [_Part(file, out / file.relative_to(common), _kind(file)) for file in files]


def _kind(path: Path) -> Kind:
    return "table" if suffix_of(path) in TABLE_FORMATS else "text"


def _find(
    parts: Sequence[_Part],
    remove: Mapping[str, SelectedRow],
    columns: Mapping[str, str] | None,
    tell: Progress,
) -> None:
    """Fills each part's `ids`, `columns` and `n_rows`."""
    done = 0
    for part in parts:
        for example in read_examples(part.path, columns=columns):
            part.n_rows += 1
            done += 1
            if example.id in remove:
                part.ids[example.line] = example.id
            if done % 1000 == 0:
                tell("reading", done, None)
        if part.ids:
            part.columns = {row.line: row.columns for row in _rows(part.path) if row.line in part.ids}


def _rows(path: Path) -> Iterator[Row]:
    rows = find_sources(path)[0].rows() if path.is_dir() else read_rows(path)
    return (row for row in rows if isinstance(row, Row))


def _check_found(parts: Sequence[_Part], remove: Mapping[str, SelectedRow], source: str) -> int:
    """How many rows are copies of another that goes too."""
    ids = [id for part in parts for id in part.ids.values()]
    n_rows = sum(part.n_rows for part in parts)
    missing = sorted(remove.keys() - set(ids))
    if missing or not remove:
        found = f"{len(missing)} of {len(remove)} ids are not in {source}; the first: {missing[0]}." if missing else ""
        raise InputError(
            found or "No row is selected; there is nothing to clean.",
            "Expected ids of rows of the data, as a trace shows them.",
            "Give a trace of these data, as they were indexed.",
        )
    if len(ids) == n_rows:
        raise InputError(
            f"All {n_rows} rows of {source} are selected.", "Some rows must be left.", "Select fewer rows."
        )
    return len(ids) - len(set(ids))


def _relabelled(parts: Sequence[_Part], relabel: Relabel | None, tell: Progress) -> list[dict[int, Columns]]:
    """For each part: line -> the columns that replace it. A replacement has the columns of its row."""
    if relabel is None:
        return [{} for _ in parts]
    found: list[dict[int, Columns]] = []
    done = 0
    for part in parts:
        found.append({})
        for line in part.lines:
            old = part.columns[line]
            new = relabel(old)
            done += 1
            tell("relabelling", done, None)
            if new is None:
                continue
            if new.keys() != old.keys():
                raise DataError(
                    f"The replacement of {part.path}:{line} has the columns {', '.join(map(str, new)) or 'none'}.",
                    f"Expected those of the row: {', '.join(old)}.",
                    "Let the command change values and keep names.",
                )
            found[-1][line] = {name: new[name] for name in old}
    return found


def _written(
    part: _Part, place: Path, remove: Mapping[str, SelectedRow], replaced: Mapping[int, Columns]
) -> CleanedFile:
    """Writes one part without its flagged rows and says what was done."""
    place.parent.mkdir(parents=True, exist_ok=True)
    texts: dict[int, tuple[str, int | None, str | None]] = {}
    arrow = None
    if part.kind == "text":
        edits = text.find_edits(part.path, part.lines, replaced) if part.ids else {}
        with text.open_text(part.path) as source, text.create_text(place) as out:
            text.apply_edits(source, out, [edits[line] for line in part.lines])
        texts = {
            line: (edit.old.decode(), edit.start, edit.new.decode() if line in replaced else None)
            for line, edit in edits.items()
        }
    elif part.ids:
        taken = tables.take_rows(part.path, part.lines)
        arrow = tables.pack(taken)
        new = {line: tables.batch_of(row, taken.schema, f"{part.path}:{line}") for line, row in replaced.items()}
        tables.write_spliced(part.path, place, tables.removal(part.lines, new))
        texts = {
            line: (_json(part.columns[line]), None, _json(replaced[line]) if line in replaced else None)
            for line in part.lines
        }
    else:
        tables.write_spliced(part.path, place, [])
    rows = [
        TakenRow(
            id=id, line=line, reason=remove[id].reason, score=remove[id].score, text=t[0], start=t[1], replacement=t[2]
        )
        for line, id in sorted(part.ids.items())
        for t in (texts[line],)
    ]
    return CleanedFile(
        source=str(part.path),
        output=str(part.out),
        kind=part.kind,
        source_hash=content_hash(part.path),
        output_hash=content_hash(place),
        rows=tuple(rows),
        arrow=arrow,
    )


def _json(columns: Columns) -> str:
    return json.dumps(dict(columns), ensure_ascii=False, default=str)


def _quarantined(files: Sequence[CleanedFile], record: CleanManifest) -> str:
    """JSONL, one taken row a line, with its place and reason."""
    lines = [
        {"id": row.id, "file": file.source, "line": row.line, "reason": row.reason, "score": row.score}
        | {"method": record.method, "text": row.text, "replacement": row.replacement}
        for file in files
        for row in file.rows
    ]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
