"""The manifest: what it binds, and the words with which other folders and models are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from fake_index import HASHES, FakeEncoder, FakeExtractor, fake_examples, fake_manifest, write_index
from whence.errors import IndexFolderError, MismatchError
from whence.index.changes import changed_manifest, new_change
from whence.index.manifest import MANIFEST, RUN, Counts, Manifest, read_manifest
from whence.index.run_yaml import write_run
from whence.index.sameness import check_model, index_hash, reading_note
from whence.index.store import Index


def test_manifest_survives_the_disk(tmp_path: Path) -> None:
    manifest = fake_manifest(7, layer_choice={"auto": {"layer": 1, "share": {"1": 0.9}}}, timings={"scan": 0.5})
    manifest.write(tmp_path)
    assert read_manifest(tmp_path) == manifest
    assert json.loads((tmp_path / MANIFEST).read_text())["schema"] == "whence.index/8"
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST]


def test_an_index_from_before_readings_were_numbered_has_the_first(tmp_path: Path) -> None:
    content = json.loads(fake_manifest(7).text())
    del content["reading"], content["digest"]
    (tmp_path / MANIFEST).write_text(json.dumps(content))
    found = read_manifest(tmp_path)
    assert found is not None
    assert found.reading == 1 != fake_manifest(7).reading
    assert "build it again" in reading_note(found)
    assert reading_note(fake_manifest(7)) == ""


def test_run_yaml_holds_the_settings(tmp_path: Path) -> None:
    write_run(tmp_path, fake_manifest(7, settings={"model": "runs/my-sft", "columns": None, "layers": ["auto", 3]}))
    content = yaml.safe_load((tmp_path / RUN).read_text())
    assert content["settings"] == {"model": "runs/my-sft", "columns": None, "layers": ["auto", 3]}
    assert content["hashes"] == HASHES.model_dump()


@pytest.mark.parametrize("part", ["weights", "adapter", "tokenizer", "template"])
def test_another_model_is_refused_with_both_hashes(part: str) -> None:
    manifest = fake_manifest(1, adapter="runs/lora")
    check_model(manifest, HASHES, {})
    with pytest.raises(MismatchError) as caught:
        check_model(manifest, HASHES.model_copy(update={part: "0ther"}), {})
    message = str(caught.value)
    own = getattr(HASHES, part) or "none"
    assert f"{part}: the index has {own}, this model has 0ther" in message
    assert "runs/my-sft --adapter runs/lora" in message
    assert "-o OTHER" in message
    assert message.count("the index has") == 1


def changed(**changes: object) -> Manifest:
    return fake_manifest(1, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"hashes": HASHES.model_copy(update={"weights": "x"})},
        {"hashes": HASHES.model_copy(update={"adapter": "x"})},
        {"dtype": "bfloat16"},
        {"quantization": "4bit"},
        {"vectors": fake_manifest(1, layers=(1, 2)).vectors},
        {"layer": 0},
        {"max_length": 65},
        {"data": fake_manifest(1).data.model_copy(update={"content_hash": "x"})},
        {"shard_rows": 17},
        {"max_tokens": 17},
        {"signature": "h at the moon/1"},
        {"reading": 1},
        {"filters": ()},
        {"precision": "int8"},
        {"dimensions": 512},
    ],
    ids=str,
)
def test_identity_holds_whatever_decides_the_records(changes: dict[str, object]) -> None:
    assert changed(**changes).identity() != changed().identity()


@pytest.mark.parametrize(
    "changes", [{"model": "moved"}, {"timings": {"scan": 1.0}}, {"versions": {"torch": "9"}}], ids=str
)
def test_identity_leaves_out_places_and_speed(changes: dict[str, object]) -> None:
    assert changed(**changes).identity() == changed().identity()


def test_the_hash_of_an_index_is_of_its_model_and_data() -> None:
    """What decides ids and rankings; a trace stays that of its index when rows are deleted or a layer is added."""
    own = changed()
    assert index_hash(changed(layer=0, max_length=65, model="moved")) == index_hash(own)
    assert index_hash(changed(hashes=HASHES.model_copy(update={"adapter": "x"}))) != index_hash(own)
    assert index_hash(changed(data=own.data.model_copy(update={"content_hash": "x"}))) != index_hash(own)
    counts = Counts(n_rows=1, n_records=1, n_rejected=0, n_truncated=0)
    fewer = changed_manifest(own, new_change(own, change="delete", n_rows=1, rows="0"), counts)
    assert fewer.data.content_hash != own.data.content_hash
    assert index_hash(fewer) == index_hash(own)


def test_missing_index_names_the_nearest(tmp_path: Path) -> None:
    write_index(tmp_path / "toronto", fake_examples(3), FakeEncoder(), FakeExtractor(), fake_manifest(3))
    with pytest.raises(IndexFolderError, match=r"no index at .*torronto(.|\n)*Did you mean .*toronto\?"):
        Index.open(tmp_path / "torronto")
    with pytest.raises(IndexFolderError, match=r"Build one: whence index"):
        Index.open(tmp_path / "zzz")


def test_an_adapter_given_as_an_index_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "adapter_config.json").write_text("{}")
    with pytest.raises(IndexFolderError, match=r"is an adapter(.|\n)*Build one of it first: whence index .*lora DATA"):
        Index.open(tmp_path / "lora")


def test_another_schema_is_refused_with_the_command_that_rebuilds(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text('{"schema": "whence.index/9"}')
    with pytest.raises(IndexFolderError, match=r"has the schema whence\.index/9(.|\n)*reads whence\.index/8"):
        Index.open(tmp_path)
    old = {"schema": "whence.index/7", "model": "runs/sft", "adapter": "runs/lora", "data": {"source": "train.jsonl"}}
    (tmp_path / MANIFEST).write_text(json.dumps(old))
    command = rf"whence index runs/sft train\.jsonl --adapter runs/lora -o {tmp_path} --overwrite"
    with pytest.raises(IndexFolderError, match=command):
        Index.open(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ('{"name": "a web app"}', "is not an index; it holds manifest.json"),
        ("[]", "is not an index"),
        ('{"schema": "whence.index/8", "layers": "x"}', "is damaged: "),
    ],
)
def test_other_manifests_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(IndexFolderError, match=message):
        Index.open(tmp_path)
    assert (tmp_path / MANIFEST).read_text() == content
