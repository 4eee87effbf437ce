"""Which rows a trainer was given: a file or hub name that is said, or the rows themselves, written beside the model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from whence.data import TRAINER_COLUMNS, read_examples, recognise, scan, without_nulls
from whence.errors import WhenceError
from whence.files import appears_whole
from whence.records.training import ROW_IDS, SAVED_ROWS, RecordedData

if TYPE_CHECKING:
    from datasets import Dataset

TOKEN_COLUMNS = re.compile(
    r"(input_ids|labels|attention_mask|token_type_ids|position_ids|seq_lengths|length|\w*_masks?|\w+_ids|"
    r"ref_\w+_logps)"
)
"""Columns that trainers make of a row's text."""
MOST_SAVED = 200_000
"""Rows that are written beside a model; of more, the source must be named."""
MOST_IDS = 2_000_000


class TrainedRows(NamedTuple):
    """What is known of the data, the first row's own columns ({} if not known), and sentences for the user."""

    data: RecordedData
    first: Mapping[str, object]
    notes: list[str]


def read_data(given: str | Path | Dataset | None, dataset: object, folder: Path) -> TrainedRows:
    """The data of a run. given: as of `TrainingRecord`; dataset: what the trainer holds, prepared or not."""
    n_trained = _length(dataset)
    if isinstance(given, str | Path):
        return _named(str(given), None, dataset, n_trained, folder)
    rows = given if given is not None else dataset
    raw = [name for name in _columns(rows) if not TOKEN_COLUMNS.fullmatch(name)]
    first = _first(rows, raw)
    fingerprint = str(getattr(rows, "_fingerprint", ""))
    size = _length(rows)
    if not first or recognise(list(first), None) is None or size is None:
        return TrainedRows(RecordedData(n_trained=n_trained, fingerprint=fingerprint), first, [_unknown(dataset)])
    if size > MOST_SAVED:
        if (named := _hub_name(rows, size)) is not None:
            data = RecordedData(source=named[0], split=named[1], n_trained=n_trained, fingerprint=fingerprint)
            return TrainedRows(data, first, [])
        note = (
            f"{size} rows are not written beside the model. Name the file or hub data set they were read from: "
            "TrainingRecord(data=...)"
        )
        return TrainedRows(RecordedData(n_trained=n_trained, fingerprint=fingerprint), first, [note])
    with appears_whole(folder / SAVED_ROWS) as partial, partial.open("w", encoding="utf-8") as file:
        for row in _rows(rows, raw):
            # Arrow gives every object the keys of all others, with nulls; a line of JSON would keep them.
            told = {name: without_nulls(value) for name, value in row.items()}
            file.write(json.dumps(told, ensure_ascii=False, default=str) + "\n")
    found = _named(SAVED_ROWS, folder, dataset, n_trained, folder)
    return TrainedRows(found.data.model_copy(update={"fingerprint": fingerprint}), first, found.notes)


def row_ids(source: str, columns: Mapping[str, str] | None, split: str | None) -> list[str]:
    """The ids of all usable rows, in order. Raises DataError as `read_examples`."""
    return [example.id for example in islice(read_examples(source, columns=columns, split=split), MOST_IDS)]


def _named(source: str, beside: Path | None, dataset: object, n_trained: int | None, folder: Path) -> TrainedRows:
    """The data at a path or of a hub name. beside: the folder that a relative source lies in."""
    place = str(beside / source) if beside else source
    if not beside and Path(source).exists():
        source = place = str(Path(source).resolve())
    notes: list[str] = []
    first: dict[str, object] = {}
    if not Path(place).exists():
        return TrainedRows(RecordedData(source=source, n_trained=n_trained), first, notes)
    try:
        found = scan(place, max_rejected=1.0)
        ids = row_ids(place, None, None)
    except WhenceError as error:
        return TrainedRows(RecordedData(source=source, n_trained=n_trained), first, [f"{place}: {error.found}"])
    if len(ids) < MOST_IDS:
        (folder / ROW_IDS).write_text("".join(f"{id}\n" for id in ids), encoding="ascii")
    shape = found.shape.split(", ")[0].split("/")
    first = _first_of_file(place) or dict.fromkeys(shape)
    side: Literal["chosen"] | None = "chosen" if "chosen" in shape else None
    if n_trained is not None and n_trained > found.n_rows + found.n_rejected and "input_ids" in _columns(dataset):
        notes.append(f"{source} holds {found.n_rows} rows, and the trainer was given {n_trained}: is it another file?")
    return TrainedRows(
        RecordedData(
            source=source,
            content_hash=found.content_hash,
            row_ids=ROW_IDS if len(ids) < MOST_IDS else "",
            n_rows=found.n_rows,
            n_trained=n_trained,
            side=side,
        ),
        first,
        notes,
    )


def _first_of_file(place: str) -> dict[str, object]:
    from whence.data import Row, find_sources

    for source in find_sources(place):
        for row in source.rows():
            if isinstance(row, Row):
                return dict(row.columns)
    return {}


def _columns(rows: object) -> list[str]:
    names = getattr(rows, "column_names", None)
    return list(names) if isinstance(names, list | tuple) else []


def _length(rows: object) -> int | None:
    """Rows, or of a packed data set the sequences in it; None of a stream."""
    try:
        if "seq_lengths" in _columns(rows):
            packs: Iterable[list[int]] = rows["seq_lengths"]  # type: ignore[index]
            return sum(len(pack) for pack in packs)
        return len(rows)  # type: ignore[arg-type]
    except TypeError:
        return None


def _first(rows: object, names: list[str]) -> dict[str, object]:
    return next(iter(_rows(rows, names)), {}) if names else {}


def _rows(rows: object, names: list[str]) -> Iterable[dict[str, object]]:
    chosen: Iterable[dict[str, object]] = rows.select_columns(names)  # type: ignore[attr-defined]
    return chosen


def _hub_name(rows: object, size: int) -> tuple[str, str] | None:
    """Name and split of a data set that was fetched from the hub whole, by its place in the cache."""
    files = getattr(rows, "cache_files", None) or []
    place = str(files[0].get("filename")) if files else ""
    found = re.search(r"/([\w.-]+)___([\w.-]+)/[^/]+/[^/]+/[0-9a-f]{40}/", place)
    split = str(getattr(rows, "split", ""))
    splits = getattr(getattr(rows, "info", None), "splits", None) or {}
    if not found or split not in splits or splits[split].num_examples != size:
        return None
    return f"{found[1]}/{found[2]}", split


def _unknown(dataset: object) -> str:
    known = ", ".join(_columns(dataset)) or type(dataset).__name__
    return (
        f"the rows' text is not to be had from the trainer (it holds {known}; expected messages, prompt and completion "
        f"or text, as {', '.join(sorted(TRAINER_COLUMNS)[:3])} ...). Give the data set or its file: "
        "TrainingRecord(data=...)"
    )


__all__ = ["TrainedRows", "read_data", "row_ids"]
