"""`whence info`: what an index takes, as text and as JSON, and what it says of a folder that is none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fake_index import FakeEncoder, FakeExtractor, fake_examples, fake_manifest, write_index
from whence.cli.main import app
from whence.errors import IndexFolderError, InputError
from whence.index import Index, default_form, delete_rows, index_contents, require_manifest
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


def test_no_output_replaces_a_file_of_the_index_or_of_its_data(index: Path, tmp_path: Path) -> None:
    """Data may be named by a pattern, and rows may have been appended from elsewhere."""
    (tmp_path / "data").mkdir()
    files = [tmp_path / "data" / "a.jsonl", tmp_path / "data" / "b.jsonl", tmp_path / "extra.jsonl"]
    for file in files:
        file.write_text("kept")
    manifest = json.loads((index / "manifest.json").read_text("utf-8"))
    built = manifest["history"][0]
    built["data"]["source"] = str(tmp_path / "data" / "*.jsonl")
    appended = {**built, "change": "append", "first_row": 20, "data": {**built["data"], "source": str(files[2])}}
    manifest["history"].append(appended)
    (index / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    for place in (*files, index / "manifest.json"):
        before = place.read_bytes()
        refused = CliRunner().invoke(app, ["info", str(index), "--json", str(place)])
        assert isinstance(refused.exception, InputError), place
        assert place.read_bytes() == before


def test_a_columns_name_is_no_markup(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = index_contents(index)
    odd = replace(found, columns=(replace(found.columns[0], name="a[/b]"), *found.columns[1:]))
    monkeypatch.setattr("whence.index.index_contents", lambda path: odd)
    shown = CliRunner().invoke(app, ["info", str(index)], env={"COLUMNS": "120"})
    assert shown.exit_code == 0
    assert "a[/b]" in shown.output


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
