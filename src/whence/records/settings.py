"""What `whence index FOLDER` is not told, taken from the folder: a record, another trainer's files, or what peft left.

What is told and what is found must not contradict each other: both values are named, and nothing is done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from whence.data import recognise
from whence.errors import DataError, InputError, MismatchError
from whence.files import nearest
from whence.records.comparison import LOOKED_AT
from whence.records.finetune_run import run_rows, with_run_rows
from whence.records.other_files import TOLD_BY, adapter_base, steps_said, told_by_files
from whence.records.trained_rows import first_row, row_ids
from whence.records.training import RECORD, SAVED_ROWS, TrainingFile, read_record

SHOWN = 5


@dataclass(frozen=True, slots=True)
class FolderSettings:
    """Model, data and options of `build_index`, and a sentence for each thing that was taken from the folder."""

    model: str
    data: str
    options: dict[str, object]
    notes: tuple[str, ...] = ()
    record: TrainingFile | None = field(default=None, repr=False)


def settings_of_folder(
    model: str | Path,
    data: str | Path | None,
    given: Mapping[str, object],
    *,
    use_record: bool = True,
    begun: Mapping[str, object] | None = None,
) -> FolderSettings:
    """The settings of a folder that a trainer left. given: options that were named; None counts as not named, but
    for `dimensions`, of which it means all. begun: settings that an index which is there was begun with; they go before
    those of a run.yaml, which earlier versions did not take over.

    Raises:
        InputError: no data is given and the folder names none, or an option contradicts the record.
        MismatchError: the record contradicts what lies beside it.
        DataError: the data are not those that were trained on; names the rows that are new or gone.
    """
    options = {name: value for name, value in given.items() if value is not None or name == "dimensions"}
    home = Path(str(options.get("adapter") or model)).expanduser()
    record, told_by = (find_record(home), RECORD) if use_record and home.is_dir() else (None, "")
    rows = run_rows(home) if use_record and record is None and data is not None and home.is_dir() else None
    if rows is not None and data is not None:
        options, said = with_run_rows(rows, home, data, options, begun or {})
        return FolderSettings(str(model), str(data), options, said)
    if use_record and record is None and home.is_dir():
        found = told_by_files(home)
        record, told_by = (found.record, found.told_by) if found else (None, "")
    if record is None:
        if data is None:
            raise _no_data(home)
        return FolderSettings(str(model), str(data), options)
    notes = [f"Settings of {told_by} in {home}" + (f" ({record.trainer})" if record.trainer else "")]
    if record.status == "unfinished" and told_by == RECORD:
        notes.append("The record is of a training that has not ended")
    _check_beside(home, record)
    if told_by == RECORD:
        _check_read(home, record)
        record = _of_data(record, data, options)
    model, more = _weights(str(model), home)
    notes += more
    options, more = _joined(options, record, home, told_by)
    notes += more + [_sentence(note) for note in record.notes]
    source = _source(home, record, data)
    if told_by == RECORD:
        _check_rows(source, home, record, options)
    elif data is None:
        notes.append(f"Data: {source}")
    return FolderSettings(str(model), source, options, tuple(notes), record)


def find_record(home: Path) -> TrainingFile | None:
    """The record of a model's folder, or of the run that a checkpoint's folder lies in. Raises InputError."""
    return read_record(home) or (read_record(home.parent) if home.name.startswith("checkpoint-") else None)


def _check_beside(home: Path, record: TrainingFile) -> None:
    base = adapter_base(home)
    if base is not None and record.base is not None and not _same_place(base, record.base):
        raise MismatchError(
            f"{home} belongs to two runs: its adapter_config.json names the base {base}, its {RECORD} {record.base}.",
            "A record lies beside the model that was trained while it was written.",
            "Leave the record aside with --no-record, or give the folder of the run that it is of.",
        )
    steps = steps_said(home)
    if steps is not None and record.run.steps is not None and steps > record.run.steps:
        raise MismatchError(
            f"{home} belongs to two runs: its trainer_state.json counts {steps} steps, its {RECORD} "
            f"{record.run.steps}.",
            "A record lies beside the model that was trained while it was written.",
            "Leave the record aside with --no-record, and give DATA and the settings.",
        )


def _check_read(home: Path, record: TrainingFile) -> None:
    """Raises InputError where no compared row is read as it was trained on."""
    encoding, data = record.encoding, record.data
    if encoding.n_alike or not encoding.n_compared:
        return
    if (data.n_rows or 0) > LOOKED_AT and Path(data.source or "").name != SAVED_ROWS:
        # Earlier versions wrote it of data in another order than the trainer's too, of which it says nothing.
        return
    read = ", ".join(f"{key}={column}" for key, column in (data.columns or {}).items() if column)
    raise InputError(
        f"{home} was trained on other tokens than whence reads: by its {RECORD} 0 of {encoding.n_compared} compared "
        f"rows are alike (columns read: {read or 'those of the usual names'}).",
        "Rows are read as they were trained on.",
        "Give DATA, and --columns, --template and --max-length as the trainer read it, with --no-record.",
    )


def _of_data(record: TrainingFile, data: str | Path | None, options: Mapping[str, object]) -> TrainingFile:
    """The record without its columns, where the data that are given have others: the ids of rows are compared."""
    columns = record.data.columns
    if data is None or columns is None or not record.data.row_ids:
        return record
    row = first_row(str(data))
    if "columns" not in options and (not row or recognise(row, columns) is not None):
        return record
    return record.model_copy(update={"data": record.data.model_copy(update={"columns": None})})


def _same_place(one: str, other: str) -> bool:
    """Whether two names are of one base: as they stand, as paths, or the last part of a path that has moved."""
    return one == other or Path(one).resolve() == Path(other).resolve() or Path(one).name == Path(other).name


def _weights(model: str, home: Path) -> tuple[str, list[str]]:
    """The folder itself, or its last checkpoint where the model was never saved at the end."""
    if str(home) != str(Path(model).expanduser()) or any(home.glob("*.safetensors")) or any(home.glob("*.bin")):
        return model, []
    steps = {place: place.name.removeprefix("checkpoint-") for place in home.glob("checkpoint-*")}
    kept = sorted((place for place, step in steps.items() if step.isdecimal()), key=lambda place: int(steps[place]))
    kept = [place for place in kept if any(place.glob("*.safetensors"))]
    if not kept:
        return model, []
    return str(kept[-1]), [f"{home} holds no model of its own: its last checkpoint is read, {kept[-1].name}"]


def _joined(
    options: dict[str, object], record: TrainingFile, home: Path, told_by: str
) -> tuple[dict[str, object], list[str]]:
    """The options with what the record knows besides. Raises InputError where both name a thing and differ."""
    encoding, notes = record.encoding, []
    known: dict[str, object] = {
        "max_length": encoding.max_length,
        "truncation": encoding.truncation,
        "append_eos": encoding.append_eos,
        "date": encoding.date,
        "columns": record.data.columns,
        "split": record.data.split,
        "template": _template(record, home),
    }
    if record.is_adapter is False and record.base:
        known["base"] = record.base
    for name, value in known.items():
        if value is None:
            continue
        if name in options and options[name] != value and not _same_option(name, options[name], value):
            raise InputError(
                f"--{name.replace('_', '-')} {_short(options[name])} was given; {told_by} in {home} says that the "
                f"model was trained with {_short(value)}.",
                "Rows are read as they were trained on.",
                "Leave the option out, or leave the record aside with --no-record.",
            )
        options = {**options, name: value} if name not in options else options
    if encoding.n_compared:
        notes.append(f"{encoding.n_alike} of {encoding.n_compared} compared rows are read token by token as trained on")
    return options, notes


def _same_option(name: str, given: object, known: object) -> bool:
    return name == "base" and _same_place(str(given), str(known))


def _template(record: TrainingFile, home: Path) -> str | None:
    """The template to name, where it is not the one of the folder's own tokenizer. Raises MismatchError."""
    encoding = record.encoding
    if encoding.template is None or encoding.template_from in ("trainer", "plain"):
        return encoding.template
    own = own_template(home)
    if own is not None and own.strip() != encoding.template.strip():
        raise MismatchError(
            f"The chat template of {home} is not the one of its record: the tokenizer's begins {own[:60]!r}, the "
            f"record's {encoding.template[:60]!r}.",
            "The record holds the template that rows were trained with.",
            "Give the right one with --template FILE and --no-record.",
        )
    return None if own is not None else encoding.template


def own_template(home: Path) -> str | None:
    """The chat template that a folder's tokenizer would use; None where its files hold none, or several."""
    import json

    file = home / "chat_template.jinja"
    if file.is_file():
        return file.read_text("utf-8")
    try:
        found = json.loads((home / "tokenizer_config.json").read_text("utf-8")).get("chat_template")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None


def _source(home: Path, record: TrainingFile, data: str | Path | None) -> str:
    """The data: as given, else as recorded, beside the record or where it was."""
    if data is not None:
        return str(data)
    source = record.data.source
    if source is None:
        raise InputError(
            f"The record in {home} does not say which rows were trained on.",
            "The trainer was handed tokens, or rows whose source it did not know.",
            "Give DATA after the folder; next time whence.TrainingRecord(data=FILE or the data set).",
        )
    places = [home / source, home.parent / source, Path(source), home / Path(source).name]
    there = next((place for place in places if place.exists()), None)
    if there is not None:
        return str(there)
    if Path(source).is_absolute():
        near = nearest(Path(source).name, [path.name for path in Path(source).parent.glob("*")])
        raise DataError(
            f"The data that {home} was trained on are gone: there is no {source}.",
            "Expected the file that the record names.",
            f"Bring it back, or give its new place: whence index {home} DATA" + (f". Is it {near[0]}?" if near else ""),
        )
    return source


def _check_rows(source: str, home: Path, record: TrainingFile, options: Mapping[str, object]) -> None:
    """Raises DataError where the rows are not those of the record, and says which are new and which are gone."""
    ids_file = next((p for p in (home / record.data.row_ids, home.parent / record.data.row_ids) if p.is_file()), None)
    if not record.data.row_ids or ids_file is None or not Path(source).exists():
        return
    before = Counter(ids_file.read_text("ascii").split())
    columns, split = options.get("columns"), options.get("split")
    now = row_ids(
        source,
        columns if isinstance(columns, Mapping) else None,
        split if isinstance(split, str) else None,
    )
    counted: Counter[str] = Counter()
    new = []
    for number, id in enumerate(now, 1):
        counted[id] += 1
        if counted[id] > before[id]:
            new.append(number)
    gone = before - counted
    if not new and not gone:
        return
    shown = ", ".join(map(str, new[:SHOWN])) + (", ..." if len(new) > SHOWN else "")
    lost = ", ".join(list(gone)[:SHOWN]) + (", ..." if len(gone) > SHOWN else "")
    raise DataError(
        f"{source} is not what {home} was trained on: {len(new)} rows are new"
        + (f" (usable rows {shown})" if new else "")
        + f", {gone.total()} are gone"
        + (f" (ids {lost})" if gone else "")
        + ".",
        f"Expected the {record.data.n_rows} rows of the record (content {record.data.content_hash}).",
        "Bring the data back, or index what is there with --no-record and the settings.",
    )


def _no_data(home: Path) -> InputError:
    looked = ", ".join([RECORD, *TOLD_BY])
    return InputError(
        f"No DATA was given, and nothing in {home} says what the model was trained on.",
        f"Looked for {looked}.",
        "Give the data: whence index MODEL DATA -o INDEX; or copy the trainer's YAML into that folder. Train with "
        "whence.TrainingRecord() and it is known.",
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _short(value: object) -> str:
    text = str(value)
    return repr(text if len(text) <= 60 else text[:57] + "...")


__all__ = ["FolderSettings", "find_record", "own_template", "settings_of_folder"]
