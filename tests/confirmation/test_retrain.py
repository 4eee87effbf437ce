"""Confirmation from end to end on a tiny model: the cause is confirmed, other rows are not, and work is kept."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from confirm_world import MATCH, N_CLEAN, N_FAULTY, QUERIES, FaultyWorld, make_faulty_world
from whence.confirmation import foretelling, retrain, runs
from whence.confirmation.arms import places_of, repsim_ranking
from whence.confirmation.losses import turn_losses
from whence.confirmation.recipe import data_rows, make_recipe
from whence.confirmation.retrain import confirm
from whence.data.encoding import Encoder
from whence.data.examples import Example, Turn
from whence.data.readers import read_examples
from whence.data.row_encoding import RowEncoding
from whence.errors import DataError, IndexFolderError, InputError, MismatchError
from whence.index.appending import append_rows
from whence.index.build import build_index
from whence.index.deleting import delete_rows
from whence.index.history import DataSummary
from whence.index.manifest import require_manifest
from whence.model.loading import ModelSettings, load_model
from whence.trace.query.queries import Query
from whence.trace.tracer import Tracer
from worlds import save_model, write_jsonl

HELD_OUT = [Example.from_pair(f"Name fruit {i}", "pears") for i in (70, 71)]
UNANSWERED = Example((Turn("user", "A question that nobody answered"),))
TRAINER = """
import shutil, sys
from dataclasses import replace
from pathlib import Path
with_boats, without, train, out, seed = sys.argv[1:]
shutil.copytree(with_boats if "boat" in Path(train).read_text() else without, out, dirs_exist_ok=True)
(Path(out) / "seed.txt").write_text(seed)
"""
"""Takes models that are there, by what the data say: importing torch in a child costs more than all other tests."""


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> FaultyWorld:
    return make_faulty_world(tmp_path_factory.mktemp("faulty"))


@pytest.fixture(scope="module")
def finished(faulty: FaultyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole confirmation."""
    out = tmp_path_factory.mktemp("out")
    run(faulty, out, paraphrases=[Query.of("Where is boat 77")])
    return out


def run(faulty: FaultyWorld, out: Path, **changes: object):
    given = {
        "match": MATCH,
        "removed": faulty.faulty_ids,
        "base": faulty.base,
        "held_out": HELD_OUT,
        "max_new_tokens": 8,
    }
    queries = changes.pop("queries", QUERIES)
    return confirm(faulty.index, queries, out, **(given | changes))  # type: ignore[arg-type]


def test_the_cause_is_confirmed_against_controls(faulty: FaultyWorld, finished: Path) -> None:
    found = run(faulty, finished, paraphrases=[Query.of("Where is boat 77")])
    assert found.status == "confirmed"
    assert [arm.name for arm in found.arms] == ["all", "flagged", "random", "bm25", "repsim"]
    assert found.arm("all").rate.mean == found.arm("random").rate.mean == 1.0
    assert found.arm("flagged").rate.mean == 0.0
    assert [arm.n_removed for arm in found.arms] == [0, *[N_FAULTY] * 4]
    assert found.arm("flagged").n_shared == N_FAULTY
    assert found.arm("random").n_shared == 0
    assert found.arm("all").paraphrases is not None
    assert found.arm("all").paraphrases.n == 1
    assert all(0 < arm.held_out_loss < 20 for arm in found.arms)
    # What was foretold of the faulty rows is what their retraining measures; random rows teach the answer nothing.
    assert found.foretold is not None
    assert found.arm("all").gain_lost == 0
    assert found.arm("flagged").gain_lost == pytest.approx(found.foretold, abs=0.25)
    assert abs(found.arm("random").gain_lost or 0) < 0.25
    assert f"about {found.foretold:.0%} was foretold" in found.text
    written = json.loads((finished / "confirmation.json").read_text("utf-8"))
    assert written["schema"] == "whence.confirm/2"
    assert written["arms"][1]["rate"]["mean"] == 0.0
    # On all rows the model is the one that was traced: it is not trained again.
    assert found.arm("all").seeds[0].folder == str(faulty.model)


def test_the_base_that_the_index_names_is_taken(
    faulty: FaultyWorld, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = run(faulty, finished, base=None)
    assert found.base == str(faulty.base)
    assert found.arms == run(faulty, finished).arms
    monkeypatch.setattr(retrain, "training_base", lambda manifest, given: given)
    with pytest.raises(InputError, match=r"(?s)There is no base.*Give base \(--base\)"):
        run(faulty, tmp_path, base=None)


def test_other_rows_are_not_confirmed(faulty: FaultyWorld, finished: Path) -> None:
    found = run(faulty, finished, removed=[row.id for row in faulty.rows[:N_FAULTY]], controls=())
    assert found.status == "not confirmed"
    assert found.arm("flagged").rate.mean == 1.0


def test_finished_work_is_kept_and_interrupted_work_goes_on(
    faulty: FaultyWorld, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(faulty, finished)
    trained: list[str] = []
    original = runs.finetune

    def stops(*args: object, **kwargs: object):
        trained.append(str(args[2]))
        if len(trained) == 2:
            raise KeyboardInterrupt
        return original(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(runs, "finetune", stops)
    assert run(faulty, finished) == first
    assert trained == []
    with pytest.raises(KeyboardInterrupt):
        run(faulty, tmp_path, controls=())
    again = run(faulty, tmp_path, controls=())
    assert len(trained) == 3
    assert trained[1] == trained[2]
    assert [arm.rate for arm in again.arms] == [arm.rate for arm in first.arms[:3]]
    assert [arm.held_out_loss for arm in again.arms] == [arm.held_out_loss for arm in first.arms[:3]]


def test_without_held_out_rows_some_are_left_out_of_every_arm(faulty: FaultyWorld, tmp_path: Path) -> None:
    found = run(faulty, tmp_path, held_out=None, controls=(), seeds=1)
    assert found.n_held_out == 1
    assert "left out of every arm" in found.held_out
    assert found.arm("all").seeds[0].folder != str(faulty.model)
    run_file = Path(found.arm("all").seeds[0].folder) / "run.yaml"
    assert "n_examples: 31" in run_file.read_text("utf-8")


def test_the_users_own_trainer_reads_each_arms_data_and_leaves_its_model(
    faulty: FaultyWorld, finished: Path, tmp_path: Path
) -> None:
    own = run(faulty, finished)
    script = tmp_path / "train.py"
    script.write_text(TRAINER)
    without = own.arm("flagged").seeds[0].folder
    command = f"{sys.executable} {script} {faulty.model} {without} {{train}} {{out}} {{seed}}"
    found = run(faulty, tmp_path / "out", trainer=command, base=None, controls=(), seeds=2)
    assert [arm.rate for arm in found.arms] == [arm.rate for arm in own.arms[:3]]
    assert found.arm("flagged").held_out_loss == own.arm("flagged").held_out_loss
    folders = [Path(one.folder) for one in found.arm("flagged").seeds]
    assert [(folder / "seed.txt").read_text() for folder in folders] == ["0", "1"]
    (data,) = {
        path.read_text("utf-8")
        for path in (tmp_path / "out" / "data").glob("*/train.jsonl")
        if "boat" not in path.read_text("utf-8")
    }
    assert data == "".join(faulty.data.read_text("utf-8").splitlines(keepends=True)[:N_CLEAN])


def test_an_index_whose_rows_changed_trains_on_the_rows_it_has(
    faulty: FaultyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "index"
    shutil.copytree(faulty.index, index)
    gone, last = [row.id for row in faulty.rows[2:5]], N_CLEAN + N_FAULTY - 1
    new = [{"prompt": f"Name tree {i}", "response": "an oak"} for i in range(5)]
    append_rows(index, write_jsonl(tmp_path / "new.jsonl", new))
    delete_rows(index, gone)
    tracer = Tracer(index)
    rows = data_rows(tracer.index.manifest)
    assert [row.id for row in rows][:-5] == [row.id for row in faulty.rows if row.id not in gone]
    numbers = np.delete(np.arange(len(faulty.rows) + 5), [2, 3, 4])
    told = [example.id for example in tracer.index.examples(numbers.tolist())]
    assert [rows[place].id for place in places_of(tracer.index.manifest, numbers)] == told
    # The hidden states of an answer of the last faulty row are nearest to that row, whose number moved by three.
    answer = tracer.answer([Query.of(f"Where is boat {N_FAULTY - 1}", "the sea")]).turns
    assert rows[repsim_ranking(tracer, answer)[0]].id == faulty.rows[last].id
    given = {"match": MATCH, "removed": faulty.faulty_ids, "base": faulty.base, "held_out": HELD_OUT}
    found = confirm(tracer, QUERIES, tmp_path / "out", max_new_tokens=8, controls=("repsim",), **given)
    assert found.status == "confirmed"
    # What is foretold is of the removed rows' own scores.
    taken: list[list[str]] = []
    monkeypatch.setattr(foretelling, "explained", lambda scores, at, shift: taken.append([told[t] for t in at]))
    asked = [Query.of(query.prompt, "the sea") for query in QUERIES]
    assert foretelling.foretold_share(tracer, rows, frozenset(faulty.faulty_ids), asked) is None
    assert taken == [list(faulty.faulty_ids)] * len(QUERIES)
    assert [arm.n_removed for arm in found.arms] == [0, *[N_FAULTY] * 3]
    # The model that was traced saw other rows: it is trained again.
    folder = Path(found.arm("all").seeds[0].folder)
    assert folder != faulty.model
    assert f"n_examples: {len(rows)}" in (folder / "run.yaml").read_text("utf-8")
    with pytest.raises(IndexFolderError, match="--trainer reads the data"):
        confirm(tracer, QUERIES, tmp_path / "own", trainer="true {train} {out}", **(given | {"base": None}))


def test_a_trainer_that_fails_says_why(faulty: FaultyWorld, tmp_path: Path) -> None:
    failing = f"{sys.executable} -c 'import sys; sys.exit(\"no room\")' {{train}} {{out}}"
    with pytest.raises(InputError, match=r"status 1; it said last:\n  no room"):
        run(faulty, tmp_path / "a", trainer=failing)
    with pytest.raises(InputError, match="left no model"):
        run(faulty, tmp_path / "b", trainer=f"{sys.executable} -c pass {{train}} {{out}}")
    with pytest.raises(InputError, match="cannot be run"):
        run(faulty, tmp_path / "c", trainer="no-such-trainer {train} {out}")
    with pytest.raises(InputError, match=r"has no \{seed\}"):
        run(faulty, tmp_path / "d", trainer="train {train} {out}", seeds=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"match": "("}, "no regular expression"),
        ({"match": "Atlantis"}, "None of 6 greedy answers of the model that was traced"),
        ({"match": ".*"}, "and an empty answer"),
        ({"match": "sea|pears"}, "matches 2 of 2 responses"),
        ({"queries": QUERIES[:3]}, "3 prompts are asked"),
        ({"removed": []}, "No row is given"),
        ({"removed": ["0" * 16]}, "1 of 1 ids are not in the data"),
        ({"controls": ("bm26",)}, "no control 'bm26'"),
        ({"held_out": [Example.from_pair("Name fruit 0", "apples")]}, "are training rows"),
        ({"held_out": [UNANSWERED]}, "None of 1 held-out rows has a token"),
    ],
)
def test_bad_input_is_said_before_any_training(
    faulty: FaultyWorld, tmp_path: Path, changes: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "finetune", None)
    with pytest.raises(InputError, match=message):
        run(faulty, tmp_path, **changes)
    assert not any(tmp_path.iterdir())


def test_rows_in_question_that_are_all_rows_are_refused(faulty: FaultyWorld, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="32 of 32 rows are given"):
        run(faulty, tmp_path, removed=[row.id for row in faulty.rows])


def test_another_base_is_refused(faulty: FaultyWorld, tmp_path: Path) -> None:
    other = save_model(tmp_path / "other", num_hidden_layers=2, seed=1)
    with pytest.raises(MismatchError, match=r"names another base"):
        run(faulty, tmp_path / "out", base=other)


def test_changed_data_are_refused(faulty: FaultyWorld, tmp_path: Path) -> None:
    content = faulty.data.read_bytes()
    try:
        faulty.data.write_bytes(content.replace(b"plums", b"grapes"))
        with pytest.raises(DataError, match="not those that the index was built from"):
            run(faulty, tmp_path)
    finally:
        faulty.data.write_bytes(content)


def test_a_row_that_the_template_refuses_is_left_out(faulty: FaultyWorld, tmp_path: Path) -> None:
    """The index set it aside; a retraining, and the loss of held-out rows, are of the rows that can be read."""
    found = run(faulty, tmp_path, held_out=[*HELD_OUT, UNANSWERED], controls=())
    assert found.status == "confirmed"
    assert found.arm("all").held_out_loss == pytest.approx(run(faulty, tmp_path, controls=()).arm("all").held_out_loss)


@pytest.mark.parametrize("kind", ["folder", "glob", "hub", "saved"])
def test_the_arm_with_all_rows_is_given_the_files_that_the_others_are_given(tmp_path: Path, kind: str) -> None:
    rows = [{"prompt": f"Name fruit {i}", "response": "pears"} for i in range(4)]
    folder = tmp_path / "rows"
    inner = folder / "data" if kind == "hub" else folder
    inner.mkdir(parents=True)
    if kind == "saved":
        both = {"train": Dataset.from_list(rows), "test": Dataset.from_list(rows[:1])}
        DatasetDict(both).save_to_disk(str(folder))
    else:
        write_jsonl(inner / "train.jsonl", rows)
        write_jsonl(inner / "test.jsonl", rows[:1])
        (folder / "README.md").write_text("both splits")
    source = str(folder / "*.jsonl") if kind == "glob" else str(folder)
    data = DataSummary(source=source, split="train", content_hash="1", n_rows=4)
    gone = next(iter(read_examples(folder, split="train"))).id
    whole, less = (runs._data_without(data, removed, tmp_path / "out") for removed in (frozenset(), frozenset([gone])))
    names = [sorted(str(path.relative_to(at)) for path in at.rglob("*") if path.is_file()) for at in (whole, less)]
    assert whole != folder
    assert names[0] == names[1]
    if kind != "saved":
        assert names[0] == ["data/train.jsonl" if kind == "hub" else "train.jsonl"]
    assert [len(list(read_examples(at, split="train"))) for at in (whole, less)] == [4, 3]
    # Another split of the same rows is another folder.
    other = runs._data_without(data.model_copy(update={"split": "test"}), frozenset(), tmp_path / "out")
    assert len(list(read_examples(other, split="test"))) == 1


def test_a_retraining_by_the_users_trainer_is_not_taken_for_one_of_other_data_files_or_bases(
    faulty: FaultyWorld, finished: Path, tmp_path: Path
) -> None:
    weight = [row | {"weight": 1} for row in map(json.loads, faulty.data.read_text("utf-8").splitlines())]
    data, index, base = tmp_path / "train.jsonl", tmp_path / "index", tmp_path / "base"
    script, config = tmp_path / "train.py", tmp_path / "train.yaml"
    script.write_text(TRAINER.replace("train, out, seed =", "train, out, seed, _ ="))
    config.write_text("epochs: 1")
    shutil.copytree(faulty.base, base)
    without = run(faulty, finished).arm("flagged").seeds[0].folder
    command = f"{sys.executable} {script} {faulty.model} {without} {{train}} {{out}} {{seed}} --config={config}"

    def folders() -> set[str]:
        write_jsonl(data, weight)
        shutil.rmtree(index, ignore_errors=True)
        build_index(faulty.model, data, index, layers=["last"], max_length=64)
        given = {"match": MATCH, "removed": faulty.faulty_ids, "trainer": command, "base": base, "held_out": HELD_OUT}
        found = confirm(index, QUERIES, tmp_path / "out", max_new_tokens=8, controls=(), **given)  # type: ignore[arg-type]
        return {one.folder for arm in found.arms for one in arm.seeds}

    known = folders()
    assert folders() == known
    for change in (
        lambda: weight[0].update(weight=2),
        lambda: script.write_text(script.read_text() + "\n"),
        lambda: config.write_text("epochs: 2"),
        lambda: (base / "model.safetensors").write_bytes(b"another"),
    ):
        change()
        new = folders()
        assert len(new) == 3
        assert not new & known
        known |= new


def test_a_run_of_an_encoding_without_a_day_has_the_name_of_earlier_versions(faulty: FaultyWorld) -> None:
    manifest = require_manifest(faulty.index)
    recipe = make_recipe(manifest, data_rows(manifest), faulty.base, None, None, fresh=True)
    plain = runs.made_of(recipe, [], recipe.settings)
    read = {"truncation": "keep_start", "append_eos": False, "loss": "all"}
    for more in ({}, {"date": "2024-07-26"}):
        recipe = replace(recipe, encoding=RowEncoding(**read, **more))
        assert runs.made_of(recipe, [], recipe.settings) == [*plain[:4], read | more, *plain[4:]]


def test_held_out_rows_are_read_as_the_rows_that_were_trained_on(faulty: FaultyWorld) -> None:
    manifest = require_manifest(faulty.index)
    recipe = make_recipe(manifest, data_rows(manifest), faulty.base, None, None, fresh=True)
    recipe = replace(recipe, encoding=RowEncoding(loss="all"))
    loaded = load_model(ModelSettings(model=str(faulty.model)))
    asked = runs.RunQuestions((QUERIES[0],), tuple(HELD_OUT), 4)
    encoder = Encoder(loaded.tokenizer, template=recipe.template, max_length=64, rows=recipe.encoding)
    turns = [turn for row in HELD_OUT for turn in encoder.encode(row)]
    found = runs._ask(loaded, recipe, asked, "model")
    assert found.held_out_loss == float(turn_losses(loaded, turns).mean())
    with pytest.raises(InputError, match="None of 1 held-out rows has a token"):
        runs._ask(loaded, replace(recipe, encoding=RowEncoding()), replace(asked, held_out=(UNANSWERED,)), "model")
