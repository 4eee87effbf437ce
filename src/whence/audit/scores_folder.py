"""The folder of a comparison's scores, which one run at a time writes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from whence.audit.blocks import WorkFolder
from whence.data import Json
from whence.errors import InputError

LOCK = ".lock"
TEMPORARY = ".partial-scores-"


@contextmanager
def scores_folder(work: Path | None, beside: Path, asked: Json) -> Iterator[Path]:
    """A folder that no other run writes: that of `asked`, where a run that was cut goes on, or a temporary one.

    It is temporary where another run holds that of `asked` or the file system has no locks, and where no work folder is
    given and the index's cannot be written. Either is removed at the end; that of `asked` stays where the block fails.

    work: the work folder that was given. beside: the index's. Raises InputError where the given one cannot be written.
    """
    try:
        folder, place = WorkFolder(work or beside, asked).folder, work or beside
        lock = _lock(folder)
    except InputError:
        if work is not None:
            raise
        lock, place = None, None
    if lock is None:
        with TemporaryDirectory(dir=place, prefix=TEMPORARY) as name:
            yield Path(name)
        return
    with lock:
        yield folder
        shutil.rmtree(folder)


def _lock(folder: Path) -> BinaryIO | None:
    """The folder's lock, held until it is closed; None where another run has it, removes the folder, or none can be."""
    try:
        import fcntl
    except ImportError:  # Windows has no flock.
        return None
    path, file = folder / LOCK, None
    try:
        file = path.open("ab")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
    except OSError:
        pass
    if file is not None:
        file.close()
    return None


__all__ = ["scores_folder"]
