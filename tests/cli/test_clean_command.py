"""`whence clean` as a person types it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from audits import audit_of
from whence.data.readers import read_examples
from whence.index.manifest import require_manifest
from whence.index.sameness import index_hash
from whence.results.trace_result import TraceResult, read_trace
from whence.results.types import Hit, QueryResult, Verdict
from worlds import World


@pytest.fixture
def trace(world: World, tmp_path: Path) -> Path:
    """A trace of two queries whose verdicts name rows 0 and 6, and row 6."""
    rows = list(read_examples(world.data))

    def query(flagged: tuple[int, ...], hits: tuple[int, ...]) -> QueryResult:
        found = tuple(
            Hit(rank, 1 - rank / 10, rows[i].id, "train.jsonl", i + 1, 0, "", "") for rank, i in enumerate(hits, 1)
        )
        verdict = Verdict(tuple(rows[i].id for i in flagged), 0.05, "text", "method")
        return QueryResult("p", "r", "rept", "1", "5", found, 24, verdict=verdict)

    result = TraceResult(str(world.index), "model", None, (query((0, 6), (0, 6, 3)), query((6,), (6, 3, 0))))
    result.to_json(tmp_path / "trace.json")
    return tmp_path / "trace.json"


def test_the_verdicts_rows_go_and_come_back(whence, world: World, trace: Path, tmp_path: Path) -> None:
    out, bad, back = tmp_path / "cleaned.jsonl", tmp_path / "bad.jsonl", tmp_path / "back.jsonl"
    status, _, said = whence("clean", world.index, "--trace", trace, "-o", out, "--quarantine", bad)
    assert status == 0
    assert "2 of 24 rows removed" in said
    lines = world.data.read_text("utf-8").splitlines(keepends=True)
    assert out.read_text("utf-8") == "".join(line for i, line in enumerate(lines) if i not in (0, 6))
    reasons = [json.loads(line)["reason"] for line in bad.read_text("utf-8").splitlines()]
    assert reasons == ["flagged in 1 of 2 queries (FDR 5% in each)", "flagged in 2 of 2 queries (FDR 5% in each)"]
    manifest = json.loads((tmp_path / "manifest.json").read_text("utf-8"))
    assert (manifest["schema"], manifest["method"], manifest["method_version"]) == ("whence.clean/1", "rept", "1")
    assert manifest["files"][0]["rows"][1]["score"] == 0.9
    assert whence("clean", "--undo", tmp_path / "manifest.json", "-o", back)[0] == 0
    assert back.read_bytes() == world.data.read_bytes()


def test_the_first_of_the_ranking_and_a_list_of_ids(whence, world: World, trace: Path, tmp_path: Path) -> None:
    rows = list(read_examples(world.data))
    assert whence("clean", world.index, "--trace", trace, "--top", 2, "-o", tmp_path / "a.jsonl", "-q")[0] == 0
    assert [row.id for row in read_examples(tmp_path / "a.jsonl")] == [row.id for row in (*rows[1:6], *rows[7:])]
    (tmp_path / "ids.txt").write_text(f"{rows[2].id}\n\n{rows[3].id}\n")
    words = ["--ids", tmp_path / "ids.txt", "-o", tmp_path / "b.jsonl", "--manifest", tmp_path / "b.json"]
    assert whence("clean", world.index, *words, "-q") == (0, "", "")
    assert [row.id for row in read_examples(tmp_path / "b.jsonl")] == [row.id for row in (*rows[:2], *rows[4:])]


def test_rows_that_two_verdicts_name(whence, world: World, trace: Path, tmp_path: Path) -> None:
    rows = list(read_examples(world.data))
    assert whence("clean", world.index, "--trace", trace, "--votes", 2, "-o", tmp_path / "a.jsonl", "-q")[0] == 0
    assert [row.id for row in read_examples(tmp_path / "a.jsonl")] == [row.id for row in (*rows[:6], *rows[7:])]


@pytest.mark.parametrize("option", ["--trace", "--audit"])
def test_the_result_of_another_index_is_refused(whence, world: World, trace: Path, tmp_path: Path, option: str) -> None:
    """By the hash of model and data; where a file has none, by its folder, or the names of model and adapter."""
    manifest = require_manifest(world.index)
    made, wanted = (read_trace(trace), "trace") if option == "--trace" else (audit_of(1), "audit")
    other = tmp_path / "other.json"
    words = ["clean", world.index, option, other, *(["--group", 1] if option == "--audit" else ["--top", 2])]
    of_old = {"index": "runs/index", "index_hash": ""}
    for changes in (
        {"index_hash": "0" * 16},
        of_old | {"model": "runs/another"},
        of_old | {"model": "model", "adapter": "runs/lora"},
    ):
        replace(made, **changes).to_json(other)
        status, _, said = whence(*words, "-o", tmp_path / "cleaned.jsonl")
        assert (status, said.count("Error:")) == (2, 1)
        assert f"is the {wanted} of another index" in said
        assert not (tmp_path / "cleaned.jsonl").exists()
    for changes in (
        {"index_hash": index_hash(manifest), "model": "moved"},
        of_old | {"model": "elsewhere/model"},
        of_old | {"model": "moved", "index": str(world.index)},
    ):
        replace(made, **changes).to_json(other)
        _, _, said = whence(*words, "-o", tmp_path / "again.jsonl")
        assert "another index" not in said


def test_rows_are_relabelled_by_a_command(whence, world: World, trace: Path, tmp_path: Path) -> None:
    code = "import json, sys; row = json.load(sys.stdin); row['response'] = 'Mended.'; print(json.dumps(row))"
    (tmp_path / "mend.py").write_text(code)
    command = f"{sys.executable} {tmp_path / 'mend.py'}"
    out = tmp_path / "cleaned.jsonl"
    status, _, said = whence("clean", world.index, "--trace", trace, "-o", out, "--relabel", command)
    assert (status, "0 of 24 rows removed, 2 replaced" in said) == (0, True)
    assert [i for i, row in enumerate(read_examples(out)) if row.turns[1].content == "Mended."] == [0, 6]


BAD = [
    (["{index}", "-o", "{tmp}/out.jsonl"], "No source of flagged rows"),
    (["{index}", "-o", "{tmp}/out.jsonl", "--ids", "{tmp}/none", "--trace", "{trace}"], "--trace and --ids given"),
    (["{index}", "--trace", "{trace}"], "-o is missing"),
    (["-o", "{tmp}/out.jsonl", "--trace", "{trace}"], "INDEX is missing"),
    (["{index}", "-o", "{tmp}/out.jsonl", "--ids", "{tmp}/none"], "no file of ids"),
    (["{index}", "-o", "{tmp}/out.jsonl", "--ids", "{trace}"], "is no id"),
    (["{index}", "-o", "{tmp}/out.jsonl", "--trace", "{data}"], "is no trace"),
    (["{index}", "-o", "{tmp}/out.jsonl", "--trace", "{tmp}/none"], "no trace at"),
    (["{index}", "-o", "{trace}", "--trace", "{trace}"], "is there already"),
    (["{index}", "-o", "{tmp}/out.jsonl", "--trace", "{trace}", "--top", "9"], "Trace with a larger -k than 3"),
    (["{index}", "-o", "{tmp}/out.jsonl", "--trace", "{trace}", "--top", "9", "--votes", "2"], "--votes with --top"),
    (["{index}", "-o", "{tmp}/out.jsonl", "--trace", "{trace}", "--votes", "3"], "3 votes of 2 queries"),
    (["{index}", "-o", "{tmp}/out.jsonl", "--trace", "{trace}", "--relabel", "no-such-command"], "cannot be run"),
    (
        ["{index}", "-o", "{tmp}/out.jsonl", "--trace", "{trace}", "--relabel", "false"],
        "status 1; it said last: nothing",
    ),
    (["{index}", "-o", "{tmp}/out.jsonl", "--trace", "{trace}", "--relabel", "echo 7"], "is no object"),
    (["{index}", "-o", "{tmp}/out.jsonl", "--trace", "{trace}", "--relabel", "echo x"], "wrote no JSON"),
    (["--undo", "{tmp}/none"], "no manifest at"),
    (["{index}", "--undo", "{tmp}/none"], "INDEX with --undo"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input_is_one_message_and_leaves_nothing(
    whence, world: World, trace: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    places = {"index": world.index, "data": world.data, "tmp": tmp_path, "trace": trace}
    status, _, said = whence("clean", *(word.format(**places) for word in words))
    assert status == 2
    assert message in said
    assert said.count("Error:") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["trace.json"]


def test_the_rows_for_review(whence, world: World, trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "review"
    status, _, said = whence("clean", world.index, "--trace", trace, "--export", "argilla", "-o", out)
    assert (status, said) == (0, f"2 rows for review: {out}\n")
    assert len(json.loads((out / "records.json").read_text("utf-8"))) == 2
    refused = ["--export", "argilla", "-o", tmp_path / "b", "--quarantine", tmp_path / "bad.jsonl"]
    status, _, said = whence("clean", world.index, "--trace", trace, *refused)
    assert status == 2
    assert "--quarantine with --export" in said
