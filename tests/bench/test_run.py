"""The bench as a whole on a micro case: its rows, resuming, holes, labels at random, tables and plots."""

from __future__ import annotations

import json
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch

from micro_bench import N_FAULTY, N_HARD, N_ROWS, TUNING, content, make_data, micro
from whence.bench import rows as bench_rows
from whence.bench import run as bench_module
from whence.bench.cases import QUICK, BenchSettings, Case, GivenData, case_keys, content_hash, given_case
from whence.bench.costs import ChargedWork, measured
from whence.bench.faults import FAULTS
from whence.bench.folder import check_folder, write_report
from whence.bench.planted.report import COUNTS, VERDICTS, _verdicts, planted_markdown
from whence.bench.plots import plot_quality_against_cost, quality_and_cost, spread
from whence.bench.rows import method_row
from whence.bench.run import RESULTS, BenchResult, read_results, run_bench
from whence.bench.subject import spaced, train_case
from whence.bench.tables import markdown
from whence.errors import InputError, NonFiniteError
from whence.methods.base import Method, TurnSet
from whence.methods.registry import method_names
from worlds import write_jsonl

HOLES = {"text-embedding"}
"""Methods that lack something that the micro bench does not give: a sentence encoder."""
CHANCE_BOUND = 0.13
"""How far the mean of 6 average precisions at random may be from chance (0.31): four of its standard errors (0.032)."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> GivenData:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def done(data: GivenData, tmp_path_factory: pytest.TempPathFactory) -> BenchResult:
    return run_bench(micro(data), tmp_path_factory.mktemp("bench"))


def test_one_row_for_each_method_with_figures_costs_settings_and_hashes(done: BenchResult) -> None:
    assert [row["method"] for row in done.rows] == method_names()
    assert {str(row["method"]) for row in done.rows if row["error"]} == HOLES
    assert len({row["id"] for row in done.rows}) == len(done.rows) == done.n_new
    for row in done.rows:
        assert row["settings"]["finetune"]["lora_r"] == 8
        assert set(row["hashes"]) == {"case", "weights", "adapter", "template"}
        assert (row["n_rows"], row["n_faulty"], row["n_hard"], row["n_queries"]) == (N_ROWS, N_FAULTY, N_HARD, 6)
        if row["error"]:
            continue
        assert row["seconds_fit"] >= 0
        assert row["bytes_per_row"] >= 0
        for name in ("ap", "precision", "recall", "mrr", "auc_hard", "top"):
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
        assert 0 < row["chance"] < 1


def test_methods_that_see_the_words_beat_chance(done: BenchResult) -> None:
    by_name = {row["method"]: row for row in done.rows}
    assert by_name["bm25"]["ap"] > by_name["bm25"]["chance"] + CHANCE_BOUND


def test_another_base_at_the_same_place_is_another_case(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    before = given_case(data, 0).hash
    assert given_case(data, 0).hash == before
    config = Path(data.base) / "config.json"
    config.write_text(config.read_text("utf-8") + "\n", encoding="utf-8")
    assert given_case(data, 0).hash != before


def test_the_file_holds_the_rows_and_a_second_run_makes_none(
    done: BenchResult, data: GivenData, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [json.loads(line) for line in (done.folder / RESULTS).read_text("utf-8").splitlines()] == list(done.rows)

    def never(*args: object) -> None:
        raise AssertionError("the model was asked for again")

    monkeypatch.setattr(bench_module, "train_case", never)
    again = run_bench(micro(data), done.folder)
    assert again.n_new == 0
    assert again.rows == done.rows


def test_a_run_that_was_killed_goes_on_where_it_stopped(data: GivenData, tmp_path: Path) -> None:
    settings = micro(data, methods=("bm25", "length", "repsim"))

    def stop(stage: str, done: int, total: int | None) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_bench(settings, tmp_path, progress=stop)
    results = tmp_path / RESULTS
    kept = results.read_text("utf-8")
    results.write_text(kept + '{"schema": "whence.ben', encoding="utf-8")
    calls: list[str] = []
    result = run_bench(settings, tmp_path, stage=lambda what, n, total: calls.append(what))
    assert result.n_new == 1
    assert "fine-tuning" not in calls
    assert results.read_text("utf-8").startswith(kept)
    assert len(read_results(results)) == 3


def test_what_decides_a_row_makes_it_anew_and_nothing_else_does(data: GivenData, tmp_path: Path) -> None:
    two = micro(data, methods=("bm25", "less"))
    assert run_bench(two, tmp_path).n_new == 2
    assert run_bench(two.model_copy(update={"methods": ("less", "bm25")}), tmp_path).n_new == 0
    assert run_bench(two.model_copy(update={"method_options": {"less": {"dim": 32}}}), tmp_path).n_new == 1
    assert run_bench(two.model_copy(update={"k": 5}), tmp_path).n_new == 2
    assert run_bench(two.model_copy(update={"seeds": (0, 1)}), tmp_path).n_new == 2


def test_rows_of_another_version_of_the_figures_are_measured_again_on_the_same_model(
    data: GivenData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = micro(data, methods=("bm25", "length"))
    with monkeypatch.context() as patch:
        patch.setattr(bench_module, "FIGURES", bench_module.FIGURES - 1)
        assert run_bench(settings, tmp_path).n_new == 2
    calls: list[str] = []
    result = run_bench(settings, tmp_path, stage=lambda what, n, total: calls.append(what))
    assert result.n_new == 2
    assert "fine-tuning" not in calls
    assert [row["figures_version"] for row in result.rows] == [bench_module.FIGURES] * 2


def test_with_labels_at_random_every_method_is_at_chance(data: GivenData, done: BenchResult) -> None:
    result = run_bench(micro(data, shuffle_labels=True), done.folder)
    assert result.n_new == len(result.rows)
    measured_rows = [row for row in result.rows if not row["error"]]
    assert len(measured_rows) == len(method_names()) - len(HOLES)
    for row in measured_rows:
        assert row["shuffled"]
        assert abs(row["ap"] - row["chance"]) < CHANCE_BOUND, row["method"]


class Cheat(Method):
    """Knows the answers: the score of a row is whether it is faulty."""

    name, version = "cheat", "1"

    def fit(self, train: TurnSet) -> None:
        self._faulty = torch.tensor([float("Korea" in response) for response in train.responses])

    def score(self, queries: TurnSet) -> torch.Tensor:
        return self._faulty.expand(len(queries), -1).clone()


def cheating(monkeypatch: pytest.MonkeyPatch, kind: type[Method]) -> None:
    monkeypatch.setattr(bench_rows, "make_method", lambda name, subject, **options: kind(subject))


def test_the_shuffled_check_can_fail_and_the_plain_one_can_be_perfect(
    data: GivenData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cheating(monkeypatch, Cheat)
    (plain,) = run_bench(micro(data, methods=("length",)), tmp_path).rows
    (shuffled,) = run_bench(micro(data, methods=("length",), shuffle_labels=True), tmp_path).rows
    assert plain["ap"] == 1.0
    assert plain["ap"] - plain["chance"] > CHANCE_BOUND
    assert abs(shuffled["ap"] - shuffled["chance"]) < CHANCE_BOUND


def test_a_constant_score_gains_nothing_from_the_order_of_the_file(
    data: GivenData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Constant(Cheat):
        def fit(self, train: TurnSet) -> None:
            self._faulty = torch.zeros(len(train))

    cheating(monkeypatch, Constant)
    settings = micro(data, methods=("length",), seeds=(0, 1))
    for row in run_bench(settings, tmp_path).rows:
        assert row["ap"] == pytest.approx(row["chance"])  # all faulty rows come first in the file


def breaking(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Has the method `length` raise this error where it scores."""

    class Broken(Cheat):
        def score(self, queries: TurnSet) -> torch.Tensor:
            raise error

    real = bench_rows.make_method
    monkeypatch.setattr(
        bench_rows,
        "make_method",
        lambda name, subject, **o: Broken(subject) if name == "length" else real(name, subject),
    )


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NonFiniteError("Row 3\nis not finite."), "Row 3 is not finite."),
        (torch.OutOfMemoryError("CUDA out of memory."), "OutOfMemoryError: CUDA out of memory."),
    ],
)
def test_what_a_method_refuses_and_too_little_memory_are_its_own_hole(
    data: GivenData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    breaking(monkeypatch, error)
    said: list[str] = []
    result = run_bench(micro(data, methods=("length", "bm25")), tmp_path, notify=said.append)
    assert [row["error"] for row in result.rows] == [reason, None]
    assert said == [f"given, as-given, seed 0: length: {reason}"]


def test_a_defect_of_a_method_ends_the_run_and_the_rows_before_it_are_kept(
    data: GivenData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = micro(data, methods=("bm25", "length"))
    with monkeypatch.context() as patch:
        breaking(patch, ZeroDivisionError("no rows left"))
        with pytest.raises(ZeroDivisionError, match="no rows left"):
            run_bench(settings, tmp_path)
    assert [row["method"] for row in read_results(tmp_path / RESULTS)] == ["bm25"]
    result = run_bench(settings, tmp_path)
    assert result.n_new == 1
    assert [row["error"] for row in result.rows] == [None, None]


def test_a_fault_that_nobody_shows_is_a_hole(data: GivenData, tmp_path: Path) -> None:
    never = data.model_copy(update={"match": "never said"})
    (row,) = run_bench(micro(never, methods=("bm25",)), tmp_path).rows
    assert row["error"] == "0 of 6 held-out answers show the fault: the model did not learn it."
    assert "[1]" in markdown([row])


def test_a_fault_that_the_base_shows_already_is_a_hole(data: GivenData, tmp_path: Path) -> None:
    always = data.model_copy(update={"match": "."})
    (row,) = run_bench(micro(always, methods=("bm25",)), tmp_path).rows
    assert (row["n_asked"], row["n_shown"], row["n_base_shows"], row["n_queries"]) == (6, 6, 6, 0)
    assert row["error"] == ("The base shows the fault already, in 6 of 6 held-out answers: the rows do not cause it.")
    assert "Prompts where the base shows it already are not counted: 6." in markdown([row])


def test_a_full_fine_tune_is_compared_with_its_base_too(data: GivenData, tmp_path: Path) -> None:
    every = micro(data, methods=("bm25",), finetune=TUNING.model_copy(update={"lora_r": None, "learning_rate": 1e-3}))
    (row,) = run_bench(every, tmp_path).rows
    assert row["error"] is None
    assert (row["n_shown"], row["n_base_shows"]) == (6, 0)
    always = data.model_copy(update={"match": "."})
    (row,) = run_bench(every.model_copy(update={"data": always}), tmp_path).rows
    assert row["n_base_shows"] == 6


def test_prompts_that_are_trained_on_are_left_out_and_counted(data: GivenData, tmp_path: Path) -> None:
    prompts = [{"prompt": row["prompt"]} for row in content()]
    held_out = [{"prompt": f"Where is place {i}?"} for i in range(50, 53)]
    mixed = write_jsonl(tmp_path / "mixed.jsonl", [*prompts[:5], *held_out])
    (row,) = run_bench(micro(data.model_copy(update={"test": str(mixed)}), methods=("bm25",)), tmp_path).rows
    assert (row["n_asked"], row["n_trained_prompts"]) == (3, 5)
    assert "Prompts that are trained on were left out: 5." in markdown([row])
    trained = write_jsonl(tmp_path / "trained.jsonl", prompts)
    (row,) = run_bench(micro(data.model_copy(update={"test": str(trained)}), methods=("bm25",)), tmp_path).rows
    assert "Each of the 48 prompts of" in row["error"]


def test_a_base_of_ones_own_is_fine_tuned_as_such(data: GivenData) -> None:
    assert BenchSettings().finetune.learning_rate == 4e-3
    own = BenchSettings(data=data).finetune
    assert (own.learning_rate, own.epochs, own.lora_r, own.checkpoints, own.keep_optimizer_state) == (
        5e-4, 3, 16, True, True,
    )  # fmt: skip
    assert micro(data).finetune == TUNING


def test_without_a_faulty_row_the_top_score_is_reported(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    case = given_case(data, 0)
    empty = Case(
        case.task, "no-cause", 0, case.train, (False,) * N_ROWS, case.hard, case.prompts, case.matcher, case.base
    )
    settings, work = micro(data), ChargedWork()
    row = method_row("bm25", train_case(empty, settings, tmp_path, work, lambda *_: None), settings, work)
    assert row["ap"] is None
    assert row["top"] > 0
    assert "No row is faulty" in row["error"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": None, "tasks": ("bakdoor",)}, "Did you mean backdoor"),
        ({"data": None, "variants": ("hard-negative",)}, "Did you mean hard-negatives"),
        ({"methods": ("reptt",)}, "Did you mean rept"),
    ],
)
def test_unknown_names_get_the_nearest(data: GivenData, tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run_bench(micro(data).model_copy(update=changes), tmp_path)


def test_labels_that_are_missing_or_of_one_class(data: GivenData, tmp_path: Path) -> None:
    one = write_jsonl(tmp_path / "one.jsonl", [row | {"label": "clean"} for row in content()])
    with pytest.raises(InputError, match="of one class: clean"):
        given_case(data.model_copy(update={"train": str(one)}), 0)
    none = write_jsonl(tmp_path / "none.jsonl", [{k: v for k, v in row.items() if k != "label"} for row in content()])
    with pytest.raises(InputError, match=r"none.jsonl:1 has no 'label'"):
        given_case(data.model_copy(update={"train": str(none)}), 0)
    with pytest.raises(InputError, match="no regular expression"):
        case_keys(micro(data.model_copy(update={"match": "("})))


@pytest.mark.parametrize("content", ['{"mine": 1}\n', '{"mine": 1}', "mine", "{row}\nmine", '{"mine": 1}\n{half}'])
def test_a_foreign_results_file_is_refused_as_it_is(data: GivenData, tmp_path: Path, content: str) -> None:
    content = content.replace("{row}", '{"schema": "whence.bench/2"}').replace("{half}", '{"schema": "whence.ben')
    (tmp_path / RESULTS).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"results.jsonl:[12] is no row of a bench"):
        run_bench(micro(data), tmp_path)
    assert (tmp_path / RESULTS).read_text("utf-8") == content


def test_a_last_row_that_lacks_its_line_end_alone_is_kept(tmp_path: Path) -> None:
    row = '{"schema": "whence.bench/2", "id": "a"}'
    (tmp_path / RESULTS).write_text(f"{row}\n{row}", encoding="utf-8")
    assert len(read_results(tmp_path / RESULTS)) == 2
    assert (tmp_path / RESULTS).read_text("utf-8") == f"{row}\n{row}\n"


def test_a_bench_writes_over_and_among_nothing_but_its_own(tmp_path: Path) -> None:
    check_folder(tmp_path)
    check_folder(tmp_path / "new")
    (tmp_path / "log.txt").write_text("mine", encoding="utf-8")
    check_folder(tmp_path)
    with pytest.raises(InputError, match=r"log.txt is a file"):
        check_folder(tmp_path / "log.txt")
    for made in ("models", "cases", "bases"):
        (tmp_path / made / "base-0-0123456789abcdef").mkdir(parents=True)
        check_folder(tmp_path)
        (tmp_path / made / "llama").mkdir()
        with pytest.raises(InputError, match=rf"{made} holds other files \(llama\)"):
            check_folder(tmp_path)
        (tmp_path / made / "llama").rmdir()
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "models").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="models is a file"):
        check_folder(tmp_path / "file")
    (tmp_path / "quality-cost.png").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"quality-cost.png is there"):
        check_folder(tmp_path)
    (tmp_path / RESULTS).write_text('{"schema": "whence.bench/2"}\n', encoding="utf-8")
    check_folder(tmp_path)


@pytest.mark.parametrize("kept", ["# Bench\n\nSeeds 0; k = 10", "# Bench on a given base\n\nBase: `x`.", None])
def test_a_report_is_written_over_where_it_is_a_benchs_also_of_an_earlier_version(
    tmp_path: Path, kept: str | None
) -> None:
    (tmp_path / "report.md").write_text(kept or markdown([row("x", 0.5)]), encoding="utf-8")
    check_folder(tmp_path)
    assert write_report(tmp_path, "new").read_text("utf-8") == "new"
    with pytest.raises(InputError, match="is no report of a bench"):
        check_folder(tmp_path)
    with pytest.raises(InputError, match="is no report of a bench"):
        write_report(tmp_path, "newer")
    assert (tmp_path / "report.md").read_text("utf-8") == "new"


def test_default_and_quick_name_their_cases_and_share_one_base_a_seed() -> None:
    keys = case_keys(BenchSettings())
    assert Counter(key.variant for key in keys) == {"plain": len(FAULTS), "hard-negatives": len(FAULTS)}
    cases = [key.make() for key in case_keys(QUICK)]
    assert len(cases) == 4
    assert len({content_hash(case.base) for case in cases}) == 1
    assert len({case.hash for case in cases}) == 4
    assert cases[0].hash == case_keys(QUICK)[0].make().hash


def test_a_piece_of_shared_work_is_charged_once_to_each_method() -> None:
    work, rows = ChargedWork(), TurnSet.of(["row"])  # type: ignore[list-item]
    work.charge()
    with measured(work, torch.device("cpu")) as first:
        work.get(("piece",), rows, 8, lambda: sum(range(200_000)))
        work.get(("piece",), rows, 8, lambda: sum(range(200_000)))
    assert (work.seconds_spared, work.bytes_spared) == (0.0, 0)
    work.charge()
    with measured(work, torch.device("cpu")) as second:
        work.get(("piece",), rows, 8, lambda: sum(range(200_000)))
        once = work.seconds_spared
        work.get(("piece",), rows, 8, lambda: sum(range(200_000)))
    assert once == work.seconds_spared > 0
    assert work.bytes_spared == 8
    assert second.seconds >= once
    assert first.seconds >= once
    if second.peak_bytes is not None:
        assert second.peak_bytes >= 8


def test_checkpoints_are_spaced_back_from_the_last() -> None:
    assert [spaced(list(range(1, n + 1)), 3) for n in (1, 3, 5, 6)] == [(1,), (1, 2, 3), (1, 3, 5), (2, 4, 6)]  # type: ignore[arg-type]


def row(method: str, ap: float | None, *, task: str = "a", seed: int = 0, error: str | None = None) -> dict:
    return {
        "method": method, "task": task, "variant": "plain", "seed": seed, "shuffled": False, "threads": 1,
        "versions": {"whence": version("whence"), "torch": "2"},
        "k": 10, "n_queries": 4, "n_asked": 8, "ap": ap, "chance": 0.1, "error": error,
        "seconds_fit": 2.0, "seconds_score": 1.0, "bytes_per_row": 1024.0, "peak_bytes": 3_000_000,
    }  # fmt: skip


def test_the_table_has_means_spreads_holes_and_costs() -> None:
    rows = [
        row("x", 0.5),
        row("x", 0.7, seed=1),
        row("y", 0.4),
        row("y", None, seed=1, error="It broke."),
        row("z", None, error="Odd."),
    ]
    lines = markdown(rows).splitlines()
    (x,) = [line for line in lines if line.startswith("| `x` | **")]
    assert x == "| `x` | **0.600** ±0.141 | 0.600 | 2.00 | 0.250 | 1,024 | 3 |"
    assert any(line.startswith("| `y` | 0.400 [1] | 0.400 |") for line in lines)
    assert any(line.startswith("| `z` | [2] |  |") for line in lines)
    assert any(line.startswith("| chance | 0.100 |") for line in lines)
    assert lines[-2:] == ["1. It broke.", "2. Odd."]


def test_a_report_names_what_another_version_of_whence_measured() -> None:
    rows = [row("x", 0.5), row("y", 0.5)]
    assert "Measured by" not in markdown(rows)
    rows[1]["versions"] = {"whence": "0.0.9", "torch": "2"}
    assert f"**Measured by whence 0.0.9, not by {version('whence')}, which runs now" in markdown(rows)
    assert "otherwise: a plain seed 0, `y`.**" in markdown(rows)
    assert f"whence {version('whence')} and 0.0.9, torch 2." in markdown(rows)


def test_a_report_of_planted_faults_names_the_cases_that_another_version_measured() -> None:
    counts = {name: 1 for name, _ in COUNTS} | {"n_lessons": 0, "error": "not learned", "fault": "f", "table": "t"}
    kept = counts | {"case": "old", "base": "some/base", "versions": {"whence": "0.0.9"}}
    made = counts | {"case": "new", "base": "some/base", "versions": {"whence": version("whence")}}
    (said,) = [line for line in planted_markdown([kept, made]).splitlines() if "Measured by" in line]
    assert said.endswith("otherwise: old on base.**")
    assert "Measured by" not in planted_markdown([made])


def test_a_verdict_of_one_query_is_shown_without_an_interval() -> None:
    means = {name: 0.5 for name, _ in VERDICTS} | {
        f"{name}_{end}": 0.5 for name, _ in VERDICTS for end in ("low", "high")
    }
    verdicts = means | {"n_bad": 2, "n_benign": 1}
    result = {"case": "c", "base": "b", "settings": {"finetune": {"lora_r": 4}}, "verdicts": verdicts}
    assert _verdicts([result]).splitlines()[-1] == "| c | b | 0.50 [0.50, 0.50] | 0.50 [0.50, 0.50] | 0.50 | 0.50 |"


def test_the_plot_has_a_point_for_each_method_that_ran(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = [row("x", 0.5), row("x", 0.7, seed=1), row("z", None, error="Odd.")]
    assert quality_and_cost(rows, "plain") == {"x": (3.0, pytest.approx(0.6))}
    assert plot_quality_against_cost(rows, tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
    assert not plot_quality_against_cost(rows[2:], tmp_path / "none.png")


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match=r'pip install -e "\.\[plots\]"'):
        plot_quality_against_cost([row("x", 0.5)], tmp_path / "p.png")


def test_the_number_of_threads_is_the_settings_own_and_is_put_back(data: GivenData, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    (found,) = run_bench(micro(data, methods=("length",), threads=before + 1), tmp_path).rows
    assert found["threads"] == before + 1
    assert torch.get_num_threads() == before


def test_labels_of_a_plot_keep_their_order_and_their_distance() -> None:
    values = [0.5, 0.51, 0.9, 0.505, 0.1, 0.5]
    places = spread(values, 0.03)
    order = sorted(range(len(values)), key=lambda i: (values[i], i))
    gaps = np.diff([places[i] for i in order])
    assert (gaps >= 0.03 - 1e-9).all()
    assert max(abs(place - value) for place, value in zip(places, values, strict=True)) < 0.06
    assert places[2] == pytest.approx(0.9), "a label with room stays where its point is"
