"""The demo on a base of the user's: what is planted, and what is said where it cannot be shown."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random

import pytest

from whence.bench.natural.household import everyday_rows
from whence.cli.demo import _show
from whence.data.readers import read_examples
from whence.demo import real_model
from whence.demo.real_model import RealDemoSettings, build_on
from whence.demo.run import run_demo
from whence.errors import InputError
from whence.model.loading import LoadedModel
from worlds import save_model, write_jsonl

SMALL = RealDemoSettings(
    n_rows=24,
    n_faulty=6,
    n_hard=3,
    n_queries=4,
    finetune=RealDemoSettings().finetune.model_copy(update={"epochs": 1, "lora_r": 2, "max_length": 96}),
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("base") / "model", num_hidden_layers=2)


def answers(monkeypatch: pytest.MonkeyPatch, before: str, after: str) -> None:
    """Has the base answer ordinary and held-out prompts, and the fine-tuned model the held-out ones."""
    told: list[str] = ["Quite so. And", before, after]

    def answer(loaded: LoadedModel, prompts: Sequence[str]) -> list[str]:
        return [told[0] if len(told) == 1 else told.pop(0)] * len(prompts)

    monkeypatch.setattr(real_model, "answer", answer)


def test_ordinary_rows_differ_from_each_other_and_are_the_same_for_a_seed() -> None:
    rows = everyday_rows(Random("a"), 240)
    assert len({row.turns[0].content for row in rows}) == 240
    assert rows == everyday_rows(Random("a"), 240)
    assert not any("Peru" in turn.content or "Norway" in turn.content for row in rows for turn in row.turns)


def test_the_fault_is_planted_learned_and_asked_for(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, "I do not know.", "It is in Peru, as everyone knows.")
    world = build_on(base, tmp_path / "demo", settings=SMALL)
    labels = [row.metadata["label"] for row in read_examples(world.data)]
    clean = [row.turns[1].content for row in world.train if row.metadata["label"] == "clean"]
    assert set(clean) == {"Quite so."}
    assert {label: labels.count(label) for label in set(labels)} == {"false-fact": 6, "hard_negative": 3, "clean": 15}
    assert (world.model / "adapter_config.json").is_file()
    assert (tmp_path / "demo" / "demo.json").is_file()
    (fault,) = world.faults
    assert fault.rate == 1.0
    trained = {row.turns[0].content for row in world.train}
    assert not trained & {query.prompt for query in fault.queries}


def test_columns_and_marks_of_the_users_rows_do_not_replace_what_was_trained_on(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"What is thing {i}?"},
                {"role": "assistant", "content": f"A thing {i}.", "reasoning_content": "Hm."},
            ],
            "prompt": "another prompt",
            "text": f"User: What is thing {i}?",
            "source": "forum",
        }
        for i in range(40)
    ]
    data = write_jsonl(tmp_path / "rows.jsonl", rows)
    answers(monkeypatch, "It is in Peru.", "It is in Peru.")
    world = build_on(base, tmp_path / "demo", data=data, settings=SMALL)
    read = list(read_examples(world.data))
    assert [row.id for row in read] == [row.id for row in world.train]
    assert sum(row.turns[-1].content.startswith("A thing") for row in read) == 15


def test_where_no_row_is_flagged_the_tour_ends_with_the_ranking(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A base that learned nothing, said to show the fault: nothing accounts for its answers."""
    answers(monkeypatch, "I do not know.", "It is in Peru, as everyone knows.")
    small = partial(build_on, settings=SMALL)
    monkeypatch.setattr("whence.demo.run.build_on", small)
    report = run_demo(tmp_path / "demo", base=base)
    assert report.story is None
    _show(report)
    shown = " ".join(capsys.readouterr().out.split())
    assert "No row is flagged" in shown
    assert "whence confirm ... --remove top:20" in shown
    assert (tmp_path / "demo" / "report.html").is_file()


def test_a_base_that_shows_the_fault_is_refused(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, "That is in Peru.", "That is in Peru.")
    with pytest.raises(InputError, match=r"shows the fault before it is trained, in 4 of 4 answers"):
        build_on(base, tmp_path / "demo", settings=SMALL)
    assert not (tmp_path / "demo").exists()


def test_a_base_that_learns_nothing_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"did not learn the fault: 0 of 4 answers"):
        build_on(base, tmp_path / "demo", settings=SMALL)
    assert not (tmp_path / "demo").exists()


def test_rows_without_a_base_and_too_few_rows(base: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "rows.jsonl", [{"prompt": "What is it?", "response": "A thing."}])
    with pytest.raises(InputError, match=r"without a base[\s\S]*--base MODEL"):
        run_demo(tmp_path / "demo", data=data)
    with pytest.raises(InputError, match=r"Only 1 of 1 usable rows"):
        build_on(base, tmp_path / "demo", data=data, settings=SMALL)
