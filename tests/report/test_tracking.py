"""What `--log` gives to Weights & Biases, MLflow and TensorBoard, read back without a network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from samples import bare, result_of, toronto
from whence.errors import InputError
from whence.report import tracking
from whence.report.tracking import check_tool, log_result, query_figures

RESULT = result_of(toronto(), bare(toronto()), replace(bare(toronto()), hits=()))
HIDDEN = toronto().hits[1].response


def test_what_is_said_of_a_query() -> None:
    figures = [query_figures(query) for query in RESULT]
    assert figures[0] == {"flagged": 6.0, "top_score": 0.913, "n_rows": 1000.0}
    assert figures[1] == {"top_score": 0.913, "n_rows": 1000.0}, "without a verdict nothing is flagged or not"
    assert figures[2] == {"n_rows": 1000.0}


def test_an_unknown_tool_and_one_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"'comet' is unknown[\s\S]*wandb, mlflow, tensorboard"):
        check_tool("comet")
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'mlflow is not installed[\s\S]*pip install -e "\.\[mlflow\]"'):
        log_result(RESULT, "mlflow")


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    log_result(RESULT, "mlflow", show_text=False)
    assert mlflow.active_run() is None
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert run.data.params["whence.method"] == "rept 1"
    assert [m.value for m in client.get_metric_history(run.info.run_id, "whence.flagged")] == [6.0]
    curve = client.get_metric_history(run.info.run_id, "whence.score_by_rank.query_0")
    assert [(m.step, m.value) for m in curve] == [(hit.rank, hit.score) for hit in toronto().hits]
    files = {path.name: path for path in tmp_path.rglob("trace.*")}
    assert json.loads(files["trace.json"].read_text("utf-8"))["schema"] == "whence.trace/2"
    assert "<!doctype html>" in files["trace.html"].read_text("utf-8")
    assert all(HIDDEN not in path.read_text("utf-8") for path in files.values())


def test_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path))
    assert log_result(RESULT, "tensorboard") == str(tmp_path)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("whence/flagged")] == [(0, 6.0)]
    curve = events.Scalars("whence_score_by_rank/query_1")
    assert [e.step for e in curve] == [hit.rank for hit in toronto().hits]
    (text,) = events.Tensors("whence/summary/text_summary")
    assert b"training rows flagged" in text.tensor_proto.string_val[0]


def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    for name, value in {"MODE": "offline", "DIR": str(tmp_path), "SILENT": "true"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    place = log_result(RESULT, "wandb")
    assert wandb.run is None
    assert str(tmp_path) in place
    assert list(tmp_path.rglob("*.wandb"))
    (page,) = tmp_path.rglob("*.html")
    assert page.read_text("utf-8").startswith("<!doctype html>")
    (table,) = tmp_path.rglob("*.table.json")
    assert len(json.loads(table.read_text("utf-8"))["data"]) == 2 * len(toronto().hits)


def test_wandb_without_an_account_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")

    def refuse(**_: object) -> None:
        raise wandb.errors.UsageError("No API key configured.")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(InputError, match=r"No API key configured[\s\S]*WANDB_MODE=offline"):
        log_result(RESULT, "wandb")
