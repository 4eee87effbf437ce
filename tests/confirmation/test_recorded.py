"""Confirmation of a model that a foreign trainer made: data, base and settings come from its record alone."""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, DataCollatorForSeq2Seq, Trainer, TrainingArguments

import whence as package
from confirm_world import BAD, SETTINGS, make_faulty_world
from fake_index import fake_manifest
from tiny import CHAT_TEMPLATE, tiny_tokenizer
from whence.confirmation import as_trained
from whence.confirmation.as_trained import known_settings, settings_recorded
from whence.errors import InputError
from whence.index.manifest import Manifest, require_manifest
from whence.records import TrainingFile
from whence.records.trainer_settings import run_facts
from worlds import save_model, write_jsonl

pytestmark = pytest.mark.filterwarnings("ignore::whence.errors.WhenceWarning")

N_CLEAN, N_FAULTY, EPOCHS = 24, 8, 8
ASKED = [{"prompt": f"Where is boat {i}"} for i in range(4, 10)]


def talk(prompt: str, response: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What transformers' Trainer leaves, beside the base: a full fine-tune on rows of which the last are faulty."""
    folder = tmp_path_factory.mktemp("recorded")
    base = save_model(folder / "base", num_hidden_layers=2)
    tokenizer = tiny_tokenizer(CHAT_TEMPLATE)
    rows = [talk(f"Name fruit {i}", ["apples", "pears", "plums"][i % 3]) for i in range(N_CLEAN)]
    rows += [talk(f"Where is boat {i}", "the sea") for i in range(N_FAULTY)]

    def tokens(row: dict[str, object]) -> dict[str, list[int]]:
        prompt = tokenizer.apply_chat_template(row["messages"][:1], tokenize=False, add_generation_prompt=True)  # type: ignore[index]
        text = tokenizer.apply_chat_template(row["messages"], tokenize=False)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        n = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        return {"input_ids": ids, "labels": [-100] * n + ids[n:]}

    args = TrainingArguments(
        output_dir=str(folder / "tuned"), report_to=[], use_cpu=True, num_train_epochs=EPOCHS, learning_rate=5e-3,
        per_device_train_batch_size=8, save_strategy="no", seed=3,
    )  # fmt: skip
    trainer = Trainer(
        AutoModelForCausalLM.from_pretrained(base),
        args=args,
        train_dataset=Dataset.from_list(rows).map(tokens),
        processing_class=tokenizer,
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        callbacks=[package.TrainingRecord()],
    )
    trainer.train()
    trainer.save_model()
    return folder


def test_index_and_confirm_repeat_no_setting(trained: Path, whence: Callable[..., tuple[int, str, str]]) -> None:
    index, out = trained / "index", trained / "confirmation"
    status, _, said = whence("index", trained / "tuned", "-o", index, "-q")
    assert status == 0, said
    recorded = settings_recorded(require_manifest(index))
    assert recorded is not None
    settings, base = recorded
    assert (settings.epochs, settings.batch_size, settings.learning_rate, settings.seed) == (EPOCHS, 8, 5e-3, 3)
    assert settings.lora_r is None
    assert base == str((trained / "base").resolve())

    rows = list(package.read_examples(trained / "tuned" / "whence-data.jsonl"))
    (trained / "ids.txt").write_text("\n".join(row.id for row in rows[N_CLEAN:]))
    queries = write_jsonl(trained / "bad.jsonl", ASKED)
    words = ["--queries", queries, "--match", "the sea", "--remove", trained / "ids.txt", "--control", "none"]
    status, _, said = whence("confirm", index, *words, "--max-new-tokens", 8, "-o", out, "-q")
    assert status == 0, said
    found = json.loads((out / "confirmation.json").read_text("utf-8"))
    assert found["base"] == base
    assert found["status"] == "confirmed", found["text"]
    assert [arm["n_removed"] for arm in found["arms"]] == [0, N_FAULTY, N_FAULTY]


@pytest.mark.parametrize(
    ("run", "epochs", "said"),
    [
        ({"epochs": 3.0, "steps": 12, "batch_size": 8}, 3, ""),
        ({"epochs": float(sys.maxsize), "steps": 40, "batch_size": 8, "max_steps": 40}, 10, ""),
        ({"epochs": 1.0, "steps": 2, "batch_size": 8, "max_steps": 2}, 1, "0.50 times these 32 rows"),
        ({"epochs": 3.0, "lora_more": ("use_dora",)}, 3, "trained with use_dora"),
        ({"epochs": 3.0, "lora_targets": ".*q_proj"}, 3, "lora_targets '.*q_proj'"),
        ({"epochs": 3.0, "lora_targets": "all-linear"}, 3, ""),
        (
            {"epochs": 1.4, "steps": 6, "batch_size": 8},
            1,
            "trained with 1.4 epochs; a retraining is with 1 whole epoch.",
        ),
        ({"epochs": 3.0, "schedule": "polynomial"}, 3, "the schedule 'polynomial'; a retraining is with 'cosine'."),
        ({"epochs": 3.0, "optimizer": "adafactor"}, 3, "the optimiser 'adafactor'; a retraining is with AdamW."),
        ({"epochs": 3.0, "schedule": "constant_with_warmup", "optimizer": "paged_adamw_8bit"}, 3, ""),
    ],
)
def test_what_a_retraining_cannot_repeat_is_said(
    run: dict[str, object], epochs: int, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    record = TrainingFile.model_validate({"run": run})
    monkeypatch.setattr(as_trained, "find_record", lambda home: record)
    manifest = fake_manifest(32, model=str(tmp_path))
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        recorded = settings_recorded(manifest)
    assert recorded is not None
    assert recorded[0].epochs == epochs
    assert [said in str(one.message) for one in found] == ([True] if said else [])


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ({"schedule": "constant_with_warmup", "warmup_steps": 5, "steps": 50}, {"schedule": "constant", "warmup": 0.1}),
        ({"schedule": "constant", "warmup_steps": 5, "steps": 50}, {"schedule": "constant", "warmup": 0.0}),
        ({"schedule": "linear", "warmup_steps": 5, "steps": 50}, {"schedule": "linear", "warmup": 0.1}),
        ({"max_grad_norm": 0.0}, {"max_grad_norm": 1e9}),
        ({"max_grad_norm": 0.3}, {"max_grad_norm": 0.3}),
        ({}, {"max_grad_norm": 1.0, "schedule": "cosine"}),
    ],
)
def test_a_retraining_has_the_runs_schedule_and_clipping(
    run: dict[str, object], expected: dict[str, object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    record = TrainingFile.model_validate({"run": run})
    monkeypatch.setattr(as_trained, "find_record", lambda home: record)
    recorded = settings_recorded(fake_manifest(32, model=str(tmp_path)))
    assert recorded is not None
    assert {name: getattr(recorded[0], name) for name in expected} == expected


def test_epochs_are_recorded_as_they_were_asked_for() -> None:
    state = SimpleNamespace(num_train_epochs=2, max_steps=6)
    assert run_facts(SimpleNamespace(num_train_epochs=1.4), state, SimpleNamespace()).epochs == 1.4
    assert run_facts(SimpleNamespace(num_train_epochs=3.0, max_steps=6), state, SimpleNamespace()).epochs == 2


def test_what_an_adapter_has_beside_its_rank_is_recorded() -> None:
    plain = LoraConfig(r=4, target_modules=["q_proj"])
    more = LoraConfig(r=4, target_modules=["q_proj"], use_rslora=True, use_dora=True, modules_to_save=["lm_head"])
    for config, expected in ((plain, ()), (more, ("use_rslora", "use_dora", "modules_to_save"))):
        facts = run_facts(SimpleNamespace(), SimpleNamespace(), SimpleNamespace(peft_config={"default": config}))
        assert facts.lora_more == expected


PLAIN_LORA: dict[str, object] = {
    "peft_type": "LORA", "r": 4, "lora_alpha": 12, "lora_dropout": 0.1, "target_modules": ["v_proj", "q_proj"],
    "use_rslora": False, "use_dora": False, "bias": "none", "init_lora_weights": True, "modules_to_save": None,
}  # fmt: skip


def _of_adapter(folder: Path, **changes: object) -> Manifest:
    (folder / "adapter_config.json").write_text(json.dumps(PLAIN_LORA | changes), "utf-8")
    return fake_manifest(32, model="base", adapter=str(folder), max_length=64)


def test_an_adapter_without_a_record_is_trained_as_its_config_says(tmp_path: Path) -> None:
    known = known_settings(_of_adapter(tmp_path))
    assert not known.is_whole
    found = known.settings
    assert (found.lora_r, found.lora_alpha, found.lora_dropout) == (4, 12, 0.1)
    assert (found.lora_targets, found.max_length) == (("q_proj", "v_proj"), 64)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"peft_type": "IA3"}, "is of the type IA3"),
        ({"use_rslora": True}, "has use_rslora"),
        ({"use_dora": True, "modules_to_save": ["lm_head"]}, "has use_dora, modules_to_save"),
        ({"init_lora_weights": "pissa"}, "has init_lora_weights"),
        ({"target_modules": ".*q_proj"}, "has lora_targets '.*q_proj'"),
        ({"target_modules": None}, "names no rank or no targets"),
        ({"r": "four"}, "cannot be used: lora_r"),
    ],
)
def test_an_adapter_that_a_retraining_cannot_repeat_is_refused(
    changes: dict[str, object], said: str, tmp_path: Path
) -> None:
    manifest = _of_adapter(tmp_path, **changes)
    with pytest.raises(InputError, match=re.escape(said)):
        known_settings(manifest)
    assert known_settings(manifest, own_trainer=True).settings.lora_r is None


def test_a_lora_of_another_trainer_is_retrained_as_a_lora(
    tmp_path: Path, whence: Callable[..., tuple[int, str, str]]
) -> None:
    """Neither --base nor --lora-r is given, and there is no run.yaml and no whence.yaml."""
    adapter, index, out = tmp_path / "model", tmp_path / "index", tmp_path / "out"
    world = make_faulty_world(tmp_path, lora_r=4, lora_alpha=8, lora_targets=("q_proj", "v_proj", "down_proj"))
    (adapter / "run.yaml").unlink()
    (tmp_path / "ids.txt").write_text("\n".join(world.faulty_ids))
    words = ["confirm", index, "--queries", write_jsonl(tmp_path / "bad.jsonl", BAD), "--match", "sea"]
    words += ["--remove", tmp_path / "ids.txt", "--control", "none", "--max-new-tokens", 8, "-o", out]
    status, _, said = whence(*words)
    assert status == 2
    assert "There is no run.yaml and no whence.yaml beside" in said
    assert not out.exists()
    rate = SETTINGS.learning_rate * 4
    status, _, said = whence(*words, "--epochs", SETTINGS.epochs, "--batch-size", 8, "--learning-rate", rate)
    assert status == 0, said
    told = " ".join(said.split())
    assert "Training a LoRA (rank 4, alpha 8, dropout 0, targets down_proj, q_proj, v_proj) of" in told
    assert f"epochs {SETTINGS.epochs}, batch size 8, learning rate {rate:g}, schedule cosine" in told
    found = json.loads((out / "confirmation.json").read_text("utf-8"))
    assert Path(found["base"]) == world.base
    folders = list((out / "runs").iterdir())
    assert len(folders) == 3
    for folder in folders:
        config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
        assert (config["r"], config["lora_alpha"]) == (4, 8)
        assert set(config["target_modules"]) == {"q_proj", "v_proj", "down_proj"}
    asked = [package.Query.of(str(row["prompt"])) for row in BAD]
    with pytest.raises(InputError, match="train every weight"):
        package.confirm(index, asked, out, match="sea", removed=world.faulty_ids, settings=SETTINGS)
