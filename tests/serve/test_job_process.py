"""What the process of a job opens: the index and models of its server, on the server's device."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from served_world import ServedWorld
from whence.model.placement import Placement
from whence.serve import job_process
from whence.serve.jobs import OPENED, opened_with
from whence.serve.service import Service
from whence.serve.settings import ServerSettings
from whence.trace.tracer import Tracer
from whence.train.finetuning import FinetuneSettings


def loaded_anew(tracer: Tracer, **settings: object) -> Tracer:
    """The tracer, its model as if it were loaded with other settings."""
    loaded = replace(tracer.loaded, settings=tracer.loaded.settings.model_copy(update=settings))
    return Tracer(tracer.index, model=loaded)


def test_a_job_opens_what_its_server_has_open(
    tracer: Tracer, served: ServedWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("whence.serve.jobs.Jobs._next", lambda self: None)
    model = str(served.traced.model)
    moved = loaded_anew(tracer, model=model, device="cuda:1", max_memory={"0": "1GiB"}, adapter="moved/adapter")
    service = Service(moved, ServerSettings(base=model))
    id = service.jobs.start("confirm", {"match": "sea"}, {"queries": [], "rows": [], "seeds": 2})
    service.jobs._started(id).kill()
    service.close()
    folder = service.jobs._folder(id)
    opened: list[object] = []

    def open_(index: str, **options: object) -> object:
        opened.append((index, options))
        return SimpleNamespace(index=tracer.index)

    def work(folder: Path, tracer: object, request: dict[str, object]) -> object:
        opened.append(request)
        return {}

    monkeypatch.setattr(job_process, "Tracer", open_)
    monkeypatch.setattr(job_process, "confirmed", work)
    monkeypatch.setattr(job_process, "_end_with_parent", lambda: None)
    assert job_process.main(folder) == 0
    placed = Placement("cuda:1", None, {"0": "1GiB"})
    given = {"model": model, "adapter": "moved/adapter", "base": None, "device": placed}
    assert opened[0] == (str(tracer.index.path.absolute()), given)
    assert opened[1]["base"] == model  # type: ignore[index]
    assert opened[1]["seeds"] == 2  # type: ignore[index]


def test_a_full_disk_ends_a_job_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "request.json").write_text('{"kind": "audit"}')
    (tmp_path / OPENED).write_text(
        '{"index": "i", "model": null, "adapter": null, "traced_base": null, "placement": {}}'
    )
    errors = [OSError(errno.ENOSPC, "No space left on device"), ValueError("a defect")]

    def work(*_: object) -> object:
        raise errors.pop(0)

    monkeypatch.setattr(job_process, "Tracer", lambda *_, **__: None)
    monkeypatch.setattr(job_process, "audited", work)
    monkeypatch.setattr(job_process, "_end_with_parent", lambda: None)
    assert job_process.main(tmp_path) == 2
    assert "No space left" in json.loads(capsys.readouterr().out)["error"]["found"]
    with pytest.raises(ValueError, match="a defect"):
        job_process.main(tmp_path)


def test_models_that_have_not_moved_are_the_indexs_own(tracer: Tracer) -> None:
    opened = opened_with(tracer, None)
    assert (opened["model"], opened["adapter"], opened["traced_base"]) == (None, None, None)
    assert opened["placement"] == {"device": "auto", "device_map": None, "max_memory": None}
    assert json.loads(json.dumps(opened)) == opened


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_a_retraining_is_on_the_servers_device(
    tracer: Tracer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    known = SimpleNamespace(settings=FinetuneSettings(epochs=3), is_whole=True)
    monkeypatch.setattr("whence.confirmation.known_settings", lambda manifest: known)
    trained: list[object] = []

    def confirm(*_: object, **options: object) -> object:
        trained.append(options["settings"])
        return SimpleNamespace(to_json=lambda: "{}")

    monkeypatch.setattr("whence.confirmation.confirm", confirm)
    request = dict.fromkeys(("match", "base", "controls", "seeds", "max_new_tokens"))
    whole = request | {"rows": [], "queries": [], "placement": {"device": device}}
    assert job_process.confirmed(tmp_path, tracer, whole) == {}
    assert trained == [FinetuneSettings(epochs=3, device="cpu") if device == "cpu" else None]


def test_a_job_of_an_earlier_server_is_opened_as_this_one_says(tracer: Tracer) -> None:
    folders = []
    for device in ("cpu", "cuda:0"):
        service = Service(loaded_anew(tracer, device=device), ServerSettings())
        service.jobs.close()
        if not folders:
            id = service.jobs.start("audit", {"name": "May"}, {"queries": []})
        service.jobs._started(id).kill()
        folders.append(json.loads((service.jobs._folder(id) / OPENED).read_text())["placement"]["device"])
        service.close()
    assert folders == ["cpu", "cuda:0"]
