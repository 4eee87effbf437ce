"""Audits that the server makes or finds: the library's own, opened by their id, kept over restarts."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from audits import audit_of, scan_of
from served_world import EVIL, ServedWorld
from traced_world import RESPONSE
from whence.audit.auditing import run_audit
from whence.audit.settings import AuditSettings
from whence.errors import InputError
from whence.results.audit_result import AuditResult
from whence.results.audit_types import Behaviour, SourcePush, SourcePushes
from whence.serve.job_process import audited
from whence.serve.service import state_folder
from whence.serve.state import MIGRATIONS, State
from whence.trace.query.queries import Query
from whence.trace.tracer import Tracer

Serve = Callable[..., TestClient]
OUTPUTS = [*((f"Where is boat {i}", RESPONSE) for i in range(20, 26)), ("Name fruit 5", "apples")]
LOG = "".join(json.dumps({"prompt": prompt, "response": response}) + "\n" for prompt, response in OUTPUTS)


def ended(client: TestClient, id: str) -> dict[str, object]:
    """The job's last event, after all others."""
    last = client.get(f"/v1/jobs/{id}/events").text.strip().split("\n\n")[-1]
    found = json.loads(last.partition("data: ")[2])
    assert isinstance(found, dict)
    return found


def test_an_audit_of_a_log_is_the_librarys_own(
    serve: Serve, tracer: Tracer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The last digits of a score depend on the number of threads; tests have one.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    client = serve()
    asked = {"name": "May", "log": LOG, "by": ["source"], "examples": 1}
    job = client.post("/v1/audits", json=asked).json()
    assert (job["kind"], job["state"], job["request"]["n_outputs"]) == ("audit", "waiting", 7)
    assert "log" not in job["request"]
    done = ended(client, job["id"])
    assert done["state"] == "done", done
    found = client.get(f"/v1/audits/{job['id']}").json()
    settings = AuditSettings(by=("source",), examples=1)
    expected = run_audit(tracer, [Query.of(*pair) for pair in OUTPUTS], settings, work=tmp_path)
    own = AuditResult.from_dict(found["result"])
    assert expected.groups
    assert replace(own, index="", model="", adapter=None) == replace(expected, index="", model="", adapter=None)
    assert "/" not in own.index + own.model + (own.adapter or "")
    assert (found["text"], found["name"], found["n_unknown"]) == (expected.text, "May", 0)

    client = serve()  # another server finds it
    [listed] = client.get("/v1/audits").json()["audits"]
    assert (listed["id"], listed["n_groups"], listed["made_here"]) == (job["id"], len(expected.groups), True)
    report = client.get(f"/v1/audits/{job['id']}/report")
    assert report.headers["content-disposition"].startswith("attachment")
    assert "May" in report.text
    assert "Where is boat 3" in report.text
    assert "Where is boat 3" not in client.get(f"/v1/audits/{job['id']}/report", params={"text": False}).text


def asked_of_a_job(client: TestClient, body: dict[str, object]) -> tuple[Path, dict[str, object]]:
    """The folder of a new job and what its process reads there."""
    job = client.post("/v1/audits", json=body).json()
    folder = client.app.state.service.state.folder / "jobs" / job["id"]  # type: ignore[attr-defined]
    return folder, json.loads((folder / "request.json").read_text("utf-8"))


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs are not begun."""
    monkeypatch.setattr("whence.serve.jobs.Jobs._next", lambda self: None)


@pytest.mark.usefixtures("waiting")
def test_kept_queries_are_audited(client: TestClient, tracer: Tracer) -> None:
    ids = [
        client.post("/v1/trace", json={"prompt": prompt, "response": response, "verdict": False}).json()["id"]
        for prompt, response in OUTPUTS[:3]
    ]
    folder, request = asked_of_a_job(client, {"queries": ids, "match": "sea", "examples": 0})
    assert client.get(f"/v1/audits/{folder.name}").status_code == 404
    audited(folder, tracer, request)
    found = client.get(f"/v1/audits/{folder.name}").json()["result"]
    assert [query["prompt"] for query in found["queries"]] == [prompt for prompt, _ in OUTPUTS[:3]]


@pytest.mark.usefixtures("waiting")
def test_an_audit_that_finds_nothing_to_audit_says_so(client: TestClient, tracer: Tracer) -> None:
    folder, request = asked_of_a_job(client, {"log": LOG, "match": "no such words"})
    with pytest.raises(InputError, match="in none of 7 outputs"):
        audited(folder, tracer, request)
    assert client.get("/v1/audits").json() == {"audits": []}
    assert client.get(f"/v1/audits/{folder.name}").status_code == 404


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"log": "no JSON"}, "The log"),
        ({"log": '{"question": 1}'}, "The log"),
        ({"log": LOG, "failed": True}, "no evaluation log"),
        ({"log": LOG, "where": "nothing = 1"}, "nothing"),
        ({"log": LOG, "queries": ["0" * 16]}, "Both"),
        ({"queries": ["0" * 16]}, "There is no query"),
        ({}, "Both"),
        ({"log": LOG, "format": "../../x"}, "format"),
        ({"log": LOG, "by": ["a"] * 6}, "by"),
    ],
)
def test_what_cannot_be_audited_is_said_before_it_waits(client: TestClient, body: dict[str, object], said: str) -> None:
    answer = client.post("/v1/audits", json=body)
    assert 400 <= answer.status_code < 500, answer.text
    assert said in answer.json()["error"]["found"]
    assert "/tmp" not in answer.text
    assert client.get("/v1/jobs").json() == {"jobs": []}


def test_files_in_its_folder_are_opened(client: TestClient, serve: Serve, served: ServedWorld) -> None:
    folder = state_folder(served.index) / "audits"
    audit_of(evil=True).to_json(folder / "red team.json")
    (folder / "broken.json").write_text('{"schema": "whence.trace/2"}')
    (folder / "notes.txt").write_text("no audit")
    found = {audit["name"]: audit for audit in client.get("/v1/audits").json()["audits"]}
    assert set(found) == {"red team", "broken"}
    assert "its schema is 'whence.trace/2'" in found["broken"]["problem"]
    assert str(folder) not in found["broken"]["problem"]
    assert client.get(f"/v1/audits/{found['broken']['id']}").status_code == 400
    opened = client.get(f"/v1/audits/{found['red team']['id']}").json()
    assert opened["n_unknown"] > 0, "its rows are of another index"
    assert EVIL not in client.get(f"/v1/audits/{opened['id']}/report").text
    (folder / "broken.json").unlink()
    assert len(client.get("/v1/audits").json()["audits"]) == 1
    bare = serve(show_text=False).get(f"/v1/audits/{opened['id']}").json()["result"]
    assert {row["prompt"] for group in bare["groups"] for row in group["rows"]} == {""}
    assert all(group["example"] is None and not group["phrases"] for group in bare["groups"])


def test_files_that_cannot_be_read_hide_no_other(client: TestClient, served: ServedWorld) -> None:
    folder = state_folder(served.index) / "audits"
    audit_of().to_json(folder / "may.json")
    (folder / "deep.json").write_text("[" * 200_000)
    (folder / os.fsdecode(b"x\xff.json")).write_text("{}")
    (folder / "loop.json").symlink_to("loop.json")
    (folder / "folder.json").mkdir()
    found = {audit["name"]: audit for audit in client.get("/v1/audits").json()["audits"]}
    assert {name: one["problem"] is None for name, one in found.items()} == {
        "may": True,
        "deep": False,
        "x\\xff": False,
    }
    assert "nested too deep" in found["deep"]["problem"]
    for name, status in (("may", 200), ("deep", 400), ("x\\xff", 400)):
        assert client.get(f"/v1/audits/{found[name]['id']}").status_code == status


def test_an_audit_is_worded_as_in_its_report(client: TestClient, served: ServedWorld) -> None:
    pushes = SourcePushes("source", (SourcePush("vendor_b", 60, 0.5, 0.02, 4.0, 0.001),))
    compared = Behaviour(n_bad=5, n_good=6, paired=False, sources=(pushes,))
    said: dict[str, list[str]] = {}
    audits = {
        "log": replace(audit_of(), fdr=0.07),
        "scan": scan_of(),
        "compared": replace(audit_of(1), behaviour=compared),
        "nothing pushes": replace(audit_of(0), behaviour=compared),
    }
    for name, audit in audits.items():
        audit.to_json(state_folder(served.index) / "audits" / f"{name}.json")
    for listed in client.get("/v1/audits").json()["audits"]:
        found = client.get(f"/v1/audits/{listed['id']}").json()
        report = unescape(audits[found["name"]].to_html())
        assert f'<p class="quiet">{found["rate"]}</p>' in report
        assert f'<p class="lead quiet">{found["note"]}</p>' in report
        expected = {"log": "7%", "scan": "No rate is claimed."}.get(found["name"], "5%")
        assert expected in found["rate"]
        sentences = [*found["source_notes"], *found["push_notes"], *filter(None, [found["trigger_note"]])]
        assert all(sentence in report for sentence in sentences)
        result = found["result"]
        assert len(found["source_notes"]) == len(result["sources"])
        assert len(found["push_notes"]) == len((result["behaviour"] or {"sources": ()})["sources"])
        said[found["name"]] = sentences
    assert len(said["log"]) == 2
    assert "delivered" in said["log"][0]
    assert "The rows of 'vendor_b' push" in said["nothing pushes"][0]


def test_jobs_that_wait_are_listed_alone(tmp_path: Path) -> None:
    state = State(tmp_path, "index")
    for number, ended in enumerate(("waiting", "running", "done", "failed", "cancelled")):
        state.add_job(f"{number:016x}", "audit", {})
        state.set_job(f"{number:016x}", state=ended)
    assert {job["state"] for job in state.jobs(active=True)} == {"waiting", "running"}
    assert state.jobs("confirm", active=True) == []
    assert len(state.jobs()) == 5
    state.close()


def test_jobs_of_a_server_before_audits_are_kept(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "state.sqlite") as db:
        db.executescript(MIGRATIONS[0])
        db.execute("INSERT INTO jobs VALUES ('0123456789abcdef', 'index', 1.0, 'done', '{}', NULL, NULL, NULL)")
        db.execute("PRAGMA user_version = 1")
    db.close()
    state = State(tmp_path, "index")
    assert [job["kind"] for job in state.jobs()] == ["confirm"]
    assert state.jobs("audit") == []
    state.close()
