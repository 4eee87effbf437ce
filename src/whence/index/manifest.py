"""What an index says about itself: manifest.json, one of the files of its folder.

    manifest.json      this file's `Manifest`: what the index was made from, and whether it is complete
    run.yaml           the settings of the build: `build_index(**settings)` makes the same index (whence.index.run_yaml)
    rejected.jsonl     the rows that could not be used, each with its reason
    signatures.lance   one record per (row, turn), see whence.index.store
    centres.safetensors  the mean of each vector over all records, as it was extracted and as it is stored
    files-0.jsonl      every file with its checksum (whence.index.file_table)
    backup/            copies of the small ones, for repairs

Of a complete index the manifest is the one file that is ever replaced; whatever changes gets a new name, which the new
manifest names. So a reader finds an index as it was before a change or as it is behind it, whenever the change was cut.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from whence.data import ColumnType, RowEncoding
from whence.errors import IndexFolderError
from whence.files import TEMPORARY as PARTIAL
from whence.files import nearest, write_atomically
from whence.index.ann_summary import Ann
from whence.index.file_table import sha256
from whence.index.history import Change, DataPart, DataSummary, read_numbers
from whence.model import Fingerprint
from whence.object_path import ObjectPath, is_remote

SCHEMA = "whence.index/8"
SIGNATURE = "whence.signatures/2"
"""What a record's vectors mean (whence.signatures.types). It changes with it, and then no old index is asked."""
READING = 2
"""How rows become tokens (whence.data.Encoder). It changes when equal rows and settings give other records."""
SETTINGS = "settings beside the weights"  # in an identity
ADAPTER_OFF = "adapter off"
"""The base of a model with an adapter: itself, with the adapter turned off."""

MANIFEST = "manifest.json"
RUN = "run.yaml"
REJECTED = "rejected.jsonl"
RECORDS = "signatures.lance"
CENTRES = "centres.safetensors"
ADDED = "added.lance"
"""Vectors on their way into a complete index; see whence.index.add."""
LOCK = ".whence.lock"
FINISH_LOCK = ".whence.finish.lock"
SHARDS = "shards"
"""Folder of the shards that are committed and not yet sealed; see whence.index.shard_commits."""
BACKUP = "backup"
"""Folder of copies of the manifest and what it names, but for the records."""
REFERENCES = "references"
"""Folder of what the verdicts of an index keep; see whence.trace.verdict.reference_cache."""
NEW_REJECTED = ".whence.rejected.jsonl"
"""rejected.jsonl of a build that is about to replace an index."""


class FilterColumn(BaseModel):
    """A metadata column that `where` can name: the user's name for it, and the name it has in the records."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    column: str
    type: ColumnType


Precision = Literal["int8", "float16"]
"""What a number of a stored vector is held in."""


class StoredVector(BaseModel):
    """A vector that each record holds: its name (whence.signatures.types), its layer, and how it is stored.

    dim: its dimensions as it is extracted. width: dimensions that are stored, of a projection (whence.index.projection)
    where they are fewer; None: all. precision: of a stored number; see whence.index.stored_form.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    layer: int
    dim: int
    width: int | None = None
    precision: Precision = "float16"

    @property
    def place(self) -> tuple[int, str]:
        """(layer, name)"""
        return self.layer, self.name

    @property
    def column(self) -> str:
        """Column of the unit vectors."""
        return f"{self.name}_{self.layer}"

    @property
    def norm_column(self) -> str:
        """Column of the norms."""
        return f"{self.name}_norm_{self.layer}"

    @property
    def scale_column(self) -> str:
        """Column of what a number of an int8 vector is multiplied by."""
        return f"{self.name}_scale_{self.layer}"

    @property
    def sum_column(self) -> str:
        """Column of sums over records that were made together, of which `whence.index.centres` makes the mean."""
        return f"{self.name}_sum_{self.layer}"

    @property
    def stored_dim(self) -> int:
        """Numbers of a stored vector."""
        return self.dim if self.width is None else min(self.width, self.dim)

    @property
    def rotated(self) -> bool:
        """Whether it is stored in other coordinates than it was extracted in."""
        return self.precision == "int8" or self.stored_dim < self.dim


class Counts(BaseModel):
    """What a complete index holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_rows: int
    """Rows with at least one record."""
    n_records: int
    n_rejected: int
    """Rows set aside: unreadable ones and those that could not be encoded."""
    n_truncated: int
    """Records whose tokens did not all fit into max_length."""


class Manifest(BaseModel):
    """The contents of manifest.json."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_version: str = Field(default=SCHEMA, alias="schema")
    status: Literal["building", "complete"] = "building"
    signature: str = SIGNATURE
    reading: int = READING
    """Of the version that built it; 1 in indexes that were built before it was kept."""
    hashes: Fingerprint
    model_settings: dict[str, JsonValue] = {}
    base_settings: dict[str, JsonValue] = {}
    """Beside the weights of the model, and of a base of its own (whence.model.settings_beside); {}: not kept then."""
    model: str
    adapter: str | None = None
    dtype: str
    quantization: str | None = None
    n_layers: int
    """Layers of the model; with `layer` what a form's rules of depth are resolved against (whence.scoring.forms)."""
    layer: int
    """The layer that the rule chose, or the user."""
    layer_choice: dict[str, JsonValue] = {}
    """How it was chosen: the request, and the evidence of the rule where it was asked."""
    max_length: int
    rows: RowEncoding = RowEncoding()
    """How the trainer read its rows."""
    vectors: tuple[StoredVector, ...]
    """Exactly the vectors that a record holds, in the order of their columns."""
    precision: Precision = "float16"
    dimensions: int | None = None
    """How every vector is stored: the numbers' type, and at most how many of them; None for as many as there are."""
    methods: tuple[str, ...] = ()
    """Methods that the index was asked to hold the vectors of, beside the default."""
    base: str = ""
    """What the model is compared with: `ADAPTER_OFF`, the hash of the base's weights, or "" for nothing."""
    filters: tuple[FilterColumn, ...] = ()
    data: DataSummary
    shard_rows: int = 1024
    max_tokens: int = 2048
    counts: Counts | None = None
    generation: int = 0
    """How often the rows or vectors of the complete index were changed."""
    records_version: int | None = None
    """Version of the records in Lance; None for the newest, in indexes that were built before it was kept."""
    centres: str = CENTRES
    """Name of the file of centres."""
    rejected: tuple[str, ...] = (REJECTED,)
    """Names of the files of rows that were set aside, those that are there."""
    files: str = ""
    """SHA-256 of the table of files, `files_name`; "" in indexes that were built before it was kept."""
    history: tuple[Change, ...] = ()
    """What happened to the rows, oldest first."""
    ann: Ann | None = None
    """The approximate search that was built last, of these rows or of earlier ones."""
    versions: dict[str, str] = {}
    settings: dict[str, JsonValue] = {}
    """The arguments of `build_index`, as in run.yaml."""
    timings: dict[str, float] = {}
    """Seconds of the run that completed the index."""

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers at which any vector is stored, ascending."""
        return tuple(sorted({vector.layer for vector in self.vectors}))

    def places(self) -> list[tuple[int, str]]:
        """(layer, vector) of every stored vector, in the order of the columns."""
        return [vector.place for vector in self.vectors]

    @property
    def files_name(self) -> str:
        """Name of the table of files."""
        return f"files-{self.generation}.jsonl"

    def parts(self) -> list[DataPart]:
        """The data that the rows came from, in the order of the rows."""
        came = [DataPart(one.data, one.first_row, one.first_shard) for one in self.history if one.data is not None]
        return came or [DataPart(self.data, 0, 0)]

    def deleted_rows(self) -> np.ndarray:
        """Numbers of the rows that were deleted, ascending, int64."""
        numbers = [read_numbers(one.rows) for one in self.history if one.change == "delete"]
        return np.unique(np.concatenate([np.empty(0, dtype=np.int64), *numbers]))

    @property
    def rows_changed(self) -> bool:
        """Whether rows came or went since the index was built."""
        return any(one.change in ("append", "delete") for one in self.history)

    @property
    def read_as(self) -> RowEncoding:
        """How rows and queries are read: of an index from before the day was kept, the one on which it was built."""
        built = self.history[0].when[:10] if self.reading == 1 and self.history else ""
        return self.rows.model_copy(update={"date": self.rows.date or built or None})

    def identity(self) -> dict[str, JsonValue]:
        """Everything that decides the records, by the name a person knows it under. Paths and speed are not in it."""
        own: dict[str, JsonValue] = {SETTINGS: [self.model_settings, self.base_settings]} if self.model_settings else {}
        return own | {
            "weights": self.hashes.weights,
            "adapter": self.hashes.adapter,
            "tokenizer": self.hashes.tokenizer,
            "template": self.hashes.template,
            "dtype": self.dtype,
            "quantization": self.quantization,
            "layer": self.layer,
            "base": self.base,
            "vectors": [vector.column for vector in self.vectors],
            "precision": self.precision,
            "dimensions": self.dimensions,
            "max_length": self.max_length,
            "truncation": self.rows.truncation,
            "append_eos": self.rows.append_eos,
            "loss": self.rows.loss,
            "date": self.rows.date,
            "data content": self.data.content_hash,
            "filter columns": [column.model_dump() for column in self.filters],
            "shard_rows": self.shard_rows,
            "max_tokens": self.max_tokens,
            "signature": self.signature,
            "reading": self.reading,
        }

    def write(self, folder: Path) -> None:
        """Replaces manifest.json at once: a reader sees the old or the new one, never a part."""
        write_atomically(folder / MANIFEST, self.text())

    def text(self) -> str:
        """manifest.json: the fields, and behind them the SHA-256 of all that stands before it."""
        body = self.model_dump_json(by_alias=True, indent=2).removesuffix("\n}")
        return body + _sealed(body.encode("utf-8")).decode()


def read_manifest(folder: Path) -> Manifest | None:
    """The folder's manifest; None if there is no such folder or nothing in it but what a killed build leaves.

    Raises IndexFolderError for a folder that is something else, a damaged manifest, and a newer schema.
    """
    path = folder / MANIFEST
    if not folder.exists():
        if isinstance(folder, ObjectPath):
            folder.require_bucket()
        return None
    if not folder.is_dir():
        raise IndexFolderError(f"{folder} is a file.", "An index is a folder.", "Give another path with -o.")
    if not path.exists():
        _refuse_foreign(folder)
        return None
    try:
        raw = path.read_bytes()
        content = json.loads(raw)
    except (OSError, ValueError) as error:
        raise IndexFolderError(
            f"{path} cannot be read: {error}", "It is JSON that whence wrote.", _mend(folder)
        ) from error
    if isinstance(content, dict) and content.pop("digest", "") and not _is_sealed(raw):
        raise IndexFolderError(
            f"{path} is damaged: it is not what whence wrote.", "Its digest must be that of its content.", _mend(folder)
        )
    schema = content.get("schema") if isinstance(content, dict) else None
    if not isinstance(schema, str) or not schema.startswith("whence.index/"):
        _refuse_foreign(folder)
    if schema != SCHEMA:
        raise IndexFolderError(
            f"The index {folder} has the schema {schema}.",
            f"This version of whence reads {SCHEMA}.",
            f"Build it again: {rebuild_command(folder, content)}",
        )
    try:
        return Manifest.model_validate({"reading": 1} | content)
    except ValidationError as error:
        first = error.errors()[0]
        raise IndexFolderError(
            f"{path} is damaged: {'.'.join(map(str, first['loc']))}: {first['msg']}.",
            f"A manifest of schema {SCHEMA}.",
            _mend(folder),
        ) from error


def _is_sealed(raw: bytes) -> bool:
    """Whether the manifest ends with the digest of what stands before it."""
    return _sealed(raw[: -(size := len(_sealed(b"")))]) == raw[-size:]


def _sealed(body: bytes) -> bytes:
    """The end of a manifest, behind this body."""
    return f',\n  "digest": "{sha256(body)}"\n}}\n'.encode()


def _mend(folder: Path) -> str:
    return f"Restore it from its copy: whence verify {folder} --repair. Or build the index anew with --overwrite."


def rebuild_command(folder: Path, content: Mapping[str, JsonValue]) -> str:
    """The command that builds an index of an earlier version anew, as far as its manifest says."""
    data = content.get("data")
    source = data.get("source") if isinstance(data, dict) else None
    adapter = f" --adapter {content['adapter']}" if content.get("adapter") else ""
    model = content.get("model") or "MODEL"
    return f"whence index {model} {source or 'DATA'}{adapter} -o {folder} --overwrite (all settings: {folder / RUN})"


def require_manifest(folder: Path) -> Manifest:
    """The manifest of an index that must be there, complete or not. Raises IndexFolderError if it is not."""
    if not is_remote(folder) and not (folder / MANIFEST).exists():
        _refuse_model(folder)
    manifest = read_manifest(folder)
    if manifest is None:
        near = None if is_remote(folder) else _nearest_index(folder)
        raise IndexFolderError(
            f"There is no index at {folder}.",
            "An index is a folder made by `whence index`.",
            f"Did you mean {near}?" if near else f"Build one: whence index MODEL DATA -o {folder}",
        )
    return manifest


def _refuse_model(folder: Path) -> None:
    """Raises IndexFolderError for the folder of a model or an adapter given in an index's place."""
    for name, what in (("adapter_config.json", "an adapter"), ("config.json", "a model")):
        if (folder / name).is_file():
            fix = f"Build one of it first: whence index {folder} DATA -o INDEX"
            raise IndexFolderError(f"{folder} is {what}, and no index.", "Expected what `whence index` wrote.", fix)


def _refuse_foreign(folder: Path) -> None:
    begun = {REJECTED, LOCK, FINISH_LOCK, NEW_REJECTED}
    refuse_others(folder, lambda name: name in begun or is_partial(name))


def is_of_a_generation(name: str) -> bool:
    """Whether a file of this name belongs to one state of an index, or was left half written by a crash."""
    return re.fullmatch(r"(files|centres|rejected)(-\d+)?\.(jsonl|safetensors)", name) is not None or is_partial(name)


def is_partial(name: str) -> bool:
    """Whether a crash left the file half written."""
    return name.startswith(PARTIAL)


def refuse_others(folder: Path, ours: Callable[[str], bool]) -> None:
    """Raises IndexFolderError if the folder holds anything but files of whose names `ours` is true."""
    names = sorted(path.name for path in folder.iterdir() if not ours(path.name))
    if names:
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise IndexFolderError(
            f"The folder {folder} is not an index; it holds {shown}.",
            "An index folder is new, empty, or made by `whence index`.",
            "Give the path of another folder. Nothing was changed.",
        )


def _nearest_index(folder: Path) -> Path | None:
    parent = folder.parent
    siblings = [path.parent.name for path in sorted(parent.glob(f"*/{MANIFEST}"))] if parent.is_dir() else []
    near = nearest(folder.name, siblings)
    return parent / near[0] if near else None
