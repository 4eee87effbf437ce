"""What README and docs tell a user to type exists: commands, their options, and the names in Python."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main

import whence
from whence.cli.main import app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def lines(page: Path) -> list[str]:
    """The lines of a page's blocks that call whence, without prompt signs and comments."""
    found = []
    for block in FENCE.findall(page.read_text("utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            bare = re.sub(r"^\s*(\$ )?(\S*/bin/)?(?=whence )", "", line)
            if bare.startswith("whence "):
                found.append(bare)
    return found


def test_there_is_something_to_check() -> None:
    assert len(lines(ROOT / "README.md")) > 15


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_every_command_and_option_exists(page: Path) -> None:
    for line in lines(page):
        words = shlex.split(line, comments=True)
        command = COMMANDS.get(words[1])
        assert command is not None, f"{page.name}: {line}"
        known = {opt for param in command.params for opt in (*param.opts, *param.secondary_opts)}
        for word in words[2:]:
            if re.match(r"--?[a-z]", word):
                assert word.partition("=")[0] in known, f"{page.name}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_python_blocks_compile_and_name_what_there_is(page: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        compile(block, page.name, "exec")
        for name in re.findall(r"\bwhence\.([A-Za-z_]\w*)\(", block):
            assert name in whence.__all__, f"{page.name}: whence.{name}"
