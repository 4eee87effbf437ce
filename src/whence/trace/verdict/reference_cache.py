"""What a verdict needs of an index, made once and kept beside its manifest.

    references/answered-KEY.safetensors   signatures, rows, gains and peak gains; in the header their turns, JSON
    references/gains-KEY.safetensors      how much likelier fine-tuning made each row, NaN where it was not measured
    references/scores-KEY.safetensors     what the references score on every row, [n_reference, n_rows], under one form
    references/summary-KEY.safetensors    what that table says of each row and each reference

KEY is a hash of everything that decides the content: weights, adapter, tokenizer, template, data, base, and what was
asked. A folder that cannot be written, or a file that cannot be read, only costs the time to compute it again.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from whence.data import EncodedTurn, Json
from whence.errors import IndexFolderError
from whence.files import write_atomically
from whence.index import REFERENCES, Manifest, require_manifest, vector_column
from whence.signatures import Signatures
from whence.trace.verdict.reference_scores import ReferenceSummary, RowStatistics
from whence.trace.verdict.references import ReferenceSet

VERSION = 5
"""Part of the key; goes up when the same key would get another content."""

_UNREADABLE = (OSError, SafetensorError, ValueError, KeyError, TypeError)

_DTYPES = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}


class ReferenceCache:
    """The files of one index for one base.

    base: hash of the base model's weights; "" where it is the model with its adapter turned off. beside: folder of the
    files; left out, the index's own.
    """

    def __init__(self, index: Path, manifest: Manifest, base: str, *, beside: Path | None = None) -> None:
        self.folder = (index if beside is None else beside) / REFERENCES
        self._index, self._content = index, manifest.data.content_hash
        self._n_rows = manifest.data.n_rows
        self._of = {"version": VERSION, "index": manifest.identity(), "base": base}

    def read(self, asked: Json) -> ReferenceSet | None:
        """The answered references to this question; None where they are not kept."""
        content = _read(self._path("answered", asked))
        if content is None:
            return None
        header, tensors = content
        try:
            turns = tuple(_turn(turn) for turn in json.loads(header["turns"]))
            named: dict[int, dict[str, torch.Tensor]] = {}
            for column, tensor in tensors.items():
                if "_" in column:
                    name, layer = column.split("_")
                    named.setdefault(int(layer), {})[name] = tensor
            signatures = {layer: Signatures(**vectors) for layer, vectors in named.items()}
            gains, peaks = (tensors[name].numpy() if name in tensors else None for name in ("gains", "peaks"))
            return ReferenceSet(turns, tensors["rows"].numpy(), signatures, gains, peaks)
        except _UNREADABLE:
            return None

    def write(self, asked: Json, found: ReferenceSet) -> None:
        """Keeps the references, unless rows of the index came or went since: their text may be of a deleted row."""
        if not self._is_current():
            return
        tensors = {"rows": torch.from_numpy(found.rows)}
        for name, values in (("gains", found.gains), ("peaks", found.peaks)):
            if values is not None:
                tensors[name] = torch.from_numpy(values)
        for layer, signatures in found.signatures.items():
            tensors |= {vector_column(layer, name): raw for name, raw in signatures.named().items()}
        header = {"turns": json.dumps([asdict(turn) for turn in found.turns], ensure_ascii=True)}
        _write(self._path("answered", asked), tensors, header)

    def read_gains(self) -> Float[np.ndarray, " n_train"]:
        """By the row's number in the data; NaN where it was not measured."""
        content = _read(self._path("gains", None))
        found = content[1].get("gains") if content else None
        if found is None or found.shape != (self._n_rows,):
            return np.full(self._n_rows, np.nan)
        return found.numpy()

    def write_gains(self, gains: Float[np.ndarray, " n_train"]) -> None:
        """Keeps the gains."""
        _write(self._path("gains", None), {"gains": torch.from_numpy(gains)}, {})

    def scores(
        self, asked: Json, n_reference: int, dtype: np.dtype, make: Callable[[np.ndarray], object]
    ) -> Float[np.ndarray, "n_reference n_row"]:
        """What the references score on every row of the data, by its number; -inf for a row that was not scored.

        The table is a file that is mapped, not read: of n_reference x n_row values only those that are looked at are
        in memory. make: called with a table of -inf where none is kept, and fills it.
        """
        path, shape = self._path("scores", asked), (n_reference, self._n_rows)
        kept = _mapped(path, shape, dtype)
        if kept is not None:
            return kept
        table, place = _new_table(path, shape, dtype)
        try:
            make(table)
            if place is not None:
                table.flush()
                os.replace(place, path)
        except BaseException:
            if place is not None:
                place.unlink(missing_ok=True)
            raise
        return table

    def read_summary(self, asked: Json, n_rows: int) -> ReferenceSummary | None:
        """What `write_summary` kept to this question, of n_rows rows; None where there is none."""
        content = _read(self._path("summary", asked))
        try:
            found = {name: tensor.numpy() for name, tensor in content[1].items()} if content else {}
            statistics = RowStatistics(*(found[name] for name in RowStatistics._fields))
            whole = all(len(values) == n_rows for values in statistics)
            return ReferenceSummary(statistics, found["best_rows"], found["best_means"]) if whole else None
        except _UNREADABLE:
            return None

    def write_summary(self, asked: Json, summary: ReferenceSummary) -> None:
        """Keeps the summary of a table of scores."""
        values = summary.statistics._asdict() | {"best_rows": summary.best_rows, "best_means": summary.best_means}
        _write(self._path("summary", asked), {name: torch.from_numpy(value) for name, value in values.items()}, {})

    def _is_current(self) -> bool:
        """Whether the index still has the rows that it was opened with."""
        try:
            return require_manifest(self._index).data.content_hash == self._content
        except (OSError, IndexFolderError):
            return False

    def _path(self, what: str, asked: Json) -> Path:
        content = json.dumps(self._of | {"asked": asked}, sort_keys=True, ensure_ascii=True)
        return self.folder / f"{what}-{blake2b(content.encode(), digest_size=8).hexdigest()}.safetensors"


def _turn(found: Mapping[str, object]) -> EncodedTurn:
    ids, offsets = found["input_ids"], found["offsets"]
    assert isinstance(ids, Sequence)
    assert isinstance(offsets, Sequence)
    return EncodedTurn(**{**found, "input_ids": tuple(ids), "offsets": tuple((a, b) for a, b in offsets)})  # type: ignore[arg-type]


def _read(path: Path) -> tuple[Mapping[str, str], dict[str, torch.Tensor]] | None:
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except _UNREADABLE:
        return None


def _write(path: Path, tensors: Mapping[str, torch.Tensor], header: Mapping[str, str]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, save({name: tensor.contiguous() for name, tensor in tensors.items()}, dict(header)))
    except OSError:
        # Read-only or full: the next trace makes them again.
        return


def _mapped(path: Path, shape: tuple[int, int], dtype: np.dtype) -> np.memmap | None:
    """The tensor `scores` of a safetensors file, as a map of the file; None where there is no such whole file."""
    try:
        with safe_open(path, framework="np") as file:
            found = file.get_slice("scores")
            if tuple(found.get_shape()) != shape or _DTYPES.get(found.get_dtype()) != dtype:
                return None
        # The file is 8 bytes (the header's length), the header, and the one tensor.
        with path.open("rb") as file:
            offset = 8 + int.from_bytes(file.read(8), "little")
        return np.memmap(path, dtype, "r", offset, shape)
    except _UNREADABLE:
        return None


def _new_table(path: Path, shape: tuple[int, int], dtype: np.dtype) -> tuple[np.memmap, Path | None]:
    """A table of -inf on a file in the same folder, laid out as safetensors, and the file's place.

    Where the folder cannot be written the file is a nameless one that goes with the table, and the place None.
    """
    name = next(name for name, known in _DTYPES.items() if known == dtype)
    size = shape[0] * shape[1] * dtype.itemsize
    entry = {"scores": {"dtype": name, "shape": list(shape), "data_offsets": [0, size]}}
    header = json.dumps(entry).encode()
    header += b" " * (-len(header) % 8)  # safetensors wants its data aligned
    start = len(header).to_bytes(8, "little") + header
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        place: Path | None = path.with_name(f"{path.name}.{os.getpid()}")
        assert place is not None
        with place.open("wb") as file:
            file.write(start)
            file.truncate(len(start) + size)
        table = np.memmap(place, dtype, "r+", len(start), shape)
    except OSError:
        place = None
        with tempfile.TemporaryFile() as nameless:
            nameless.truncate(size)
            table = np.memmap(nameless, dtype, "r+", 0, shape)
    table[:] = -np.inf
    return table, place


__all__ = ["ReferenceCache"]
