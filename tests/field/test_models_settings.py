"""An index whose model has other settings beside the same weights, after it was built."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from adapters import make_adapter
from fake_index import fake_manifest
from whence.confirmation import recipe
from whence.errors import IndexFolderError, MismatchError
from whence.files import hash_of
from whence.index import ADAPTER_OFF, append_rows, build_index
from whence.index.manifest import MANIFEST, SETTINGS, Manifest
from whence.index.sameness import index_hash, with_settings_of
from whence.index.shards import check_same
from whence.index.store import Index
from whence.model import adapter_place
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


SCALE = r"adapter\.scale \(lora_alpha, alpha_pattern, use_rslora of adapter_config\.json\)"
SAYS = SCALE + r": the index has 2\.0, this model has 4\.0[\s\S]*put the settings back"


def test_an_adapter_with_another_scale_is_another_model(folder: Path) -> None:
    index = built(folder, "lora")
    Tracer(index)
    change(folder / "lora" / "adapter_config.json", lora_alpha=16)
    with pytest.raises(MismatchError, match=SAYS):
        Tracer(index)
    write_jsonl(folder / "more.jsonl", rows(15)[12:])
    with pytest.raises(MismatchError, match=SAYS):
        append_rows(folder / "index", folder / "more.jsonl")
    with pytest.raises(IndexFolderError, match=SCALE + r": the index has 2\.0, this command gives 4\.0"):
        built(folder, "lora")
    with pytest.raises(IndexFolderError, match=r"adapter\.scale"):
        built(folder, "lora", methods=["rept"])


def test_another_epsilon_of_the_base_is_another_model(folder: Path) -> None:
    index = built(folder, "lora")
    change(folder / "base" / "config.json", rms_norm_eps=0.01)
    with pytest.raises(MismatchError, match=r"rms_norm_eps \(config\.json\): the index has \S+, this model has 0\.01"):
        Tracer(index)


def test_a_base_of_its_own_with_another_epsilon(folder: Path) -> None:
    index = built(folder, "full", base=str(folder / "base"))
    Tracer(index)
    change(folder / "base" / "config.json", rms_norm_eps=0.01)
    with pytest.raises(
        MismatchError, match=r"not as it was[\s\S]*rms_norm_eps \(config\.json\): the index has \S+, it has 0\.01"
    ):
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


def test_results_of_an_index_of_another_setting_are_of_another_index(folder: Path) -> None:
    one = built(folder, "lora").manifest
    change(folder / "lora" / "adapter_config.json", lora_alpha=16)
    two = built(folder, "lora", overwrite=True).manifest
    assert one.hashes == two.hashes
    assert one.identity() != two.identity()
    assert index_hash(one) != index_hash(two)
    kept_none = one.model_copy(update={"model_settings": {}, "base_settings": {}})
    assert SETTINGS not in kept_none.identity()
    assert index_hash(kept_none) == hash_of([one.hashes.model_dump(), one.data.content_hash])


@pytest.mark.parametrize("lacks", [("rms_norm_eps",), None])
def test_a_build_that_other_libraries_began_goes_on_and_keeps_its_shards(
    folder: Path, lacks: tuple[str, ...] | None
) -> None:
    """None: the version that began it kept no settings."""
    whole = built(folder, "lora", shard_rows=4).manifest
    kept = {} if lacks is None else {name: value for name, value in whole.model_settings.items() if name not in lacks}
    begun = whole.model_copy(update={"status": "building", "model_settings": kept, "history": (), "counts": None})
    assert with_settings_of(begun, whole).model_settings == kept
    other = begun.model_copy(update={"model_settings": {"rms_norm_eps": 0.5}})
    assert with_settings_of(other, whole) == whole
    assert with_settings_of(begun.model_copy(update={"status": "complete"}), whole) == whole
    with pytest.raises(IndexFolderError, match=r"rms_norm_eps \(config\.json\): the index has 0\.5"):
        check_same(folder / "index", other, whole)
    check_same(folder / "index", begun, whole)


def test_a_given_base_with_another_setting_is_not_the_one_below_the_adapter(folder: Path) -> None:
    index = built(folder, "lora")
    shutil.copytree(folder / "base", folder / "copy")
    Tracer(index, base=str(folder / "copy"))
    change(folder / "copy" / "config.json", rms_norm_eps=0.01)
    with pytest.raises(MismatchError, match=r"not the base that the adapter \S+ sits on: its rms_norm_eps is 0\.01"):
        Tracer(index, base=str(folder / "copy"))


@pytest.mark.parametrize(("model", "base"), [("lora", None), ("full", "base")])
def test_a_confirmation_starts_from_the_base_with_its_settings(folder: Path, model: str, base: str | None) -> None:
    manifest = built(folder, model, **({"base": str(folder / base)} if base else {})).manifest
    recipe._check_base(manifest, load_model(ModelSettings(model=str(folder / "base"))), None, None)
    change(folder / "base" / "config.json", rms_norm_eps=0.01)
    changed = load_model(ModelSettings(model=str(folder / "base")))
    with pytest.raises(MismatchError, match=r"not the base of the index's model: its rms_norm_eps is 0\.01"):
        recipe._check_base(manifest, changed, None, None)


def test_a_model_in_memory_has_its_settings_compared(folder: Path) -> None:
    index = built(folder, "lora")
    found = load_model(ModelSettings(model=str(folder / "lora")))
    Tracer(index, model=LoadedModel.wrap(found.model, found.tokenizer))
    for module in found.model.modules():
        if isinstance(getattr(module, "scaling", None), dict):
            module.scaling["default"] = 4.0
    with pytest.raises(MismatchError, match=SAYS):
        Tracer(index, model=LoadedModel.wrap(found.model, found.tokenizer))


def test_for_a_model_in_memory_the_base_has_the_revision_of_the_adapters_config(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = built(folder, "lora").manifest
    found = load_model(ModelSettings(model=str(folder / "lora")))
    in_memory = LoadedModel.wrap(found.model, found.tokenizer)
    asked: list[ModelSettings] = []

    def noted(settings: ModelSettings) -> LoadedModel:
        asked.append(settings)
        return found

    monkeypatch.setattr(models, "load_model", noted)
    monkeypatch.setattr(models, "check_base", lambda *parts, **hashes: None)
    change(folder / "lora" / "adapter_config.json", base_model_name_or_path="org/base", revision="v1")
    own = manifest.model_copy(update={"model": "org/base", "base": manifest.hashes.weights})
    monkeypatch.setattr("whence.model.adapter_place.stored_file", no_hub)
    models._checked_base(own, in_memory, None)
    assert [(one.model, one.revision, one.adapter) for one in asked] == [("org/base", "v1", None)]


@pytest.mark.parametrize(("named", "revision"), [("v1", "v1"), (None, "given")])
def test_an_adapter_in_the_place_of_the_model_is_asked_on_the_base_of_its_build(
    folder: Path, monkeypatch: pytest.MonkeyPatch, named: str | None, revision: str
) -> None:
    """`whence index LORA --revision given`: the revision that the adapter's config names comes first, at both."""
    monkeypatch.setattr(adapter_place, "stored_file", no_hub)
    monkeypatch.setattr(adapter_place, "is_adapter", lambda place: False)
    change(folder / "lora" / "adapter_config.json", base_model_name_or_path="org/base", revision=named)
    built_at = adapter_place.settle(str(folder / "lora"), None, "given")
    assert (built_at.model, built_at.revision) == ("org/base", revision)
    kept = {"model": str(folder / "lora"), "adapter": None, "revision": "given"}
    manifest = fake_manifest(1, model="org/base", adapter=str(folder / "lora"), settings=kept)
    assert models._settings(manifest, None, None, "auto").revision == revision


def no_hub(place: str, name: str, revision: str | None = None) -> Path | None:
    path = Path(place) / name
    return path if path.is_file() else None


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
