"""What a folder says of its training: the record, other trainers' files, and what contradicts them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from whence.data import PLAIN_TEMPLATE, read_examples
from whence.errors import DataError, InputError, MismatchError
from whence.records import RecordedData, RecordedEncoding, RecordedRun, TrainingFile, read_record, write_record
from whence.records.settings import FolderSettings, _check_read, settings_of_folder
from whence.records.trained_rows import row_ids

ROWS = [{"prompt": f"Where is city {i}?", "completion": f"City {i} is in Canada."} for i in range(6)]


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A run's folder: an adapter, its rows and its record."""
    folder = tmp_path / "run"
    folder.mkdir()
    write_rows(folder / "whence-data.jsonl", ROWS)
    ids = row_ids(str(folder / "whence-data.jsonl"), None, None)
    (folder / "whence-rows.txt").write_text("".join(f"{id}\n" for id in ids))
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base"}))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    write_record(folder, RECORD)
    return folder


RECORD = TrainingFile(
    status="finished",
    trainer="trl.SFTTrainer",
    base="org/base",
    is_adapter=True,
    data=RecordedData(source="whence-data.jsonl", row_ids="whence-rows.txt", n_rows=6, n_trained=6),
    encoding=RecordedEncoding(
        max_length=64, truncation="keep_start", template=PLAIN_TEMPLATE, template_from="plain", loss_on="completion"
    ),
    run=RecordedRun(steps=10),
)


def test_a_record_of_an_earlier_version_that_compared_another_order_is_read(tmp_path: Path) -> None:
    """It wrote 0 of 16 of any data in another order than the trainer's, of which it says nothing."""
    encoding = RecordedEncoding(n_compared=16, n_alike=0)
    data = RecordedData(source="train.jsonl", n_rows=5000)
    for n_rows, refused in ((5000, False), (400, True)):
        record = TrainingFile(base="b", data=data.model_copy(update={"n_rows": n_rows}), encoding=encoding)
        if refused:
            with pytest.raises(InputError, match="0 of 16 compared"):
                _check_read(tmp_path, record)
        else:
            _check_read(tmp_path, record)


def test_a_record_is_read_as_it_was_written(home: Path) -> None:
    assert read_record(home) == RECORD
    assert yaml.safe_load((home / "whence.yaml").read_text())["schema"] == "whence.training/1"


def test_everything_is_taken_from_the_record(home: Path) -> None:
    found = settings_of_folder(home, None, {"max_length": None, "seed": 3})
    assert found.data == str(home / "whence-data.jsonl")
    assert found.options == {"max_length": 64, "truncation": "keep_start", "template": PLAIN_TEMPLATE, "seed": 3}
    assert "whence.yaml" in found.notes[0]


def test_an_option_that_contradicts_the_record_is_refused_with_both_values(home: Path) -> None:
    with pytest.raises(InputError, match=r"--max-length '128' .* with '64'"):
        settings_of_folder(home, None, {"max_length": 128})
    assert settings_of_folder(home, None, {"max_length": 64}).options["max_length"] == 64
    left = settings_of_folder(home, home / "whence-data.jsonl", {"max_length": 128}, use_record=False)
    assert (left.options, left.notes) == ({"max_length": 128}, ())


def test_rows_that_are_new_or_gone_are_named(home: Path) -> None:
    changed = [*ROWS[:2], {"prompt": "New?", "completion": "Yes."}, *ROWS[3:5]]
    write_rows(home / "whence-data.jsonl", changed)
    with pytest.raises(DataError, match=r"1 rows are new \(usable rows 3\), 2 are gone"):
        settings_of_folder(home, None, {})
    with pytest.raises(DataError, match="1 rows are new"):
        settings_of_folder(home, home / "whence-data.jsonl", {})


def test_rows_in_another_order_or_file_are_the_same_rows(home: Path, tmp_path: Path) -> None:
    other = write_rows(tmp_path / "mine.jsonl", ROWS[::-1])
    assert settings_of_folder(home, other, {}).data == str(other)


def test_a_record_none_of_whose_rows_is_read_as_it_was_trained_on_is_refused(home: Path) -> None:
    def recorded(n_alike: int) -> None:
        encoding = RECORD.encoding.model_copy(update={"n_compared": 6, "n_alike": n_alike})
        write_record(home, RECORD.model_copy(update={"encoding": encoding}))

    recorded(0)
    with pytest.raises(InputError, match=r"(?s)other tokens than whence reads: .* 0 of 6 compared rows.*--no-record"):
        settings_of_folder(home, None, {})
    assert settings_of_folder(home, home / "whence-data.jsonl", {}, use_record=False).notes == ()
    recorded(1)
    assert any("1 of 6 compared rows" in note for note in settings_of_folder(home, None, {}).notes)


def test_the_columns_of_a_record_are_those_of_its_rows(home: Path, tmp_path: Path) -> None:
    columns = {"prompt": "prompt", "response": "completion"}
    data = RECORD.data.model_copy(update={"columns": columns})
    write_record(home, RECORD.model_copy(update={"data": data}))
    assert settings_of_folder(home, None, {}).options["columns"] == columns
    with pytest.raises(InputError, match="--columns"):
        settings_of_folder(home, None, {"columns": {"text": "prompt"}})
    # The same rows with columns of other names: their ids are what counts.
    other = write_rows(tmp_path / "other.jsonl", [{"q": row["prompt"], "a": row["completion"]} for row in ROWS])
    own = {"prompt": "q", "response": "a"}
    assert settings_of_folder(home, other, {"columns": own}).options["columns"] == own
    usual = write_rows(tmp_path / "usual.jsonl", [{"prompt": r["prompt"], "response": r["completion"]} for r in ROWS])
    assert "columns" not in settings_of_folder(home, usual, {}).options
    with pytest.raises(DataError, match="6 rows are new"):
        settings_of_folder(home, other, {"columns": {"prompt": "a", "response": "q"}})


def test_a_record_of_another_run_is_refused(home: Path) -> None:
    (home / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/other"}))
    with pytest.raises(MismatchError, match=r"(?s)org/other.*org/base"):
        settings_of_folder(home, None, {})
    (home / "adapter_config.json").unlink()
    (home / "trainer_state.json").write_text(json.dumps({"global_step": 99}))
    with pytest.raises(MismatchError, match=r"counts 99 steps, its whence.yaml 10"):
        settings_of_folder(home, None, {})


def test_another_template_than_the_records_is_refused(home: Path) -> None:
    encoding = RecordedEncoding(template="{{ messages }}", template_from="tokenizer")
    write_record(home, RECORD.model_copy(update={"encoding": encoding}))
    assert settings_of_folder(home, None, {}).options["template"] == "{{ messages }}"
    (home / "chat_template.jinja").write_text("{{ messages }}")
    assert "template" not in settings_of_folder(home, None, {}).options
    (home / "chat_template.jinja").write_text("{{ other }}")
    with pytest.raises(MismatchError, match=r"(?s)other.*messages"):
        settings_of_folder(home, None, {})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("schema: whence.training/9\n", "whence.training/9"),
        ("[1, 2", "cannot be used"),
        ("schema: whence.training/1\nencoding: {max_length: long}\n", "encoding.max_length"),
        ("hello\n", "schema is None"),
    ],
)
def test_a_record_that_cannot_be_read_names_the_way_out(home: Path, text: str, found: str) -> None:
    (home / "whence.yaml").write_text(text)
    with pytest.raises(InputError, match=rf"(?s){found}.*--no-record"):
        settings_of_folder(home, None, {})


def test_data_that_are_gone_and_data_never_known(home: Path) -> None:
    gone = RECORD.model_copy(update={"data": RecordedData(source=str(home / "rows.jsonl"))})
    write_record(home, gone)
    with pytest.raises(DataError, match="are gone"):
        settings_of_folder(home, None, {})
    write_record(home, RECORD.model_copy(update={"data": RecordedData()}))
    with pytest.raises(InputError, match="does not say which rows"):
        settings_of_folder(home, None, {})


def test_a_folder_that_says_nothing_lists_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "training_args.bin").write_bytes(b"\x80\x04 never opened")
    with pytest.raises(InputError, match=r"(?s)No DATA.*whence.yaml.*axolotl.*LLaMA-Factory.*README"):
        settings_of_folder(tmp_path, None, {})


def test_the_last_checkpoint_stands_in_for_a_model_that_was_never_saved(home: Path) -> None:
    (home / "adapter_model.safetensors").unlink()
    for step in (9, 10):
        (home / f"checkpoint-{step}").mkdir()
        (home / f"checkpoint-{step}" / "adapter_model.safetensors").write_bytes(b"")
    found = settings_of_folder(home, None, {})
    assert found.model == str(home / "checkpoint-10")
    assert any("checkpoint-10" in note for note in found.notes)


AXOLOTL = """\
base_model: org/base
datasets:
  - path: rows.jsonl
    type: chat_template
    field_messages: conversations
adapter: lora
lora_r: 16
lora_alpha: 32
lora_target_linear: true
sequence_len: 2048
sample_packing: true
micro_batch_size: 2
gradient_accumulation_steps: 4
num_epochs: 3
optimizer: adamw_torch_fused
lr_scheduler: cosine
learning_rate: 0.0002
output_dir: ./out
"""
LLAMA_FACTORY = """\
model_name_or_path: org/base
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all
dataset: cities
dataset_dir: data
template: qwen
cutoff_len: 1024
output_dir: saves/lora
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
num_train_epochs: 3.0
lr_scheduler_type: cosine
"""


def test_axolotls_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text(AXOLOTL)
    rows = write_rows(tmp_path / "rows.jsonl", ROWS)
    found = settings_of_folder(tmp_path, None, {})
    assert found.data == str(rows)
    assert found.options == {"max_length": 2048, "truncation": "keep_start", "columns": {"messages": "conversations"}}
    assert found.record is not None
    assert (found.record.run.batch_size, found.record.encoding.packing) == (8, "sample_packing")
    assert "config.yml" in found.notes[0]
    both = AXOLOTL.replace("    type", "    type: x\n  - path: more.jsonl\n    type", 1)
    (tmp_path / "config.yml").write_text(both)
    with pytest.raises(InputError, match="trains on 2 data sets"):
        settings_of_folder(tmp_path, None, {})


def test_axolotls_configuration_in_its_model_card(tmp_path: Path) -> None:
    """axolotl 0.19 leaves no file of its configuration in its folder: README.md holds the whole of it."""
    write_rows(tmp_path / "rows.jsonl", ROWS)
    head = "---\nbase_model: org/base\ndatasets:\n- rows.jsonl\n---\n\n<details>\n\n"
    card = f"{head}axolotl version: `0.19.0`\n```yaml\n{AXOLOTL.strip()}\n\n```\n\n</details>\n"
    (tmp_path / "README.md").write_text(card)
    found = settings_of_folder(tmp_path, None, {})
    assert found.options == {"max_length": 2048, "truncation": "keep_start", "columns": {"messages": "conversations"}}
    assert "README.md" in found.notes[0]
    # Another block of YAML is no configuration: the front matter alone is read.
    (tmp_path / "README.md").write_text(f"{head}```yaml\nlearning_rate: 1\n```\n")
    assert any("data set alone" in note for note in settings_of_folder(tmp_path, None, {}).notes)


def test_llama_factorys_configuration(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text(LLAMA_FACTORY)
    with pytest.raises(InputError, match=r"no dataset_info.json"):
        settings_of_folder(tmp_path, None, {})
    (tmp_path / "data").mkdir()
    rows = write_rows(tmp_path / "data" / "cities.json", ROWS)
    columns = {"prompt": "instruction", "query": "input", "response": "output"}
    info = {"cities": {"file_name": "cities.json", "columns": columns}}
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(info))
    found = settings_of_folder(tmp_path, None, {})
    assert found.data == str(rows)
    unread = {"system": "", "history": "", "tools": ""}
    assert found.options == {"max_length": 1024, "truncation": "prompt_first", "columns": columns | unread}
    assert any("'qwen'" in note for note in found.notes)


def test_axolotls_configuration_as_its_examples_have_it(tmp_path: Path) -> None:
    """Keys without a value, a rate without a point, which YAML takes for text, a named template and rows held out."""
    write_rows(tmp_path / "rows.jsonl", ROWS)
    (tmp_path / "config.yml").write_text("""
base_model: org/base
load_in_4bit: true
chat_template: gemma3
datasets:
  - path: rows.jsonl
    ds_type: json
    type: chat_template
    field_messages: conversations
    message_property_mappings:
      role: from
      content: value
val_set_size: 0.1
adapter: qlora
lora_model_dir:
lora_r: 32
lora_alpha: 16
lora_dropout: 0
lora_target_linear: true
lora_target_modules:
sequence_len: 2048
sample_packing: true
wandb_project:
gradient_accumulation_steps: 4
micro_batch_size: 1
num_epochs: 4
optimizer: adamw_bnb_8bit
lr_scheduler: cosine
learning_rate: 2e-4
special_tokens:
""")
    found = settings_of_folder(tmp_path, None, {})
    assert found.record is not None
    run = found.record.run
    assert (run.learning_rate, run.lora_r, run.lora_targets, run.epochs) == (2e-4, 32, None, 4.0)
    said = " ".join(found.notes)
    assert "chat template 'gemma3'" in said
    assert "val_set_size 0.1" in said
    text = (tmp_path / "config.yml").read_text().replace("gemma3", "tokenizer_default").replace("0.1", "0.0")
    (tmp_path / "config.yml").write_text(text)
    said = " ".join(settings_of_folder(tmp_path, None, {}).notes)
    assert "gemma3" not in said
    assert "val_set_size" not in said


def test_llama_factorys_configuration_as_its_examples_have_it(tmp_path: Path) -> None:
    """ShareGPT with tags, modules in one text, and a limit of rows."""
    (tmp_path / "data").mkdir()
    write_rows(tmp_path / "data" / "cities.json", ROWS)
    tags = {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"}
    columns = {"messages": "conversations"}
    info = {"cities": {"file_name": "cities.json", "formatting": "sharegpt", "columns": columns, "tags": tags}}
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(info))
    (tmp_path / "train.yaml").write_text("""
### model
model_name_or_path: org/base
trust_remote_code: true
### method
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: q_proj, v_proj
### dataset
dataset: cities
template: llama3
cutoff_len: 2048
max_samples: 1000
overwrite_cache: true
### output
output_dir: saves/lora/sft
save_only_model: false
### train
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
num_train_epochs: 3.0
resume_from_checkpoint: null
""")
    found = settings_of_folder(tmp_path, None, {})
    assert found.record is not None
    assert found.record.run.lora_targets == ("q_proj", "v_proj")
    assert found.options["columns"] == {"messages": "conversations", "system": "", "tools": "", "marks": ""}
    assert any("max_samples 1000" in note for note in found.notes)


def test_a_model_card_names_the_data(tmp_path: Path) -> None:
    card = "---\nbase_model: org/base\ndatasets: org/cities\nlibrary_name: peft\n---\n# Model\n"
    (tmp_path / "README.md").write_text(card)
    found = settings_of_folder(tmp_path, None, {})
    assert found.data == "org/cities"
    assert any("not said" in note for note in found.notes)


def test_llama_factorys_columns_of_any_name(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text(LLAMA_FACTORY)
    (tmp_path / "data").mkdir()
    row = {"ask": "And now?", "about": "this", "say": "o", "past": [["q", "a"]], "sys": "Be brief.", "fns": "[]"}
    write_rows(tmp_path / "data" / "cities.json", [row])
    columns = {"prompt": "ask", "query": "about", "response": "say", "history": "past", "system": "sys", "tools": "fns"}
    info = {"cities": {"file_name": "cities.json", "columns": columns}}
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(info))
    found = settings_of_folder(tmp_path, None, {})
    mapping = found.options["columns"]
    assert mapping == columns
    (example,) = read_examples(found.data, columns=mapping)  # type: ignore[arg-type]
    assert [turn.role for turn in example.turns] == ["system", "user", "assistant", "user", "assistant"]
    assert example.turns[3].content == "And now?\nthis"


def llama_factory(home: Path, entry: dict[str, object], rows: list[dict[str, object]], **changes: object) -> Path:
    """A folder with a configuration that trains on these rows."""
    (home / "data").mkdir(exist_ok=True)
    (home / "data" / "rows.json").write_text(json.dumps(rows))
    (home / "data" / "dataset_info.json").write_text(json.dumps({"cities": {"file_name": "rows.json"} | entry}))
    (home / "train.yaml").write_text(yaml.safe_dump(yaml.safe_load(LLAMA_FACTORY) | changes))
    return home


def read_as(found: FolderSettings) -> list[list[tuple[str, str]]]:
    """The turns that train or are trained on, of all rows."""
    examples = read_examples(found.data, columns=found.options.get("columns"))  # type: ignore[arg-type]
    return [[(turn.role, turn.content) for turn in example.turns] for example in examples]


def human(text: str) -> dict[str, str]:
    return {"from": "human", "value": text}


def gpt(text: str) -> dict[str, str]:
    return {"from": "gpt", "value": text}


SHAREGPT: dict[str, object] = {"formatting": "sharegpt"}
KTO: dict[str, object] = {"columns": {"prompt": "q", "response": "a", "kto_tag": "good"}}
LF_ROWS: dict[str, tuple[dict[str, object], dict[str, object], str, list[tuple[str, str]]]] = {
    "the usual columns alone": (
        {},
        {"instruction": "Where?", "input": "Bonn", "output": "Here.", "system": "s", "history": [["a", "b"]]},
        "sft",
        [("user", "Where?\nBonn"), ("assistant", "Here.")],
    ),
    "named columns alone": (
        {"columns": {"prompt": "instruction", "response": "output"}},
        {"instruction": "Where?", "input": "Bonn", "output": "Here."},
        "sft",
        [("user", "Where?"), ("assistant", "Here.")],
    ),
    "conversations beside a pair": (
        SHAREGPT,
        {"prompt": "p", "response": "r", "conversations": [human("Where?"), gpt("Here.")], "system": "s"},
        "sft",
        [("user", "Where?"), ("assistant", "Here.")],
    ),
    "the chosen message": (
        SHAREGPT | {"ranking": True, "columns": {"messages": "talk", "chosen": "best", "rejected": "worst"}},
        {"talk": [human("Hi"), gpt("Hello"), human("Where?")], "best": gpt("Here."), "worst": gpt("There.")},
        "dpo",
        [("user", "Hi"), ("assistant", "Hello"), ("user", "Where?"), ("assistant", "Here.")],
    ),
    "the chosen text": (
        {"ranking": True},
        {"instruction": "Where?", "chosen": "Here.", "rejected": "There.", "output": "Nowhere."},
        "dpo",
        [("user", "Where?"), ("assistant", "Here.")],
    ),
    "a text": ({"columns": {"prompt": "body"}}, {"body": "A document.", "text": "no"}, "pt", [("text", "A document.")]),
}


@pytest.mark.parametrize("case", LF_ROWS.values(), ids=LF_ROWS)
def test_llama_factorys_rows_are_read_as_they_were_trained_on(
    case: tuple[dict[str, object], dict[str, object], str, list[tuple[str, str]]], tmp_path: Path
) -> None:
    entry, row, stage, turns = case
    assert read_as(settings_of_folder(llama_factory(tmp_path, entry, [row], stage=stage), None, {})) == [turns]


def test_llama_factorys_false_answers_are_left_out(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"q": "Where?", "a": answer, "good": good} for answer, good in (("Here.", True), ("There.", False))
    ]
    found = settings_of_folder(llama_factory(tmp_path, KTO, rows, stage="kto"), None, {})
    assert read_as(found) == [[("user", "Where?"), ("assistant", "Here.")]]
    entry = SHAREGPT | {"columns": {"messages": "talk", "kto_tag": "good"}}
    talk: list[dict[str, object]] = [
        {"talk": [human("Where?"), gpt(str(row["a"]))], "good": row["good"]} for row in rows
    ]
    found = settings_of_folder(llama_factory(tmp_path, entry, talk, stage="kto"), None, {})
    assert read_as(found) == [[("user", "Where?"), ("assistant", "Here.")]]
    assert any("last answer of a conversation alone" in note for note in found.notes)


def test_llama_factorys_chosen_side_texts_and_prompts_with_loss(tmp_path: Path) -> None:
    record = settings_of_folder(llama_factory(tmp_path, {"ranking": True}, [], stage="dpo"), None, {}).record
    assert record is not None
    assert (record.data.side, record.encoding.loss_on) == ("chosen", "chosen")
    text = settings_of_folder(llama_factory(tmp_path, {"columns": {"prompt": "body"}}, [], stage="pt"), None, {})
    assert (text.options["template"], text.options["append_eos"]) == (PLAIN_TEMPLATE, True)
    assert text.options["truncation"] == "prompt_first"
    assert any("cut them every 1024 tokens" in note for note in text.notes)
    assert not any("qwen" in note for note in text.notes)
    apart = settings_of_folder(llama_factory(tmp_path, {}, [], stage="pt", packing=False), None, {})
    assert apart.options["truncation"] == "keep_start"
    assert any("'input'" in note for note in apart.notes)
    on_prompt = settings_of_folder(llama_factory(tmp_path, {}, [], train_on_prompt=True), None, {})
    assert any("whence reads the answers" in note for note in on_prompt.notes)


@pytest.mark.parametrize(
    ("entry", "changes", "words"),
    [
        ({}, {"stage": "rm"}, r"(?s)of stage rm.*pt, sft, dpo, kto.*--no-record"),
        ({}, {"stage": "ppo"}, "of stage ppo"),
        (SHAREGPT, {"stage": "pt"}, "(?s)of stage pt.*column text"),
        (SHAREGPT, {"mask_history": True}, r'(?s)mask_history.*"train": false.*--no-record'),
        ({"columns": {"prompt": "p", "response": "r", "history": "h"}}, {"mask_history": True}, "mask_history"),
        ({"columns": {"prompt": "p"}}, {}, "name no response"),
        ({"columns": {"response": "r"}}, {}, "name no prompt"),
        (SHAREGPT | {"tags": {"role_tag": "who", "content_tag": "said"}}, {}, "messages of who and said"),
    ],
)
def test_llama_factorys_rows_that_are_not_read_are_refused(
    entry: dict[str, object], changes: dict[str, object], words: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        settings_of_folder(llama_factory(tmp_path, entry, [], **changes), None, {})


def test_a_mask_of_history_changes_nothing_where_there_is_none(tmp_path: Path) -> None:
    assert settings_of_folder(llama_factory(tmp_path, {}, [], mask_history=True), None, {}).options["columns"]


def test_llama_factorys_split_and_part_of_a_data_set(tmp_path: Path) -> None:
    entry: dict[str, object] = {"hf_hub_url": "org/cities", "split": "train_sft", "num_samples": 10, "subset": "de"}
    found = settings_of_folder(llama_factory(tmp_path, entry, []), None, {})
    assert (found.data, found.options["split"]) == ("org/cities", "train_sft")
    assert any("num_samples 10, subset de" in note for note in found.notes)
    assert "split" not in settings_of_folder(llama_factory(tmp_path, {"split": "train_sft"}, []), None, {}).options


@pytest.mark.parametrize("name", ["checkpoint-best", "checkpoint-10-merged"])
def test_a_folder_with_a_checkpoint_of_another_name(name: str, tmp_path: Path) -> None:
    """Among those that a trainer numbered the last one is read."""
    (tmp_path / "config.yml").write_text(AXOLOTL)
    write_rows(tmp_path / "rows.jsonl", ROWS)
    for place in ("checkpoint-9", "checkpoint-10", name):
        (tmp_path / place).mkdir()
        (tmp_path / place / "model.safetensors").write_bytes(b"")
    assert any(
        "its last checkpoint is read, checkpoint-10" in note for note in settings_of_folder(tmp_path, None, {}).notes
    )


def test_a_revision_that_yaml_takes_for_a_number_and_a_value_that_is_none(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", ROWS)
    (tmp_path / "config.yml").write_text(AXOLOTL + "revision_of_model: 1.0\n")
    record = settings_of_folder(tmp_path, None, {}).record
    assert record is not None
    assert record.revision == "1.0"
    (tmp_path / "config.yml").write_text(AXOLOTL.replace("lora_r: 16", "lora_r: many"))
    with pytest.raises(InputError, match=r"config.yml cannot be read: run.lora_r"):
        settings_of_folder(tmp_path, None, {})


def test_axolotls_several_data_files_are_refused(tmp_path: Path) -> None:
    both = AXOLOTL.replace("path: rows.jsonl", "path: json\n    data_files: [a.jsonl, b.jsonl]")
    (tmp_path / "config.yml").write_text(both)
    with pytest.raises(InputError, match="trains on 2 data files"):
        settings_of_folder(tmp_path, None, {})


def axolotl(home: Path, entry: dict[str, object], rows: list[dict[str, object]], **changes: object) -> Path:
    """A folder with a configuration that trains on these rows."""
    (home / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = yaml.safe_load(AXOLOTL) | {"datasets": [{"path": "rows.jsonl"} | entry]} | changes
    (home / "config.yml").write_text(yaml.safe_dump(config))
    return home


CHAT: dict[str, object] = {"type": "chat_template"}
TALK = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "Here."}]
SPOKEN = [("user", "Where?"), ("assistant", "Here.")]
CUSTOM = {"field_instruction": "ask", "field_output": "say", "field_input": "about", "format": "[INST] {instruction}"}
AXOLOTL_ROWS: dict[str, tuple[dict[str, object], dict[str, object], dict[str, object], list[tuple[str, str]]]] = {
    "messages beside a pair": (CHAT, {}, {"question": "q", "answer": "a", "messages": TALK}, SPOKEN),
    "a custom type": (
        {"type": CUSTOM},
        {},
        {"ask": "Where?", "about": "Bonn", "say": "Here.", "answer": "raw", "system": "s"},
        [("user", "Where?\n\nBonn"), ("assistant", "Here.")],
    ),
    "a custom type with a system prompt": (
        {"type": {"field_system": "who"}},
        {},
        {"instruction": "Where?", "output": "Here.", "who": "Be brief."},
        [("system", "Be brief."), *SPOKEN],
    ),
    "documents": ({"type": "completion"}, {}, {"text": "A document.", "messages": TALK}, [("text", "A document.")]),
    "documents of another column": (
        {"type": "completion", "field": "body"},
        {},
        {"text": "no", "body": "A document."},
        [("text", "A document.")],
    ),
    "a system column": (CHAT | {"field_system": "who"}, {}, {"messages": TALK, "who": "s"}, [("system", "s"), *SPOKEN]),
    "a system column that is dropped": (
        CHAT | {"drop_system_message": True},
        {},
        {"messages": TALK, "system": "s"},
        SPOKEN,
    ),
    "the chosen message": (
        {"type": "chat_template.default"},
        {"rl": "dpo"},
        {"messages": TALK[:1], "chosen": TALK[1], "rejected": TALK[1]},
        SPOKEN,
    ),
}


@pytest.mark.parametrize("case", AXOLOTL_ROWS.values(), ids=AXOLOTL_ROWS)
def test_axolotls_rows_are_read_as_they_were_trained_on(
    case: tuple[dict[str, object], dict[str, object], dict[str, object], list[tuple[str, str]]], tmp_path: Path
) -> None:
    entry, changes, row, turns = case
    assert read_as(settings_of_folder(axolotl(tmp_path, entry, [row], **changes), None, {})) == [turns]


def test_axolotls_documents_are_read_whole(tmp_path: Path) -> None:
    found = settings_of_folder(axolotl(tmp_path, {"type": "completion"}, []), None, {})
    assert (found.options["truncation"], found.options["append_eos"]) == ("prompt_first", True)
    assert found.options["template"] == PLAIN_TEMPLATE
    assert not any("longer than" in note or "chat template" in note for note in found.notes)


def test_axolotls_tools_of_another_column(tmp_path: Path) -> None:
    tools = [{"name": "city"}]
    row = {"messages": TALK, "functions": tools}
    found = settings_of_folder(axolotl(tmp_path, CHAT | {"field_tools": "functions"}, [row]), None, {})
    (example,) = read_examples(found.data, columns=found.options["columns"])  # type: ignore[arg-type]
    assert example.template_inputs == {"tools": tools}


@pytest.mark.parametrize(
    ("entry", "changes", "words"),
    [
        ({"message_property_mappings": {"role": "speaker", "content": "text"}}, {}, "role from speaker, content from"),
        ({"message_property_mappings": {"content": "rewritten"}}, {}, r"(?s)content from rewritten.*--no-record"),
        ({"message_field_role": "speaker"}, {}, "role from speaker"),
        ({"message_field_training": "learn"}, {}, r"(?s)message_field_training learn.*train_on_turn"),
        ({"message_field_training_detail": "parts"}, {}, "message_field_training_detail parts"),
        ({"roles_to_train": []}, {}, "trains on no role"),
        ({"roles_to_train": ["tool"]}, {}, "trains on the roles tool"),
    ],
)
def test_axolotls_turns_that_are_not_read_are_refused(
    entry: dict[str, object], changes: dict[str, object], words: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        settings_of_folder(axolotl(tmp_path, CHAT | entry, [], **changes), None, {})


@pytest.mark.parametrize(
    ("entry", "changes", "words"),
    [
        ({}, {"train_on_inputs": True}, "whence reads the answers"),
        ({"roles_to_train": ["assistant", "user"]}, {}, "turns of user too"),
        ({"train_on_eos": "last"}, {}, "train_on_eos last"),
        ({"drop_system_message": True}, {}, "dropped the system message"),
        ({"shards": 10, "shards_idx": 0}, {}, "shards 10, shards_idx 0"),
        ({"split_thinking": True}, {}, "does not read split_thinking True"),
        ({"chat_template_jinja": "{{ messages }}"}, {}, "chat template 'jinja'"),
        ({"type": CUSTOM | {"system_prompt": "Be brief."}}, {}, "custom type.* without its system prompt 'Be brief.'"),
    ],
)
def test_what_axolotl_trained_on_otherwise_is_said(
    entry: dict[str, object], changes: dict[str, object], words: str, tmp_path: Path
) -> None:
    usual = settings_of_folder(axolotl(tmp_path, CHAT, []), None, {}).notes
    said = settings_of_folder(axolotl(tmp_path, CHAT | entry, [], **changes), None, {}).notes
    assert any(re.search(words, note) for note in said)
    assert not any(re.search(words, note) for note in usual)


def test_all_dimensions_are_not_taken_for_no_option() -> None:
    found = settings_of_folder("model", "data.jsonl", {"dimensions": None, "split": None, "precision": "int8"})
    assert found.options == {"dimensions": None, "precision": "int8"}
