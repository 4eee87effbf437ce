"""Audits that can be opened: those that jobs of the server made, and JSON of `whence audit` in its folder.

FOLDER/jobs/ID/audit.json   of a job (docs/audit.md)
FOLDER/audits/NAME.json     put there by hand: `whence audit --json`; its id is a hash of NAME
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from whence.data import Json
from whence.errors import InputError
from whence.files import hash_of
from whence.report import groups_note, push_note, rate_note, source_note, trigger_note
from whence.results import AuditResult, read_audit
from whence.serve.failures import Redaction, missing
from whence.serve.large import large_integers
from whence.serve.reading import Rows
from whence.serve.state import Object, State

AUDITS = "audits"
"""Folder for files that were made elsewhere."""
RESULT = "audit.json"
"""What a job leaves in its own folder."""
MOST_FILES = 500


class _Place(NamedTuple):
    id: str
    name: str
    created: float
    path: Path
    is_job: bool

    def described(self) -> Object:
        return {"id": self.id, "name": self.name, "created": self.created, "made_here": self.is_job}


class Audits:
    """Lists and reads the audits of one index. show_text: False leaves the texts of rows out.

    Files are read when they are asked for; what the list says of them is remembered until they change.
    """

    def __init__(self, state: State, redaction: Redaction, *, show_text: bool) -> None:
        self._state, self._redaction, self._show_text = state, redaction, show_text
        self._folder = state.folder / AUDITS
        self._folder.mkdir(exist_ok=True)
        self._said: dict[tuple[Path, int, int], Object] = {}

    def listed(self) -> list[Json]:
        """All audits, the latest first. `problem` says of a file why it cannot be opened."""
        places = sorted(self._places(), key=lambda place: -place.created)
        return [{**place.described(), **self._summary(place.path)} for place in places]

    def audit(self, id: str, rows: Rows) -> Object:
        """One audit with its whole result; rows: of the index.

        Raises RefusedError (404); InputError for a file that cannot be read.
        """
        place, audit = self._read(id)
        shown = audit if self._show_text else audit.without_text()
        ids = {name for group in audit.groups for row in group.rows for name in (row.id, *row.copies)}
        result = shown.to_dict()
        pushed = shown.behaviour.sources if shown.behaviour is not None else ()
        return {
            **place.described(),
            "text": audit.text,
            "note": groups_note(audit),
            "rate": rate_note(audit),
            "n_unknown": len(ids) - len(rows.known(ids)),
            "source_notes": [source_note(table) for table in shown.sources],
            "push_notes": [push_note(table) if table.values else "" for table in pushed],
            "trigger_note": trigger_note(shown) if shown.looked_for_triggers or shown.triggers else "",
            "result": result,
            "large_integers": large_integers(result),
        }

    def report(self, id: str, *, show_text: bool) -> str:
        """The self-contained page of an audit; raises as `audit`."""
        place, audit = self._read(id)
        return audit.to_html(title=place.name, show_text=show_text and self._show_text)

    def _read(self, id: str) -> tuple[_Place, AuditResult]:
        place = next((place for place in self._places() if place.id == id), None)
        if place is None:
            raise missing("audit", id)
        audit = _opened(place.path)
        text = self._redaction.text
        adapter = text(audit.adapter) if audit.adapter else None
        return place, replace(audit, index=text(audit.index), model=text(audit.model), adapter=adapter)

    def _places(self) -> list[_Place]:
        made = [
            _Place(id, str(request["name"]), float(str(job["created"])), path, is_job=True)
            for job in self._state.jobs("audit")
            if isinstance(request := job["request"], dict)
            and (path := self._state.folder / "jobs" / (id := str(job["id"])) / RESULT).is_file()
        ]
        for path in sorted(self._folder.glob("*.json"))[:MOST_FILES]:
            name = os.fsencode(path.stem).decode("utf-8", "backslashreplace")
            with suppress(OSError):  # it has just gone
                if path.is_file():
                    made.append(_Place(hash_of(name), name, path.stat().st_mtime, path, is_job=False))
        return made

    def _summary(self, path: Path) -> Object:
        try:
            found = path.stat()
        except OSError:
            return self._described(path)
        key = (path, found.st_mtime_ns, found.st_size)
        if key not in self._said:
            if len(self._said) > 2 * MOST_FILES:
                self._said.clear()
            self._said[key] = self._described(path)
        return self._said[key]

    def _described(self, path: Path) -> Object:
        try:
            audit = _opened(path)
        except InputError as error:
            problem = self._redaction.text(f"{error.found} {error.expected}")
            return {"text": "", "n_outputs": 0, "n_groups": 0, "problem": problem}
        return {"text": audit.text, "n_outputs": audit.n_outputs, "n_groups": len(audit.groups), "problem": None}


def _opened(path: Path) -> AuditResult:
    """An audit. Raises InputError for a file that cannot be read."""
    try:
        return read_audit(path)
    except (OSError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is nested too deep"
        raise InputError(f"{path} cannot be read: {why}.", "Expected what `whence audit --json` wrote.", "") from error
