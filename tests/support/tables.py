"""Rows as a parquet file."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow.json
import pyarrow.parquet


def write_parquet(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """The rows with their keys in the order they are given in: pyarrow's own `from_pylist` sorts those inside a cell
    before version 22."""
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    pyarrow.parquet.write_table(pyarrow.json.read_json(io.BytesIO(lines.encode("utf-8"))), path)
    return path
