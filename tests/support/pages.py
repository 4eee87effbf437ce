"""Pages of the documentation as code: their blocks in order, run as a reader would, and what they print."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"[<(]?\d[\d,.:]*%?\)?")


@dataclass(frozen=True)
class Block:
    """A fenced block: `sh` and `python` are run, `text` is what the block before it prints."""

    language: str
    code: str


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    return [Block(*found) for found in FENCE.findall(page.read_text("utf-8"))]


def commands(code: str) -> Iterator[list[str]]:
    """The words of each command that calls whence."""
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            assert words[0] == "whence", f"A block that is run calls whence alone, found: {line}"
            yield words


def run(block: Block, namespace: dict[str, object], page: str) -> str:
    """What the block prints, run in this process in the working directory."""
    printed = StringIO()
    with redirect_stdout(printed):
        if block.language == "python":
            exec(compile(block.code, page, "exec"), namespace)
        else:
            for words in commands(block.code):
                _call(words)
    return printed.getvalue()


def _call(words: list[str]) -> None:
    from whence.cli.main import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words)
        patch.setenv("COLUMNS", "110")
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code, shlex.join(words)


def shape(line: str) -> str:
    """A line without its numbers and the width of its gaps: `12 rows flagged` and `9 rows flagged` have one shape."""
    return " ".join(NUMBER.sub("#", line).split())


def missing(shown: str, printed: str) -> list[str]:
    """Lines that a page shows and that were not printed, numbers aside, in their order; `...` stands for anything."""
    found = iter([shape(line) for line in printed.splitlines()])
    left = []
    for line in shown.splitlines():
        pattern = re.escape(shape(line)).replace(re.escape("..."), ".*")
        if line.strip() and not any(re.fullmatch(pattern, there) for there in found):
            left.append(line)
            found = iter([])
    return left
