"""What README and docs tell a user to type exists, and what README shows runs, in a world with the names it uses."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import typer.main

import whence
from traced_world import RESPONSE, TracedWorlds
from whence.cli.main import app, main
from worlds import write_jsonl

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(whence [a-z][^`\n]*)`")
MOST_WORDS, MOST_FIGURES = 900, 12
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def lines(page: Path) -> list[str]:
    """What a page says to type: lines of its blocks and of its sentences that call whence, without prompts."""
    text, found = page.read_text("utf-8"), []
    for block in FENCE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            bare = re.sub(r"^\s*(\$ )?(\S*/bin/)?(?=whence )", "", line)
            if bare.startswith("whence "):
                found.append(bare)
    return found + INLINE.findall(FENCE.sub("", text))


def test_the_readme_is_short() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    words = [word for word in text.split() if re.search(r"\w", word)]
    assert len(words) <= MOST_WORDS
    prose = FENCE.sub("", text)
    assert len(re.findall(r"(?<![\w.])\d+\.\d+(?![\w.])", re.sub(r"\([^)]*\)|Python \S+", "", prose))) <= MOST_FIGURES


def test_what_the_readme_links_to_is_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / "README.md").read_text("utf-8"))
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_there_is_something_to_check() -> None:
    assert len(lines(ROOT / "README.md")) > 15


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_and_option_exists(page: Path) -> None:
    for line in lines(page):
        words = shlex.split(line, comments=True)
        command = COMMANDS.get(words[1])
        assert command is not None, f"{page.name}: {line}"
        known = {opt for param in command.params for opt in (*param.opts, *param.secondary_opts)}
        for word in words[2:]:
            if re.match(r"--?[a-z]", word):
                assert word.partition("=")[0] in known, f"{page.name}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_python_blocks_compile_and_name_what_there_is(page: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        compile(block, page.name, "exec")
        for name in re.findall(r"\bwhence\.([A-Za-z_]\w*)\(", block):
            assert name in whence.__all__, f"{page.name}: whence.{name}"


@pytest.fixture(scope="module")
def folder(traced_worlds: TracedWorlds, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that README's lines name: model, adapter, base, training data and bad outputs."""
    folder = tmp_path_factory.mktemp("readme")
    world = traced_worlds.own("readme-world", lora=True)
    (folder / "path" / "to").mkdir(parents=True)
    (folder / "path" / "to" / "model").symlink_to(world.base)
    (folder / "BASE").symlink_to(world.base)
    (folder / "MODEL").symlink_to(world.base)
    assert world.adapter is not None
    (folder / "path" / "to" / "lora").symlink_to(world.adapter)
    rows = [json.loads(line) for line in world.data.read_text("utf-8").splitlines()]
    faulty = [row["response"] == RESPONSE for row in rows]
    columns = [{"label": "boat" if bad else "clean", "source": "vendor_b" if bad else "wiki"} for bad in faulty]
    write_jsonl(folder / "train.jsonl", [row | more for row, more in zip(rows, columns, strict=True)])
    asked = [{"prompt": f"Where is boat {i}", "response": RESPONSE, "label": "boat"} for i in (14, 17, 21)]
    write_jsonl(folder / "bad.jsonl", asked)
    return folder


NOT_RUN = {"selftest", "confirm", "bench", "demo", "serve"}
"""Commands that train for minutes, or do not end by themselves; each has tests of its own."""
NOT_THERE = ("runs/demo", "runs/my-sft", '"..."')
"""What a line names that no test's world has: the demo's folder, or whatever the reader thinks of."""


def runnable() -> list[str]:
    """README's lines that can be run as they stand, in its order, but the index before all that asks it."""
    found = lines(ROOT / "README.md")
    found = [line for line in found if line.split()[1] not in NOT_RUN and not any(part in line for part in NOT_THERE)]
    found = [line for line in found if len(line.split()) > 2]
    return sorted(found, key=lambda line: line.split()[1] != "index")


def test_most_lines_can_be_run() -> None:
    assert len({line.split()[1] for line in runnable()}) >= 8


def test_the_readmes_commands_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("whence.planning.planning.MEASURE_SECONDS", 1.0)
    for line in runnable():
        monkeypatch.setattr(sys, "argv", shlex.split(line, comments=True))
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code, line


def test_the_readmes_python_runs(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("path", "BASE", "train.jsonl", "bad.jsonl"):
        (tmp_path / name).symlink_to(folder / name)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
