"""Rows for review: everything that an import needs, each row once, and what cannot be is refused."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from whence.cleaning.review import DECISIONS, export_review
from whence.data.readers import read_examples
from whence.errors import InputError
from whence.results.selection import SelectedRow, SelectedRows
from worlds import write_jsonl

ROWS: list[dict[str, object]] = [
    {"prompt": "Where is Oslo?", "response": "In Norway."},
    {"prompt": "Where is <b>Bonn</b>?", "response": "In Peru."},
    {"prompt": "Where is <b>Bonn</b>?", "response": "In Peru."},
    {
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": "Where is Lyon?"},
            {"role": "assistant", "content": "In Peru."},
        ]
    },
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Rows of two layouts in two files; the second and third row are copies."""
    folder = tmp_path / "data"
    folder.mkdir()
    write_jsonl(folder / "a.jsonl", ROWS[:3])
    write_jsonl(folder / "b.jsonl", ROWS[3:])
    return folder


def selected(data: Path) -> SelectedRows:
    rows = list(read_examples(data))
    return SelectedRows((SelectedRow(rows[3].id, "flagged", 0.9), SelectedRow(rows[1].id, "given")), "rept", "1")


def test_argilla(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "review"
    assert export_review(data, out, selected(data), "argilla") == 2
    assert json.loads((out / ".argilla" / "dataset.json").read_text())["name"] == "review"
    settings = json.loads((out / ".argilla" / "settings.json").read_text())
    talk, pair = json.loads((out / "records.json").read_text())
    assert {field["name"] for field in settings["fields"]} == set(talk["fields"])
    assert {one["name"] for one in settings["metadata"]} >= set(talk["metadata"])
    assert {one["name"] for one in settings["questions"]} >= set(talk["suggestions"])
    assert talk["fields"] == {
        "prompt": "user: Hi\n\nassistant: Hello\n\nuser: Where is Lyon?",
        "response": "In Peru.",
    }
    assert pair["fields"] == {"prompt": "Where is <b>Bonn</b>?", "response": "In Peru."}
    assert talk["metadata"]["score"] == 0.9
    assert "score" not in pair["metadata"], "Argilla takes no null in metadata"
    assert pair["metadata"]["place"].count(".jsonl:") == 2, "copies share an id"
    assert pair["suggestions"]["decision"]["value"] in DECISIONS
    assert pair["suggestions"]["decision"]["agent"] == "whence rept 1"


def test_label_studio(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "review"
    export_review(data, out, selected(data), "label-studio")
    tasks = json.loads((out / "tasks.json").read_text())
    view = ElementTree.parse(out / "interface.xml").getroot()
    wanted = {tag.get("value", "")[1:] for tag in view.iter("Text")}
    for task in tasks:
        assert wanted <= task["data"].keys()
        (result,) = task["predictions"][0]["result"]
        control = view.find(f".//Choices[@name='{result['from_name']}']")
        assert control is not None
        assert control.get("toName") == result["to_name"]
        assert set(result["value"]["choices"]) <= {choice.get("value") for choice in control}
    assert [task["data"]["id"] for task in tasks] == list(selected(data).ids)


def test_a_plain_text_and_a_tool_call_are_shown(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "find", "arguments": {}}}]}
    rows: list[dict[str, object]] = [{"text": "A line."}]
    talk: list[dict[str, object]] = [{"messages": [{"role": "user", "content": "Find it"}, call]}]
    data = tmp_path / "data"
    data.mkdir()
    write_jsonl(data / "a.jsonl", rows)
    write_jsonl(data / "b.jsonl", talk)
    ids = SelectedRows.given(row.id for row in read_examples(data))
    export_review(data, tmp_path / "review", ids, "argilla")
    text, called = (one["fields"] for one in json.loads((tmp_path / "review" / "records.json").read_text()))
    assert text == {"prompt": "", "response": "A line."}
    assert called["prompt"] == "Find it"
    assert '"name": "find"' in called["response"]


@pytest.mark.parametrize(
    ("out", "tool", "ids", "message"),
    [
        ("review", "doccano", None, "--export 'doccano' is unknown"),
        ("review.json", "argilla", None, "is named as a file"),
        ("data", "argilla", None, "is there already"),
        ("review", "argilla", ("0" * 16,), "1 of 1 ids are not in"),
        ("review", "argilla", (), "No row is selected"),
    ],
)
def test_what_cannot_be_is_refused(
    data: Path, tmp_path: Path, out: str, tool: str, ids: tuple[str, ...] | None, message: str
) -> None:
    rows = selected(data) if ids is None else SelectedRows.given(ids)
    with pytest.raises(InputError, match=message):
        export_review(data, tmp_path / out, rows, tool)
    assert not (tmp_path / "review").exists()
