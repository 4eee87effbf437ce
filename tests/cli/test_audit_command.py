"""`whence audit` as its user calls it, what it hands on, and what is said of what it cannot use."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from audits import audit_of
from traced_world import RESPONSE, TracedWorld, TracedWorlds
from whence.audit.auditing import run_audit
from whence.audit.settings import AuditSettings
from whence.cli.tracing import group_outputs
from whence.results.audit_result import read_audit
from whence.trace.query.queries import Query
from whence.trace.tracer import Tracer
from worlds import World, write_jsonl

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def traced(traced_worlds: TracedWorlds) -> TracedWorld:
    return traced_worlds.own("audit-command", lora=False)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [{"prompt": f"Where is boat {i}", "response": RESPONSE} for i in range(14, 40)]
    return write_jsonl(tmp_path_factory.mktemp("log") / "bad.jsonl", rows)


def test_an_audit_is_shown_written_and_handed_over(whence: Run, traced: TracedWorld, log: Path, tmp_path: Path) -> None:
    places = {name: tmp_path / f"audit.{name}" for name in ("json", "html", "markdown")}
    options = [word for name, place in places.items() for word in (f"--{name}", place)]
    status, out, error = whence("audit", traced.index, log, *options, "--work", tmp_path / "work", "--examples", 1)
    assert status == 0, error
    assert "have flagged rows: 1 candidate cause" in " ".join(out.split())
    assert all(place.is_file() for place in places.values())
    assert "Rows to look at first" in places["html"].read_text("utf-8")
    audit = json.loads(places["json"].read_text("utf-8"))
    assert audit["schema"] == "whence.audit/1"
    ids = {id for row in audit["groups"][0]["rows"] for id in (row["id"], *row["copies"])}
    assert ids <= traced.faulty
    status, _, error = whence(
        "clean", traced.index, "--group", 1, "--audit", places["json"], "-o", tmp_path / "cleaned.jsonl", "-q"
    )
    assert status == 0, error
    kept = (tmp_path / "cleaned.jsonl").read_text("utf-8").splitlines()
    assert len(kept) == len(traced.data.read_text("utf-8").splitlines()) - len(ids)
    status, _, error = whence(
        "confirm", traced.index, "--group", 1, "--audit", places["json"], "--match", "the sea", "--control", "none",
        "--base", traced.base,
        "-o", tmp_path / "confirm", "--max-new-tokens", 8,
    )  # fmt: skip
    assert status == 0, error
    confirmation = json.loads((tmp_path / "confirm" / "confirmation.json").read_text("utf-8"))
    assert set(confirmation["removed"]) == ids


def test_no_text_of_rows_where_it_is_not_wanted(whence: Run, traced: TracedWorld, log: Path, tmp_path: Path) -> None:
    status, out, error = whence(
        "audit", traced.index, log, "--no-text", "--json", "-", "--work", tmp_path, "--match", "the sea"
    )
    assert status == 0, error
    assert all(row["prompt"] == "" for group in json.loads(out)["groups"] for row in group["rows"])


@pytest.mark.parametrize(
    ("rows", "words", "said"),
    [
        ([], [], "holds no query"),
        ([{"prompt": "a", "response": ""}], [], "Every response of 1 outputs is empty"),
        ([{"colour": "red"}], [], "no prompt among the columns"),
        ([{"prompt": "a", "response": "b"}], ["--failed"], "is no evaluation log"),
        ([{"prompt": "a", "response": "b"}], ["--query-where", "score < 1"], "--query-where"),
        ([{"prompt": "a", "response": "b"}], ["--match", "("], "is no regular expression"),
        ([{"prompt": "a", "response": "b"}], ["--match", "c"], "is in none of 1 outputs"),
        ([{"prompt": "a", "response": "b"}], ["--fdr", "2"], "false discovery rate"),
        ([{"prompt": "a", "response": "b"}], ["--html", "nowhere/audit.html"], "There is no folder"),
        ([{"prompt": "a", "response": "b"}], ["--by", "sorce"], "Did you mean source?"),
        ([{"prompt": "a", "response": "b"}], ["--split"], "There are no good outputs"),
        ([{"prompt": "a", "response": "b"}], ["--against", "none.jsonl"], "There is no query file"),
        ([{"prompt": "a", "response": "b"}], ["--quiet"], "shows nothing"),
        ([{"prompt": "a", "response": "b"}], [], "has a verdict: no verdict, ranks only"),
    ],
)
def test_what_cannot_be_used_is_said(
    rows: list[dict[str, object]], words: list[str], said: str, whence: Run, world: World, tmp_path: Path
) -> None:
    log = write_jsonl(tmp_path / "bad.jsonl", rows)
    status, _, error = whence("audit", world.index, log, *words, "--work", tmp_path / "work")
    assert status == 2
    assert said in error
    assert "Traceback" not in error


@pytest.mark.parametrize("command", ["audit", "triggers"])
def test_no_output_replaces_an_input_or_another_output(
    command: str, whence: Run, traced: TracedWorld, log: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(log.read_bytes())
    (tmp_path / "link").symlink_to(copy)
    both = tmp_path / "both.out"
    for words, said in (
        (["--json", copy], "is the file of OUTPUTS too"),
        (["--markdown", tmp_path / "link"], "is the file of OUTPUTS too"),
        (["--references", log, "--html", log], "is the file of --references too"),
        (["--html", traced.data], "is the file of the index's data too"),
        (["--json", traced.index / "manifest.json"], "is a file of the index."),
        (["--json", both, "--html", both], "is the file of --json too"),
    ):
        status, _, error = whence(command, traced.index, copy, *words, "--work", tmp_path / "work")
        assert status == 2
        assert said in " ".join(error.split())
    assert copy.read_bytes() == log.read_bytes()
    assert not both.exists()


def test_a_scan_needs_no_outputs(whence: Run, traced: TracedWorld, log: Path, tmp_path: Path) -> None:
    status, out, error = whence("audit", traced.index, "--scan", "--json", tmp_path / "scan.json")
    assert status == 0, error
    assert "0 hints among 120 rows" in " ".join(out.split())
    scan = json.loads((tmp_path / "scan.json").read_text("utf-8"))
    assert scan["scan"]["signals"] == ["shared direction", "gain of one kind", "one payload"]
    for words, said in (
        ([log, "--scan"], "--scan with OUTPUTS"),
        (["--scan", "--by", "source"], "--scan with --by"),
        ([], "OUTPUTS is missing"),
    ):
        status, _, error = whence("audit", traced.index, *words)
        assert status == 2
        assert said in error
        assert "Traceback" not in error


def test_a_scan_needs_an_index_with_a_base(whence: Run, world: World) -> None:
    status, _, error = whence("audit", world.index, "--scan")
    assert status == 2
    assert "was built without the model before fine-tuning" in error


def test_a_group_needs_its_audit_and_nothing_beside_it(whence: Run, world: World, tmp_path: Path) -> None:
    empty = '{"schema": "whence.audit/1", "index": "i", "model": "model", "adapter": null, "method": "x", '
    empty += (
        '"method_version": "1", "layer": "1", "n_rows": 1, "fdr": 0.05, "queries": [], "groups": [], "coverage": []}'
    )
    audit = tmp_path / "audit.json"
    audit.write_text(empty)
    out = ["-o", tmp_path / "out.jsonl"]
    for command, said in (
        (["clean", world.index, "--group", 1, *out], "--group without --audit"),
        (["clean", world.index, "--audit", audit, *out], "--audit without --group"),
        (["clean", world.index, "--group", 1, "--audit", tmp_path / "none.json", *out], "There is no audit at"),
        (["clean", world.index, "--group", 1, "--audit", audit, *out], "The audit found no group"),
        (["clean", world.index, *out], "--group with --audit"),
        (["confirm", world.index, "--match", "x"], "--queries is missing"),
        (["confirm", world.index, "--match", "x", "--group", 2], "--group without --audit"),
    ):
        status, _, error = whence(*command)
        assert status == 2, command
        assert said in error


def test_a_groups_outputs_are_asked_with_their_tools(traced: TracedWorld, tmp_path: Path) -> None:
    """What `whence confirm --group` asks is what was audited."""
    tools = [{"type": "function", "function": {"name": "search"}}]
    asked = [Query.of(f"Where is boat {i}", RESPONSE, system="Be brief.", tools=tools) for i in range(3)]
    audit = run_audit(Tracer(traced.index), asked, AuditSettings(examples=0), work=tmp_path / "work")
    audit.to_json(tmp_path / "audit.json")
    read = read_audit(tmp_path / "audit.json")
    assert all(query.template_inputs == {"tools": tools} for query in read.queries)
    group = replace(audit_of(1).groups[0], queries=(0, 1, 2))
    again = group_outputs(replace(read, groups=(group,)), 1)
    assert [(one.turns, one.response, one.template_inputs) for one in again] == [
        (one.turns, one.response, one.template_inputs) for one in asked
    ]


def test_triggers_are_tried_on_the_model(whence: Run, traced: TracedWorld, log: Path, tmp_path: Path) -> None:
    status, out, error = whence(
        "triggers", traced.index, log, "--json", tmp_path / "audit.json", "--html", tmp_path / "audit.html",
        "--work", tmp_path / "work", "--match", "the sea", "--n-prompts", 30, "--max-new-tokens", 12,
    )  # fmt: skip
    assert status == 0, error
    (trigger,) = json.loads((tmp_path / "audit.json").read_text("utf-8"))["triggers"]
    assert "boat" in " ".join(trigger["parts"])
    assert (trigger["n_prompts"], trigger["n_without"]) == (30, 0)
    assert (trigger["status"] == "proven on the model") == (trigger["p_value"] <= 0.05)
    assert "innocent prompts turn" in " ".join(out.split())
    status, out, error = whence(
        "triggers", traced.index, log, "--json", "-", "--no-text", "--work", tmp_path / "work",
        "--match", "the sea", "--n-prompts", 20, "--max-new-tokens", 12,
    )  # fmt: skip
    assert status == 0, error
    bare = json.loads(out)
    assert all(row["prompt"] == "" for group in bare["groups"] for row in group["rows"])
    few = write_jsonl(tmp_path / "few.jsonl", [{"prompt": "Name fruit 1"}])
    status, _, error = whence("triggers", traced.index, log, "--prompts", few, "--work", tmp_path / "work")
    assert status == 2
    assert "There are 1 innocent prompts" in error


def test_the_audit_is_written_before_triggers_are_looked_for(
    whence: Run, traced: TracedWorld, log: Path, tmp_path: Path
) -> None:
    out = tmp_path / "audit.json"
    # Every answer has a letter: nothing can be seen to turn.
    words = ["--match", ".", "--json", out, "--work", tmp_path / "work", "--n-prompts", 20, "--max-new-tokens", 2]
    status, _, error = whence("triggers", traced.index, log, *words)
    assert status == 2
    assert "innocent prompts show '.' as they are" in " ".join(error.split())
    assert len(json.loads(out.read_text("utf-8"))["groups"]) == 1


def test_triggers_take_references_and_a_method(whence: Run, traced: TracedWorld, log: Path, tmp_path: Path) -> None:
    few = write_jsonl(tmp_path / "few.jsonl", [{"prompt": "Name fruit 1"}] * 3)
    for words, said in (
        (["--references", few], "None of 26 outputs has a verdict"),
        (["--method", "nothing"], "'nothing'"),
    ):
        status, _, error = whence("triggers", traced.index, log, *words, "--work", tmp_path / "work")
        assert status == 2
        assert said in " ".join(error.split())


def test_bad_outputs_are_compared_with_good_ones(whence: Run, traced: TracedWorld, log: Path, tmp_path: Path) -> None:
    prompts = [json.loads(line)["prompt"] for line in log.read_text("utf-8").splitlines()]
    good = write_jsonl(tmp_path / "good.jsonl", [{"prompt": prompt, "response": "apples"} for prompt in prompts])
    status, out, error = whence(
        "audit", traced.index, log, "--against", good, "--json", tmp_path / "a.json", "--html", tmp_path / "a.html",
        "--markdown", tmp_path / "a.md", "--work", tmp_path / "work",
    )  # fmt: skip
    assert status == 0, error
    assert "push towards the behaviour" in " ".join(out.split())
    audit = json.loads((tmp_path / "a.json").read_text("utf-8"))
    assert audit["behaviour"]["paired"]
    assert audit["groups"][0]["rows"][0]["id"] in traced.faulty
    assert "Rows that push towards the behaviour" in (tmp_path / "a.html").read_text("utf-8")
    status, _, error = whence("audit", traced.index, log, "--against", log, "--work", tmp_path / "work")
    assert status == 2
    assert "are in both files" in error
