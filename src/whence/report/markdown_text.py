"""Text of the data in Markdown: in code spans and fences, where nothing runs, and prose with its marks escaped."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from whence.report.printable import printable
from whence.report.terminal import shorten

LONGEST = 2000
"""Characters shown of a text; a longer one loses its middle."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The lines of a table."""
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        # GitHub's tables end a cell at a pipe even within a code span.
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def code(text: str) -> str:
    """A code span on one line; its fence is longer than any run of backticks in the text."""
    line = shorten(text, 200)
    mark = "`" * (_longest_run(line, "`") + 1)
    return f"{mark} {line} {mark}" if "`" in line else f"{mark}{line or ' '}{mark}"


def fence(text: str) -> list[str]:
    """The lines of a fenced block."""
    if len(text) > LONGEST:
        half = LONGEST // 2
        text = f"{text[:half]}\n[... {len(text) - 2 * half:,} characters ...]\n{text[-half:]}"
    # A carriage return or a Unicode line separator must not open a line of its own for some readers.
    text = "\n".join(printable(line, lines=True) for line in text.splitlines())
    mark = "`" * max(3, _longest_run(text, "`") + 1)
    return [f"{mark}text", text, mark]


def _longest_run(text: str, character: str) -> int:
    return max((len(run) for run in re.findall(f"{re.escape(character)}+", text)), default=0)


def prose(text: str) -> str:
    """One line of prose, every mark of Markdown in it escaped."""
    return re.sub(r"([\\`*_\[\]<>#|~&])", r"\\\1", printable(" ".join(text.split())))


__all__ = ["LONGEST", "code", "fence", "prose", "table"]
