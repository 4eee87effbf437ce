"""What reading a damaged index gives: one error that says so, whatever library stumbled."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import pyarrow as pa

from whence.errors import IndexFolderError

_Given = ParamSpec("_Given")
_Found = TypeVar("_Found")


class _HasPath(Protocol):
    @property
    def path(self) -> Path: ...


_Of = TypeVar("_Of", bound=_HasPath)


def names_damage(
    method: Callable[Concatenate[_Of, _Given], _Found],
) -> Callable[Concatenate[_Of, _Given], _Found]:
    """A method of an index that reads its records; where they cannot be read it raises IndexFolderError."""

    @wraps(method)
    def reading(self: _Of, /, *given: _Given.args, **named: _Given.kwargs) -> _Found:
        with damage_named(self.path):
            return method(self, *given, **named)

    return reading


def names_damage_of_each(
    method: Callable[Concatenate[_Of, _Given], Iterator[_Found]],
) -> Callable[Concatenate[_Of, _Given], Iterator[_Found]]:
    """The same of a method that gives one block or record after the other."""

    @wraps(method)
    def reading(self: _Of, /, *given: _Given.args, **named: _Given.kwargs) -> Iterator[_Found]:
        with damage_named(self.path):
            yield from method(self, *given, **named)

    return reading


@contextmanager
def damage_named(folder: Path) -> Iterator[None]:
    """Turns what Lance and Arrow raise for damaged files into an IndexFolderError."""
    try:
        yield
    except BaseException as error:
        if not _is_of_a_library(error):
            raise
        raise damaged(folder, first_line(error)) from error


def damaged(folder: Path, what: str) -> IndexFolderError:
    """The error for an index whose records are not what was written."""
    return IndexFolderError(
        f"The index {folder} is damaged: {what}",
        "Every record that the manifest counts must be there.",
        f"`whence verify {folder}` lists what is wrong, and with --repair computes it again.",
    )


def first_line(error: BaseException) -> str:
    """Lance's message without the places in its own source."""
    lines = str(error).splitlines() or [type(error).__name__]
    kept = [part for part in lines[0].split(", ") if ".rs:" not in part]
    return ", ".join(kept)[:300].rstrip(".,") + "."


def _is_of_a_library(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return False
    if isinstance(error, OSError):
        return error.errno is None  # the system's own errors, such as too many open files, have a number
    if isinstance(error, pa.ArrowException | json.JSONDecodeError):
        return True
    # Lance's own errors come as ValueError or RuntimeError; where its code gives up, as an exception of its bindings.
    return type(error).__name__ == "PanicException" or (
        isinstance(error, ValueError | RuntimeError) and "LanceError" in str(error)
    )


__all__ = ["damage_named", "damaged", "first_line", "names_damage", "names_damage_of_each"]
