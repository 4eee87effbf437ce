"""`whence.TrainingRecord` with transformers' own Trainer; TRL's are in tests/field/test_trl_record.py."""

from __future__ import annotations

import datetime
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from datasets import Dataset
from transformers import DataCollatorForSeq2Seq, Trainer, TrainerControl, TrainerState, TrainingArguments

import whence
from field_templates import DATED
from tiny import CHAT_TEMPLATE, tiny_model, tiny_tokenizer
from whence.data import Encoder
from whence.data import read_examples as package_rows
from whence.errors import WhenceWarning
from whence.records import RecordedData, RecordedEncoding, TrainingFile, read_record
from whence.records.comparison import LOOKED_AT, compared
from whence.records.trained_rows import read_data
from whence.records.trainer_settings import sft_encoding
from whence.records.trl_columns import trained_columns

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
    with warnings.catch_warnings():
        warnings.simplefilter("error", WhenceWarning)  # every row is read as it was trained on
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
    with (
        pytest.warns(WhenceWarning, match="8 of 8 rows were trained on in other tokens"),
        pytest.warns(WhenceWarning, match=r"handed tokens.* --max-length"),
    ):
        train(tmp_path / "out", whence.TrainingRecord())


def test_rows_without_text_are_asked_for(tmp_path: Path) -> None:
    with pytest.warns(WhenceWarning, match=r"TrainingRecord\(data=\.\.\.\)"):
        train(tmp_path / "out", whence.TrainingRecord(), keep_text=False)
    record = read_record(tmp_path / "out")
    assert record is not None
    assert (record.data.source, record.data.n_trained) == (None, 8)


def test_data_that_is_given(tmp_path: Path) -> None:
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


class SFTTrainer:
    """What the callback asks of TRL's trainer of that name (tests/field/test_trl_record.py has the real one)."""

    def __init__(self, formatting: Callable[[dict[str, str]], str] | None = None, field: str = "text") -> None:
        self.args = SimpleNamespace(dataset_text_field=field)
        self._formatting_func = formatting


class DPOTrainer:
    """Likewise."""


TALK = ROWS[0]["messages"]
ALPACA = {"instruction": "Where?", "input": "", "output": "Here.", "text": "### Where?"}
SHARED = [{"from": "human", "value": "Where?"}]


@pytest.mark.parametrize(
    ("trainer", "row", "columns"),
    [
        (SFTTrainer(), ALPACA, {"text": "text"}),
        (SFTTrainer(field="output"), ALPACA, {"text": "output"}),
        (SFTTrainer(), {"question": "q", "answer": "a", "messages": TALK}, {"messages": "messages"}),
        (SFTTrainer(), {"messages": TALK, "conversations": SHARED}, {"messages": "conversations"}),
        (SFTTrainer(), {"text": "t", "conversations": TALK}, {"text": "text"}),
        (SFTTrainer(), {"text": "t", "messages": json.dumps(TALK)}, {"text": "text"}),
        (
            SFTTrainer(),
            {"prompt": "p", "completion": "c", "response": "r", "messages": TALK, "text": "t"},
            {"prompt": "prompt", "response": "completion"},
        ),
        (
            SFTTrainer(),
            {"prompt": "p", "completion": "c", "system": "s", "history": [["a", "b"]], "tools": []},
            {"prompt": "prompt", "response": "completion", "system": "", "history": ""},
        ),
        (SFTTrainer(), {"instruction": "i", "output": "o"}, None),
        (
            DPOTrainer(),
            {"prompt": "p", "chosen": "c", "rejected": "r", "messages": TALK},
            {"prompt": "prompt", "response": "chosen"},
        ),
        (object(), ALPACA, None),
    ],
)
def test_the_columns_that_trls_trainers_read(
    trainer: object, row: dict[str, object], columns: dict[str, str] | None
) -> None:
    assert trained_columns(trainer, row) == columns


def test_rows_are_recorded_with_the_columns_that_were_trained_on(tmp_path: Path) -> None:
    found = read_data(None, Dataset.from_list([ALPACA] * 2), tmp_path, SFTTrainer())
    assert (found.data.columns, found.first) == ({"text": "text"}, {"text": ALPACA["text"]})
    (example, _) = package_rows(tmp_path / "whence-data.jsonl", columns=found.data.columns)
    assert example.turns[0].content == ALPACA["text"]
    assert (tmp_path / "whence-rows.txt").read_text().split() == [example.id] * 2
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(ALPACA) + "\n")
    assert read_data(file, Dataset.from_list([ALPACA]), tmp_path, SFTTrainer()).data.columns == {"text": "text"}


MASKED = {"messages": [*TALK[:1], TALK[1] | {"weight": 0}, *TALK[:1], TALK[1] | {"weight": 1}]}


@pytest.mark.parametrize(
    ("trainer", "columns"), [(SFTTrainer(), {"messages": "messages", "marks": ""}), (object(), None)]
)
def test_marks_that_the_trainer_does_not_read(tmp_path: Path, trainer: object, columns: dict[str, str] | None) -> None:
    found = read_data(None, Dataset.from_list([MASKED]), tmp_path, trainer)
    assert found.data.columns == columns
    assert [("not obeyed" in note) for note in found.notes] == ([True] if columns else [])
    marked = {"messages": [*TALK[:1], TALK[1] | {"weight": 1}]}
    assert "marks" not in (read_data(None, Dataset.from_list([marked]), tmp_path, trainer).data.columns or {})


@pytest.mark.parametrize(("mask_first", "alike"), [(False, 0), (True, 1)])
def test_an_answer_with_loss_that_is_not_read_is_another_reading(tmp_path: Path, mask_first: bool, alike: int) -> None:
    tokenizer = tiny_tokenizer(CHAT_TEMPLATE)
    (tmp_path / "rows.jsonl").write_text(json.dumps(MASKED) + "\n")
    every = Encoder(tokenizer).encode(*package_rows(tmp_path / "rows.jsonl", columns={"marks": ""}))
    ids = tokenizer.apply_chat_template(MASKED["messages"], return_dict=False)
    labels = [-100] * len(ids)
    for turn in every[1:] if mask_first else every:
        place = slice(turn.response_start, len(turn.input_ids))
        labels[place] = ids[place]
    dataset = Dataset.from_list([{"input_ids": ids, "labels": labels}])
    found = compared(RecordedEncoding(), RecordedData(source="rows.jsonl"), tmp_path, tokenizer, dataset)
    assert (found.n_compared, found.n_alike) == (1, alike)


def formatted(row: dict[str, str]) -> str:
    return f"Q: {row['instruction']} A: {row['output']}"


TOKENS: dict[str, object] = {"input_ids": [1], "labels": [1]}
PREPARED = [{**ALPACA, "text": formatted(ALPACA), **TOKENS}]
PACKED: list[dict[str, object]] = [{**TOKENS, "seq_lengths": [1]}]


@pytest.mark.parametrize("given", ["nothing", "the data set", "a file"])
@pytest.mark.parametrize("packed", [False, True])
def test_of_a_formatting_function_its_text_is_recorded(given: str, packed: bool, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(ALPACA) + "\n")
    sources = {"nothing": None, "the data set": Dataset.from_list([ALPACA]), "a file": file}
    held = Dataset.from_list(PACKED if packed else PREPARED)
    found = read_data(sources[given], held, tmp_path, SFTTrainer(formatted))
    if packed and given != "the data set":
        assert found.data.source is None
        assert given == "nothing" or "formatting_func" in found.notes[0]
        return
    assert (found.data.source, found.data.columns) == ("whence-data.jsonl", {"text": "text"})
    assert json.loads((tmp_path / "whence-data.jsonl").read_text()) == {"text": formatted(ALPACA)}


def test_a_formatting_function_that_fails_or_changes_nothing(tmp_path: Path) -> None:
    packed = Dataset.from_list(PACKED)
    trainer = SFTTrainer(lambda row: row["gone"])
    found = read_data(Dataset.from_list([ALPACA]), packed, tmp_path, trainer)
    assert found.data.source is None
    assert "formatting_func" in found.notes[0]
    found = read_data(Dataset.from_list(ROWS), packed, tmp_path, trainer)
    assert found.data.columns == {"messages": "messages"}


def test_the_day_that_a_template_wrote_is_recorded() -> None:
    args = SimpleNamespace(max_length=64)
    for template, day in ((DATED, datetime.date.today().isoformat()), (CHAT_TEMPLATE, None)):
        found, _ = sft_encoding(args, SFTTrainer(), tiny_tokenizer(template), None, ROWS[0])
        assert found.date == day


def test_rows_in_another_order_say_nothing_where_none_is_found(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(CHAT_TEMPLATE)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    dataset = Dataset.from_list([TOKENS] * (LOOKED_AT + 1))
    given = (RecordedEncoding(), RecordedData(source="rows.jsonl"), tmp_path, tokenizer)
    assert compared(*given, dataset).n_compared == 0
    assert compared(*given, dataset, in_order=True).n_compared == len(ROWS)
    assert compared(*given, dataset.select(range(2))).n_compared == len(ROWS)
