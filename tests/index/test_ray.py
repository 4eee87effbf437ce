"""The actors of a Ray cluster on this machine make the same index. Left out where Ray is not installed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_index import FakeEncoder, FakeExtractor, FakeWriter, fake_examples, fake_manifest, write_index
from whence.errors import IndexFolderError, InputError
from whence.index.engines.ray_actors import RayActors
from whence.index.shards import write_index_with
from whence.index.store import Index
from whence.index.verification import verify

ray = pytest.importorskip("ray")

N_ROWS = 100
TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of two cores whose workers find the tests' helpers."""
    paths = [str(TESTS / "support"), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    context = ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    found = context.address_info["gcs_address"]
    yield found
    ray.shutdown()


@pytest.fixture(autouse=True)
def keep_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine leaves a cluster that it came to; this one is of the same process, and must live on."""
    init = ray.init
    monkeypatch.setattr(ray, "init", lambda **options: init(**{**options, "ignore_reinit_error": True}))
    monkeypatch.setattr(ray, "shutdown", lambda: None)


@pytest.mark.parametrize("dies_at", [-1, 2])
def test_actors_make_the_same_index_also_when_they_die(address: str, tmp_path: Path, dies_at: int) -> None:
    out, manifest = tmp_path / "index", fake_manifest(N_ROWS)
    rows = fake_examples(N_ROWS, unencodable=(3, 40))
    engine = RayActors(FakeWriter(out, manifest, dies_at, tmp_path / "died"), address, 2)
    index = write_index_with(out, rows, engine, manifest, max_rejected=0.05)
    assert (tmp_path / "died").exists() == (dies_at > 0)
    alone = write_index(tmp_path / "alone", rows, FakeEncoder(), FakeExtractor(), manifest)
    assert index.dataset.to_table().equals(alone.dataset.to_table())
    assert verify(index) == []
    assert Index.open(out).centres.keys() == alone.centres.keys()


def test_what_a_cluster_cannot_do_is_said(address: str, tmp_path: Path) -> None:
    manifest, rows = fake_manifest(N_ROWS), fake_examples(N_ROWS)
    with pytest.raises(InputError, match=r"--workers 9 are more than the cluster has: 0 GPUs, 2 cores"):
        write_index_with(
            tmp_path / "a",
            rows,
            RayActors(FakeWriter(tmp_path / "a", manifest), address, 9),
            manifest,
            max_rejected=0.05,
        )
    engine = RayActors(FakeWriter(tmp_path / "b", manifest, dies_at=1), address, 1)
    with pytest.raises(IndexFolderError, match="An actor ended"):
        write_index_with(tmp_path / "b", rows, engine, manifest, max_rejected=0.05)
