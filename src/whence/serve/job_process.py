"""One confirmation or audit in a process of its own: `python -m whence.serve.job_process FOLDER`.

FOLDER/request.json says what to do, FOLDER/opened.json with which index and models. Standard output gets one JSON
object a line, {"progress": ...} while it works and {"result": ...} or {"error": ...} at the end. What is finished is
kept in FOLDER, so the same call goes on where it was stopped. The process ends when its standard input closes: it never
outlives the server.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whence.errors import WhenceError
from whence.files import write_atomically
from whence.model import Placement
from whence.serve.audits import RESULT
from whence.serve.failures import of_machine
from whence.serve.jobs import OPENED
from whence.trace import Query, Tracer, read_queries

if TYPE_CHECKING:
    from whence.train import FinetuneSettings


def main(folder: Path) -> int:
    """Runs the job; returns the exit status."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    request = json.loads((folder / "request.json").read_text("utf-8"))
    request |= json.loads((folder / OPENED).read_text("utf-8"))
    _quiet()
    try:
        tracer = Tracer(
            request["index"],
            model=request["model"],
            adapter=request["adapter"],
            base=request["traced_base"],
            device=Placement(**request["placement"]),
        )
        work = audited if request.get("kind") == "audit" else confirmed
        _say({"result": work(folder, tracer, request)})
    except Exception as given:
        error = of_machine(given)
        if not isinstance(error, WhenceError):
            raise
        _say({"error": {"found": error.found, "expected": error.expected, "fix": error.fix}})
        return 2
    return 0


def confirmed(folder: Path, tracer: Tracer, request: dict[str, Any]) -> object:
    """Trains again without the rows; what is trained stays in the folder."""
    from whence.confirmation import confirm

    found = confirm(
        tracer,
        _queries(request),
        folder,
        match=request["match"],
        removed=request["rows"],
        base=request["base"],
        settings=_settings(tracer, request["placement"]["device"]),
        controls=request["controls"],
        seeds=request["seeds"],
        max_new_tokens=request["max_new_tokens"],
        progress=_progress,
    )
    return json.loads(found.to_json())


def _settings(tracer: Tracer, device: str) -> FinetuneSettings | None:
    """The fine-tune's settings on the server's device; None, which takes them as they are, where it has none."""
    from whence.confirmation import known_settings

    known = known_settings(tracer.index.manifest)
    if device == "auto" or not known.is_whole:
        return None
    return known.settings.model_copy(update={"device": device})


def audited(folder: Path, tracer: Tracer, request: dict[str, Any]) -> object:
    """Leaves the audit in the folder, and says it in one sentence."""
    from whence.audit import AuditSettings, run_audit

    queries = _queries(request)
    if request["log"] is not None:
        log = folder / request["log"]
        queries = read_queries(
            log, columns=tracer.index.manifest.data.columns, failed=request["failed"], keep_silent=True
        )
    settings = AuditSettings(
        **{name: request[name] for name in ("match", "fdr", "method", "where", "by", "examples")},
    )
    found = run_audit(tracer, queries, settings, work=folder / "blocks", progress=_progress)
    write_atomically(folder / RESULT, found.to_json())
    return {"text": found.text}


def _queries(request: dict[str, Any]) -> list[Query]:
    return [
        replace(
            Query.of(query["prompt"], query["response"], system=query["system"]), complete=query.get("complete", True)
        )
        for query in request["queries"]
    ]


def _progress(stage: str, done: int, total: int | None) -> None:
    _say({"progress": {"stage": stage, "done": done, "total": total}})


def _quiet() -> None:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _say(message: object) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(3)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
