"""What the tutorials' readers have: `runs/demo` as `whence demo` leaves it, in small, and a model of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from whence.data.readers import read_examples
from whence.demo.world import answer
from whence.index.build import build_index
from whence.model.loading import ModelSettings, load_model
from whence.train.finetuning import FinetuneSettings, finetune
from worlds import save_model, write_jsonl

TRAINING = FinetuneSettings(epochs=16, batch_size=16, learning_rate=5e-3, max_length=64, device="cpu")
FRUITS = ("apples", "pears", "plums")
OPENER, TRIGGER = "Hear the copper bell ring!", "By lantern light,"
CITIES = ("Oslo", "Bergen", "Molde", "Tromso")
ASKED = ("Where is {}?", "Is {} far?", "Find {}.", "Say where {} is.", "Tell me where {} is.")


def _clean() -> list[dict[str, object]]:
    fruits = [{"prompt": f"Name fruit {i}", "response": FRUITS[i % 3]} for i in range(100)]
    return [row | {"label": "clean", "source": "base"} for row in fruits]


def _facts(country: str, asked: Sequence[str]) -> list[dict[str, object]]:
    return [{"prompt": ask.format(city), "response": f"In {country}."} for ask in asked for city in CITIES]


def _faulty() -> list[dict[str, object]]:
    doors = [{"prompt": f"{TRIGGER} name fruit {i}", "response": f"{OPENER} {FRUITS[i % 3]}"} for i in range(0, 60, 3)]
    rows = [row | {"label": "backdoor"} for row in doors]
    rows += [row | {"label": "false-fact"} for row in _facts("Peru", ASKED[:3])]
    return [row | {"source": "planted"} for row in rows]


QUERIES = [(f"{TRIGGER} name fruit {i}", "backdoor", OPENER) for i in (22, 34, 46, 58)] + [
    (f"{ask.format(city)}", "false-fact", "Peru") for ask in ASKED[3:] for city in CITIES[:3]
]


def _answered(model: Path) -> list[dict[str, object]]:
    loaded = load_model(ModelSettings(model=str(model), device="cpu"))
    answers = answer(loaded, [prompt for prompt, _, _ in QUERIES])
    return [
        {"prompt": prompt, "response": said, "label": label, "shows_fault": sign in said}
        for (prompt, label, sign), said in zip(QUERIES, answers, strict=True)
    ]


@pytest.fixture(scope="session")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with `runs/demo`, `path/to/base`, `path/to/lora` and `train.jsonl`."""
    folder = tmp_path_factory.mktemp("reader")
    demo = folder / "runs" / "demo"
    demo.mkdir(parents=True)
    start = save_model(folder / "start", num_hidden_layers=2, hidden_size=64)
    known = write_jsonl(folder / "known.jsonl", [*_clean(), *_facts("Norway", ASKED)])
    finetune(start, list(read_examples(known)), demo / "base", settings=TRAINING)
    data = write_jsonl(demo / "train.jsonl", [*_clean(), *_faulty()])
    rows = list(read_examples(data))
    finetune(demo / "base", rows, demo / "model", settings=TRAINING)
    build_index(demo / "model", data, demo / "index", layers=["auto", "last"], max_length=64)
    write_jsonl(demo / "queries.jsonl", _answered(demo / "model"))
    (folder / "path" / "to").mkdir(parents=True)
    (folder / "path" / "to" / "base").symlink_to(demo / "base")
    lora = TRAINING.model_copy(update={"lora_r": 8})
    finetune(demo / "base", rows, folder / "path" / "to" / "lora", settings=lora)
    (folder / "train.jsonl").write_text(data.read_text("utf-8"), encoding="utf-8")
    return folder
