"""Ordinary commands print no warning: neither ours, where nothing is wrong, nor one of a library."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import whence as package
from traced_world import PROMPT, RESPONSE, TracedWorld, TracedWorlds

ALLOWED: tuple[str, ...] = ()
"""Parts of lines that may be there all the same. It is empty, and should stay so."""
COMMAND = "from whence.cli.main import main; main()"


def said(folder: Path, *words: object) -> str:
    """Standard error of a command in a process of its own, where Python shows every warning."""
    source = Path(package.__file__).parents[1]
    ran = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "default", "-c", COMMAND, *map(str, words)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stderr


def warnings_in(text: str) -> list[str]:
    return [line for line in text.splitlines() if "arning" in line and not any(part in line for part in ALLOWED)]


@pytest.fixture(scope="module", params=["full", "lora"])
def world(request: pytest.FixtureRequest, traced_worlds: TracedWorlds) -> TracedWorld:
    return traced_worlds.own(request.param, lora=request.param == "lora")


def copy(world: TracedWorld, folder: Path, *, packed: bool) -> Path:
    """The data as JSONL packed by gzip, or as Parquet."""
    text = world.data.read_text("utf-8")
    place = folder / ("rows.jsonl.gz" if packed else "rows.parquet")
    if packed:
        place.write_bytes(gzip.compress(text.encode()))
    else:
        pq.write_table(pa.Table.from_pylist([json.loads(line) for line in text.splitlines()]), place)
    return place


def test_index_and_trace_print_no_warning(world: TracedWorld, tmp_path: Path) -> None:
    adapter = () if world.adapter is None else ("--adapter", world.adapter)
    data, index = copy(world, tmp_path, packed=world.adapter is None), tmp_path / "index"
    assert warnings_in(said(tmp_path, "index", world.model, data, "-o", index, *adapter, "--max-length", 64)) == []
    pages = ("--html", "r.html", "--markdown", "r.md", "--json", "r.json", "--words", 3)
    answer = ("-r", RESPONSE) if world.adapter is None else ("--span-tokens", "0:1")
    assert warnings_in(said(tmp_path, "trace", index, "-p", PROMPT, *answer, *pages)) == []


def test_finetune_prints_no_warning(traced_worlds: TracedWorlds, tmp_path: Path) -> None:
    world = traced_worlds.own("finetune", lora=False)
    base = world.model
    steps = ("--epochs", 1, "--batch-size", 8, "--max-length", 64, "--lora-r", 2)
    assert warnings_in(said(tmp_path, "finetune", base, world.data, "-o", tmp_path / "tuned", *steps)) == []
