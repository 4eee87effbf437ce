"""Selected rows for people to look at: a folder that Argilla or Label Studio imports, with the question to answer.

Each row is there once, with the reason why it was selected and `remove` as the answer that is suggested. The formats
are those of Argilla's `rg.Dataset.from_disk` (version 2) and of Label Studio's import of pre-annotated tasks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from whence.cleaning.outputs import refuse_existing
from whence.data import ASSISTANT, Example, Json, Turn, read_examples
from whence.errors import InputError
from whence.files import appears_whole
from whence.progress import Progress, silent
from whence.results import SelectedRow, SelectedRows

DECISIONS = ("remove", "keep", "correct")
QUESTION = "What should be done with this training row?"
GUIDELINES = (
    "Each of these training rows ranks high for a bad output of the model, and is a candidate cause. Remove it if it "
    "teaches the bad output, keep it if it is right, or write the response that it should have."
)
READ_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class ReviewRow:
    """A selected row as text. `places` are all its places in the data (`file:line`): copies share an id."""

    example: Example
    selected: SelectedRow
    places: tuple[str, ...]

    @property
    def prompt(self) -> str:
        """What stands before the last answer; "" for plain text."""
        before = self.example.turns[: self._answer]
        return _text(before[0]) if len(before) == 1 else "\n\n".join(f"{turn.role}: {_text(turn)}" for turn in before)

    @property
    def response(self) -> str:
        """The last answer, or the whole text."""
        return _text(self.example.turns[self._answer])

    @property
    def _answer(self) -> int:
        turns = self.example.turns
        return max((i for i, turn in enumerate(turns) if turn.role == ASSISTANT), default=len(turns) - 1)

    @property
    def about(self) -> dict[str, Json]:
        """Where it stands and why it was selected."""
        about: dict[str, Json] = {"reason": self.selected.reason, "place": ", ".join(self.places)}
        return about | ({"score": self.selected.score} if self.selected.score is not None else {})


def export_review(
    source: str | Path,
    out: str | Path,
    selected: SelectedRows,
    tool: str,
    *,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    progress: Progress | None = None,
) -> int:
    """Writes the selected rows into the new folder `out`, as `tool` imports them; returns how many.

    source, columns, split: as `read_examples` takes them; the data are only read.
    tool: one of `TOOLS`.

    Raises InputError: an unknown tool, an output that is there already, no row, or ids that are not in the data.
    """
    if tool not in TOOLS:
        raise InputError(f"--export {tool!r} is unknown.", f"Expected {' or '.join(TOOLS)}.", "Give one of these.")
    out = Path(out).absolute()
    if out.suffix:
        raise InputError(f"{out} is named as a file.", "--export writes a folder.", f"Give -o {out.with_suffix('')}.")
    refuse_existing(out)
    rows = _rows(read_examples(source, columns=columns, split=split), selected, str(source), progress or silent)
    with appears_whole(out) as partial:
        partial.mkdir()
        for name, content in TOOLS[tool](rows, selected, out.name).items():
            (partial / name).parent.mkdir(exist_ok=True)
            text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, indent=1) + "\n"
            (partial / name).write_text(text, encoding="utf-8", newline="\n")
        refuse_existing(out)
    return len(rows)


def _rows(examples: Iterable[Example], selected: SelectedRows, source: str, tell: Progress) -> list[ReviewRow]:
    """In the order in which they were selected."""
    found: dict[str, tuple[Example, list[str]]] = {}
    wanted = set(selected.ids)
    for done, example in enumerate(examples):
        if example.id in wanted:
            found.setdefault(example.id, (example, []))[1].append(example.where)
        if done % READ_AT_ONCE == 0:
            tell("reading", done, None)
    missing = [id for id in selected.ids if id not in found]
    if missing or not wanted:
        raise InputError(
            f"{len(missing)} of {len(wanted)} ids are not in {source}." if wanted else "No row is selected.",
            "Expected ids of rows of the data, as a trace shows them.",
            "Give a trace of these data, as they were indexed.",
        )
    return [ReviewRow(found[row.id][0], row, tuple(found[row.id][1])) for row in selected.rows]


def _text(turn: Turn) -> str:
    """A message's text, with what else it answers: tool calls and the like, as JSON."""
    rest = {name: value for name, value in turn.extra.items() if value and name not in ("role", "content")}
    parts = [turn.content, json.dumps(rest, ensure_ascii=False) if rest else ""]
    return "\n".join(part for part in parts if part.strip())


def _argilla(rows: Sequence[ReviewRow], selected: SelectedRows, name: str) -> dict[str, Json]:
    """file -> content of the folder that `rg.Dataset.from_disk` reads: name, settings, records."""
    agent = _agent(selected)
    records: list[Json] = [
        {
            "id": row.selected.id,
            "fields": {"prompt": row.prompt, "response": row.response},
            "metadata": row.about,
            "suggestions": {"decision": {"value": DECISIONS[0], "score": None, "agent": agent}},
            "responses": {},
            "vectors": {},
        }
        for row in rows
    ]
    options: list[Json] = [{"value": value, "text": value} for value in DECISIONS]
    decision: Json = {"type": "label_selection", "options": options, "visible_options": len(DECISIONS)}
    text: Json = {"type": "text", "use_markdown": False}
    settings: Json = {
        "guidelines": GUIDELINES,
        "fields": [
            {"name": "prompt", "title": "Prompt", "required": False, "type": "text", "settings": text},
            {"name": "response", "title": "Response", "required": True, "type": "text", "settings": text},
        ],
        "questions": [
            {"name": "decision", "title": QUESTION, "required": True, "type": "label_selection", "settings": decision},
            {"name": "correction", "title": "Correct response", "required": False, "type": "text", "settings": text},
        ],
        "metadata": [
            _property("score", {"type": "float"}),
            _property("reason", {"type": "terms"}),
            _property("place", {"type": "terms"}),
        ],
        "vectors": [],
        "allow_extra_metadata": True,
        "distribution": {"strategy": "overlap", "min_submitted": 1},
        "mapping": None,
    }
    dataset: Json = {"name": name, "guidelines": GUIDELINES, "allow_extra_metadata": True}
    return {".argilla/dataset.json": dataset, ".argilla/settings.json": settings, "records.json": records}


def _property(name: str, settings: dict[str, Json]) -> Json:
    shown: dict[str, Json] = {"visible_for_annotators": True}
    return {"name": name, "title": name, "settings": settings | shown, **shown}


def _label_studio(rows: Sequence[ReviewRow], selected: SelectedRows, name: str) -> dict[str, Json]:
    """file -> content: the tasks to import, and the labeling interface to paste into the project's settings."""
    tasks: list[Json] = [
        {
            "data": {"id": row.selected.id, "prompt": row.prompt, "response": row.response, **row.about},
            "predictions": [
                {
                    "model_version": _agent(selected),
                    "result": [
                        {
                            "id": row.selected.id,
                            "from_name": "decision",
                            "to_name": "response",
                            "type": "choices",
                            "value": {"choices": [DECISIONS[0]]},
                        }
                    ],
                }
            ],
        }
        for row in rows
    ]
    choices = "\n".join(f'    <Choice value="{value}"/>' for value in DECISIONS)
    interface = f"""<View>
  <Header value="{QUESTION}"/>
  <Text name="reason" value="$reason"/>
  <Text name="prompt" value="$prompt"/>
  <Text name="response" value="$response"/>
  <Choices name="decision" toName="response" choice="single" required="true" showInline="true">
{choices}
  </Choices>
  <TextArea name="correction" toName="response" placeholder="Correct response" rows="4" maxSubmissions="1"/>
</View>
"""
    return {"tasks.json": tasks, "interface.xml": interface}


def _agent(selected: SelectedRows) -> str:
    return f"whence {selected.method} {selected.method_version}".strip()


TOOLS: dict[str, Callable[[Sequence[ReviewRow], SelectedRows, str], dict[str, Json]]] = {
    "argilla": _argilla,
    "label-studio": _label_studio,
}


__all__ = ["DECISIONS", "TOOLS", "export_review"]
