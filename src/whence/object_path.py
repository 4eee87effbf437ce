"""Paths in an object store (s3://, gs://, az://), used as paths of this machine are.

    folder = place("s3://bucket/index")      # an ObjectPath; of "runs/index" a Path
    (folder / "manifest.json").read_bytes()

An `ObjectPath` does what an index needs of a path, by fsspec. Whatever else is asked of it raises, as it has no place
here: `os.fspath` of it is a TypeError. Files appear whole, as an object store has it. Credentials are the
environment's, as each store's own library finds them (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...); none is ever part of
an address, and none is shown.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PosixPath
from stat import S_IFREG
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from whence.errors import IndexFolderError, InputError, install_extra

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)

_SECRET = re.compile(r"[^/:@]+:(?!\d+(/|$))")
"""The beginning of KEY:SECRET@BUCKET with a slash in the secret; a port is none."""
_SIGNATURE = re.compile(
    r"sig|signature|token|key|secret|password|(api|access|secret)_?key(_?id)?|(access|auth|security|session|sas)_?token|"
    r"client_?secret|x-(amz|goog|ms)-.*|awsaccesskeyid|googleaccessid",
    re.IGNORECASE,
)
"""Names of a query's parts that sign a request or hold a secret."""
UNLIKE = "#?%"
"""Characters that fsspec takes for a part of a key, and Lance for a part of an address."""
SCHEMES = ("s3", "gs", "az")
"""Stores that an index may lie in: those that both Lance and fsspec write."""


def is_address(text: str) -> bool:
    """Whether this is an address and not a path."""
    return _ADDRESS.match(text) is not None


def place(text: str | os.PathLike[str]) -> Path:
    """The path of a folder here, or an `ObjectPath` of an address.

    Raises InputError for credentials in the address, and for a store that no index can lie in.
    """
    if isinstance(text, ObjectPath):
        return text
    if not is_address(str(text)):
        return Path(text)
    address = str(text).rstrip("/")
    refuse_credentials(address, InputError)
    scheme, _, rest = address.partition("://")
    if scheme not in SCHEMES:
        raise InputError(
            f"An index cannot lie at {address}.",
            f"An index lies in a folder, or in an object store: {', '.join(f'{one}://' for one in SCHEMES)}.",
            "Give the path of a folder, or the address of a bucket and a folder in it.",
        )
    odd = [mark for mark in UNLIKE if mark in rest]
    if odd:
        raise InputError(
            f"{address} has the characters {' '.join(odd)}.",
            f"The libraries that an index is written with read {' '.join(UNLIKE)} in an address differently.",
            "Give the index a folder without them.",
        )
    if not rest.strip("/").partition("/")[2]:
        raise InputError(
            f"{address} names a bucket, not a folder in it.",
            "An index has a folder of its own.",
            f"Give one, as in {scheme}://{rest.strip('/') or 'bucket'}/index.",
        )
    return ObjectPath(address)


def refuse_credentials(address: str, kind: type[InputError]) -> None:
    """Raises an error of this kind for an address with a user name, a password or a signature."""
    scheme, _, rest = address.partition("://")
    path, _, query = rest.partition("?")
    before, at, after = path.rpartition("@")
    shown = ""
    if at and ("@" in path.partition("/")[0] or _SECRET.match(before)):
        shown = f"{scheme}://...@{after}"
    elif any(_SIGNATURE.fullmatch(name) for name, _ in parse_qsl(query, keep_blank_values=True)):
        shown = f"{scheme}://{path}?..."
    if shown:
        raise kind(
            f"the address {shown} holds credentials",
            "an address is kept in run.yaml and shown in messages; credentials are not",
            "put them into the environment (for S3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)",
        )


def is_remote(path: Path) -> bool:
    """Whether the path lies in an object store."""
    return isinstance(path, ObjectPath)


def storage_options(path: Path) -> dict[str, str] | None:
    """What Lance needs besides the environment: leave for http, where the endpoint is a server without TLS."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    return {"allow_http": "true"} if is_remote(path) and endpoint.startswith("http://") else None


def remove_tree(path: Path) -> None:
    """Removes a folder and what is in it; one that is not there is no error."""
    if isinstance(path, ObjectPath):
        path.remove_tree()
    else:
        shutil.rmtree(path, ignore_errors=True)


def tree_bytes(folder: Path) -> int:
    """Bytes of all files in a folder."""
    if isinstance(folder, ObjectPath):
        return folder.tree_bytes()
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


class ObjectPath(PosixPath):
    """An address with the methods of a path that an index uses.

    Raises IndexFolderError, with the address, where the store does not answer, has no such bucket, or gives no
    permission; FileNotFoundError for an object that is not there.
    """

    def __str__(self) -> str:
        # A path joins the two slashes of an address into one.
        return re.sub(r"^([a-z0-9]+):/+", r"\1://", super().__str__())

    def __fspath__(self) -> str:
        raise TypeError(f"{self} is not on this machine")

    def __repr__(self) -> str:
        return f"ObjectPath({str(self)!r})"

    def require_bucket(self) -> None:
        """Raises IndexFolderError where the bucket is not there or may not be listed."""
        with self._named("listed") as (store, path):
            bucket = path.strip("/").partition("/")[0]
            try:
                store.ls(bucket, refresh=True)
                return
            except FileNotFoundError:
                pass
        raise IndexFolderError(
            f"There is no bucket {str(self).partition('://')[0]}://{bucket}.",
            "An index lies in a bucket that is there.",
            "Check the address and the endpoint (AWS_ENDPOINT_URL), or make the bucket.",
        )

    def exists(self, **_: object) -> bool:
        with self._named("read") as (store, path):
            return bool(store.exists(path))

    def is_dir(self, **_: object) -> bool:
        with self._named("read") as (store, path):
            return bool(store.isdir(path))

    def is_file(self, **_: object) -> bool:
        with self._named("read") as (store, path):
            return bool(store.isfile(path))

    def stat(self, **_: object) -> os.stat_result:
        """Its size; the other numbers are 0."""
        with self._named("read") as (store, path):
            size = int(store.info(path)["size"])
        return os.stat_result((S_IFREG, 0, 0, 0, 0, 0, size, 0, 0, 0))

    def iterdir(self) -> Iterator[ObjectPath]:  # type: ignore[override]
        with self._named("listed") as (store, path):
            try:
                found = store.ls(path, detail=False)
            except FileNotFoundError:
                found = []
        for one in found:
            name = str(one).rstrip("/").rpartition("/")[2]
            if name and str(one).strip("/") != path.strip("/"):
                yield self / name

    def glob(self, pattern: str, **_: object) -> Iterator[ObjectPath]:  # type: ignore[override]
        """Of names in this folder alone."""
        assert "/" not in pattern
        return (one for one in self.iterdir() if fnmatch.fnmatchcase(one.name, pattern))

    def tree_bytes(self) -> int:
        """Bytes of all objects below."""
        with self._named("listed") as (store, path):
            return sum(int(one["size"]) for one in store.find(path, detail=True).values())

    def open(self, mode: str = "r", *_: object, **__: object) -> IO[Any]:  # type: ignore[override]
        """For reading or for writing, of bytes."""
        assert mode in ("rb", "wb"), f"{self} is opened for {mode!r}"
        with self._named("read" if mode == "rb" else "written") as (store, path):
            opened: IO[Any] = store.open(path, mode)
            return opened

    def read_bytes(self) -> bytes:
        with self._named("read") as (store, path):
            return bytes(store.cat_file(path))

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")

    def write_bytes(self, data: Any) -> int:
        """Replaces it at once: a reader sees the old content or the new one."""
        with self._named("written") as (store, path):
            store.pipe_file(path, bytes(data))
        return len(data)

    def mkdir(self, *_: object, **__: object) -> None:
        """Folders come with what is put into them."""

    def unlink(self, missing_ok: bool = False) -> None:
        with self._named("written") as (store, path):
            try:
                store.rm_file(path)
            except FileNotFoundError:
                if not missing_ok:
                    raise

    def rename(self, target: Any) -> ObjectPath:
        """Copies it to the target, which appears whole, and removes it."""
        with self._named("written") as (store, path):
            store.copy(path, str(target).partition("://")[2])
            store.rm_file(path)
        return ObjectPath(target)

    replace = rename

    def remove_tree(self) -> None:
        """Removes all objects below."""
        with self._named("written") as (store, path):
            for one in store.find(path):
                store.rm_file(one)

    def expanduser(self) -> ObjectPath:
        return self

    def absolute(self) -> ObjectPath:
        return self

    def resolve(self, strict: bool = False) -> ObjectPath:
        return self

    @contextmanager
    def _named(self, done: str) -> Iterator[tuple[AbstractFileSystem, str]]:
        """The store, and the path in it; what the store's library raises becomes an error with the address."""
        try:
            yield _store(str(self))
        except (FileNotFoundError, IndexFolderError):
            raise
        except Exception as error:  # a foreign library at a boundary: each store has its own errors
            raise _failed(str(self), done, error) from error


def _store(address: str) -> tuple[AbstractFileSystem, str]:
    from fsspec.core import url_to_fs

    # Listings that are kept would not show what Lance or another machine wrote.
    store, path = url_to_fs(address, use_listings_cache=False)
    return store, str(path)


def _failed(address: str, done: str, error: Exception) -> IndexFolderError:
    said = " ".join(str(error).split())[:200] or type(error).__name__
    for name, value in os.environ.items():
        if name.startswith(("AWS_", "GOOGLE_", "AZURE_")) and ("KEY" in name or "TOKEN" in name) and len(value) > 8:
            said = said.replace(value, f"({name})")
    if isinstance(error, ImportError):
        scheme = address.partition(":")[0]
        extra = install_extra("s3") if scheme == "s3" else f"Install fsspec's library for {scheme}."
        return IndexFolderError(
            f"{address} cannot be {done}: {said}", f"{scheme}:// needs a library of its own.", extra
        )
    return IndexFolderError(
        f"{address} cannot be {done}: {type(error).__name__}: {said}",
        "Expected a bucket that the credentials in the environment may list, read and write.",
        "Check the address, the endpoint and the credentials (for S3: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, "
        "AWS_SECRET_ACCESS_KEY).",
    )


__all__ = [
    "ObjectPath",
    "is_address",
    "is_remote",
    "place",
    "refuse_credentials",
    "remove_tree",
    "storage_options",
    "tree_bytes",
]
