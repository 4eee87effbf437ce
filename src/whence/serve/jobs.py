"""Retrainings and audits: one at a time, each in a process of its own, kept over restarts."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from whence.confirmation import settings_beside, settings_recorded
from whence.data import Json
from whence.files import write_atomically
from whence.index import Manifest
from whence.serve.failures import Redaction, as_dict, broken
from whence.serve.state import ACTIVE, Object, State, new_id
from whence.trace import Tracer

log = logging.getLogger("whence.serve")
COMMAND = (sys.executable, "-m", "whence.serve.job_process")
OPENED = "opened.json"
"""In a job's folder: what its process opens."""
PATIENCE = 5.0
"""Seconds that a process has to end by itself."""


class Jobs:
    """Works off the jobs of a state, the oldest first. What was waiting or running when the server ended goes on.

    opened:  what each process opens, as `opened_with` gives it; written into the job's folder when it begins, so that a
             job of an earlier server has what this one was started with.
    command: what a job's folder is handed to, as `whence.serve.job_process` takes it.
    """

    def __init__(
        self, state: State, redaction: Redaction, opened: Object | None = None, command: Sequence[str] = COMMAND
    ) -> None:
        self._state, self._redaction, self._opened, self._command = state, redaction, opened or {}, command
        self._changed = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._current = ""
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="whence-jobs", daemon=True)
        self._thread.start()

    def start(self, kind: str, request: Object, internal: Object, log: tuple[str, str] | None = None) -> str:
        """A new job; returns its id.

        kind:     confirm or audit.
        internal: what its process needs beside the request and nobody is shown.
        log:      name and text of a file that it reads.
        """
        id = new_id()
        folder = self._folder(id)
        folder.mkdir(parents=True)
        if log is not None:
            write_atomically(folder / log[0], log[1])
        write_atomically(folder / "request.json", json.dumps({"kind": kind} | request | internal))
        # Last: a job that is known has all that its process reads.
        self._state.add_job(id, kind, request)
        with self._changed:
            self._changed.notify()
        return id

    def cancel(self, id: str) -> None:
        """Ends a job that waits or runs; one that has ended stays as it is. What it has trained is kept."""
        with self._changed:
            job = self._state.job(id)
            if job is None or job["state"] not in ACTIVE:
                return
            self._state.set_job(id, state="cancelled")
            if self._current == id and self._process is not None:
                self._process.terminate()

    def close(self) -> None:
        """Ends the process of the job that runs; it stays in the state as running, and goes on with the next server."""
        with self._changed:
            self._closed = True
            if self._process is not None:
                self._process.terminate()
            self._changed.notify()
        self._thread.join(timeout=2 * PATIENCE)

    def _folder(self, id: str) -> Path:
        return self._state.folder / "jobs" / id

    def _serve(self) -> None:
        while not self._closed:
            try:
                self._work_off()
            except Exception:  # as where the disk is full
                log.exception("no job can be worked off; it is tried again")
                with self._changed:
                    self._changed.wait_for(lambda: self._closed, timeout=PATIENCE)

    def _work_off(self) -> None:
        """Waits for a job, and runs it to its end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._next() is not None)
            id = None if self._closed else self._next()
            if id is None:
                return
            self._state.set_job(id, state="running")
            try:
                process = self._process = self._started(id)
            except OSError:
                self._broken_off(id)
                return
            self._current = id
        try:
            self._follow(id, process)
        except Exception:  # what one job says must not end the thread that all others wait for
            process.kill()
            with self._changed:
                self._broken_off(id)
        finally:
            with self._changed:
                self._process, self._current = None, ""

    def _broken_off(self, id: str) -> None:
        """Logs the error at hand; the job has failed, unless it was cancelled or the server ends."""
        log.exception("job %s could not be followed", id)
        job = self._state.job(id)
        if not self._closed and job is not None and job["state"] == "running":
            self._end(id, {})

    def _next(self) -> str | None:
        waiting = [str(job["id"]) for job in reversed(self._state.jobs()) if job["state"] in ACTIVE]
        return waiting[0] if waiting else None

    def _started(self, id: str) -> subprocess.Popen[str]:
        folder = self._folder(id)
        write_atomically(folder / OPENED, json.dumps(self._opened))
        with (folder / "process.log").open("a", encoding="utf-8") as own_log:
            return subprocess.Popen(
                [*self._command, str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=own_log,
                text=True,
                encoding="utf-8",
                errors="replace",
                # Ctrl-C is the server's: it ends the job so that it goes on with the next one.
                start_new_session=True,
            )

    def _follow(self, id: str, process: subprocess.Popen[str]) -> None:
        """Takes what the process says until it ends, and then its end."""
        last: Object = {}
        assert process.stdout is not None
        assert process.stdin is not None
        for line in process.stdout:
            try:
                said = json.loads(line)
            except ValueError:
                continue  # a library's own words
            if not isinstance(said, dict) or not said.keys() & {"progress", "result", "error"}:
                continue  # words that happen to be JSON
            last = cast("Object", said)
            if "progress" in last and not self._closed:
                self._state.set_job(id, progress=last["progress"])
        try:
            process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdin.close()
        process.stdout.close()
        with self._changed:
            job = self._state.job(id) if not self._closed else None
            if job is None or job["state"] != "running":
                return  # cancelled, or the server ends: the job stays as it is
            self._end(id, last, process.returncode)

    def _end(self, id: str, last: Object, status: int = 0) -> None:
        """Keeps how a job ended. status: of its process, below 0 where a signal ended it."""
        if "result" in last:
            self._state.set_job(id, state="done", result=_without_places(last["result"], self._redaction))
            return
        error = last.get("error")
        if isinstance(error, dict):
            parts = (self._redaction.text(str(error[name])) for name in ("found", "expected", "fix"))
            self._state.set_job(id, state="failed", error=cast("Json", as_dict(*parts)["error"]))
            return
        log.error("job %s ended without a result (%d); see %s", id, status, self._folder(id) / "process.log")
        said = _killed(-status) if status < 0 else broken()
        self._state.set_job(id, state="failed", error=cast("Json", said["error"]))


def _killed(number: int) -> dict[str, dict[str, str]]:
    names = {one.value: one.name for one in signal.Signals}
    return as_dict(
        f"The job's process was ended from outside, by the signal {names.get(number, number)}.",
        "It needs the memory of a second model, beside the one that answers; a system that runs out of memory ends it.",
        "Make room and start it again, or stop the server and use whence confirm or whence audit.",
    )


def _without_places(value: Json, redaction: Redaction) -> Json:
    """A confirmation with the names of its folders instead of their paths."""
    if not isinstance(value, dict):
        return value
    named = {name: redaction.text(text) for name in ("index", "base") if isinstance(text := value.get(name), str)}
    return value | cast("Object", named)


def can_train(manifest: Manifest) -> bool:
    """Whether it is known how the index's model was trained."""
    return settings_beside(manifest) is not None or settings_recorded(manifest) is not None


def opened_with(tracer: Tracer, base: str | None) -> Object:
    """What a job opens as its server did: the index, its models where they are, and on which device; base: of training.

    Of the settings of the model the others (dtype, code that came with it, template) are the index's own.
    """
    index, manifest, own = tracer.index, tracer.index.manifest, tracer.loaded.settings
    moved = (own.model, own.adapter) != (manifest.model, manifest.adapter)
    traced_base = tracer.models.base.settings.model if tracer.models.base is not None else None
    return {
        "index": str(index.path.absolute()),
        "model": _place(own.model) if moved else None,
        "adapter": _place(own.adapter) if moved else None,
        "traced_base": _place(traced_base),
        "base": _place(base),
        "placement": cast("Object", own.placement._asdict()),
    }


def _place(model: str | None) -> str | None:
    """A folder by its whole path: the next server may be started in another one. A hub name as it is."""
    return str(Path(model).absolute()) if model is not None and Path(model).exists() else model
