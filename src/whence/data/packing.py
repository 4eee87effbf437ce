"""Text files packed with gzip or zstd, known by their first bytes, whatever the name."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import BinaryIO, Literal, cast

from whence.errors import DataError

Packing = Literal["gzip", "zstd"]

SUFFIXES: dict[str, Packing] = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}
"""Suffix of a packed file's name -> how it is packed when it is written."""
UNPACK: dict[Packing, str] = {"gzip": "gzip -dc", "zstd": "zstd -dc"}
"""The command that prints a packed file's text."""

_FIRST_BYTES: dict[bytes, Packing] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_OTHER_ARCHIVES = {b"PK\x03\x04": ("zip", "unzip -p"), b"BZh": ("bzip2", "bzip2 -dc"), b"\xfd7zXZ\0": ("xz", "xz -dc")}


def without_packing(name: str) -> str:
    """The lower-case name without the suffix of a packed file."""
    name = name.lower()
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)


def packing_of(path: Path) -> Packing | None:
    """How the file is packed. Raises DataError for archives of other kinds."""
    with path.open("rb") as file:
        first = file.read(6)
    for start, (name, command) in _OTHER_ARCHIVES.items():
        if first.startswith(start):
            raise DataError(
                f"{path} is packed with {name}, by its first bytes {first[:4].hex(' ')}",
                "expected plain text, gzip or zstd",
                f"unpack it: {command} {path} > rows.jsonl",
            )
    return next((kind for start, kind in _FIRST_BYTES.items() if first.startswith(start)), None)


def open_unpacked(path: Path) -> BinaryIO:
    """The file's bytes, unpacked while they are read. Only gzip and plain files can seek."""
    kind = packing_of(path)
    if kind == "gzip":
        return cast("BinaryIO", gzip.open(path, "rb"))
    if kind == "zstd":
        import pyarrow as pa

        stream = pa.CompressedInputStream(pa.OSFile(str(path), "rb"), "zstd")
        return cast("BinaryIO", io.BufferedReader(cast("io.RawIOBase", stream), 1 << 20))
    return path.open("rb")
