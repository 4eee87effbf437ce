"""`whence confirm` as a person types it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from confirm_world import BAD, MATCH, FaultyWorld, make_faulty_world
from whence.cli.confirm import _held_out
from whence.confirmation.result import apply
from whence.confirmation.retrain import confirm as retrain
from whence.results.trace_result import read_trace
from whence.trace.query.queries import Query
from whence.trace.tracer import Tracer
from worlds import World, write_jsonl


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> FaultyWorld:
    return make_faulty_world(tmp_path_factory.mktemp("faulty"))


def test_the_first_rows_of_the_ranking_are_confirmed(whence, faulty: FaultyWorld, tmp_path: Path) -> None:
    bad = write_jsonl(tmp_path / "bad.jsonl", BAD)
    held_out = write_jsonl(tmp_path / "held.jsonl", [{"prompt": "Name fruit 70", "response": "pears"}])
    out = tmp_path / "out"
    words = ["confirm", faulty.index, "--queries", bad, "--match", MATCH, "--base", faulty.base, "--remove", "top:8"]
    words += ["--held-out", held_out, "--control", "none", "--max-new-tokens", 8, "-o", out]
    status, shown, said = whence(*words)
    assert status == 0, said
    assert "confirmed." in shown
    assert "trained without" in shown
    assert "rows to test" in shown
    assert "flagged" not in shown
    assert f"{len(BAD)} prompts: at best a fall from {len(BAD)} of {len(BAD)} answers" in said
    content = json.loads((out / "confirmation.json").read_text("utf-8"))
    assert content["status"] == "confirmed"
    assert set(content["removed"]) == set(faulty.faulty_ids)
    assert f"Rows to test: {', '.join(content['places'])}." in " ".join(shown.split())
    assert all(re.fullmatch(r"[\w.-]+\.jsonl:\d+", place) for place in content["places"])
    assert len(content["places"]) == len(faulty.faulty_ids)
    assert [arm["name"] for arm in content["arms"]] == ["all", "flagged", "random"]
    assert whence(*words, "-q") == (0, "", "")
    page, trace = tmp_path / "page.html", tmp_path / "trace.json"
    assert whence(*words, "-q", "--html", page, "--json", trace) == (0, "", "")
    marked = {hit.id for query in read_trace(trace) for hit in query.hits if hit.status == "confirmed"}
    assert marked == set(faulty.faulty_ids)
    assert "confirmed" in page.read_text("utf-8")
    status, _, said = whence(*words, "-q", "--html", tmp_path / "nowhere" / "page.html")
    assert status == 2
    assert "There is no folder" in said


def test_what_was_shown_is_written_into_a_trace(faulty: FaultyWorld, tmp_path: Path) -> None:
    queries = [Query.of(str(row["prompt"]), str(row["response"])) for row in BAD]
    found = retrain(
        faulty.index,
        queries,
        tmp_path / "out",
        match=MATCH,
        removed=faulty.faulty_ids[:2],
        base=faulty.base,
        controls=(),
        max_new_tokens=8,
    )
    assert found.status == "not confirmed", "six of eight rows are left"
    trace = Tracer(faulty.index).trace_many(queries[:1], k=32)
    marked = apply(trace, found)
    assert {hit.id for hit in marked.hits if hit.status == "not confirmed"} == set(faulty.faulty_ids[:2])
    assert {hit.status for hit in marked.hits if hit.id not in faulty.faulty_ids[:2]} == {"candidate"}
    marked.to_json(tmp_path / "trace.json")
    assert read_trace(tmp_path / "trace.json") == marked


WRONG = [
    (["--remove", "flagged", "--trace", "{trace}"], "flags no row"),
    (["--remove", "top:x"], "--remove 'top:x'"),
    (["--remove", "top:2", "--votes", "2"], "--votes with --remove top:2"),
    (["--remove", "{tmp}/none.txt"], "no file of ids"),
    (["--remove", "top:2", "--epochs", "2", "--schedule", "square"], "--schedule 'square'"),
    (["--remove", "top:2"], "There is no run.yaml and no whence.yaml beside"),
    (["--remove", "top:2", "--epochs", "2", "--match", "("], "no regular expression"),
    (["--remove", "top:2", "--trainer", "train {{train}}"], "has no {out}"),
]


@pytest.mark.parametrize(("words", "message"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_bad_input_is_one_message(whence, world: World, tmp_path: Path, words: list[str], message: str) -> None:
    bad = write_jsonl(tmp_path / "bad.jsonl", BAD)
    Tracer(world.index).trace("Where?", "There.", k=3).to_json(tmp_path / "trace.json")
    places = {"tmp": tmp_path, "trace": tmp_path / "trace.json"}
    given = ["--queries", bad, "--match", MATCH, "--base", world.model, "-o", tmp_path / "out", "-q"]
    status, _, said = whence("confirm", world.index, *given, *(word.format(**places) for word in words))
    assert (status, said.count("Error:")) == (2, 1), said
    assert message in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("remove", ["top:2", "{tmp}/ids.txt"])
def test_the_trace_of_another_index_is_refused(whence, world: World, tmp_path: Path, remove: str) -> None:
    found = Tracer(world.index).trace("Where?", "There.", k=3)
    (tmp_path / "ids.txt").write_text(found.hits[0].id)
    replace(found, index_hash="0" * 16).to_json(tmp_path / "trace.json")
    given = ["--queries", write_jsonl(tmp_path / "bad.jsonl", BAD), "--match", MATCH, "--base", world.model]
    given += ["--epochs", 1, "-o", tmp_path / "out", "--trace", tmp_path / "trace.json"]
    status, _, said = whence("confirm", world.index, *given, "--remove", remove.format(tmp=tmp_path), "-q")
    assert status == 2
    assert "is the trace of another index" in said


def test_too_few_prompts_are_said_before_anything_is_traced(
    whence, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tracer, "trace_many", None)
    bad = write_jsonl(tmp_path / "bad.jsonl", BAD[:1])
    given = ["--match", MATCH, "--base", world.model, "--epochs", 2, "-o", tmp_path / "out"]
    status, _, said = whence("confirm", world.index, "--queries", bad, *given)
    assert (status, said.count("Error:")) == (2, 1), said
    assert "1 prompt is asked" in said
    assert "Expected at least 4 prompts" in said
    assert not (tmp_path / "out").exists()


def test_held_out_rows_are_read_by_the_columns_of_the_index(tmp_path: Path) -> None:
    """A file that also has columns of another meaning; and one that has the usual columns alone."""
    mapping = {"prompt": "question", "response": "answer"}
    row = {"question": "Where?", "answer": "Here.", "instruction": "Where not?", "output": "There."}
    (own,) = _held_out(write_jsonl(tmp_path / "a.jsonl", [row]), mapping)
    (usual,) = _held_out(write_jsonl(tmp_path / "b.jsonl", [{"prompt": "Where?", "response": "Here."}]), mapping)
    for found in (own, usual):
        assert [turn.content for turn in found.turns] == ["Where?", "Here."]
