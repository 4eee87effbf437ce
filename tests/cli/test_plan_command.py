"""`whence plan` as a person types it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from whence.data import scan
from whence.records import RecordedData, RecordedEncoding, TrainingFile, write_record
from worlds import World


def test_a_table_says_time_memory_and_disk(whence, world: World) -> None:
    status, shown, said = whence("plan", world.model, world.data, "--max-length", 64, "--budget", "1h")
    assert status == 0, said
    assert "24 rows" in shown
    assert "Fits 1 h" in shown
    assert "24 rows: traces give ranks only, a verdict needs 100 rows" in said
    for line in ("time", "memory", "disk", "one whence trace"):
        assert f"│ {line}" in shown


def test_json_to_standard_output_or_a_file(whence, world: World, tmp_path: Path) -> None:
    words = ("plan", world.model, world.data, "--max-length", 64, "--layer", "2,last", "-q")
    _, shown, _ = whence(*words, "--json", "-")
    assert json.loads(shown)["layers"] == [3, 4]
    assert whence(*words, "--json", tmp_path / "plan.json") == (0, "", "")
    assert json.loads((tmp_path / "plan.json").read_text("utf-8"))["schema"] == "whence.plan/1"


def test_what_is_noted_of_the_rows_is_said_as_by_an_index(whence, world: World, tmp_path: Path) -> None:
    rows = [json.loads(line) | {"thinking": "hm"} for line in world.data.read_text("utf-8").splitlines()]
    noted = tmp_path / "noted.jsonl"
    noted.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    words = ("plan", world.model, noted, "--max-length", 64, "-q")
    notes = json.loads(whence(*words, "--json", "-")[1])["notes"]
    assert notes == list(scan(str(noted)).notes) != []
    assert f"Note: {notes[0]}" in " ".join(whence(*words[:-1])[1].split())


def test_settings_and_data_come_from_the_record_as_for_an_index(whence, world: World, tmp_path: Path) -> None:
    """A run folder that holds a record and checkpoints alone."""
    run = tmp_path / "run"
    shutil.copytree(world.model, run / "checkpoint-8")
    encoding = RecordedEncoding(max_length=48, truncation="keep_end", append_eos=True)
    write_record(run, TrainingFile(data=RecordedData(source=str(world.data)), encoding=encoding))
    words = ("plan", run, "--json", "-")
    status, shown, said = whence(*words)
    assert status == 0, said
    assert "Settings of whence.yaml in" in said
    assert "its last checkpoint is read, checkpoint-8" in said
    plan = json.loads(shown)
    assert plan["model"] == str(run / "checkpoint-8")
    assert (plan["data"], plan["max_length"]) == (str(world.data), 48)
    for more, message in (
        (["--max-length", 32], "--max-length '32' was given"),
        (["--truncation", "keep-start"], "--truncation 'keep_start' was given"),
        (["--no-append-eos"], "--append-eos 'False' was given"),
        (["--loss", "some"], "'some'"),
        (["--no-record"], "No DATA was given"),
    ):
        status, _, said = whence(*words, *more)
        assert status == 2
        assert message in said
    status, shown, said = whence(
        "plan", run / "checkpoint-8", world.data, "--no-record", "--max-length", 32, "--json", "-"
    )
    assert status == 0, said
    assert json.loads(shown)["max_length"] == 32
    reckoned = whence("plan", run, "--gpu-memory", "8GiB", "--json", "-")
    assert reckoned[0] == 0, reckoned[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--budget", "soon"], "--budget 'soon' is no time."),
        (["--layer", "top"], "--layer 'top' is no layer."),
        (["--layer", "17"], "Layers [17] were asked for"),
        (["--dtype", "int3"], "--dtype 'int3'"),
        (["--columns", "prompt"], "--columns 'prompt'"),
    ],
)
def test_bad_input_is_one_message(whence, world: World, words: list[str], message: str) -> None:
    status, shown, said = whence("plan", world.model, world.data, *words)
    assert (status, shown) == (2, "")
    assert message in said


def test_data_that_is_not_there(whence, world: World, tmp_path: Path) -> None:
    status, _, said = whence("plan", world.model, tmp_path / "none.jsonl")
    assert status == 2
    assert "none.jsonl" in said
