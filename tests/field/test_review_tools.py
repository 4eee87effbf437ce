"""What `whence clean --export` writes, read by the clients of Argilla and Label Studio. Runs where they are installed:
`make test-peers`."""

from __future__ import annotations

import json
from pathlib import Path
from unittest import mock

import pytest

from whence.cleaning.review import export_review
from whence.data.readers import read_examples
from whence.results.selection import SelectedRow, SelectedRows

ROWS = [{"prompt": "Where is Oslo?", "response": "In Norway."}, {"prompt": "Where is Bonn?", "response": "In Peru."}]


@pytest.fixture
def exported(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The folder that is exported for the tool of the parameter."""
    data = tmp_path / "train.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    rows = list(read_examples(data))
    selected = SelectedRows((SelectedRow(rows[1].id, "flagged", 0.9), SelectedRow(rows[0].id, "given")), "rept", "1")
    export_review(data, tmp_path / "review", selected, request.param)
    return tmp_path / "review"


@pytest.mark.parametrize("exported", ["argilla"], indirect=True)
def test_argilla_reads_settings_and_records(exported: Path) -> None:
    rg = pytest.importorskip("argilla")
    from argilla._models import DatasetModel
    from argilla.client import Argilla

    # The client asks a server who it is before it builds anything.
    with mock.patch.object(Argilla, "_get_default", return_value=mock.MagicMock()):
        dataset_path, settings_path, records_path = rg.Dataset._define_child_paths(path=str(exported))
        settings = rg.Settings.from_json(settings_path)
        assert isinstance(rg.Dataset._load_dataset_model(path=dataset_path), DatasetModel)
        settings.validate()
        records = [rg.Record.from_dict(one) for one in json.loads(records_path.read_text("utf-8"))]
    assert [field.name for field in settings.fields] == ["prompt", "response"]
    assert [question.name for question in settings.questions] == ["decision", "correction"]
    for record in records:
        assert set(record.fields.to_dict()) == {"prompt", "response"}
        (suggestion,) = record.suggestions
        assert suggestion.value in settings.questions["decision"].labels
        record.api_model()


@pytest.mark.parametrize("exported", ["label-studio"], indirect=True)
def test_label_studio_accepts_tasks_and_interface(exported: Path) -> None:
    pytest.importorskip("label_studio_sdk")
    from label_studio_sdk.label_interface import LabelInterface

    interface = LabelInterface((exported / "interface.xml").read_text("utf-8"))
    interface.validate()
    tasks = json.loads((exported / "tasks.json").read_text("utf-8"))
    assert len(tasks) == 2
    for task in tasks:
        assert interface.validate_task({"data": task["data"]})
        for prediction in task["predictions"]:
            assert interface.validate_prediction(prediction, return_errors=True) == []
