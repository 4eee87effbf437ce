"""An index whose model has other settings beside the same weights, after it was built."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from adapters import make_adapter
from whence.errors import IndexFolderError, MismatchError
from whence.index import ADAPTER_OFF, append_rows, build_index
from whence.index.manifest import MANIFEST, Manifest
from whence.index.store import Index
from whence.model.loading import LoadedModel, ModelSettings, load_model
from whence.trace.query import models
from whence.trace.tracer import Tracer
from worlds import rows, save_model, write_jsonl


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An adapter `lora`, its base `base`, a model fine-tuned as a whole `full`, and rows."""
    save_model(tmp_path / "base")
    make_adapter(tmp_path / "base", tmp_path / "lora", "LORA", lora_alpha=8)
    load_model(ModelSettings(model=str(tmp_path / "lora"))).model.merge_and_unload().save_pretrained(tmp_path / "full")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (tmp_path / "base" / name).exists():
            shutil.copy(tmp_path / "base" / name, tmp_path / "full")
    write_jsonl(tmp_path / "train.jsonl", rows(12))
    return tmp_path


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def built(folder: Path, model: str, **settings: object) -> Index:
    return build_index(folder / model, folder / "train.jsonl", folder / "index", max_length=64, **settings)


SAYS = r"adapter\.scale: the index has 2\.0, this model has 4\.0"


def test_an_adapter_with_another_scale_is_another_model(folder: Path) -> None:
    index = built(folder, "lora")
    Tracer(index)
    change(folder / "lora" / "adapter_config.json", lora_alpha=16)
    with pytest.raises(MismatchError, match=SAYS):
        Tracer(index)
    write_jsonl(folder / "more.jsonl", rows(15)[12:])
    with pytest.raises(MismatchError, match=SAYS):
        append_rows(folder / "index", folder / "more.jsonl")
    with pytest.raises(IndexFolderError, match=r"adapter\.scale: the index has 2\.0, this command gives 4\.0"):
        built(folder, "lora")
    with pytest.raises(IndexFolderError, match=r"adapter\.scale"):
        built(folder, "lora", methods=["rept"])


def test_another_epsilon_of_the_base_is_another_model(folder: Path) -> None:
    index = built(folder, "lora")
    change(folder / "base" / "config.json", rms_norm_eps=0.01)
    with pytest.raises(MismatchError, match=r"rms_norm_eps: the index has \S+, this model has 0\.01"):
        Tracer(index)


def test_a_base_of_its_own_with_another_epsilon(folder: Path) -> None:
    index = built(folder, "full", base=str(folder / "base"))
    Tracer(index)
    change(folder / "base" / "config.json", rms_norm_eps=0.01)
    with pytest.raises(MismatchError, match=r"not as it was[\s\S]*rms_norm_eps: the index has \S+, it has 0\.01"):
        Tracer(index)
    write_jsonl(folder / "more.jsonl", rows(15)[12:])
    with pytest.raises(MismatchError, match="not as it was"):
        append_rows(folder / "index", folder / "more.jsonl")
    with pytest.raises(IndexFolderError, match=r"base's rms_norm_eps"):
        built(folder, "full", base=str(folder / "base"))


def test_an_index_from_before_settings_were_kept_is_asked_as_before(folder: Path) -> None:
    index = built(folder, "lora")
    before = Manifest.model_validate(
        {
            name: value
            for name, value in index.manifest.model_dump(by_alias=True).items()
            if not name.endswith("_settings")
        }
    )
    before.write(folder / "index")
    assert "adapter.scale" not in (folder / "index" / MANIFEST).read_text()
    Tracer(Index.open(folder / "index"))
    built(folder, "lora")


def test_the_base_that_an_index_is_asked_with_has_the_adapters_revision(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With biases of its own an adapter that is turned off is not its base, which is loaded by itself."""
    manifest = built(folder, "lora").manifest
    assert manifest.base == ADAPTER_OFF
    loaded = load_model(ModelSettings(model=str(folder / "lora")))
    loaded = replace(loaded, settings=loaded.settings.model_copy(update={"revision": "v1"}), adapter_off_is_base=False)
    asked: list[ModelSettings] = []

    def noted(settings: ModelSettings) -> LoadedModel:
        asked.append(settings)
        return loaded

    monkeypatch.setattr(models, "load_model", noted)
    monkeypatch.setattr(models, "check_base", lambda *parts, **hashes: None)
    for given in (None, "elsewhere"):
        settings = cast("dict[str, object]", manifest.settings) | {"base": given}
        own = manifest.model_copy(update={"base": manifest.hashes.weights, "settings": settings})
        models._checked_base(own, loaded, None)
    assert [(one.model, one.revision) for one in asked] == [(str(folder / "base"), "v1"), ("elsewhere", None)]
