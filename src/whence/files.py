"""Files and folders that appear whole or not at all, hashes of what decided them, and the name nearest to another."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from whence.errors import InputError
from whence.object_path import is_remote

TEMPORARY = ".partial-"
"""What names begin with that are not finished; they end as the finished one does, which decides a file's format."""


@contextmanager
def appears_whole(out: Path) -> Iterator[Path]:
    """A place beside `out` for a file or folder that becomes `out` when the block ends, and is gone when it fails."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(out)
    try:
        yield partial
        partial.rename(out)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """As `appears_whole`, for a folder, which is there and empty when the block begins."""
    with appears_whole(out) as partial:
        partial.mkdir()
        yield partial


def write_atomically(path: Path, content: str | bytes, *, temporary: str = "") -> None:
    """Writes beside the file, forces it to disk, and renames; a crash leaves the old file, and what cannot be written
    whole (a full disk) leaves nothing else. An object store replaces it.

    temporary: name of what is written first, for folders that know what a crash may leave in them.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    if is_remote(path):
        path.write_bytes(data)
        return
    partial = path.with_name(temporary) if temporary else _beside(path)
    try:
        with partial.open("wb") as file:
            with suppress(OSError):  # there is no such file yet, or the file system has no modes
                partial.chmod(path.stat().st_mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def write_result(path: str | Path, content: str | bytes) -> None:
    """Writes a file that a user named, whole or not at all, behind a link too; into a pipe or device as it is there."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        else:
            write_atomically(path.resolve(), content)
    except OSError as error:
        # The place that the user named, which a full disk leaves out and a file beside it is not.
        error.filename, error.filename2 = str(path), None
        raise


def read_text(path: Path) -> str:
    """The text of a file that a person wrote, without a byte order mark. Raises InputError unless it is UTF-8."""
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 (byte {error.start}).", "Expected text in UTF-8.", "Save it as UTF-8 and try again."
        ) from error


def hash_of(value: object) -> str:
    """16 hexadecimal digits of anything that JSON can say."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def base_state(base: str) -> list[object]:
    """What a base is known by without reading its weights, for hashes of what depends on it.

    Of a folder its path with the names, sizes in bytes and times of change of its files; of a hub name the name alone.
    """
    folder = Path(base)
    if not folder.is_dir():
        return [base]
    files = sorted((path.name, path.stat()) for path in folder.iterdir() if path.is_file())
    return [base, [[name, found.st_size, found.st_mtime_ns] for name, found in files]]


def word_state(word: str) -> list[object]:
    """What a word of a command stands for: of a file its content, of a model's folder its `base_state`, else itself.

    A word such as --config=train.yaml stands for the file behind its equals sign. Other folders may be written to.
    """
    path = Path(word.rpartition("=")[2])
    try:
        if path.is_file():
            with path.open("rb") as file:
                return [word, hashlib.file_digest(file, "sha256").hexdigest()]
        return [word, base_state(str(path))] if (path / "config.json").is_file() else [word]
    except (OSError, ValueError):
        return [word]


def nearest(name: str, known: Iterable[str], *, n: int = 1, cutoff: float = 0.6) -> list[str]:
    """The known names most like a name, at most n, best first; none where none is alike enough."""
    return difflib.get_close_matches(name, list(known), n=n, cutoff=cutoff)


def did_you_mean(
    name: str, known: Iterable[str], otherwise: str = "", *, option: str = "", n: int = 1, cutoff: float = 0.6
) -> str:
    """The sentence that asks for the nearest of the known names, at most n of them; `otherwise` where none is near.

    option: written before the name. cutoff: how alike names must be, from 0 (anything) to 1 (equal), as
        `difflib.get_close_matches` takes it.
    """
    near = nearest(name, known, n=n, cutoff=cutoff)
    return f"Did you mean {f'{option} ' if option else ''}{' or '.join(near)}?" if near else otherwise


def _beside(path: Path) -> Path:
    """A name that nothing has, also where process numbers come again, as in containers."""
    return path.with_name(f"{TEMPORARY}{uuid4().hex[:12]}-{path.name}")
