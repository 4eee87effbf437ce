"""Where models and adapters are: together in one folder, moved, recorded otherwise, or in the hub's cache."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adapters import make_adapter
from whence.errors import ModelError
from whence.index import subject
from whence.index.build import build_index
from whence.index.settings import BuildSettings
from whence.model.loading import LoadedModel, ModelSettings, load_model
from whence.trace.tracer import Tracer
from worlds import rows, save_model, write_jsonl

IDS = torch.tensor([[9, 7, 41, 300, 5, 77, 210, 64]])


def logits(**settings: object) -> torch.Tensor:
    given = {name: str(value) for name, value in settings.items()}
    return load_model(ModelSettings(**given)).model(input_ids=IDS).logits


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_model(tmp_path / "base")


@pytest.fixture
def lora(tmp_path: Path, base: Path) -> Path:
    make_adapter(base, tmp_path / "lora", "LORA")
    return tmp_path / "lora"


def record(folder: Path, **changes: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_merged_weights_with_the_adapter_beside_them(base: Path, lora: Path, tmp_path: Path) -> None:
    merged = tmp_path / "merged"
    load_model(ModelSettings(model=str(lora))).model.merge_and_unload().save_pretrained(merged)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / name, merged)
    expected = logits(model=lora)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(lora / name, merged)
    for settings in ({"model": merged}, {"model": merged, "adapter": lora}):
        with pytest.raises(ModelError, match=r"a whole model and an adapter beside it[\s\S]*twice[\s\S]*move adapter_"):
            logits(**settings)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (merged / name).unlink()
    torch.testing.assert_close(logits(model=merged), expected)


def test_what_fsdp_writes_beside_an_adapter_is_no_whole_model(lora: Path) -> None:
    expected = logits(model=lora)
    (lora / "pytorch_model_fsdp.bin").write_bytes(b"of the adapter alone")
    assert torch.equal(logits(model=lora), expected)


@pytest.mark.parametrize(
    ("begun", "why"), [("pissa_niter_4", "at random"), ("corda", "with the data"), ("lora_ga", "from gradients")]
)
def test_a_base_that_training_changed_and_loading_does_not_is_refused(lora: Path, begun: str, why: str) -> None:
    record(lora, init_lora_weights=begun)
    with pytest.raises(ModelError, match=rf"cannot be made again[\s\S]*{why}[\s\S]*plain LoRA"):
        logits(model=lora)


@pytest.mark.parametrize(("given", "revision"), [(None, "v1"), ("elsewhere", None)])
def test_the_base_that_is_compared_with_has_the_adapters_revision(
    base: Path, lora: Path, given: str | None, revision: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With biases of its own an adapter that is turned off is not its base, which is loaded by itself."""
    loaded = load_model(ModelSettings(model=str(base), adapter=str(lora)))
    at_v1 = loaded.settings.model_copy(update={"revision": "v1"})
    loaded = replace(loaded, settings=at_v1, adapter_off_is_base=False)
    asked: list[ModelSettings] = []

    def noted(settings: ModelSettings) -> LoadedModel:
        asked.append(settings)
        return loaded

    monkeypatch.setattr(subject, "load_model", noted)
    monkeypatch.setattr(subject, "check_base", lambda *parts: None)
    subject._load_base(BuildSettings(model=str(base), data="d", out="o", base=given), loaded)
    assert [(one.model, one.revision) for one in asked] == [(given or str(base), revision)]


def test_an_adapter_beside_a_config_without_weights(base: Path, lora: Path) -> None:
    expected = logits(model=base, adapter=lora)
    shutil.copy(base / "config.json", lora)
    loaded = load_model(ModelSettings(model=str(lora)))
    assert (loaded.settings.model, loaded.settings.adapter) == (str(base), str(lora))
    assert torch.equal(loaded.model(input_ids=IDS).logits, expected)


@pytest.mark.parametrize("recorded", ["/gone/base", r"C:\models\base", "../elsewhere/base", "./base-of-old"])
def test_a_recorded_base_that_is_not_there(lora: Path, base: Path, recorded: str) -> None:
    expected = logits(model=base, adapter=lora)
    record(lora, base_model_name_or_path=recorded)
    with pytest.raises(ModelError) as caught:
        logits(model=lora)
    assert f"names the base {recorded!r}, which is not there" in str(caught.value)
    assert f"MODEL --adapter {lora}" in str(caught.value)
    assert torch.equal(logits(model=base, adapter=lora), expected)


def test_a_recorded_base_on_the_hub_that_cannot_be_had(lora: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def hf_hub_download(*place: str, **options: object) -> str:
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    record(lora, base_model_name_or_path="models/base")
    with pytest.raises(ModelError, match=rf"'models/base' is no folder .*adapter {lora} names[\s\S]*--adapter {lora}"):
        logits(model=lora)


@pytest.mark.parametrize("recorded", [None, ""])
def test_no_recorded_base(lora: Path, base: Path, recorded: str | None) -> None:
    record(lora, base_model_name_or_path=recorded)
    with pytest.raises(ModelError, match=rf"names no base model[\s\S]*MODEL --adapter {lora}"):
        logits(model=lora)
    logits(model=base, adapter=lora)


def test_a_recorded_base_is_looked_for_from_here_and_from_the_adapter(
    lora: Path, base: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The place is kept as an absolute one, so that an index can be asked from anywhere."""
    expected = logits(model=base, adapter=lora)
    (tmp_path / "away").mkdir()
    for recorded, here in (("base", tmp_path), ("../base", tmp_path / "away"), ("base", tmp_path / "away")):
        record(lora, base_model_name_or_path=recorded)
        monkeypatch.chdir(here)
        loaded = load_model(ModelSettings(model=str(lora)))
        assert loaded.settings.model == str(base.resolve())
        assert torch.equal(loaded.model(input_ids=IDS).logits, expected)


def test_an_adapter_on_an_adapter(lora: Path, base: Path, tmp_path: Path) -> None:
    make_adapter(base, tmp_path / "second", "LORA")
    record(tmp_path / "second", base_model_name_or_path=str(lora))
    with pytest.raises(ModelError, match=r"names, .*lora, is an adapter itself[\s\S]*merge_and_unload"):
        logits(model=tmp_path / "second")
    with pytest.raises(ModelError, match="is an adapter itself, and --adapter gives"):
        logits(model=lora, adapter=tmp_path / "second")


def test_a_model_that_moved_after_indexing(base: Path, lora: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "train.jsonl", rows(8))
    index = build_index(lora, data, tmp_path / "index", layers=[2], max_length=64).path
    expected = Tracer(index).trace("Where is place 1?", "It is in Canada.", verdict=False).queries[0].hits
    lora.rename(tmp_path / "lora-2")
    with pytest.raises(ModelError, match=rf"with the adapter {lora}, which is not there any more[\s\S]*--adapter"):
        Tracer(index)
    again = Tracer(index, adapter=str(tmp_path / "lora-2"))
    assert again.trace("Where is place 1?", "It is in Canada.", verdict=False).queries[0].hits == expected
    Tracer(index, model=str(tmp_path / "lora-2"))  # it names its base itself
    base.rename(tmp_path / "base-2")
    with pytest.raises(ModelError, match=rf"with the base {base}, which is not there any more[\s\S]*--model"):
        Tracer(index, adapter=str(tmp_path / "lora-2"))
    Tracer(index, model=str(tmp_path / "base-2"), adapter=str(tmp_path / "lora-2"))


def in_cache(cache: Path, name: str, folder: Path) -> None:
    """Lays a folder out as the hub's cache does: blobs, and a snapshot of links to them."""
    place = cache / f"models--{name.replace('/', '--')}"
    snapshot = place / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    for part in (place / "blobs", snapshot, place / "refs"):
        part.mkdir(parents=True)
    (place / "refs" / "main").write_text(snapshot.name)
    for number, path in enumerate(sorted(folder.iterdir())):
        shutil.copy(path, place / "blobs" / f"{number:040x}")
        (snapshot / path.name).symlink_to(Path("../../blobs") / f"{number:040x}")


HUB_PROGRAM = """
import sys, torch
from whence.errors import ModelError
from whence.model.loading import LoadedModel, ModelSettings, load_model
for model, adapter in (("org/base", None), ("org/base", "org/lora"), ("org/lora", None), ("org/broken", None)):
    try:
        loaded = load_model(ModelSettings(model=model, adapter=adapter))
        print(loaded.settings.model, loaded.settings.adapter, type(loaded.model).__name__)
    except ModelError as error:
        print(error.found)
"""


def test_hub_names_in_the_cache(base: Path, lora: Path, tmp_path: Path) -> None:
    """A model, an adapter by its name, an adapter as MODEL (with its base), and a file cut off while it was fetched."""
    record(lora, base_model_name_or_path="org/base")
    cache = tmp_path / "cache"
    in_cache(cache, "org/base", base)
    in_cache(cache, "org/lora", lora)
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    in_cache(cache, "org/broken", base)
    environment = os.environ | {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", HUB_PROGRAM], env=environment, capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:3] == [
        "org/base None LlamaForCausalLM",
        "org/base org/lora PeftModelForCausalLM",
        "org/base org/lora PeftModelForCausalLM",
    ]
    assert "model.safetensors is damaged: " in lines[3]
