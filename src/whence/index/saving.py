"""What is said where an index cannot be written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from whence.errors import IndexFolderError
from whence.index.manifest import read_manifest
from whence.index.reading import first_line
from whence.index.shard_commits import saved_rows


@contextmanager
def saving(out: Path, total: int) -> Iterator[None]:
    """Turns a failure to write into an error that says what is safe."""
    try:
        yield
    except OSError as error:
        raise IndexFolderError(
            f"The index {out} cannot be written: {first_line(error)}",
            _what_stays(out, total),
            "Make room (or choose another disk with -o); the same command then continues.",
        ) from error


def _what_stays(out: Path, total: int) -> str:
    try:
        manifest = read_manifest(out)
        if manifest is not None and manifest.status == "complete":
            return "The index is as it was before."
        saved = saved_rows(out) if manifest is not None else 0
    except (OSError, ValueError, IndexFolderError):
        saved = 0
    return f"{saved} of {total} rows are saved and stay so."


__all__ = ["saving"]
