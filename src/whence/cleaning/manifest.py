"""What was taken out of a data set, and why: manifest.json, schema `whence.clean/1`, documented in docs/clean.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from whence.errors import DataError

Kind = Literal["text", "table", "saved"]
"""How a file is edited: as bytes, as rows of an Arrow table, or as a data set that `datasets` saved."""


class TakenRow(BaseModel):
    """A row that was taken out or replaced."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    line: int
    reason: str
    score: float | None = None
    text: str
    """The row as it stood in the file (for a table, as JSON), with the separator that went with it."""
    start: int | None = None
    """Where `text` began in the unpacked file, in bytes; None in a table."""
    replacement: str | None = None
    """What stands there now; None where the row is gone."""


class CleanedFile(BaseModel):
    """One file of the data set, before and after. Hashes are SHA-256, of the unpacked content for .gz."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    output: str
    kind: Kind
    source_hash: str
    output_hash: str
    rows: tuple[TakenRow, ...] = ()
    arrow: str | None = None
    """The taken rows of a table with their types: an Arrow IPC stream in base64."""


class CleanManifest(BaseModel):
    """All that `whence clean --undo` needs, and all that a reviewer wants to see."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_version: Literal["whence.clean/1"] = Field(default="whence.clean/1", alias="schema")
    whence: str
    source: str
    output: str
    split: str | None = None
    copied: tuple[str, ...] = ()
    """Files of a folder that were copied as they are, by their names in it."""
    method: str
    """The attribution method that selected the rows, as in `rept-centred`, or `given`."""
    method_version: str = ""
    n_rows: int
    """Usable rows of the source."""
    n_removed: int
    n_replaced: int = 0
    n_copies: int = 0
    """Of the rows taken, those whose text had been taken already: identical copies go together."""
    files: tuple[CleanedFile, ...]

    def to_json(self) -> str:
        """The documented JSON text."""
        return self.model_dump_json(by_alias=True, indent=2) + "\n"


def read_clean_manifest(path: Path) -> CleanManifest:
    """The manifest. Raises DataError for a missing or damaged one, and for another file."""
    if not path.is_file():
        raise DataError(
            f"There is no manifest at {path}.", "Expected the manifest.json that `whence clean` wrote.", "Check it."
        )
    try:
        return CleanManifest.model_validate(json.loads(path.read_text("utf-8")))
    except (ValidationError, ValueError, RecursionError) as error:
        first = str(error).splitlines()[0]
        raise DataError(
            f"{path} is no manifest of a cleaning: {first}", "Expected schema whence.clean/1.", "Give the right file."
        ) from error
