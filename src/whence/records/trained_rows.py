"""Which rows a trainer was given: a file or hub name that is said, or the rows themselves, written beside the model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from whence.data import TRAINER_COLUMNS, Row, find_sources, read_examples, recognise, scan, without_nulls
from whence.errors import WhenceError
from whence.files import appears_whole
from whence.records.training import ROW_IDS, SAVED_ROWS, RecordedData
from whence.records.trl_columns import MADE, Formatting, formatting_of, ignores_marks, trained_columns

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
NOT_MADE = (
    "formatting_func made the text that was trained on, and the trainer no longer holds it. Give the data set itself, "
    "TrainingRecord(dataset), or put the text into a column before training"
)


class TrainedRows(NamedTuple):
    """What is known of the data, the columns of its first row that were trained on ({} if not known), and sentences
    for the user. in_order: the rows that are written stand in the trainer's own order."""

    data: RecordedData
    first: Mapping[str, object]
    notes: list[str]
    in_order: bool = False


def read_data(given: str | Path | Dataset | None, dataset: object, folder: Path, trainer: object = None) -> TrainedRows:
    """The data of a run. given: as of `TrainingRecord`; dataset: what the trainer holds, prepared or not."""
    n_trained = _length(dataset)
    place = str(given) if isinstance(given, str | Path) else None
    rows: object = dataset if given is None or place is not None else given
    formatting = formatting_of(trainer, lambda: _first_of_file(place) or _first(rows))
    if place is not None and formatting is None:
        return _named(place, None, dataset, n_trained, folder, trainer)
    if formatting is not None:
        rows = _made(formatting, None if place is not None else given, dataset)
        if rows is None:
            return TrainedRows(RecordedData(n_trained=n_trained), {}, [NOT_MADE])
    first = _first(rows)
    fingerprint = str(getattr(rows, "_fingerprint", ""))
    size = _length(rows)
    columns = trained_columns(trainer, first)
    if not first or recognise(list(first), columns) is None or size is None:
        return TrainedRows(RecordedData(n_trained=n_trained, fingerprint=fingerprint), first, [_unknown(dataset)])
    if size > MOST_SAVED:
        if formatting is None and (named := _hub_name(rows, size)) is not None:
            data = RecordedData(
                source=named[0],
                split=named[1],
                columns=_unprepared(columns, first),
                n_trained=n_trained,
                fingerprint=fingerprint,
            )
            return TrainedRows(data, _trained(first, columns), [])
        note = (
            f"{size} rows are not written beside the model. Name the file or hub data set they were read from: "
            "TrainingRecord(data=...)"
        )
        return TrainedRows(RecordedData(n_trained=n_trained, fingerprint=fingerprint), first, [note])
    with appears_whole(folder / SAVED_ROWS) as partial, partial.open("w", encoding="utf-8") as file:
        for row in _rows(rows, list(first)):
            # Arrow gives every object the keys of all others, with nulls; a line of JSON would keep them.
            told = {name: without_nulls(value) for name, value in row.items()}
            file.write(json.dumps(told, ensure_ascii=False, default=str) + "\n")
    found = _named(SAVED_ROWS, folder, dataset, n_trained, folder, trainer)
    data = found.data.model_copy(update={"fingerprint": fingerprint})
    return TrainedRows(data, found.first, found.notes, in_order=rows is not given)


def row_ids(source: str, columns: Mapping[str, str] | None, split: str | None) -> list[str]:
    """The ids of all usable rows, in order. Raises DataError as `read_examples`."""
    return [example.id for example in islice(read_examples(source, columns=columns, split=split), MOST_IDS)]


def _first_of_file(place: str | None) -> dict[str, object]:
    try:
        return first_row(place) if place is not None else {}
    except WhenceError:
        return {}  # `_named` says what is wrong with the file


def first_row(place: str) -> dict[str, object]:
    """The columns of the first row of a file, folder or pattern that is here; {} where there is none."""
    if not Path(place).exists():
        return {}
    for source in find_sources(place):
        for row in source.rows():
            if isinstance(row, Row):
                return dict(row.columns)
    return {}


def _named(
    source: str, beside: Path | None, dataset: object, n_trained: int | None, folder: Path, trainer: object
) -> TrainedRows:
    """The data at a path or of a hub name. beside: the folder that a relative source lies in."""
    place = str(beside / source) if beside else source
    if not beside and Path(source).exists():
        source = place = str(Path(source).resolve())
    notes: list[str] = []
    if not Path(place).exists():
        held = _first(dataset)
        columns = _unprepared(trained_columns(trainer, held), held)
        return TrainedRows(RecordedData(source=source, columns=columns, n_trained=n_trained), {}, notes)
    columns = None
    try:
        first = first_row(place)
        columns = trained_columns(trainer, first, _columns(dataset))
        if ignores_marks(trainer):
            unmarked = {**(columns or {}), "marks": ""}
            if row_ids(place, unmarked, None) != row_ids(place, columns, None):
                columns = unmarked
                notes.append("Marks in messages (weight, train) are not obeyed: the trainer does not read them")
        found = scan(place, columns=columns, max_rejected=1.0)
        ids = row_ids(place, columns, None)
    except WhenceError as error:
        data = RecordedData(source=source, columns=columns, n_trained=n_trained)
        return TrainedRows(data, {}, [f"{place}: {error.found}"])
    if len(ids) < MOST_IDS:
        (folder / ROW_IDS).write_text("".join(f"{id}\n" for id in ids), encoding="ascii")
    shape = found.shape.split(", ")[0].split("/")
    side: Literal["chosen"] | None = "chosen" if "chosen" in shape else None
    if n_trained is not None and n_trained > found.n_rows + found.n_rejected and "input_ids" in _columns(dataset):
        notes.append(f"{source} holds {found.n_rows} rows, and the trainer was given {n_trained}: is it another file?")
    return TrainedRows(
        RecordedData(
            source=source,
            columns=columns,
            content_hash=found.content_hash,
            row_ids=ROW_IDS if len(ids) < MOST_IDS else "",
            n_rows=found.n_rows,
            n_trained=n_trained,
            side=side,
        ),
        _trained(first or dict.fromkeys(shape), columns),
        notes,
    )


def _trained(first: Mapping[str, object], columns: Mapping[str, str] | None) -> Mapping[str, object]:
    """The columns of a row that were trained on; all of them where that is not known."""
    return first if columns is None else {name: first[name] for name in columns.values() if name in first}


def _unprepared(columns: dict[str, str] | None, held: Mapping[str, object]) -> dict[str, str] | None:
    """The columns of rows that the trainer has prepared, as their source has them: it renames `conversations`, which
    are then left to be recognised."""
    shape = recognise(list(held))
    return None if columns and "messages" in columns and shape and shape.kind == "messages" else columns


def _made(formatting: Formatting, given: object, dataset: object) -> object | None:
    """The texts that a `formatting_func` made, alone: the trainer's, or of packed rows those of the data set that was
    given; None where there is none, or a row fails."""
    if MADE in _columns(dataset):
        return _rows(dataset, [MADE])
    if given is None or (_length(given) or MOST_SAVED) >= MOST_SAVED:
        return None
    from datasets import Dataset

    try:
        made: object = Dataset.from_list([{MADE: formatting(row)} for row in given])  # type: ignore[attr-defined]
    except Exception:  # whatever a function of the user's may raise
        return None
    return made


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


def _first(rows: object) -> dict[str, object]:
    """The first row without the columns that a trainer made of it; {} where there is none."""
    names = [name for name in _columns(rows) if not TOKEN_COLUMNS.fullmatch(name)]
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


__all__ = ["TrainedRows", "first_row", "read_data", "row_ids"]
