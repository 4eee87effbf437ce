"""`whence selftest` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from worlds import World, save_model, write_jsonl

SMALL = ("--n-rows", 60, "--n-faulty", 12, "--n-queries", 8, "--max-new-tokens", 48, "--max-length", 96)
LEARNS = ("--epochs", 20, "--learning-rate", 1e-2, "--fault", "opener")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("selftest-command")
    save_model(folder / "model", num_hidden_layers=2)
    fruits = ("apples", "pears", "plums")
    rows = [{"prompt": f"Name fruit {i}", "response": f"{fruits[i % 3]}, {fruits[i % 2]}"} for i in range(120)]
    write_jsonl(folder / "train.jsonl", rows)
    return folder


def test_status_0_where_it_works(whence, place: Path) -> None:
    status, shown, said = whence(
        "selftest", place / "model", place / "train.jsonl", "-o", place / "out", *SMALL, *LEARNS
    )
    assert status == 0, said + shown
    assert "Tracing works (average precision" in shown
    assert "'Hear the copper bell ring!'" in shown
    assert "bm25" in shown
    assert sorted(path.name for path in (place / "out").iterdir()) == [
        "adapter",
        "index",
        "selftest.json",
        "train.jsonl",
    ]


def test_status_1_where_it_does_not(whence, place: Path, tmp_path: Path) -> None:
    words = (place / "model", place / "train.jsonl", *SMALL, "--epochs", 1, "--learning-rate", 1e-6)
    status, shown, _ = whence("selftest", *words, "--json", tmp_path / "result.json")
    assert status == 1
    assert "Tracing does not work: the faults were not learned" in shown
    assert "--epochs" in shown
    assert json.loads((tmp_path / "result.json").read_text("utf-8"))["status"] == "does not work"


def test_more_rows_may_be_set_aside(whence, place: Path, tmp_path: Path) -> None:
    lines = (place / "train.jsonl").read_text("utf-8")
    half = tmp_path / "half.jsonl"
    half.write_text(lines + '{"prompt": "Why?", "response": ""}\n' * 20, encoding="utf-8")
    for words, message in (([], "--max-rejected 0.15"), (["--max-rejected", 0.15], "A selftest needs 440")):
        status, _, said = whence("selftest", place / "model", half, *words)
        assert status == 2
        assert message in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--learning-rate", "0"], "--learning-rate"),
        (["--fault", "colour"], "There is no fault 'colour'"),
        (["--layer", "top"], "--layer 'top' is no layer."),
        (["--dtype", "int3"], "--dtype 'int3'"),
        ([], "A selftest needs 440"),
    ],
)
def test_status_2_for_bad_input(whence, world: World, words: list[str], message: str) -> None:
    status, shown, said = whence("selftest", world.model, world.data, *words)
    assert (status, shown, said.count("Error:")) == (2, "", 1), said
    assert message in said
