"""The demo as it is shipped: what it promises is counted here, once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from whence.cli.demo import _show
from whence.errors import InputError
from whence.evaluate.demo import DemoReport, clear_demo, run_demo
from whence.trace.queries import read_queries
from whence.trace.scoring import DEFAULT_METHOD
from whence.trace.tracer import Tracer

PRECISION_AT_10 = 0.9


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> DemoReport:
    """The demo of seed 0, run whole."""
    return run_demo(tmp_path_factory.mktemp("demo") / "run")


@pytest.mark.timeout(1200)
def test_every_planted_fault_is_found_and_better_than_by_its_words(report: DemoReport) -> None:
    assert {fault.label for fault in report.faults} == {"backdoor", "false-fact", "persona"}
    for fault in report.faults:
        assert fault.rate >= 0.5, f"{fault.label} was not learned"
        assert fault.precision[DEFAULT_METHOD] >= PRECISION_AT_10, fault.label
        assert fault.precision[DEFAULT_METHOD] > fault.precision["bm25"], fault.label
        assert fault.example.hits[0].metadata["label"] == fault.label


def test_the_folder_can_be_asked_on(report: DemoReport) -> None:
    assert {path.name for path in report.folder.iterdir()} >= {"base", "model", "index", "train.jsonl", "queries.jsonl"}
    queries = read_queries(report.world.queries)
    labels = [json.loads(line)["label"] for line in report.world.queries.read_text("utf-8").splitlines()]
    assert [query.metadata["label"] for query in queries] == labels
    assert len(Tracer(report.index).trace_many(queries[:3], k=2).queries) == 3


def test_queries_are_not_in_the_training_data(report: DemoReport) -> None:
    trained = {turn.content for row in report.world.train for turn in row.turns}
    asked = {query.prompt for fault in report.world.faults for query in fault.queries}
    assert asked
    assert not asked & trained


def test_what_is_shown_names_rows_figures_and_the_way_on(
    report: DemoReport, capsys: pytest.CaptureFixture[str]
) -> None:
    _show(report)
    shown = capsys.readouterr().out
    for part in ("candidate", "bm25", DEFAULT_METHOD, "whence trace", "were planted for this fault", "seed 0"):
        assert part in shown


def test_a_folder_that_is_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="is there already"):
        run_demo(tmp_path)
    with pytest.raises(InputError, match=r"is not a demo: it holds thesis.txt"):
        clear_demo(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    (tmp_path / "demo" / "model").mkdir(parents=True)
    clear_demo(tmp_path / "demo")
    assert not (tmp_path / "demo").exists()
    clear_demo(tmp_path / "demo")
