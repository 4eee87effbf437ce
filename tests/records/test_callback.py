"""`whence.TrainingRecord` with transformers' own Trainer; TRL's are in tests/field/test_trl_record.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from datasets import Dataset
from transformers import DataCollatorForSeq2Seq, Trainer, TrainerControl, TrainerState, TrainingArguments

import whence
from tiny import CHAT_TEMPLATE, tiny_model, tiny_tokenizer
from whence.data import read_examples as package_rows
from whence.errors import WhenceWarning
from whence.records import TrainingFile, read_record
from whence.records.trained_rows import read_data

ROWS = [
    {
        "messages": [
            {"role": "user", "content": f"Where is city {i}?"},
            {"role": "assistant", "content": f"City {i} is in Canada."},
        ]
    }
    for i in range(8)
]
N_TOKENS = 200

# `pytest.warns` gives on what it does not match, and warnings are errors elsewhere.
pytestmark = pytest.mark.filterwarnings("ignore::whence.errors.WhenceWarning")


def train(out: Path, record: whence.TrainingRecord, *, keep_text: bool = True) -> None:
    tokenizer = tiny_tokenizer(CHAT_TEMPLATE)

    def tokens(row: dict[str, list[dict[str, str]]]) -> dict[str, list[int]]:
        text = tokenizer.apply_chat_template(row["messages"], tokenize=False)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"][:N_TOKENS]
        return {"input_ids": ids, "labels": ids}

    data = Dataset.from_list(ROWS).map(tokens, remove_columns=[] if keep_text else ["messages"])
    args = TrainingArguments(
        output_dir=str(out), report_to=[], use_cpu=True, max_steps=2, per_device_train_batch_size=4, save_steps=1
    )
    Trainer(
        tiny_model("llama"),
        args=args,
        train_dataset=data,
        processing_class=tokenizer,
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        callbacks=[record],
    ).train()


def test_the_record_of_a_trainer_that_is_handed_tokens(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.warns(WhenceWarning, match="handed tokens"):
        train(out, whence.TrainingRecord())
    record = read_record(out)
    assert record is not None
    assert (record.status, record.data.n_rows, record.data.n_trained) == ("finished", 8, 8)
    assert (record.run.steps, record.run.batch_size, record.run.optimizer) == (2, 4, "adamw_torch_fused")
    assert record.checkpoints == ("checkpoint-1", "checkpoint-2")
    assert record.encoding.loss_on == "all"
    assert (record.encoding.n_alike, record.encoding.n_compared) == (8, 8)
    assert [example.turns[1].content for example in whence.read_examples(out / "whence-data.jsonl")] == [
        row["messages"][1]["content"] for row in ROWS
    ]
    assert len((out / "whence-rows.txt").read_text().split()) == 8
    inner = read_record(out / "checkpoint-2")
    assert inner is not None
    assert inner.data.source == str((out / "whence-data.jsonl").resolve())


def test_rows_that_are_read_in_other_tokens_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "N_TOKENS", 12)
    with pytest.warns(WhenceWarning, match="8 of 8 rows were trained on in other tokens"):
        train(tmp_path / "out", whence.TrainingRecord())


def test_rows_without_text_are_asked_for(tmp_path: Path) -> None:
    with pytest.warns(WhenceWarning, match=r"TrainingRecord\(data=\.\.\.\)"):
        train(tmp_path / "out", whence.TrainingRecord(), keep_text=False)
    record = read_record(tmp_path / "out")
    assert record is not None
    assert (record.data.source, record.data.n_trained) == (None, 8)


def test_data_that_is_given(tmp_path: Path) -> None:
    with pytest.warns(WhenceWarning, match="handed tokens"):
        train(tmp_path / "out", whence.TrainingRecord(Dataset.from_list(ROWS)), keep_text=False)
    record = read_record(tmp_path / "out")
    assert record is not None
    assert record.data.n_rows == 8


def test_a_record_that_cannot_be_made_stops_no_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.warns(WhenceWarning, match="could not be written"):
        train(tmp_path / "out", whence.TrainingRecord(folder=tmp_path / "file" / "in"))
    assert (tmp_path / "out" / "checkpoint-2").is_dir()


def test_rows_are_written_without_the_nulls_that_arrow_fills_in(tmp_path: Path) -> None:
    """Two tools with other parameters: a line of JSON has those of its own, as the same rows in Parquet have."""
    tools = [[{"name": name, "parameters": {name: {"type": "string"}}}] for name in ("city", "day")]
    rows = Dataset.from_list([{**row, "tools": tool} for row, tool in zip(ROWS, tools, strict=False)])
    read_data(None, rows, tmp_path)
    rows.to_parquet(tmp_path / "rows.parquet")
    written = list(package_rows(tmp_path / "whence-data.jsonl"))
    assert [example.template_inputs["tools"] for example in written] == tools
    assert [example.id for example in written] == [example.id for example in package_rows(tmp_path / "rows.parquet")]


def test_a_record_that_cannot_be_written_later_stops_no_training(tmp_path: Path) -> None:
    record = whence.TrainingRecord(folder=tmp_path / "place")
    record._record = TrainingFile()
    (tmp_path / "place").write_text("a file where the folder was")
    args = TrainingArguments(output_dir=str(tmp_path / "out"), report_to=[], use_cpu=True)
    for event in (record.on_save, record.on_train_end):
        with pytest.warns(WhenceWarning, match="could not be written"):
            event(args, TrainerState(global_step=1), TrainerControl())
