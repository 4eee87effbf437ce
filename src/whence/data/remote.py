"""Data that lie elsewhere: in an object store, or wherever else fsspec reads (s3://, gs://, az://, https://, ...).

A file is fetched to a temporary folder when its rows are read, and removed behind them: of remote data one file at a
time is on this machine, and each reading fetches it again. Credentials are the environment's, as each store's own
library finds them (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...); none is ever part of an address.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from whence.data.formats import FORMATS, Rejected, Rows, read_rows, suffix_of
from whence.errors import DataError, install_extra
from whence.object_path import is_address, refuse_credentials

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


class RemoteFile(NamedTuple):
    """A file elsewhere: its address, and how its rows are read."""

    address: str
    rows: Callable[[], Rows]

    @property
    def name(self) -> str:
        """Its name without the folders."""
        return self.address.rpartition("/")[2]


def is_remote(source: str) -> bool:
    """Whether this is an address and not a path."""
    return is_address(source)


def remote_files(address: str) -> list[RemoteFile]:
    """The files that an address names: one, those of a folder that whence can read, or those of a pattern.

    Raises DataError where there is none, no library for the store, no permission, or credentials in the address.
    """
    refuse_credentials(address, DataError)
    try:
        store, path = _opened(address)
        if "*" in path or "?" in path or "[" in path:
            found = sorted(store.glob(path))
        elif store.isfile(path):
            found = [path]
        else:
            found = sorted(one for one in store.find(path, maxdepth=1) if _is_data(one))
    except Exception as error:  # a foreign library at a boundary: each store has its own errors
        raise _failed(address, error) from error
    if not found:
        raise DataError(
            f"there is no file at {address}",
            f"expected a file ending in {', '.join(FORMATS)}, a folder of such files, or a pattern",
            "check the address; put a pattern in quotes",
        )
    return [_remote_file(store, one) for one in found]


def _remote_file(store: AbstractFileSystem, path: str) -> RemoteFile:
    address = str(store.unstrip_protocol(path))

    def rows() -> Rows:
        with tempfile.TemporaryDirectory(prefix="whence-") as folder:
            local = Path(folder) / path.rpartition("/")[2]
            try:
                store.get_file(path, str(local))
            except Exception as error:
                raise _failed(address, error) from error
            yield from _under_address(local, address)

    return RemoteFile(address, rows)


def _under_address(local: Path, address: str) -> Rows:
    """The rows of the fetched file; where it is named, by its address."""
    try:
        for row in read_rows(local):
            yield replace(row, file=address) if isinstance(row, Rejected) else row
    except DataError as error:
        parts = (str(part).replace(str(local), address) for part in (error.found, error.expected, error.fix))
        raise DataError(*parts) from error


def _opened(address: str) -> tuple[AbstractFileSystem, str]:
    from fsspec.core import url_to_fs

    store, path = url_to_fs(address)
    return store, str(path)


def _is_data(path: str) -> bool:
    name = Path(path.rpartition("/")[2])
    return suffix_of(name) in FORMATS and not name.name.startswith(".")


def _failed(address: str, error: Exception) -> DataError:
    said = " ".join(str(error).split())[:200] or type(error).__name__
    if isinstance(error, ImportError):
        scheme = address.partition(":")[0]
        extra = install_extra("s3") if scheme == "s3" else f"install fsspec's library for {scheme}"
        return DataError(f"{address} cannot be read: {said}", f"{scheme} needs a library of its own", extra)
    return DataError(
        f"{address} cannot be read: {type(error).__name__}: {said}",
        "expected data that the credentials in the environment may list and read",
        "check the address, the endpoint and the credentials",
    )


__all__ = ["RemoteFile", "is_remote", "remote_files"]
