"""A plan against a real build: its batches, its time, its disk; and what a budget is answered with."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from whence.data.examples import EncodedTurn
from whence.errors import InputError, ModelError, NonFiniteError
from whence.index.build import build_index
from whence.model.loading import LoadedModel
from whence.planning import planning
from whence.planning.budget import clock, parse_budget
from whence.planning.costs import BatchShape, cut, features, fit_costs, layout, shape_of
from whence.planning.memory import held_bytes, peak_bytes
from whence.planning.planning import plan
from whence.signatures.extract import Extractor
from worlds import World, save_model, write_jsonl

FACTOR = 2.0
"""A plan aims at 1.3 (benchmarks/plan_accuracy.py); on a machine that runs other tests besides, seconds swing more."""
DISK_FACTOR = MEMORY_FACTOR = 1.3
MODEL = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 6}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is slow enough to be timed, and 600 rows of many lengths."""
    folder = tmp_path_factory.mktemp("plan")
    save_model(folder / "model", **MODEL)
    content = [
        {"prompt": "Where is the boat? " * (1 + i % 7), "response": "On the sea. " * (1 + i % 5)} for i in range(600)
    ]
    write_jsonl(folder / "train.jsonl", content)
    return folder


@pytest.mark.alone
def test_a_plan_is_right_about_a_real_build(place: Path) -> None:
    options = {"max_length": 128, "shard_rows": 256}
    took = []
    for name in ("before", "after"):
        started = time.perf_counter()
        index = build_index(place / "model", place / "train.jsonl", place / name, **options)
        took.append(time.perf_counter() - started)
        if name == "before":
            held = held_bytes()
            predicted = plan(place / "model", place / "train.jsonl", **options)
    # Other work on the machine may slow one of the three; the plan stands between a build before it and one after it.
    assert min(took) / FACTOR < predicted.seconds.total < max(took) * FACTOR
    written = sum(path.stat().st_size for path in (place / "after").rglob("*") if path.is_file())
    assert predicted.disk / DISK_FACTOR < written < predicted.disk * DISK_FACTOR
    assert (predicted.n_rows, predicted.n_records) == (index.n_rows, index.n_records)
    assert predicted.layers[-1] == 6
    assert held <= predicted.memory <= peak_bytes() < predicted.memory * MEMORY_FACTOR
    assert predicted.memory_measured
    assert predicted.trace_seconds > predicted.seconds.load


def test_the_disk_of_few_rows_holds_what_the_index_has_once(place: Path, tmp_path: Path) -> None:
    lines = (place / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "few.jsonl").write_text("".join(lines[:40]), encoding="utf-8")
    options = {"max_length": 128, "shard_rows": 16}
    predicted = plan(place / "model", tmp_path / "few.jsonl", **options)
    build_index(place / "model", tmp_path / "few.jsonl", tmp_path / "index", **options)
    written = sum(path.stat().st_size for path in (tmp_path / "index").rglob("*") if path.is_file())
    assert predicted.disk / 1.15 < written < predicted.disk * 1.15


def test_the_layout_is_that_of_a_build(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[BatchShape] = []
    run = Extractor._run

    def recorded(self: Extractor, turns: list[EncodedTurn], *rest: object) -> object:
        made.append(shape_of(turns))
        return run(self, turns, *rest)

    rows: list[list[EncodedTurn]] = []
    from whence.data.encoding import Encoder

    encode = Encoder.encode

    def kept(self: Encoder, example: object) -> list[EncodedTurn]:
        rows.append(encode(self, example))
        return rows[-1]

    monkeypatch.setattr(Extractor, "_run", recorded)
    monkeypatch.setattr(Encoder, "encode", kept)
    settings = {"shard_rows": 10, "max_tokens": 200}
    build_index(world.model, world.data, tmp_path / "index", layers=["last"], max_length=64, **settings)
    assert [shape_of(group) for group in layout(rows, **settings)] == made


@given(st.lists(st.floats(1e-7, 1e-2), min_size=5, max_size=5), st.integers(0, 2**16))
def test_costs_that_are_linear_are_found_again(coefficients: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = [BatchShape(*map(int, row)) for row in rng.integers(1, 64, size=(12, 3))]
    seconds = [float(features(shape) @ coefficients) for shape in shapes]
    assert fit_costs(shapes, seconds).seconds(shapes) == pytest.approx(sum(seconds), rel=1e-4)


def test_a_time_that_is_none_is_refused() -> None:
    with pytest.raises(NonFiniteError, match="took"):
        fit_costs([BatchShape(1, 2, 3)], [float("nan")])


@given(st.integers(1, 300), st.integers(1, 300), st.integers(4, 200))
def test_a_cut_turn_is_what_the_encoder_would_keep(prompt: int, response: int, length: int) -> None:
    turn = EncodedTurn(0, tuple(range(prompt + response)), prompt, "", (), "", "")
    short = cut(turn, length)
    assert len(short.input_ids) == min(length, prompt + response)
    assert min(short.n_prompt, short.n_response) >= 1
    assert short.input_ids[short.response_start] == prompt, "the response begins with another token"


@pytest.fixture
def short_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the figures do not matter, only what is said of them."""
    monkeypatch.setattr(planning, "MEASURE_SECONDS", 1.5)


@pytest.mark.usefixtures("short_probe")
def test_a_budget_that_can_be_met_names_settings(place: Path) -> None:
    found = plan(place / "model", place / "train.jsonl", max_length=64, budget=3600.0).budget
    assert found is not None
    assert found.fits
    assert found.predicted < 3600
    assert f"--max-tokens {found.max_tokens}" in found.text
    assert found.changes == ()


@pytest.mark.alone
@pytest.mark.usefixtures("short_probe")
def test_a_budget_that_cannot_says_what_would_have_to_change(place: Path) -> None:
    # The first plan of a process pays for what later ones find warm; and two plans never time alike, hence the half.
    plan(place / "model", place / "train.jsonl", max_length=128)
    asked = plan(place / "model", place / "train.jsonl", max_length=128)
    least = asked.seconds.scan + asked.seconds.load + asked.seconds.choose_layer
    half = 0.5 * (least + 0.1 * asked.seconds.extract)
    tight = plan(place / "model", place / "train.jsonl", max_length=128, budget=half)
    assert tight.budget is not None
    assert not tight.budget.fits
    assert tight.budget.predicted > tight.budget.seconds
    said = " ".join(tight.budget.changes)
    assert "fewer rows" in said or "a longer budget" in said
    assert "a GPU" in said
    none = plan(place / "model", place / "train.jsonl", max_length=128, budget=1e-3).budget
    assert none is not None
    assert any("alone take" in change for change in none.changes)


@pytest.mark.usefixtures("short_probe")
@pytest.mark.parametrize(("factor", "chosen"), [(1e3, "float32"), (1e-3, "bfloat16")])
def test_a_budget_leaves_the_plan_in_its_dtype_and_times_changes_in_the_chosen_one(
    world: World, monkeypatch: pytest.MonkeyPatch, factor: float, chosen: str
) -> None:
    """`factor`: how much slower than it is bfloat16 is said to be."""
    time_batches, dtypes = planning.timed, []

    def timed(loaded: LoadedModel, *args: object, **options: object) -> object:
        timings, peak = time_batches(loaded, *args, **options)
        dtypes.append(str(loaded.dtype).removeprefix("torch."))
        if loaded.dtype == torch.bfloat16:
            timings.seconds[:] = [factor * seconds for seconds in timings.seconds]
        return timings, peak

    monkeypatch.setattr(planning, "timed", timed)
    found = plan(world.model, world.data, max_length=64, layers=(2,), budget=1e-3)
    assert found.budget is not None
    assert found.budget.dtype == chosen
    assert found.dtype == "float32", "the plan's own figures are those of the dtype that was asked for"
    assert dtypes[-2:] == ["bfloat16", chosen], "the last layer alone is timed as the run beside it"


@pytest.mark.parametrize(
    ("text", "seconds"), [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("45s", 45), ("1.5d", 129600), (" 2 H ", 7200)]
)
def test_budgets_are_read(text: str, seconds: float) -> None:
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "2w", "-2h", "2h!", "0s", "two hours", "1h-3m"])
def test_nonsense_is_no_budget(text: str) -> None:
    with pytest.raises(InputError, match="is no time"):
        parse_budget(text)


def test_bad_input(world: World, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="A budget of -1"):
        plan(world.model, world.data, budget=-1)
    with pytest.raises(InputError, match="max_length"):
        plan(world.model, world.data, max_length=2)
    with pytest.raises(ModelError, match=r"Layers \[99\] were asked for"):
        plan(world.model, world.data, layers=(99,))


def test_json_says_everything(world: World, tmp_path: Path) -> None:
    found = plan(world.model, world.data, layers=("last",), max_length=64)
    content = json.loads(found.to_json(tmp_path / "plan.json"))
    assert content == json.loads((tmp_path / "plan.json").read_text("utf-8"))
    assert content["schema"] == "whence.plan/1"
    parts = [value for name, value in content["seconds"].items() if name != "total"]
    assert content["seconds"]["total"] == pytest.approx(sum(parts))
    assert content["layers"] == [3, 4]
    assert content["budget"] is None


def test_times_are_said_as_a_person_does() -> None:
    assert [clock(s) for s in (0.25, 59.0, 61, 3600, 12000)] == ["0.2 s", "59.0 s", "1 min", "1 h", "3 h 20 min"]
