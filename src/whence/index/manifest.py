"""What an index says about itself: manifest.json, and run.yaml that replays the build.

An index folder holds

    manifest.json      this file's `Manifest`: what the index was made from, and whether it is complete
    run.yaml           the settings of the build: `build_index(**settings)` makes the same index
    rejected.jsonl     the rows that could not be used, each with its reason
    signatures.lance   one record per (row, turn), see whence.index.store
    centres.safetensors  the mean of each vector over all records, as it was extracted and as it is stored
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from whence import files
from whence.data import ColumnType, RowEncoding
from whence.errors import IndexFolderError, MismatchError
from whence.files import nearest
from whence.model import Fingerprint

SCHEMA = "whence.index/8"
SIGNATURE = "whence.signatures/2"
"""What a record's vectors mean (whence.signatures.types). It changes with it, and then no old index is asked."""

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
REFERENCES = "references"
"""Folder of what the verdicts of an index keep; see whence.trace.verdict.reference_cache."""
TEMPORARY = ".whence.tmp"
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


class DataSummary(BaseModel):
    """The training data that was indexed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    columns: dict[str, str] | None = None
    split: str | None = None
    shape: str = ""
    content_hash: str
    n_rows: int
    """Rows that could be read; row numbers go from 0 to n_rows - 1."""
    n_unreadable: int = 0
    """Rows that could not be read; they have no number."""
    n_duplicates: int = 0

    @property
    def is_plain_text(self) -> bool:
        """Whether every row is a plain document, without prompt and template."""
        columns = self.columns or {}
        if "messages" in columns or "prompt" in columns:
            return False
        return self.shape.strip().casefold() == columns.get("text", "text").strip().casefold()


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
    hashes: Fingerprint
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

    def identity(self) -> dict[str, JsonValue]:
        """Everything that decides the records, by the name a person knows it under. Paths and speed are not in it."""
        return {
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
            "data content": self.data.content_hash,
            "filter columns": [column.model_dump() for column in self.filters],
            "shard_rows": self.shard_rows,
            "max_tokens": self.max_tokens,
            "signature": self.signature,
        }

    def write(self, folder: Path) -> None:
        """Replaces manifest.json at once: a reader sees the old or the new one, never a part."""
        write_atomically(folder / MANIFEST, self.model_dump_json(by_alias=True, indent=2) + "\n")


def write_run(folder: Path, manifest: Manifest) -> None:
    """Writes run.yaml: the settings that replay the build, and what they led to."""
    import yaml

    content = {
        "command": "build_index",
        "settings": manifest.settings,
        "resolved": {
            "layer": manifest.layer,
            "vectors": [vector.column for vector in manifest.vectors],
            "dtype": manifest.dtype,
            "precision": manifest.precision,
            "dimensions": manifest.dimensions,
        },
        "hashes": manifest.hashes.model_dump(),
        "data": manifest.data.model_dump(),
        "versions": manifest.versions,
    }
    write_atomically(folder / RUN, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def write_atomically(path: Path, text: str) -> None:
    """As `whence.files.write_atomically`, under the one name that an index folder knows for what a crash leaves."""
    write_bytes_atomically(path, text.encode("utf-8"))


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """As `write_atomically`, for content that is no text."""
    files.write_atomically(path, content, temporary=TEMPORARY)


def read_manifest(folder: Path) -> Manifest | None:
    """The folder's manifest; None if there is no such folder or nothing in it but what a killed build leaves.

    Raises IndexFolderError for a folder that is something else, a damaged manifest, and a newer schema.
    """
    path = folder / MANIFEST
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise IndexFolderError(f"{folder} is a file.", "An index is a folder.", "Give another path with -o.")
    if not path.exists():
        _refuse_foreign(folder)
        return None
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise IndexFolderError(
            f"{path} cannot be read: {error}", "It is JSON that whence wrote.", "Build the index anew with --overwrite."
        ) from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if not isinstance(schema, str) or not schema.startswith("whence.index/"):
        _refuse_foreign(folder)
    if schema != SCHEMA:
        raise IndexFolderError(
            f"The index {folder} has the schema {schema}.",
            f"This version of whence reads {SCHEMA}.",
            f"Build it again: {_rebuild_command(folder, content)}",
        )
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise IndexFolderError(
            f"{path} is damaged: {'.'.join(map(str, first['loc']))}: {first['msg']}.",
            f"A manifest of schema {SCHEMA}.",
            "Build the index anew with --overwrite.",
        ) from error


def _rebuild_command(folder: Path, content: Mapping[str, JsonValue]) -> str:
    """The command that builds an index of another schema anew, as far as its manifest says."""
    data = content.get("data")
    source = data.get("source") if isinstance(data, dict) else None
    adapter = f" --adapter {content['adapter']}" if content.get("adapter") else ""
    model = content.get("model") or "MODEL"
    return f"whence index {model} {source or 'DATA'}{adapter} -o {folder} --overwrite (all settings: {folder / RUN})"


def require_manifest(folder: Path) -> Manifest:
    """The manifest of an index that must be there, complete or not. Raises IndexFolderError if it is not."""
    manifest = read_manifest(folder)
    if manifest is None:
        near = _nearest_index(folder)
        raise IndexFolderError(
            f"There is no index at {folder}.",
            "An index is a folder made by `whence index`.",
            f"Did you mean {near}?" if near else f"Build one: whence index MODEL DATA -o {folder}",
        )
    return manifest


def differences(index: Mapping[str, JsonValue], command: Mapping[str, JsonValue]) -> list[str]:
    """One line for each name under which the two identities differ."""
    return [
        f"{name}: the index has {_short(index[name])}, this command gives {_short(command[name])}"
        for name in index
        if index[name] != command[name]
    ]


def check_model(manifest: Manifest, found: Fingerprint) -> None:
    """Raises MismatchError, with both hashes, unless the model is the one that the index was built with."""
    lines = differences(manifest.hashes.model_dump(), found.model_dump())
    if lines:
        adapter = f" --adapter {manifest.adapter}" if manifest.adapter else ""
        raise MismatchError(
            "This model is not the one the index was built with:\n  "
            + "\n  ".join(line.replace("this command gives", "this model has") for line in lines),
            f"The index belongs to {manifest.model}{adapter} in {manifest.dtype}.",
            "Ask with that model, or index the data with this one into another folder (whence index ... -o OTHER).",
        )


def _refuse_foreign(folder: Path) -> None:
    refuse_others(folder, {REJECTED, LOCK, TEMPORARY, NEW_REJECTED})


def refuse_others(folder: Path, ours: Set[str]) -> None:
    """Raises IndexFolderError if the folder holds anything but files of these names."""
    names = sorted(path.name for path in folder.iterdir() if path.name not in ours)
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


def _short(value: JsonValue) -> str:
    text = "none" if value in ("", None) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
