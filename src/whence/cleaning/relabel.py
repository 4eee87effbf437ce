"""Rows put right by a command of the user's own: one JSON object in, one out."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable, Mapping

from whence.errors import InputError


def relabel_with(command: str) -> Callable[[Mapping[str, object]], Mapping[str, object] | None]:
    """A hook that hands each row to a command as one JSON object, and takes one back; empty output drops the row."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InputError(f"--relabel {command!r} cannot be read: {error}.", "Expected a command.", "") from error
    if not words:
        raise InputError("--relabel is empty.", "Expected a command.", 'For example --relabel "python relabel.py".')

    def relabelled(columns: Mapping[str, object]) -> Mapping[str, object] | None:
        row = json.dumps(dict(columns), ensure_ascii=False, default=str) + "\n"
        try:
            done = subprocess.run(words, input=row.encode(), capture_output=True, check=False)
        except OSError as error:
            raise InputError(f"{words[0]!r} cannot be run: {error.strerror}.", "", "Check --relabel.") from error
        if done.returncode != 0:
            said = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["nothing"])[-1]
            raise InputError(
                f"--relabel ended with status {done.returncode}; it said last: {said}",
                "Expected status 0 and one JSON object.",
                f"The row was {row[:200].strip()}",
            )
        try:
            answer = json.loads(done.stdout) if done.stdout.strip() else None
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"--relabel wrote no JSON: {error}", "Expected one object, or nothing.", f"The row was {row[:200]}"
            ) from error
        if answer is not None and not isinstance(answer, dict):
            raise InputError(
                "--relabel wrote JSON that is no object.", "Expected the row's columns.", f"The row was {row[:200]}"
            )
        return None if answer is None else {name: _kept(columns.get(name), value) for name, value in answer.items()}

    return relabelled


def _kept(old: object, new: object) -> object:
    """The value of the row where the command gave it back as it was told: JSON has no dates and no decimals."""
    return old if json.dumps(old, default=str) == json.dumps(new) else new
