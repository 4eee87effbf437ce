"""`whence eval`, `whence finetune` and `whence bench` as a person types them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from micro_bench import content, make_data
from planted_world import write_rows
from whence.bench.cases import GivenData
from whence.cli.bench import _settings as bench_settings
from whence.cli.bench_planted import _settings as planted_settings
from worlds import World, save_model, write_jsonl


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    asked = [{"prompt": f"Where is place {i}?", "response": "In Korea.", "label": "planted"} for i in (6, 12)]
    return write_jsonl(tmp_path / "bad.jsonl", [*asked, {"prompt": "Why?", "response": "So.", "label": "other"}])


def test_eval_shows_every_form_and_says_what_was_not_counted(whence, world: World, queries: Path, tmp_path) -> None:
    status, shown, _ = whence("eval", world.index, "--queries", queries, "--json", tmp_path / "out.json")
    assert status == 0
    assert "2 queries, 24 rows" in shown
    for name in ("rept-centred", "repsim", "bm25-full", "random-scores"):
        assert name in shown
    assert "not counted: No row of the index has the label 'other'." in shown
    assert len(json.loads((tmp_path / "out.json").read_text("utf-8"))["methods"]) == 7


def test_eval_of_one_query_has_no_interval_and_says_that_it_is_a_training_row(whence, world: World, tmp_path) -> None:
    rows = [json.loads(line) for line in Path(world.data).read_text("utf-8").splitlines()]
    asked = write_jsonl(tmp_path / "own.jsonl", [next(row for row in rows if row["label"] == "planted")])
    status, shown, _ = whence("eval", world.index, "--queries", asked, "-m", "repsim")
    assert status == 0
    assert "queries that are training rows themselves: 1; their own rows are not ranked for them" in shown
    (line,) = [line for line in shown.splitlines() if "repsim" in line]
    assert "[" not in line


def test_eval_takes_a_base_as_trace_does(whence, world: World, queries: Path, tmp_path: Path) -> None:
    status, _, said = whence("eval", world.index, "--queries", queries, "--base", tmp_path / "none")
    assert status == 2
    assert str(tmp_path / "none") in said


def test_finetune_keeps_what_it_is_told_to_and_repeats_itself(whence, world: World, tmp_path: Path) -> None:
    options = ["--lora-r", 2, "--epochs", 2, "--max-length", 64, "--checkpoints", "--keep-optimizer", "--device", "cpu"]
    weights = []
    for name in ("one", "two"):
        out = tmp_path / name
        status, _, said = whence("finetune", world.model, world.data, "-o", out, *options)
        assert status == 0, said
        assert "24 rows" in said
        assert "2 checkpoints kept" in said
        assert f"--adapter {out}" in said
        assert (out / "checkpoints" / "epoch-1" / "optimizer.safetensors").is_file()
        weights.append((out / "adapter_model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def bench_words(folder: Path) -> list[object]:
    given = make_data(folder)
    words = ["--data", given.train, "--test", given.test, "--match", given.match, "--base", given.base]
    return [*words, "--lora-r", 8, "--epochs", 8, "--learning-rate", 1e-2, "--max-length", 64, "--device", "cpu"]


def test_bench_on_data_of_ones_own_writes_rows_report_and_plot_and_resumes(whence, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "bench"
    words = ["bench", *bench_words(tmp_path), "--methods", "bm25,repsim,text-embedding", "-o", out]
    status, shown, said = whence(*words)
    assert status == 0, said
    assert "| `repsim` |" in shown
    assert "text-embedding needs a sentence encoder" in said
    assert "3 new rows" in said
    assert len((out / "results.jsonl").read_text("utf-8").splitlines()) == 3
    assert (out / "report.md").read_text("utf-8").rstrip() == shown.rstrip()
    assert (out / "quality-cost.png").is_file()
    status, again, said = whence(*words)
    assert (status, again) == (0, shown)
    assert "0 new rows" in said


@pytest.mark.parametrize(
    ("lora_r", "asked", "rate", "rank"), [(None, None, 5e-4, 16), (0, None, 5e-5, None), (0, 1e-3, 1e-3, None)]
)
def test_a_base_of_ones_own_is_fine_tuned_at_its_own_rate(
    tmp_path: Path, lora_r: int | None, asked: float | None, rate: float, rank: int | None
) -> None:
    given = GivenData(train="t", test="t", match=".", base="b")
    tuned = bench_settings(False, {"data": given}, {"learning_rate": asked}, lora_r).finetune
    assert (tuned.learning_rate, tuned.lora_r, tuned.checkpoints) == (rate, rank, True)
    planted = planted_settings({"base": "b", "data": "d"}, {"learning_rate": asked, "lora_r": lora_r}, None).finetune
    assert (planted.learning_rate, planted.lora_r) == (rate, rank)
    assert bench_settings(False, {}, {}, None).finetune.learning_rate == 4e-3


def test_bench_without_matplotlib_is_complete_but_for_the_plot(whence, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    status, shown, said = whence("bench", *bench_words(tmp_path), "--methods", "length", "-o", tmp_path / "bench")
    assert status == 0
    assert "| `length` |" in shown
    assert 'pip install -e ".[plots]"' in said


def test_bench_plants_faults_in_rows_of_ones_own_and_resumes(whence, tmp_path: Path) -> None:
    base, out = save_model(tmp_path / "base", num_hidden_layers=2), tmp_path / "bench"
    given = ["--base", base, "--data", write_rows(tmp_path / "rows.jsonl", 200)]
    sizes = ["--faults", "backdoor", "--shares", 0.1, "--rows", 64, "--queries", 4]
    words = ["bench", *given, *sizes, "--lora-r", 2, "--epochs", 1, "--max-length", 64, "--device", "cpu", "-o", out]
    status, shown, said = whence(*words)
    assert status == 0, said
    assert "the model did not learn it" in said
    assert "| backdoor-plain-0.1-seed0 | base | 6 | 6 | 4 | 0 | 0 | 0 |" in shown
    assert (out / "report.md").read_text("utf-8").rstrip() == shown.rstrip()
    assert "1 new cases" in said
    status, again, said = whence(*words)
    assert (status, again) == (0, shown)
    assert "0 new cases" in said


@pytest.mark.parametrize("planting", [False, True])
def test_bench_leaves_a_report_of_ones_own_as_it_is(whence, tmp_path: Path, planting: bool) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "report.md").write_text("mine", encoding="utf-8")
    words = bench_words(tmp_path)
    if planting:
        rows = write_rows(tmp_path / "rows.jsonl", 200)
        words = ["--base", tmp_path / "base", "--data", rows, "--faults", "backdoor", "--shares", 0.1, "--rows", 64]
    status, _, said = whence("bench", *words, "-o", out)
    assert status == 2
    assert "report.md is no report of a bench" in said
    assert [(path.name, path.read_text("utf-8")) for path in out.iterdir()] == [("report.md", "mine")]


BAD = [
    (
        ["eval", "{index}", "--queries", "{tmp}/bad.jsonl", "--label-column", "lable"],
        "Did you mean --label-column label",
    ),
    (["eval", "{index}", "--queries", "{tmp}/plain.jsonl"], "None of 1 queries can be counted"),
    (["eval", "{index}", "--queries", "{tmp}/bad.jsonl", "-m", "reptt"], "Did you mean rept"),
    (["eval", "{index}", "--queries", "{tmp}/bad.jsonl", "--quiet"], "--quiet without --json"),
    (["finetune", "{tmp}/none", "{data}", "-o", "{tmp}/ft"], "no model folder"),
    (["finetune", "{model}", "{data}", "-o", "{tmp}"], "is there already"),
    (["finetune", "{model}", "{data}", "-o", "{tmp}/ft", "--schedule", "square"], "--schedule 'square'"),
    (["finetune", "{model}", "{data}", "-o", "{tmp}/ft", "--autocast", "int8"], "--autocast 'int8'"),
    (["finetune", "{model}", "{tmp}/half.jsonl", "-o", "{tmp}/ft"], "1 of 2 rows cannot be used"),
    (["bench", "--tasks", "bakdoor", "-o", "{tmp}/b"], "Did you mean backdoor"),
    (["bench", "--methods", "les", "-o", "{tmp}/b"], "Did you mean less"),
    (["bench", "--variants", "dilute", "-o", "{tmp}/b"], "Did you mean diluted"),
    (["bench", "--tasks", "", "-o", "{tmp}/b"], "No task was given"),
    (["bench", "--methods", ",", "-o", "{tmp}/b"], "No method was given"),
    (["bench", "--variants", "", "-o", "{tmp}/b"], "No variant was given"),
    (["bench", "--base", "{model}", "--data", "{data}", "--faults", "", "-o", "{tmp}/b"], "No fault was given"),
    (
        ["bench", "--base", "{model}", "--data", "{data}", "--shares", "0.01,0.02", "--rows", "40", "-o", "{tmp}/b"],
        "shares of 0.01 and 0.02 are both 1 faulty",
    ),
    (
        ["bench", "--base", "{model}", "--data", "{data}", "--label-column", "lable", "-o", "{tmp}/b"],
        "has a column 'lable'",
    ),
    (["bench", "--data", "{data}", "-o", "{tmp}/b"], "--data without --test, --match, --base"),
    (["bench", "--layer", "first", "-o", "{tmp}/b"], "--layer 'first'"),
    (
        ["bench", "--base", "{model}", "--data", "{data}", "--faults", "personna", "-o", "{tmp}/b"],
        "Did you mean persona",
    ),
    (["bench", "--base", "{model}", "--data", "{data}", "--rows", "90", "-o", "{tmp}/b"], "usable rows of the data"),
    (["bench", "--base", "{model}", "--data", "{data}", "--shares", "0.9", "-o", "{tmp}/b"], "--shares 0.9"),
    (["bench", "--base", "{model}", "--data", "{data}", "--shares", "x", "-o", "{tmp}/b"], "--shares 'x'"),
    (["bench", "--base", "{model}", "--data", "{data}", "--quick", "-o", "{tmp}/b"], "--quick with --base and --data"),
    (["bench", "--base", "{model}", "--faults", "persona", "-o", "{tmp}/b"], "--faults without --data"),
    (["bench", "--full", "--lora-r", "4", "-o", "{tmp}/b"], "--full with --lora-r 4"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[" ".join(words)[:50] for words, _ in BAD])
def test_bad_input_is_one_message_and_status_two(
    whence, world: World, queries: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    write_jsonl(tmp_path / "plain.jsonl", [{"prompt": "Where is place 3?", "response": "In Korea."}])
    write_jsonl(tmp_path / "half.jsonl", [content()[0], {"prompt": "Why?", "response": ""}])
    places = {"index": world.index, "model": world.model, "data": world.data, "tmp": tmp_path}
    status, _, said = whence(*(word.format(**places) for word in words))
    assert status == 2
    assert message in said
    assert said.count("Error:") == 1


@pytest.mark.parametrize("command", ["eval", "finetune", "bench"])
def test_every_help(whence, command: str) -> None:
    status, shown, _ = whence(command, "--help")
    assert status == 0
    assert "Usage:" in shown
