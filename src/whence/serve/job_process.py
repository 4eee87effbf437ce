"""One confirmation in a process of its own: `python -m whence.serve.job_process FOLDER`.

FOLDER/request.json says what to do; standard output gets one JSON object a line, {"progress": ...} while it works and
{"result": ...} or {"error": ...} at the end. The retrainings are kept in FOLDER, so the same call goes on where it was
stopped. The process ends when its standard input closes: it never outlives the server.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

from whence.errors import WhenceError


def main(folder: Path) -> int:
    """Runs the job; returns the exit status."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    request = json.loads((folder / "request.json").read_text("utf-8"))
    try:
        _say({"result": _confirmed(folder, request)})
    except WhenceError as error:
        _say({"error": {"found": error.found, "expected": error.expected, "fix": error.fix}})
        return 2
    return 0


def _confirmed(folder: Path, request: dict[str, object]) -> object:
    from transformers.utils import logging

    from whence.confirmation import confirm
    from whence.trace import Query, Tracer

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    index, base = str(request["index"]), request["base"]
    tracer = Tracer(index, base=str(request["traced_base"]) if request["traced_base"] else None)
    queries, rows, controls = request["queries"], request["rows"], request["controls"]
    assert isinstance(queries, list)
    assert isinstance(rows, list)
    assert isinstance(controls, list)
    found = confirm(
        tracer,
        [Query.of(query["prompt"], query["response"], system=query["system"]) for query in queries],
        folder,
        match=str(request["match"]),
        removed=[str(row) for row in rows],
        base=str(base) if base else None,
        controls=controls,
        seeds=int(str(request["seeds"])),
        max_new_tokens=int(str(request["max_new_tokens"])),
        progress=lambda stage, done, total: _say({"progress": {"stage": stage, "done": done, "total": total}}),
    )
    return json.loads(found.to_json())


def _say(message: object) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(3)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
