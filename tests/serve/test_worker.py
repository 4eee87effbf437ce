"""The queue before the model, and retrainings in processes: places, bounds, cancelling, going on after a restart."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from whence.data.examples import Json
from whence.errors import InputError
from whence.serve.failures import Redaction, RefusedError, of_machine
from whence.serve.jobs import Jobs
from whence.serve.state import State
from whence.serve.worker import Task, Worker

NOTHING = Redaction([])


def test_requests_wait_in_a_bounded_queue_and_hear_their_place() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(task: Task) -> Json:
        begun.set()
        assert go_on.wait(20)
        return "slow"

    async def run() -> None:
        worker = Worker(NOTHING, most=2)
        first = worker.submit(slow)
        await asyncio.to_thread(begun.wait, 20)
        second, third = worker.submit(lambda task: "second"), worker.submit(lambda task: "third")
        assert worker.waiting == 2
        with pytest.raises(RefusedError, match="wait for the model"):
            worker.submit(lambda task: None)
        second.cancel()
        fourth = worker.submit(lambda task: "fourth")  # the cancelled one frees its place
        go_on.set()
        said = {
            name: [event async for event in events(task)]
            for name, task in zip("1234", (first, second, third, fourth), strict=True)
        }
        assert said["1"] == [("result", "slow")]
        assert said["2"][-1] == ("cancelled", None)
        assert said["3"][:2] == [("queued", {"place": 2}), ("queued", {"place": 1})]
        assert said["4"][-1] == ("result", "fourth")
        worker.close()

    asyncio.run(run())


def test_a_task_ends_where_it_is_taken_back_and_a_panic_ends_no_thread() -> None:
    class Panic(BaseException):
        pass

    def panics(task: Task) -> Json:
        raise Panic("/home/somebody/secret")

    async def run() -> None:
        worker = Worker(NOTHING, most=5)
        begun = threading.Event()

        def steps(task: Task) -> Json:
            begun.set()
            while True:
                time.sleep(0.01)
                task.progress("working", 0, None)

        task = worker.submit(steps)
        await asyncio.to_thread(begun.wait, 20)
        task.cancel()
        assert [event async for event in events(task)][-1] == ("cancelled", None)
        [(name, data)] = [event async for event in events(worker.submit(panics)) if event[0] != "queued"]
        assert name == "error"
        assert "secret" not in json.dumps(data)
        # It may have waited for the thread to come back, and then heard its place first.
        last = [event async for event in events(worker.submit(lambda task: 1)) if event[0] != "queued"]
        assert last == [("result", 1)]
        worker.close()

    asyncio.run(run())


async def events(task: Task):  # type: ignore[no-untyped-def]
    while True:
        event = await asyncio.wait_for(task.next_event(), 20)
        yield event.name, event.data
        if event.name in ("result", "error", "cancelled"):
            return


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("The data at /srv/team/rows.jsonl have changed.", "The data at rows.jsonl have changed."),
        ("/srv/team/models/base is not there", "base is not there"),
        ("/home/somebody/else.txt, and a/b or 3/4", "else.txt, and a/b or 3/4"),
        ("See /v1/openapi.json and https://example.org/a/b", "See /v1/openapi.json and https://example.org/a/b"),
    ],
)
def test_messages_lose_the_servers_folders(text: str, shown: str) -> None:
    assert Redaction(["/srv/team/rows.jsonl", "/srv/team/models/base", None]).text(text) == shown


WORKS = """
import json, sys, pathlib
folder = pathlib.Path(sys.argv[1])
done = folder / "first"
is_first = not done.exists()
done.write_text("")
print(json.dumps({"progress": {"stage": "training", "done": 1, "total": 2}}), flush=True)
if is_first:
    sys.stdin.read()  # as long as the server lives
    sys.exit(3)
print("a library says something", flush=True)
print(json.dumps({"result": {"status": "confirmed", "index": "/srv/x/index", "base": None}}), flush=True)
"""
FAILS = 'import json; print(json.dumps({"error": {"found": "/srv/a/b is gone.", "expected": "", "fix": ""}}))'


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def jobs_of(state: State, script: str) -> Jobs:
    return Jobs(state, Redaction(["/srv/x/index"]), command=(sys.executable, "-c", script))


def test_a_job_that_was_running_goes_on_with_the_next_server(tmp_path: Path) -> None:
    state = State(tmp_path, "index")
    jobs = jobs_of(state, WORKS)
    id = jobs.start("confirm", {"rows": []}, {"index": "/srv/x/index"})
    until(lambda: state.job(id)["progress"])  # type: ignore[index]
    jobs.close()
    state.close()
    state = State(tmp_path, "index")
    assert state.job(id)["state"] == "running"  # type: ignore[index]
    jobs = jobs_of(state, WORKS)
    until(lambda: state.job(id)["state"] == "done")  # type: ignore[index]
    assert state.job(id)["result"]["index"] == "index"  # type: ignore[index, call-overload]
    assert state.job(id)["request"] == {"rows": []}  # type: ignore[index]
    jobs.close()
    state.close()


def serve_one_job(folder: Path, script: str) -> None:
    state = State(folder, "index")
    jobs_of(state, script).start("confirm", {"rows": []}, {})
    time.sleep(600)


@pytest.mark.filterwarnings("ignore:lance is not fork-safe")
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="processes are looked at in /proc")
def test_a_job_whose_server_was_killed_goes_on_with_the_next_one(tmp_path: Path) -> None:
    script = "import os; print(os.getpid(), file=open('" + str(tmp_path / "pid") + "', 'w'), flush=True)" + WORKS
    server = multiprocessing.get_context("fork").Process(target=serve_one_job, args=(tmp_path, script), daemon=True)
    server.start()
    until(lambda: list(tmp_path.glob("jobs/*/first")))
    server.kill()
    server.join()
    pid = int((tmp_path / "pid").read_text())
    until(lambda: not is_alive(pid))  # the job's process ends with its server: two would train at once
    state = State(tmp_path, "index")
    [id] = [str(job["id"]) for job in state.jobs()]
    assert state.job(id)["state"] == "running"  # type: ignore[index]
    jobs = jobs_of(state, WORKS)
    until(lambda: state.job(id)["state"] == "done")  # type: ignore[index]
    jobs.close()
    state.close()


def serve_until_interrupted(folder: Path, script: str) -> None:
    os.setsid()
    interrupted = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    state = State(folder, "index")
    jobs = jobs_of(state, script)
    jobs.start("confirm", {"rows": []}, {})
    while not interrupted.wait(0.05):
        pass
    time.sleep(0.5)  # as long as answers that are being read are let go on
    jobs.close()
    state.close()


@pytest.mark.filterwarnings("ignore:lance is not fork-safe")
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="a terminal's Ctrl-C is for a group of processes")
def test_ctrl_c_ends_no_job_for_good(tmp_path: Path) -> None:
    """A terminal sends it to the server and to all that the server has started."""
    context = multiprocessing.get_context("fork")
    server = context.Process(target=serve_until_interrupted, args=(tmp_path, WORKS), daemon=True)
    server.start()
    until(lambda: list(tmp_path.glob("jobs/*/first")))
    assert server.pid is not None
    os.killpg(server.pid, signal.SIGINT)
    server.join(20)
    assert server.exitcode == 0
    state = State(tmp_path, "index")
    assert [job["state"] for job in state.jobs()] == ["running"]
    state.close()


def test_a_job_that_the_system_ends_says_so(tmp_path: Path) -> None:
    state = State(tmp_path, "index")
    jobs = jobs_of(state, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    id = jobs.start("confirm", {}, {})
    until(lambda: state.job(id)["state"] == "failed")  # type: ignore[index]
    assert "by the signal SIGKILL" in state.job(id)["error"]["found"]  # type: ignore[index, call-overload]
    jobs.close()
    state.close()


def test_jobs_go_on_behind_a_disk_that_was_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whence.serve.jobs.PATIENCE", 0.05)
    state = State(tmp_path, "index")
    set_job, n_tries = state.set_job, 0

    def full(id: str, **values: Json) -> None:
        nonlocal n_tries
        n_tries += 1
        if n_tries < 4:
            raise sqlite3.OperationalError("database or disk is full")
        set_job(id, **values)

    monkeypatch.setattr(state, "set_job", full)
    jobs = jobs_of(state, WORKS.replace("if is_first", "if False"))
    id = jobs.start("confirm", {}, {})
    until(lambda: state.job(id)["state"] == "done")  # type: ignore[index]
    jobs.close()
    state.close()


def test_a_full_disk_is_said_and_holds_for_no_longer_than_it_is_full(tmp_path: Path) -> None:
    state = State(tmp_path, "index")
    [[n_pages]] = state._db.execute("PRAGMA page_count").fetchall()
    state._db.execute(f"PRAGMA max_page_count = {n_pages + 1}")
    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError, match="disk is full") as full:
            state.add_job("0123456789abcdef", "audit", {"log": "x" * 100_000})
    said = of_machine(full.value)
    assert isinstance(said, RefusedError)
    assert (said.status, said.found) == (
        507,
        "The server's disk is full, or cannot be written: database or disk is full.",
    )
    state._db.execute("PRAGMA max_page_count = 100000")
    state.add_job("0123456789abcdef", "audit", {"log": "x" * 100_000})
    state.close()
    assert of_machine(PermissionError(13, "no")).args == (13, "no")
    for error in (MemoryError(), torch.OutOfMemoryError("CUDA out of memory")):
        assert "not enough memory" in str(of_machine(error))


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended may still be listed, as a zombie."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_what_a_library_prints_and_a_folder_that_is_gone_end_no_other_job(tmp_path: Path) -> None:
    talks = (
        "print(0); print('null'); print('[1]'); print('{}'); import sys; sys.stdout.buffer.write(b'\\xff\\n')" + WORKS
    )
    state = State(tmp_path, "index")
    (tmp_path / "jobs").mkdir(exist_ok=True)
    state.add_job(lost := "0123456789abcdef", "confirm", {})
    jobs = jobs_of(state, talks.replace("if is_first", "if False"))
    until(lambda: state.job(lost)["state"] == "failed")  # type: ignore[index]
    id = jobs.start("confirm", {}, {})
    until(lambda: state.job(id)["state"] == "done")  # type: ignore[index]
    jobs.close()
    state.close()


def test_a_job_can_be_cancelled_and_the_next_one_runs(tmp_path: Path) -> None:
    state = State(tmp_path, "index")
    jobs = jobs_of(state, WORKS)
    first, second = jobs.start("confirm", {}, {}), jobs.start("confirm", {}, {})
    until(lambda: state.job(first)["progress"])  # type: ignore[index]
    assert state.job(second)["state"] == "waiting"  # type: ignore[index]
    jobs.cancel(second)
    jobs.cancel(first)
    third = jobs.start("confirm", {}, {})
    until(lambda: state.job(third)["progress"])  # type: ignore[index]
    assert [state.job(id)["state"] for id in (first, second)] == ["cancelled"] * 2  # type: ignore[index]
    jobs.close()
    state.close()


def test_one_server_at_a_time_has_the_state_of_an_index(tmp_path: Path) -> None:
    state = State(tmp_path, "index")
    with pytest.raises(InputError, match="Another whence serve runs on this index"):
        State(tmp_path, "index")
    state.close()
    State(tmp_path, "index").close()


def test_a_job_that_fails_says_why(tmp_path: Path) -> None:
    state = State(tmp_path, "index")
    jobs = jobs_of(state, FAILS)
    id = jobs.start("confirm", {}, {})
    until(lambda: state.job(id)["state"] == "failed")  # type: ignore[index]
    assert state.job(id)["error"] == {"found": "b is gone.", "expected": "", "fix": ""}  # type: ignore[index]
    jobs.close()
    jobs = jobs_of(state, "import sys; sys.exit('/srv/secret')")
    id = jobs.start("confirm", {}, {})
    until(lambda: state.job(id)["state"] == "failed")  # type: ignore[index]
    assert "secret" not in json.dumps(state.job(id))
    jobs.close()
    state.close()
