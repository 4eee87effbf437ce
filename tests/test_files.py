"""Files and folders are there whole or not at all; hashes are of content; a wrong name is answered with the nearest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whence.errors import InputError
from whence.files import appears_whole, did_you_mean, hash_of, new_folder, word_state, write_atomically, write_result
from whence.run_file import RunCheckpoint, RunFile, RunHashes, read_run_file, run_values, write_run_file


def test_a_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with new_folder(out) as partial:
        (partial / "a").write_text("1")
        assert not out.exists()
        assert partial.parent == out.parent
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert (out / "a").read_text() == "1"


def test_a_result_is_written_whole_behind_a_link_and_into_a_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "real.json").chmod(0o600)
    (tmp_path / "link.json").symlink_to("real.json")
    write_result(tmp_path / "link.json", "new")
    assert (tmp_path / "real.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_text() == "new"
    write_result(os.devnull, "text")
    assert not Path(os.devnull).is_file()
    monkeypatch.setattr(os, "fsync", lambda number: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_result(tmp_path / "real.json", "half")
    assert (tmp_path / "real.json").read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_of_a_folder_or_file_that_failed(tmp_path: Path, error: type[BaseException]) -> None:
    def fill_folder() -> None:
        with new_folder(tmp_path / "folder") as partial:
            (partial / "a").write_text("1")
            raise error

    def fill_file() -> None:
        with appears_whole(tmp_path / "rows.jsonl") as partial:
            partial.write_text("1")
            assert partial.suffix == ".jsonl"
            raise error

    for fill in (fill_folder, fill_file):
        with pytest.raises(error):
            fill()
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_the_old_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomically(tmp_path / "a", "old ä")
    assert (tmp_path / "a").read_text("utf-8") == "old ä"

    def full(*args: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_text("utf-8") == "old ä"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"], "a full disk stays as full as it was"
    monkeypatch.undo()
    write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


@given(st.dictionaries(st.text(), st.integers() | st.text()))
def test_a_hash_is_of_the_content_and_not_of_its_order(value: dict[str, object]) -> None:
    assert hash_of(value) == hash_of(dict(reversed(value.items())))
    assert hash_of(value) != hash_of([value])
    assert len(hash_of(value)) == 16


def test_the_nearest_name_is_asked_for() -> None:
    known = ["backdoor", "false-fact", "persona"]
    assert did_you_mean("bakdoor", known) == "Did you mean backdoor?"
    assert did_you_mean("labl", ["label"], option="--label-column") == "Did you mean --label-column label?"
    assert did_you_mean("xyz", known, "Choose one of these.") == "Choose one of these."


RUN = RunFile(
    base="base",
    settings={"learning_rate": 5e-05, "lora_targets": ["q", "v"], "device": "cpu"},
    hashes=RunHashes(data="d", base={"weights": "w", "adapter": ""}),
    n_examples=3,
    n_turns=4,
    n_steps=2,
    loss={"first": 2.5, "last": 1.25},
    checkpoints=(RunCheckpoint(path="checkpoints/epoch-1", learning_rate=1e-05),),
    seconds=0.125,
    threads=1,
    versions={"torch": "2"},
)


def test_a_run_file_comes_back(tmp_path: Path) -> None:
    assert read_run_file(tmp_path) is None
    write_run_file(tmp_path, RUN)
    assert read_run_file(tmp_path) == RUN
    assert (tmp_path / "run.yaml").read_text("utf-8").startswith("command: whence finetune\nbase: base\n")


@pytest.mark.parametrize("content", ["command: whence index\n", "- 1\n", ""])
def test_a_run_file_of_another_command_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.yaml").write_text(content, "utf-8")
    assert read_run_file(tmp_path) is None


def test_a_damaged_run_file_is_refused_and_says_where(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("command: whence finetune\nbase: b\n", "utf-8")
    assert run_values(tmp_path) == {"command": "whence finetune", "base": "b"}
    with pytest.raises(InputError, match=r"cannot be read: settings: Field required"):
        read_run_file(tmp_path)
    (tmp_path / "run.yaml").write_text("a: [", "utf-8")
    with pytest.raises(InputError, match="cannot be read"):
        run_values(tmp_path)


def test_a_word_of_a_command_is_known_by_the_file_or_the_model_that_it_names(tmp_path: Path) -> None:
    script, model, logs = tmp_path / "train.py", tmp_path / "model", tmp_path / "logs"
    script.write_text("1")
    for folder in (model, logs):
        folder.mkdir()
    (model / "config.json").write_text("{}")
    words = [str(script), f"--script={script}", str(model), str(logs), "--epochs", "3"]
    before = [word_state(word) for word in words]
    assert before[3:] == [[word] for word in words[3:]]
    script.write_text("2")
    (model / "model.safetensors").write_text("weights")
    (logs / "said.txt").write_text("step 1")
    after = [word_state(word) for word in words]
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, False, False, True, True, True]
