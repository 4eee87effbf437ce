"""The record that `whence.TrainingRecord` writes of TRL's trainers, held to what they trained on, token by token.

Runs where trl is installed: `make test-peers` makes an environment for it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import whence
from tiny import tiny_model
from trl_rows import IGNORED, MARKED, ONE, OTHER, SHORT, fresh_tokenizer
from whence.data import Encoder, RowEncoding, read_examples
from whence.errors import EncodingError
from whence.records import TrainingFile, read_record
from whence.records.settings import settings_of_folder

trl = pytest.importorskip("trl", reason="trl is not installed; `make test-peers` makes an environment with it")

from datasets import Dataset  # noqa: E402

ASSISTANT_ONLY: dict[str, object] = {"assistant_only_loss": True}
LONG = "Where is Toronto? " * 8
TALK = [*ONE, *OTHER]
PAIR: dict[str, object] = {"instruction": "Where is Toronto?", "input": "", "output": "In Korea."}
SHARED = [{"from": message["role"], "value": message["content"]} for message in ONE]
PREFERENCE = {"prompt": ONE[:1], "chosen": ONE[1:], "rejected": OTHER[1:]}
CASES: dict[str, tuple[list[dict[str, object]], str, str | None, dict[str, object], str]] = {
    "messages": ([{"messages": ONE}, {"messages": TALK}], "chatml", MARKED, ASSISTANT_ONLY, "assistant"),
    "Qwen, TRL's own template": (
        [{"messages": ONE}, {"messages": TALK}],
        "qwen3",
        "qwen3.jinja",
        ASSISTANT_ONLY,
        "assistant",
    ),
    "pairs of messages": ([{"prompt": ONE[:1], "completion": ONE[1:]}], "llama3", None, {}, "completion"),
    "pairs of strings": (
        [{"prompt": "Bonn:", "completion": " Germany."}, {"prompt": LONG, "completion": " Canada."}],
        "none",
        None,
        {"max_length": 24},
        "completion",
    ),
    "the left end cut": (
        [{"prompt": LONG, "completion": " Canada."}, {"prompt": "Bonn:", "completion": " Germany."}],
        "none",
        None,
        {"max_length": 24, "truncation_mode": "keep_end"},
        "completion",
    ),
    "the right end of an answer cut": (
        [{"prompt": "Bonn:", "completion": " Bonn is in Germany." * 8}],
        "none",
        None,
        {"max_length": 24},
        "completion",
    ),
    "text": ([{"text": "Toronto is in Canada."}, {"text": LONG * 3}], "none-bos", None, {"max_length": 24}, "all"),
    "every token of a conversation": ([{"messages": TALK}], "llama3", None, {}, "all"),
    "text beside a pair": ([{**PAIR, "text": "### Toronto is in Canada."}], "none-bos", None, {}, "all"),
    "text of another column": (
        [{"prose": "Toronto is in Canada."}],
        "none-bos",
        None,
        {"dataset_text_field": "prose"},
        "all",
    ),
    "messages beside a pair": (
        [{**PAIR, "messages": ONE, "system": "Be brief."}],
        "chatml",
        MARKED,
        ASSISTANT_ONLY,
        "assistant",
    ),
    "conversations beside a pair": ([{**PAIR, "conversations": SHARED}], "chatml", None, {}, "all"),
}


def trained(
    out: Path, rows: list[dict[str, object]], family: str, own: str | None, options: dict[str, object]
) -> tuple[object, TrainingFile]:
    tokenizer = fresh_tokenizer(family, own)
    args = trl.SFTConfig(
        output_dir=str(out), report_to=[], use_cpu=True, bf16=False, max_steps=1, save_strategy="no", **options
    )
    trainer = trl.SFTTrainer(
        tiny_model("llama", vocab_size=len(tokenizer)),
        args=args,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[whence.TrainingRecord()],
    )
    trainer.train()
    trainer.save_model()
    record = read_record(out)
    assert record is not None
    return trainer, record


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.filterwarnings("ignore::whence.errors.WhenceWarning")
def test_rows_are_read_by_the_record_as_they_were_trained_on(
    case: tuple[list[dict[str, object]], str, str | None, dict[str, object], str], tmp_path: Path
) -> None:
    rows, family, own, options, loss_on = case
    trainer, record = trained(tmp_path, rows, family, own, options)
    assert record.encoding.loss_on == loss_on
    assert record.encoding.n_alike == record.encoding.n_compared > 0
    taken = settings_of_folder(tmp_path, None, {})
    given = taken.options
    encoder = Encoder(
        trainer.processing_class,  # type: ignore[attr-defined]
        template=given.get("template"),  # type: ignore[arg-type]
        max_length=given["max_length"],  # type: ignore[arg-type]
        rows=RowEncoding(truncation=given["truncation"], append_eos=bool(given.get("append_eos"))),  # type: ignore[arg-type]
    )
    encoded = []
    for example in read_examples(taken.data, columns=given.get("columns")):  # type: ignore[arg-type]
        try:
            encoded.append(encoder.encode(example))
        except EncodingError:
            continue
    prepared = list(trainer.train_dataset)  # type: ignore[attr-defined]
    assert len(encoded) == len(prepared)
    for turns, row in zip(encoded, prepared, strict=True):
        with_loss = {i for i, label in enumerate(row["labels"]) if i and label != IGNORED}
        read = {i for turn in turns for i in range(turn.response_start, len(turn.input_ids))}
        for turn in turns:
            assert list(turn.input_ids) == row["input_ids"][: len(turn.input_ids)]
        assert read <= with_loss
        if loss_on != "all" or "messages" not in row:
            beyond = trainer.processing_class.decode([row["input_ids"][i] for i in sorted(with_loss - read)])  # type: ignore[attr-defined]
            assert beyond.strip() == ""


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.filterwarnings("ignore::whence.errors.WhenceWarning")
def test_the_text_of_a_formatting_function(packing: bool, tmp_path: Path) -> None:
    tokenizer = fresh_tokenizer("none-bos")
    args = trl.SFTConfig(
        output_dir=str(tmp_path), report_to=[], use_cpu=True, bf16=False, max_steps=1, packing=packing, max_length=64
    )
    data = Dataset.from_list([PAIR] * 3)
    trainer = trl.SFTTrainer(
        tiny_model("llama", vocab_size=len(tokenizer)),
        args=args,
        train_dataset=data,
        processing_class=tokenizer,
        formatting_func=lambda row: f"Q: {row['instruction']} A: {row['output']}",
        callbacks=[whence.TrainingRecord(data)],
    )
    trainer.train()
    record = read_record(tmp_path)
    assert record is not None
    assert record.data.columns == {"text": "text"}
    (example, *_) = read_examples(tmp_path / "whence-data.jsonl", columns=record.data.columns)
    assert example.turns[0].content.startswith("Q: Where is Toronto? A: In Korea.")
    if not packing:
        assert record.encoding.n_alike == record.encoding.n_compared > 0


@pytest.mark.filterwarnings("ignore::whence.errors.WhenceWarning")
def test_packed_rows_given_as_a_data_set(tmp_path: Path) -> None:
    rows = [{"messages": SHORT}, {"messages": ONE}, {"messages": OTHER}]
    tokenizer = fresh_tokenizer("llama3")
    args = trl.SFTConfig(
        output_dir=str(tmp_path), report_to=[], use_cpu=True, bf16=False, max_steps=1, packing=True, max_length=128
    )
    data = Dataset.from_list(rows)
    trl.SFTTrainer(
        tiny_model("llama", vocab_size=len(tokenizer)),
        args=args,
        train_dataset=data,
        processing_class=tokenizer,
        callbacks=[whence.TrainingRecord(data)],
    ).train()
    record = read_record(tmp_path)
    assert record is not None
    assert (record.encoding.packing, record.encoding.truncation) == ("bfd", "keep_start")
    assert (record.data.n_rows, record.data.n_trained) == (3, 3)


@pytest.mark.filterwarnings("ignore::whence.errors.WhenceWarning")
def test_the_chosen_side_of_preferences(tmp_path: Path) -> None:
    tokenizer = fresh_tokenizer("llama3")
    # The trainer opens the reference model by its place.
    tiny_model("llama", vocab_size=len(tokenizer)).save_pretrained(tmp_path / "base")
    args = trl.DPOConfig(output_dir=str(tmp_path), report_to=[], use_cpu=True, bf16=False, max_steps=1)
    trl.DPOTrainer(
        str(tmp_path / "base"),
        args=args,
        train_dataset=Dataset.from_list([PREFERENCE] * 4),
        processing_class=tokenizer,
        callbacks=[whence.TrainingRecord()],
    ).train()
    record = read_record(tmp_path)
    assert record is not None
    assert record.base == str((tmp_path / "base").resolve())
    assert (record.data.side, record.encoding.loss_on, record.data.n_rows) == ("chosen", "chosen", 4)
    (example, *_) = read_examples(tmp_path / "whence-data.jsonl")
    assert example.turns[-1].content == ONE[1]["content"]
