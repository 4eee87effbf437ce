"""Who may write an index at the same time: one run that builds or changes it, or any number of jobs of one build.

The locks are the system's, which lets go when a process ends, however it ends. They guard against mistakes on one
machine; what jobs on several machines do is safe without them (whence.index.shard_commits). An object store has none,
and some file systems have none either.
"""

from __future__ import annotations

import errno
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from whence.errors import IndexFolderError, WhenceWarning
from whence.index.manifest import FINISH_LOCK, LOCK
from whence.object_path import is_remote

NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)
"""What file systems without locks answer: Lustre mounted without flock, NFS without lockd."""


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Holds the folder against all other runs. Raises IndexFolderError where one is writing."""
    with _held(out, LOCK, shared=False):
        yield


@contextmanager
def joined(out: Path) -> Iterator[None]:
    """Holds the folder together with other jobs of the same build, against runs that are none."""
    with _held(out, LOCK, shared=True):
        yield


@contextmanager
def finishing(out: Path) -> Iterator[None]:
    """As `joined`, and against others that finish. A job that is late does not hinder it."""
    with _held(out, LOCK, shared=True), _held(out, FINISH_LOCK, shared=False):
        yield


@contextmanager
def _held(out: Path, name: str, *, shared: bool) -> Iterator[None]:
    if is_remote(out):
        yield
        return
    try:
        import fcntl
    except ImportError:  # Windows has no flock; two runs into one folder are then the user's to avoid.
        yield
        return
    with (out / name).open("a") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise IndexFolderError(
                f"Another run is writing {out}.",
                "One run at a time writes an index, or several jobs with --shard.",
                "Wait for it, or stop it.",
            ) from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            if not shared:
                warnings.warn(
                    f"{out} lies on a file system without locks: that no other run writes it is yours to see to.",
                    WhenceWarning,
                    stacklevel=4,
                )
        yield


__all__ = ["finishing", "joined", "locked"]
