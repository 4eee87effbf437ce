"""How `whence finetune` read its rows, taken over from its run.yaml where an option does not say otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from pydantic import ValidationError

from whence.data import absolute_source, recognise
from whence.records.trained_rows import first_row
from whence.run_file import RUN, RunRows, run_values, unreadable


def run_rows(home: Path) -> RunRows | None:
    """How the rows of a fine-tune's folder, or of one of its checkpoints, were read; None where there is no run.yaml.

    Of a run of an earlier version the length alone is known. Raises InputError for a run.yaml that cannot be read.
    """
    folder = home.parent.parent if home.parent.name == "checkpoints" else home
    run = run_values(folder)
    if run is None:
        return None
    settings = run.get("settings")
    length = settings.get("max_length") if isinstance(settings, dict) else None
    try:
        return RunRows.model_validate(run.get("rows") or {"max_length": length})
    except ValidationError as error:
        raise unreadable(folder, f"rows: {error.errors()[0]['msg']}") from error


def with_run_rows(
    rows: RunRows,
    home: Path,
    data: str | Path,
    options: Mapping[str, object],
    begun: Mapping[str, object] = MappingProxyType({}),
) -> tuple[dict[str, object], tuple[str, ...]]:
    """The options with those that the run had and that are not given, and a sentence about them.

    begun: settings of an index that is there, which go before the run's.
    Columns count where the data have them, a split where the data are those that were trained on.
    """
    same = rows.source == absolute_source(data)
    row = first_row(str(data)) if rows.columns and not same else {}
    known: dict[str, object] = {
        "max_length": rows.max_length,
        "template": rows.template,
        "date": rows.date,
        "columns": rows.columns if same or recognise(row, rows.columns) is not None else None,
        "split": rows.split if same else None,
    }
    kept = {name: begun[name] for name in known if begun.get(name) is not None}
    options = {**kept, **options}
    taken = {name: value for name, value in known.items() if value is not None and name not in options}
    notes = [f"Rows are read as {home / RUN} says: {', '.join(map(_said, taken, taken.values()))}"] if taken else []
    length = options.get("max_length")
    if length is not None and length != rows.max_length is not None:
        notes.append(f"Rows are read to {length} tokens; the model was trained on {rows.max_length}")
    return {**options, **taken}, tuple(notes)


def _said(name: str, value: object) -> str:
    if name == "template":
        return "its template"
    if isinstance(value, Mapping):
        value = ",".join(f"{key}={column}" for key, column in value.items())
    return f"--{name.replace('_', '-')} {value}"


__all__ = ["run_rows", "with_run_rows"]
