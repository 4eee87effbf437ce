"""The records of an index: their columns, and how a shard of them is made and committed.

One Lance dataset, one record per (row, turn). Columns: row (ordinal of the usable row in the data, from 0), turn,
shard, id, file, line, prompt, response, turns (JSON; only in the row's first record, so that a conversation is kept
once), metadata (JSON), loss (nats per token), log_likelihood_gain (nats; null without the model before fine-tuning),
gradient_norm (of g at the last layer), n_prompt, n_response, truncated (tokens); for each vector v at layer L that the
manifest lists the columns of whence.index.stored_form: the direction v_L (int8 or float16), its norm v_norm_L, for int8
the factor v_scale_L, and v_sum_L; and one typed column for each metadata column, for filters.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import lance
import pyarrow as pa
import torch

from whence.data import ColumnType, EncodedTurn, Example, Json, conversation_json
from whence.errors import NonFiniteError
from whence.index.manifest import RECORDS, FilterColumn, Manifest, StoredVector
from whence.index.stored_form import column_types, stored_columns
from whence.object_path import storage_options
from whence.signatures import VECTORS, Extracted

FIELDS = {
    "row": pa.int64(),
    "turn": pa.int32(),
    "shard": pa.int32(),
    "id": pa.string(),
    "file": pa.string(),
    "line": pa.int64(),
    "prompt": pa.string(),
    "response": pa.string(),
    "turns": pa.string(),
    "metadata": pa.string(),
    "loss": pa.float32(),
    "log_likelihood_gain": pa.float32(),
    "gradient_norm": pa.float32(),
    "n_prompt": pa.int32(),
    "n_response": pa.int32(),
    "truncated": pa.int32(),
}
STATE_SUM = "state_sum"
"""Column of the sum of `Extracted.mean_state` over the records that were made together, in one of them; null in others.
It comes with the shard's commit, and the index's centres are made of it."""

ARROW_TYPES: Mapping[ColumnType, pa.DataType] = {
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "str": pa.string(),
}


class PendingRecord(NamedTuple):
    """One encoded turn of a row, on its way into a record."""

    row: int
    example: Example
    turn: EncodedTurn


def vector_column(layer: int, name: str) -> str:
    """Column of the unit vectors."""
    return StoredVector(name=name, layer=layer, dim=0).column


def filter_columns(types: Mapping[str, ColumnType], n_layers: int) -> tuple[FilterColumn, ...]:
    """A column for each metadata column, under the user's name where that is free and Lance allows it.

    Not free are the columns of all vectors at all layers, stored or not: any of them may be added later.
    """
    taken = {*FIELDS, STATE_SUM}
    for layer in range(n_layers + 1):
        for name in VECTORS:
            one = StoredVector(name=name, layer=layer, dim=0)
            taken |= {one.column.lower(), one.norm_column.lower(), one.scale_column.lower(), one.sum_column.lower()}
    chosen = []
    for name, type in types.items():
        # A dot would mean a field of a struct, a backtick ends a quoted name. SQL names do not know upper case.
        column = name.replace(".", "_").replace("`", "_")
        if not column or column.startswith("_"):
            column = f"meta_{column}"
        while column.lower() in taken:
            column = f"meta_{column}"
        taken.add(column.lower())
        chosen.append(FilterColumn(name=name, column=column, type=type))
    return tuple(chosen)


def record_schema(manifest: Manifest) -> pa.Schema:
    """Columns of the records in their order."""
    fields = dict(FIELDS)
    fields[STATE_SUM] = pa.list_(pa.float32())
    fields |= vector_fields(manifest.vectors)
    for column in manifest.filters:
        fields[column.column] = ARROW_TYPES[column.type]
    return pa.schema(fields)


def vector_fields(vectors: Sequence[StoredVector]) -> dict[str, pa.DataType]:
    """The columns of these vectors."""
    fields: dict[str, pa.DataType] = {}
    for vector in vectors:
        fields |= column_types(vector)
    return fields


def vector_columns(
    vectors: Sequence[StoredVector], rows: Sequence[PendingRecord], extracted: Extracted
) -> dict[str, object]:
    """The stored columns of these rows' vectors. Raises NonFiniteError, which names file and line."""
    columns: dict[str, object] = {}
    finite = extracted.loss.isfinite()
    if extracted.log_likelihood_gain is not None:
        finite = finite & extracted.log_likelihood_gain.isfinite()
    for vector in vectors:
        raw = extracted.layers[vector.layer].get(vector.name)
        finite = finite & raw.norm(dim=1).float().isfinite()
        columns |= stored_columns(vector, raw)
    _check_finite(finite, rows)
    return columns


def record_table(manifest: Manifest, shard: int, rows: Sequence[PendingRecord], extracted: Extracted) -> pa.Table:
    """The records of a shard. Raises NonFiniteError, which names file and line."""
    gain = extracted.log_likelihood_gain
    columns: dict[str, object] = {
        "row": [item.row for item in rows],
        "turn": [item.turn.turn for item in rows],
        "shard": [shard] * len(rows),
        "id": [item.example.id for item in rows],
        "file": [item.example.file for item in rows],
        "line": [item.example.line for item in rows],
        "prompt": [item.turn.prompt for item in rows],
        "response": [item.turn.response for item in rows],
        "turns": _conversations(rows),
        "metadata": [json.dumps(dict(item.example.metadata), ensure_ascii=False) for item in rows],
        "loss": extracted.loss.float().numpy(),
        "log_likelihood_gain": [None] * len(rows) if gain is None else gain.float().numpy(),
        "gradient_norm": extracted.gradient_norm.float().numpy(),
        "n_prompt": [item.turn.n_prompt for item in rows],
        "n_response": [item.turn.n_response for item in rows],
        "truncated": [item.turn.truncated for item in rows],
    }
    total = extracted.mean_state.double().sum(0).tolist()
    columns[STATE_SUM] = [total, *[None] * (len(rows) - 1)]
    columns |= vector_columns(manifest.vectors, rows, extracted)
    for column in manifest.filters:
        columns[column.column] = [filter_value(item.example.metadata.get(column.name), column.type) for item in rows]
    schema = record_schema(manifest)
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


def open_records(folder: Path, version: int | None = None) -> lance.LanceDataset | None:
    """The records of a sealed index, of this version or the newest; None where there are none."""
    return open_dataset(folder / RECORDS, version)


def open_dataset(path: Path, version: int | None = None) -> lance.LanceDataset | None:
    """A Lance data set, of this version or the newest; None where nothing was ever committed."""
    if not any((path / "_versions").glob("*.manifest")):
        return None
    return opened(path, version)


def opened(path: Path, version: int | None = None) -> lance.LanceDataset:
    """A Lance data set that is there, of this version or the newest."""
    return lance.dataset(str(path), version=version, storage_options=storage_options(path))


def append_records(folder: Path, table: pa.Table) -> None:
    """Writes a shard and publishes it in one commit: after a crash all of it is there or nothing."""
    mode = "append" if open_records(folder) is not None else "create"
    lance.write_dataset(table, str(folder / RECORDS), mode=mode, storage_options=storage_options(folder))


def _conversations(rows: Sequence[PendingRecord]) -> list[str]:
    """Each row's whole conversation, in its first record, which need not be that of its first answer; "" elsewhere.

    A trainer that kept the end of long rows cut their first answers away. A row's records are all of one shard.
    """
    seen: set[int] = set()
    found = []
    for item in rows:
        found.append("" if item.row in seen else conversation_json(item.example, untrained=True))
        seen.add(item.row)
    return found


def filter_value(value: Json, type: ColumnType) -> bool | int | float | str | None:
    """The value as its column's type; the scan chose a type that holds them all, "str" for what is mixed or nested."""
    if value is None:
        return None
    if type == "str":
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return float(value) if type == "float" else value  # type: ignore[arg-type, return-value]


def _check_finite(finite: torch.Tensor, rows: Sequence[PendingRecord]) -> None:
    bad = [rows[i] for i in (~finite).nonzero()[:, 0].tolist()]
    if bad:
        named = ", ".join(item.example.where for item in bad[:5])
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise NonFiniteError(
            f"The signature of {named}{more} holds NaN or infinity.",
            "Every value of a signature must be finite.",
            "Try --dtype float32; if it stays, the model's weights or that row are broken.",
        )
