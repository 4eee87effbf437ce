"""A model on the disk by `--device-map auto`: the index, and what it answers, are those of the undivided model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters import make_adapter
from whence.index import Index, build_index, require_manifest
from worlds import World, rows, save_model, write_jsonl

ON_DISK = ("--device-map", "auto", "--max-memory", "cpu=110KB")
QUERY = ("--prompt", "Where is place 3?", "--response", "In Korea.")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> World:
    """An index of a model with its base, built undivided."""
    folder = tmp_path_factory.mktemp("divided")
    model, base = save_model(folder / "model"), save_model(folder / "base", seed=1)
    world = World(model, write_jsonl(folder / "train.jsonl", rows(12)), folder / "index")
    build_index(model, world.data, world.index, base=str(base), shard_rows=4)
    return world


def asked(whence, index: Path, *options: object) -> object:
    status, shown, said = whence("trace", index, *QUERY, "--json", "-", "--words", 2, *options)
    assert status == 0, said
    return json.loads(shown)["queries"]


def check_alike(one: object, other: object) -> None:
    """Equal, numbers but for rounding: the undivided model alone runs what versions of a row share once."""
    assert type(one) is type(other)
    if isinstance(one, dict) and isinstance(other, dict):
        assert list(one) == list(other)
        for key in one:
            check_alike(one[key], other[key])
    elif isinstance(one, list) and isinstance(other, list):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            check_alike(left, right)
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-5)
    else:
        assert one == other


def test_the_index_of_a_divided_model_is_the_same(whence, built: World, tmp_path: Path) -> None:
    base, out = built.model.parent / "base", tmp_path / "index"
    status, _, said = whence("index", built.model, built.data, "-o", out, "--base", base, "--shard-rows", 4, *ON_DISK)
    assert status == 0, said
    assert "The weights are on: cpu 23%, disk 77%" in said
    ours, theirs = Index.open(out), built.open()
    assert ours.dataset.to_table() == theirs.dataset.to_table()
    assert ours.manifest.identity() == theirs.manifest.identity()
    check_alike(asked(whence, out), asked(whence, built.index, *ON_DISK))


def test_jobs_may_place_the_model_as_they_like(whence, built: World, tmp_path: Path) -> None:
    base, out = built.model.parent / "base", tmp_path / "index"
    command = ("index", built.model, built.data, "-o", out, "--base", base, "--shard-rows", 4, "-q")
    assert whence(*command, "--shard", "1/2", *ON_DISK)[0] == 0
    assert whence(*command, "--shard", "2/2")[0] == 0
    assert whence(*command, "--finish")[0] == 0
    assert Index.open(out).dataset.to_table() == built.open().dataset.to_table()


def test_an_index_built_divided_is_opened_as_its_user_asks(whence, built: World, tmp_path: Path) -> None:
    """The device map of the build belongs to that machine: nothing of it is taken over."""
    out = tmp_path / "index"
    make_adapter(built.model, tmp_path / "adapter", "LORA")
    status, _, said = whence("index", tmp_path / "adapter", built.data, "-o", out, *ON_DISK)
    assert status == 0, said
    assert require_manifest(out).settings["device_map"] == "auto"
    check_alike(asked(whence, out), asked(whence, out, *ON_DISK))
    status, shown, said = whence("verify", out)
    assert (status, "nothing wrong" in shown) == (0, True), said
    assert "weights are on" not in said
    status, shown, said = whence("verify", out, *ON_DISK)
    assert status == 0, said
    assert "disk" in said
    more = write_jsonl(tmp_path / "more.jsonl", rows(15)[12:])
    assert whence("append", out, more, *ON_DISK)[0] == 0
    assert whence("verify", out)[0] == 0


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (("--device-map", "auto", "--devices", "cpu,cpu"), "--device-map with --devices"),
        (("--device-map", "auto", "--engine", "ray"), "--device-map with --engine ray"),
        (("--device-map", "auto", "--device", "cpu"), "--device cpu with --device-map auto"),
        (("--device-map", "everywhere"), "--device-map 'everywhere' cannot be used"),
        (("--device-map", "auto", "--max-memory", "cpu"), "--max-memory 'cpu' cannot be read"),
        (("--device-map", "auto", "--max-memory", "cpu=lots"), "--max-memory cpu=lots cannot be read"),
        (("--device-map", "auto", "--max-memory", "9=1GB"), "--max-memory names 9"),
        (("--max-memory", "cpu=1GB"), "--max-memory without --device-map"),
    ],
)
def test_what_cannot_be_is_one_message(
    whence, built: World, tmp_path: Path, options: tuple[str, ...], found: str
) -> None:
    status, shown, said = whence("index", built.model, built.data, "-o", tmp_path / "index", *options)
    assert (status, shown) == (2, "")
    assert found in said
    assert "Traceback" not in said
