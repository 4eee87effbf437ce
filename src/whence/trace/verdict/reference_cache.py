"""What a verdict needs of an index, made once and kept beside its manifest: answered references, and the rows' rises.

    references/answered-KEY.safetensors   signatures, rows and rises of the references; in the header their turns, JSON
    references/rises-KEY.safetensors      how much likelier fine-tuning made each row, NaN where it was not measured

KEY is a hash of everything that decides the content: weights, adapter, tokenizer, template, data, base, and what was
asked. A folder that cannot be written, or a file that cannot be read, costs time and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from whence.data import EncodedTurn, Json
from whence.index import REFERENCES, Manifest, vector_column, write_bytes_atomically
from whence.signatures import Signatures
from whence.trace.verdict.references import ReferenceSet

VERSION = 2
"""Part of the key; goes up when the same key would get another content."""

_UNREADABLE = (OSError, SafetensorError, ValueError, KeyError, TypeError)


class ReferenceCache:
    """The files of one index for one base.

    base: hash of the base model's weights; "" where it is the model with its adapter turned off.
    """

    def __init__(self, index: Path, manifest: Manifest, base: str) -> None:
        self.folder = index / REFERENCES
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
            rises = tensors["rises"].numpy() if "rises" in tensors else None
            return ReferenceSet(turns, tensors["rows"].numpy(), signatures, rises)
        except _UNREADABLE:
            return None

    def write(self, asked: Json, found: ReferenceSet) -> None:
        """Keeps the references."""
        tensors = {"rows": torch.from_numpy(found.rows)}
        if found.rises is not None:
            tensors["rises"] = torch.from_numpy(found.rises)
        for layer, signatures in found.signatures.items():
            tensors |= {vector_column(layer, name): raw for name, raw in signatures.named().items()}
        header = {"turns": json.dumps([asdict(turn) for turn in found.turns], ensure_ascii=True)}
        _write(self._path("answered", asked), tensors, header)

    def read_rises(self) -> Float[np.ndarray, " n_train"]:
        """By the row's number in the data; NaN where it was not measured."""
        content = _read(self._path("rises", None))
        found = content[1].get("rises") if content else None
        if found is None or found.shape != (self._n_rows,):
            return np.full(self._n_rows, np.nan)
        return found.numpy()

    def write_rises(self, rises: Float[np.ndarray, " n_train"]) -> None:
        """Keeps the rises."""
        _write(self._path("rises", None), {"rises": torch.from_numpy(rises)}, {})

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
        path.parent.mkdir(exist_ok=True)
        write_bytes_atomically(
            path, save({name: tensor.contiguous() for name, tensor in tensors.items()}, dict(header))
        )
    except OSError:
        # Read-only or full: the next trace makes them again.
        return


__all__ = ["ReferenceCache"]
