"""`whence info`: what an index takes, as text and as JSON, and what it says of a folder that is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fake_index import FakeEncoder, FakeExtractor, fake_examples, fake_manifest, write_index
from whence.cli.main import app
from whence.errors import IndexFolderError, InputError
from whence.index import Index, default_form, delete_rows, require_manifest
from whence.index.history import who


@pytest.fixture
def index(tmp_path: Path) -> Path:
    out = tmp_path / "index"
    write_index(out, fake_examples(20), FakeEncoder(), FakeExtractor(), fake_manifest(20))
    return out


def test_each_column_and_the_whole_are_shown(index: Path) -> None:
    shown = CliRunner().invoke(app, ["info", str(index)], env={"COLUMNS": "120"})
    assert shown.exit_code == 0
    assert "20 rows" in shown.output
    assert "vectors in float16, all dimensions" in shown.output
    for text in ("h_1", "h at layer 1: 8 numbers, float16", "response", "bytes a row", "year"):
        assert text in shown.output


def test_json_adds_up(index: Path, tmp_path: Path) -> None:
    place = tmp_path / "info.json"
    assert CliRunner().invoke(app, ["info", str(index), "--json", str(place)]).exit_code == 0
    found = json.loads(place.read_text("utf-8"))
    assert found["schema"] == "whence.info/1"
    assert (found["n_rows"], found["n_records"]) == (20, 39)
    assert sum(column["bytes"] for column in found["columns"].values()) < found["record_bytes"]
    assert found["bytes_per_row"] == pytest.approx(found["record_bytes"] / 20, abs=0.1)
    manifest = require_manifest(index)
    assert found["data"] == manifest.data.model_dump()
    assert (found["default_method"], found["methods"]) == (default_form(manifest).name, list(manifest.methods))
    written = CliRunner().invoke(app, ["info", str(index), "--json", "-"])
    assert json.loads(written.output) == found


def test_no_index_and_no_place_are_refused(index: Path, tmp_path: Path) -> None:
    wrong = CliRunner().invoke(app, ["info", str(tmp_path / "indx")])
    assert isinstance(wrong.exception, IndexFolderError)
    assert "Did you mean" in str(wrong.exception)
    nowhere = CliRunner().invoke(app, ["info", str(index), "--json", str(tmp_path / "no" / "x.json")])
    assert isinstance(nowhere.exception, InputError)


def test_what_happened_to_the_rows_when_and_by_whom(index: Path, tmp_path: Path) -> None:
    before = CliRunner().invoke(app, ["info", str(index)]).output
    assert "built of" not in before
    gone = [record.id for record in Index.open(index).fetch([0, 38])]
    delete_rows(index, gone)
    shown = CliRunner().invoke(app, ["info", str(index)], env={"COLUMNS": "200"}).output
    assert f"by {who()}: built of 20 rows of train.jsonl, from row 0 on, model a1" in shown
    assert f"by {who()}: deleted 2 rows (0,19), model a1" in shown
    place = tmp_path / "info.json"
    CliRunner().invoke(app, ["info", str(index), "--json", str(place)])
    history = json.loads(place.read_text("utf-8"))["history"]
    assert [(one["change"], one["n_rows"], one["who"]) for one in history] == [
        ("build", 20, who()),
        ("delete", 2, who()),
    ]
    assert [one["data"] and one["data"]["source"] for one in history] == ["train.jsonl", None]
