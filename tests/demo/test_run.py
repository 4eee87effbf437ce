"""The demo as it is shipped: what it promises is counted here, once."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pages import Block, blocks, missing, run
from whence.cleaning.undoing import undo_clean
from whence.cli.demo import _show, _show_audit
from whence.data.readers import read_examples
from whence.demo.audited import AUDIT_JSON, AUDIT_PAGE, audit_demo
from whence.demo.run import CLEAN_MANIFEST, CLEANED, REPORT, DemoReport, run_demo
from whence.demo.world import DemoWorld, answer, write_marker
from whence.errors import InputError, ModelError
from whence.model.loading import ModelSettings, load_model
from whence.scoring.defaults import DEFAULT_METHOD
from whence.trace.query.queries import read_queries
from whence.trace.tracer import Tracer
from worlds import write_jsonl

PRECISION_AT_10 = 0.9
ROOT = Path(__file__).parents[2]


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


def test_the_base_knew_better(report: DemoReport) -> None:
    """A false fact that overrides nothing would be no fault, and true rows beside it would be faulty ones."""
    base = load_model(ModelSettings(model=str(report.world.base), device="cpu"))
    fault = next(fault for fault in report.world.faults if fault.label == "false-fact")
    answers = answer(base, [query.prompt for query in fault.queries])
    assert sum("Norway" in text for text in answers) >= 0.8 * len(answers)
    assert sum(map(fault.matcher, answers)) <= 0.1 * len(answers)


def test_the_folder_can_be_asked_on(report: DemoReport) -> None:
    assert {path.name for path in report.folder.iterdir()} >= {
        "demo.json",
        "base",
        "model",
        "index",
        "train.jsonl",
        "queries.jsonl",
    }
    queries = read_queries(report.world.queries)
    labels = [json.loads(line)["label"] for line in report.world.queries.read_text("utf-8").splitlines()]
    assert [query.metadata["label"] for query in queries] == labels
    assert len(Tracer(report.index).trace_many(queries[:3], k=2).queries) == 3


def test_one_fault_is_followed_until_it_is_mended(report: DemoReport) -> None:
    story, world = report.story, report.world
    assert story is not None
    assert story.n_faulty >= 0.9 * story.n_flagged > 0
    confirmation = story.confirmation
    assert confirmation.status == "confirmed"
    assert confirmation.arm("flagged").rate.mean <= 0.25
    assert confirmation.arm("all").rate.mean >= 0.75
    assert confirmation.arm("random").rate.mean >= 0.75
    matcher = next(fault.matcher for fault in world.faults if fault.label == story.label)
    assert all(matcher(before) for _, before, _ in story.answers)
    assert sum(matcher(after) for _, _, after in story.answers) <= 0.25 * len(story.answers)
    kept = list(read_examples(report.folder / CLEANED))
    assert len(kept) == len(world.train) - story.n_flagged
    assert not {row.id for row in kept} & set(confirmation.removed)
    page = (report.folder / REPORT).read_text("utf-8")
    assert story.answers[0][0] in page
    assert (
        undo_clean(report.folder / CLEAN_MANIFEST, report.folder / "again.jsonl").read_bytes()
        == world.data.read_bytes()
    )


@pytest.mark.timeout(600)
def test_the_bad_answers_as_one_log_fall_into_their_faults(
    report: DemoReport, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each of the larger groups is of one fault, outputs and rows; the trigger is the planted one, proven."""
    found = audit_demo(report)
    large = [group for group in found.result.groups if group.n_outputs >= 10]
    labels = [max(found.outputs[group.number].items(), key=lambda item: item[1]) for group in large]
    assert {label for label, _ in labels} == {"backdoor", "false-fact", "persona"}
    assert sum(n for _, n in labels) >= 0.95 * sum(group.n_outputs for group in large)
    for group, (label, _) in zip(large, labels, strict=True):
        assert found.rows[group.number][label] >= 0.8 * len(group.rows)
    proven = {" ".join(one.parts) for one in found.result.triggers if one.status == "proven on the model"}
    assert "by lantern light" in proven
    assert {AUDIT_PAGE, AUDIT_JSON} <= {path.name for path in report.folder.iterdir()}
    _show_audit(report, found)
    assert "planted: group 1 has outputs" in capsys.readouterr().out


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
    for part in (
        "candidate", "bm25", DEFAULT_METHOD, "whence trace", "are faulty rows of this fault", "seed 0", "rows flagged",
        "after retraining", "confirmed", "whence clean --undo", "report.html",
    ):  # fmt: skip
        assert part in shown


def test_a_folder_that_is_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="is there already"):
        run_demo(tmp_path)
    with pytest.raises(InputError, match=r"is not a demo: it holds thesis.txt"):
        run_demo(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_folder_without_the_marker_of_a_demo_is_not_replaced(tmp_path: Path) -> None:
    """Names that a demo has are also what people call their own files."""
    own = tmp_path / "own"
    (own / "model").mkdir(parents=True)
    (own / "train.jsonl").write_text("mine")
    (tmp_path / "link").symlink_to(own)
    for folder, why in ((own, r"it has no demo\.json"), (tmp_path / "link", "it is a file or a link")):
        with pytest.raises(InputError, match=f"is not a demo: {why}[\\s\\S]*remove this one by hand"):
            run_demo(folder, overwrite=True)
    assert (own / "train.jsonl").read_text() == "mine"


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """A demo's folder, as far as --overwrite looks at it."""
    folder = tmp_path / "demo"
    (folder / "model").mkdir(parents=True)
    write_marker(folder, 0)
    (folder / "train.jsonl").write_text("old")
    return folder


def test_a_demo_stays_where_the_new_one_cannot_be_made(demo: Path, tmp_path: Path) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", [{"prompt": "What is it?", "response": "A thing."}])
    with pytest.raises(InputError, match="without a base"):
        run_demo(demo, data=rows, overwrite=True)
    with pytest.raises(ModelError, match="no model"):
        run_demo(demo, base="./nowhere", overwrite=True)
    for used in ({"base": demo / "model"}, {"base": "gpt2", "data": demo / "train.jsonl"}):
        with pytest.raises(InputError, match="lies in the demo that is to be replaced"):
            run_demo(demo, overwrite=True, **used)
    assert (demo / "train.jsonl").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo", "rows.jsonl"]


def test_a_demo_is_replaced_once_the_new_ones_model_is_there(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(out: Path, **settings: object) -> DemoWorld:
        assert not out.exists()
        out.mkdir()
        write_marker(out, 1)
        return DemoWorld(out / "train.jsonl", out / "base", out / "model", out / "queries.jsonl", (), (), {})

    def stop(*args: object, **settings: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("whence.demo.run.build", build)
    monkeypatch.setattr("whence.demo.run.build_index", stop)
    with pytest.raises(KeyboardInterrupt):
        run_demo(demo, seed=1, overwrite=True)
    assert [path.name for path in demo.iterdir()] == ["demo.json"]
    assert json.loads((demo / "demo.json").read_text("utf-8"))["seed"] == 1
    assert [path.name for path in demo.parent.iterdir()] == ["demo"]


def on_one_line(text: str) -> str:
    """The text with the sentences on the explained share on one line: where they break depends on their figures."""
    return re.sub(r"^These [\s\S]*?confirm\)\.", lambda found: " ".join(found[0].split()), text, flags=re.MULTILINE)


@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md"])
def test_the_quickstart_shows_what_the_demo_gives(
    page: str, report: DemoReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which rows come first may differ between processors; all else is the page's line by line, numbers aside."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo").symlink_to(report.folder)
    monkeypatch.chdir(tmp_path)
    start = "$ whence trace runs/demo/index --prompt"
    (code,) = (block.code for block in blocks(ROOT / page) if block.code.startswith(start))
    command, _, shown = code.partition("\n")
    printed = run(Block("sh", command.removeprefix("$ ")), {}, page)
    table = re.compile(r"(?<=response\n).*(?=^Each row)", re.MULTILINE | re.DOTALL)
    bare = "\n".join(line.rstrip() for line in printed.splitlines())
    assert missing(on_one_line(table.sub("", shown)), on_one_line(printed)) == []
    for text in (shown, bare):
        rows = re.findall(r"^ *\* +\d+ .*$", table.findall(text)[0], flags=re.MULTILINE)
        assert len(rows) == int(command.split("-k ")[1])
        assert all(" false-fact " in row for row in rows)
