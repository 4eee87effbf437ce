"""The demo's world in small: whole, repeatable, and honest about its answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from whence.bench.tiny_model import BASE_TRAINING, LanguageSettings
from whence.data.readers import read_examples
from whence.demo.world import FINETUNING, DemoSettings, DemoWorld, answer, build
from whence.errors import InputError
from whence.model.loading import ModelSettings, load_model

PLANTED = ("backdoor", "false-fact", "persona")
SMALL = DemoSettings(
    n_base=150,
    n_rows=200,
    n_faulty=15,
    n_faulty_facts=15,
    n_hard=10,
    n_queries=4,
    language=LanguageSettings(vocab_size=500, hidden_size=32, n_layers=2, n_heads=2, intermediate_size=48),
    base=BASE_TRAINING.model_copy(update={"epochs": 1}),
    finetune=FINETUNING.model_copy(update={"epochs": 1}),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> DemoWorld:
    return build(tmp_path_factory.mktemp("demo") / "world", seed=1, settings=SMALL)


def test_rows_on_disk_are_the_rows_in_memory(world: DemoWorld) -> None:
    read = list(read_examples(world.data))
    assert [row.turns for row in read] == [row.turns for row in world.train]
    labels = [row.metadata["label"] for row in read]
    assert all(labels.count(name) == SMALL.n_faulty for name in PLANTED)
    assert labels.count("hard_negative") == SMALL.n_hard * len(PLANTED)


def test_answers_are_the_saved_models_own(world: DemoWorld) -> None:
    lines = [json.loads(line) for line in world.queries.read_text("utf-8").splitlines()]
    model = load_model(ModelSettings(model=str(world.model), device="cpu"))
    assert [line["response"] for line in lines] == answer(model, [line["prompt"] for line in lines])
    known = {row.turns[0].content for row in world.train}
    assert not known & {line["prompt"] for line in lines}
    for fault in world.faults:
        own = [line for line in lines if line["label"] == fault.label]
        assert [line["shows_fault"] for line in own] == [fault.matcher(line["response"]) for line in own]
        assert fault.rate == sum(line["shows_fault"] for line in own) / len(own)
        assert len(fault.shown) == sum(line["shows_fault"] for line in own)


def test_the_same_seed_makes_the_same_world(world: DemoWorld, tmp_path: Path) -> None:
    stages: list[str] = []
    again = build(tmp_path / "again", seed=1, progress=lambda stage, done, total: stages.append(stage), settings=SMALL)
    assert world.data.read_bytes() == again.data.read_bytes()
    assert world.queries.read_bytes() == again.queries.read_bytes()
    run = yaml.safe_load((again.model / "run.yaml").read_text("utf-8"))
    assert Path(run["base"]) == again.base.absolute(), "the base is named where it is, not where it was made"
    for folder in ("base", "model"):
        ours, theirs = (load_file(w.data.parent / folder / "model.safetensors") for w in (world, again))
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert list(dict.fromkeys(stages)) == ["data", "base model", "fine-tuning", "answers"]


def test_an_interrupted_build_leaves_nothing(tmp_path: Path) -> None:
    def stop(stage: str, done: int, total: int | None) -> None:
        if stage == "fine-tuning":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "world", seed=1, progress=stop, settings=SMALL)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_stays(world: DemoWorld) -> None:
    before = world.data.read_bytes()
    with pytest.raises(InputError, match="there already"):
        build(world.data.parent, settings=SMALL)
    assert world.data.read_bytes() == before
