"""The folder that `whence bench` writes into, in which nothing but a bench's own files is written over."""

from __future__ import annotations

import re
from pathlib import Path

from whence.bench.planted.run import BASES, CASES
from whence.bench.run import MODELS, RESULTS, parsed_results
from whence.errors import InputError
from whence.files import write_atomically

REPORT, PLOT = "report.md", "quality-cost.png"
BEGINNINGS = (
    "# Report of whence bench\n",
    "# Report of whence bench on a given base\n",
    "# Bench\n\nSeeds ",
    "# Bench on a given base\n\nBase: ",
)
"""Of a report, the last two as earlier versions wrote it."""
HASHED = re.compile("-[0-9a-f]{16}$")
"""Ends the name of every model, base and case."""


def check_folder(folder: Path) -> None:
    """Raises InputError where a file or folder that a bench writes is there and is not a bench's.

    Files of other names, such as a log, are left as they are.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file.", "A bench writes into a folder.", "Give another one with -o.")
    rows, _ = parsed_results(folder / RESULTS)
    _check_report(folder)
    if rows or (folder / REPORT).exists():
        return
    if (folder / PLOT).exists():
        raise InputError(
            f"{folder / PLOT} is there, without results or a report of a bench.",
            "A run writes that file again.",
            "Move it, or give another folder with -o.",
        )
    for name in (MODELS, BASES, CASES):
        _check_hashed(folder / name)


def write_report(folder: Path, text: str) -> Path:
    """Writes the report into the folder and returns its path. Raises InputError where another file has its name."""
    _check_report(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / REPORT, text)
    return folder / REPORT


def _check_hashed(folder: Path) -> None:
    """Raises InputError where something in the folder has no name that a bench gives there."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file.", "A bench makes a folder there.", "Give another folder with -o.")
    others = sorted(path.name for path in folder.glob("*") if not path.name.startswith("."))
    others = [name for name in others if not HASHED.search(name)]
    if others:
        raise InputError(
            f"{folder} holds other files ({', '.join(others[:3])}{', ...' if len(others) > 3 else ''}).",
            "What a bench writes there has names that end in a hash.",
            "Give another folder with -o.",
        )


def _check_report(folder: Path) -> None:
    path = folder / REPORT
    if path.exists() and not path.read_bytes().startswith(tuple(begin.encode() for begin in BEGINNINGS)):
        raise InputError(
            f"{path} is no report of a bench.",
            "A run writes that file again.",
            "Move it, or give another folder with -o.",
        )
