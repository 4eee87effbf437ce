"""One build by several workers: whoever computes what, and dies, and comes late, the index is the same."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from fake_index import FakeEncoder, FakeExtractor, FakeWriter, fake_examples, fake_manifest, write_index
from whence.data import Example, Turn
from whence.errors import DataError, IndexFolderError, InputError, MismatchError, WhenceWarning
from whence.index.build import build_index, build_part
from whence.index.engines.choosing import Workers
from whence.index.engines.in_process import InProcess, ShardWriter
from whence.index.engines.processes import Processes
from whence.index.history import DataPart
from whence.index.jobs import Job, JobState, check_versions, finish_index, run_job
from whence.index.locking import finishing, joined, locked
from whence.index.manifest import MANIFEST, RECORDS, SHARDS, require_manifest
from whence.index.rejects import Rejects
from whence.index.settings import build_settings
from whence.index.shard_commits import committed_notes, made_of
from whence.index.shards import compute_shards, contents, seal, shard_groups, write_index_with
from whence.index.store import Index
from whence.index.verification import verify
from worlds import World

N_ROWS = 100
SETTINGS = {"layers": 2, "max_length": 64, "shard_rows": 4}


def writer(out: Path) -> ShardWriter:
    return ShardWriter(out, fake_manifest(N_ROWS), FakeEncoder(), FakeExtractor())


def job(out: Path, number: int, n: int) -> JobState:
    rows = fake_examples(N_ROWS, unencodable=(3, 40))()
    manifest = fake_manifest(N_ROWS)
    return run_job(out, rows, InProcess(writer(out)), manifest, Job(number, n), max_rejected=0.05)


def sealed(out: Path) -> Index:
    manifest = fake_manifest(N_ROWS)
    content = contents(fake_examples(N_ROWS)(), manifest)
    with finishing(out):
        seal(out, manifest, Rejects(out, manifest, 0.05), content, 0.0)
    return Index.open(out)


def records(out: Path) -> pa.Table:
    return Index.open(out).dataset.to_table()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("jobs") / "whole"
    rows = fake_examples(N_ROWS, unencodable=(3, 40))
    return write_index(out, rows, FakeEncoder(), FakeExtractor(), fake_manifest(N_ROWS)).path


def test_jobs_in_any_order_give_the_index(whole: Path, tmp_path: Path) -> None:
    out, numbers = tmp_path / "index", [1, 2, 3, 4, 5]
    random.Random(1).shuffle(numbers)
    for number in numbers[:-1]:
        state = job(out, number, 5)
    assert state.n_committed < state.n_shards == 7
    with pytest.raises(IndexFolderError, match=r"of 7 shards of .* are not computed, or from other rows: \d"):
        sealed(out)
    job(out, numbers[-1], 5)
    assert verify(sealed(out)) == []
    assert records(out).equals(records(whole))
    for name in ("rejected.jsonl", "centres.safetensors"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert job(out, 1, 5) == JobState(2, 7, 7, sealed=True), "a job that comes late finds the index sealed"


def test_doubled_and_late_workers_do_no_harm(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    job(out, 1, 2)
    manifest, late = fake_manifest(N_ROWS), []
    for rows, group in shard_groups(fake_examples(N_ROWS, unencodable=(3, 40))(), manifest):
        if rows.shard in (0, 1, 2):
            writer(out).write(rows, group)
        late.append((rows, group))
    job(out, 2, 2)
    writer(out).write(*late[5])
    index = sealed(out)
    assert len(list((out / RECORDS / "data").iterdir())) == 7, "the files of doubled shards are cleared away"
    writer(out).write(*late[6])
    assert verify(index) == []
    assert records(out).equals(records(whole))


def test_a_worker_whose_shard_was_cleared_away_by_the_seal_ends_well(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "index"
    job(out, 1, 2)
    original = ShardWriter.write

    def sealed_meanwhile(self: ShardWriter, *given: object) -> object:
        monkeypatch.undo()
        job(out, 2, 2)
        sealed(out)
        original(self, *given)
        raise OSError("the file has gone")

    monkeypatch.setattr(ShardWriter, "write", sealed_meanwhile)
    assert job(out, 2, 2) == JobState(3, 7, 7, sealed=True)
    assert records(out).equals(records(whole))


def test_a_torn_note_or_a_lost_file_is_computed_again(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    for number in (1, 2):
        job(out, number, 2)
    notes = sorted((out / SHARDS).iterdir())
    notes[0].write_bytes(notes[0].read_bytes()[:-1])
    content = bytearray(notes[1].read_bytes())
    content[-1] ^= 1
    notes[1].write_bytes(content)
    (out / next(note for note, _ in committed_notes(out) if note.rows.shard == 3).files[0].path).unlink()
    assert [note.rows.shard for note, _ in committed_notes(out)] == [2, 4, 5, 6]
    with pytest.raises(IndexFolderError, match=r"3 of 7 shards of .* are not computed, or from other rows: 0-1,3"):
        sealed(out)
    job(out, 1, 1)
    sealed(out)
    assert records(out).equals(records(whole))


def test_processes_that_die_are_replaced(whole: Path, tmp_path: Path) -> None:
    out, manifest = tmp_path / "index", fake_manifest(N_ROWS)
    engine = Processes(FakeWriter(out, manifest, dies_at=2, once=tmp_path / "died"), ["cpu", "cpu"])
    seen: list[tuple[int, int]] = []
    rows = fake_examples(N_ROWS, unencodable=(3, 40))
    write_index_with(
        out, rows, engine, manifest, max_rejected=0.05, progress=lambda done, total: seen.append((done, total))
    )
    assert (tmp_path / "died").exists()
    assert records(out).equals(records(whole))
    assert seen == sorted(seen)
    assert seen[-1] == (N_ROWS, N_ROWS)


def test_what_a_process_cannot_do_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whence.index.engines.processes.MAX_TRIES", 1)
    manifest, rows = fake_manifest(N_ROWS), fake_examples(N_ROWS)
    engine = Processes(FakeWriter(tmp_path / "index", manifest, dies_at=1), ["cpu"])
    with pytest.raises(IndexFolderError, match=r"ended 1 times while it computed rows 0 to 15 \(exit status -9\)"):
        write_index_with(tmp_path / "index", rows, engine, manifest, max_rejected=0.05)
    engine = Processes(FakeWriter(tmp_path / "index", manifest), ["nowhere"])
    with pytest.raises(InputError, match="no device nowhere"):
        write_index_with(tmp_path / "index", rows, engine, manifest, max_rejected=0.05)


def test_who_may_write_at_the_same_time(tmp_path: Path) -> None:
    with joined(tmp_path), joined(tmp_path), finishing(tmp_path):
        with pytest.raises(IndexFolderError, match=r"Another run is writing(.|\n)*--shard"), locked(tmp_path):
            pass
        with pytest.raises(IndexFolderError, match="Another run"), finishing(tmp_path):
            pass
    with locked(tmp_path), pytest.raises(IndexFolderError, match="Another run"), joined(tmp_path):
        pass


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_a_file_system_without_locks_is_said_and_no_error(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*given: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refused)
    with joined(tmp_path):
        pass
    with pytest.warns(WhenceWarning, match="file system without locks"), locked(tmp_path):
        pass


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Here and in child processes: sums in another order differ in their last bits."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_jobs_of_a_model_and_what_the_last_step_checks(world: World, tmp_path: Path) -> None:
    out, data = tmp_path / "index", tmp_path / "train.jsonl"
    shutil.copy(world.data, data)
    for number in (3, 1):
        state = build_part(world.model, data, out, Job(number, 3), **SETTINGS)
    assert state == JobState(2, 4, 6)
    with pytest.raises(IndexFolderError, match="2 of 6 shards"):
        finish_index(out, max_rejected=0.05)
    build_part(world.model, data, out, Job(2, 3), workers=Workers(devices=("cpu",)), **SETTINGS)
    whole = data.read_text()
    data.write_text(whole.replace("place 3?", "place 33?"))
    with pytest.raises(DataError, match="are not those that were scanned"):
        finish_index(out, max_rejected=0.05)
    data.write_text(whole)
    index = finish_index(out, max_rejected=0.05)
    assert verify(index, sample=24) == []
    alone = build_index(world.model, data, tmp_path / "alone", **SETTINGS)
    assert index.dataset.to_table().equals(alone.dataset.to_table())
    assert finish_index(out, max_rejected=0.05).manifest == index.manifest


def test_the_last_step_refuses_the_hub_name_of_another_model(world: World, tmp_path: Path) -> None:
    out = tmp_path / "index"
    build_part(world.model, world.data, out, Job(1, 1), **SETTINGS)
    begun = require_manifest(out)
    begun.model_copy(update={"settings": begun.settings | {"model": "org/one"}}).write(out)
    with pytest.raises(MismatchError, match="model: begun with 'org/one', given 'org/two'"):
        finish_index(out, max_rejected=0.05, given=build_settings("org/two", str(world.data), out, SETTINGS))
    given = build_settings("org/one", str(world.data), out, SETTINGS)
    assert finish_index(out, max_rejected=0.05, given=given).manifest.status == "complete"


@pytest.mark.usefixtures("one_thread")
def test_shards_that_were_made_of_other_rows_do_not_count(world: World, tmp_path: Path) -> None:
    """Data that change between two jobs and are brought back: the shards of the changed rows are computed again."""
    out, data = tmp_path / "index", tmp_path / "train.jsonl"
    shutil.copy(world.data, data)
    whole = data.read_text()
    build_part(world.model, data, out, Job(1, 2), **SETTINGS)
    data.write_text(whole.replace("place 7?", "place 77?"))
    assert data.read_text() != whole
    build_part(world.model, data, out, Job(2, 2), **SETTINGS)
    data.write_text(whole)
    with pytest.raises(IndexFolderError, match="1 of 6 shards"):
        finish_index(out, max_rejected=0.05)
    build_part(world.model, data, out, Job(2, 2), **SETTINGS)
    alone = build_index(world.model, data, tmp_path / "alone", **SETTINGS)
    assert finish_index(out, max_rejected=0.05).dataset.to_table().equals(alone.dataset.to_table())


def changed(n_rows: int) -> Iterator[Example]:
    """As many rows, one of them with another answer."""
    for row, example in enumerate(fake_examples(n_rows)()):
        turns = (*example.turns[:-1], Turn("assistant", "changed")) if row == 40 else example.turns
        yield replace(example, turns=turns)


def test_rows_that_change_while_they_are_indexed_are_noticed_and_not_kept(tmp_path: Path) -> None:
    out, manifest, rows = tmp_path / "index", fake_manifest(N_ROWS), fake_examples(N_ROWS)
    with pytest.raises(DataError, match="are not those that were scanned"):
        write_index(out, lambda: changed(N_ROWS), FakeEncoder(), FakeExtractor(), manifest)
    seen: list[int] = []
    index = write_index(
        out, rows, FakeEncoder(), FakeExtractor(), manifest, progress=lambda done, total: seen.append(done)
    )
    assert (min(seen), seen[-1]) == (N_ROWS - 16, N_ROWS), "one shard is computed again"
    alone = write_index(tmp_path / "alone", rows, FakeEncoder(), FakeExtractor(), manifest)
    assert records(index.path).equals(records(alone.path))


def test_a_late_shard_of_another_index_does_not_count(tmp_path: Path) -> None:
    """A worker of the index that was here before is late: its note is not of the one that is built now."""
    out, manifest, rows = tmp_path / "index", fake_manifest(N_ROWS), fake_examples(N_ROWS)
    other = fake_manifest(N_ROWS, max_length=32)
    group = next(iter(shard_groups(rows(), manifest)))
    job(out, 2, 2)
    ShardWriter(out, other, FakeEncoder(), FakeExtractor()).write(*group)
    job(out, 1, 2)
    assert next(note for note, _ in committed_notes(out)).made_of == made_of(manifest, group[1])


def test_other_libraries_are_refused(tmp_path: Path) -> None:
    manifest = fake_manifest(3, versions={"torch": "0.1"})
    with pytest.raises(MismatchError, match=r"torch: the index was begun with 0\.1, here is"):
        check_versions(manifest)


@pytest.mark.parametrize("text", ["3", "a/b", "0/4", "5/4", "3/0", "-1/4"])
def test_a_job_that_is_none(text: str) -> None:
    with pytest.raises(InputError, match="--shard"):
        Job.parse(text)


def test_jobs_share_the_shards() -> None:
    jobs = [Job.parse(f"{number}/4") for number in range(1, 5)]
    assert all(sum(job.has(shard) for job in jobs) == 1 for shard in range(50))
    assert list(DataPart(fake_manifest(10).data, 0, 2).shard_starts(4)) == [(2, 0, 4), (3, 4, 4), (4, 8, 2)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"engine": "slurm"}, "--engine 'slurm' is none"),
        ({"engine": "ray", "devices": ("0",)}, "--devices with --engine ray"),
        ({"address": "auto"}, "without --engine ray"),
    ],
)
def test_workers_that_cannot_be(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Workers(**options)


def test_the_command(whence, world: World, tmp_path: Path) -> None:
    out = tmp_path / "index"
    build = ["index", world.model, world.data, "-o", out, "--layer", "2", "--max-length", "64", "--shard-rows", "4"]
    assert whence(*build, "--finish")[0] == 2
    status, _, said = whence(*build, "--shard", "1/2")
    assert status == 0, said
    assert "3 of 6 shards" in said
    assert whence(*build, "--finish")[0] == 2
    assert "--finish" in whence(*build, "--shard", "2/2")[2]
    status, _, said = whence(*build, "--precision", "float16", "--finish")
    assert status == 2
    assert "precision: begun with 'int8', given 'float16'" in said
    other = tmp_path / "other.jsonl"
    other.write_text(Path(world.data).read_text().replace("place 3?", "place 33?"))
    status, _, said = whence("index", world.model, other, *build[3:], "--finish")
    assert status == 2
    assert "are not those that were scanned" in said
    shutil.copytree(world.model, tmp_path / "another")
    status, _, said = whence("index", tmp_path / "another", world.data, *build[3:], "--finish")
    assert status == 2
    assert "model: begun with" in said
    status, _, said = whence(*build, "--finish")
    assert status == 0, said
    assert "is complete: 24 rows" in said
    assert "sealed already" in whence(*build, "--shard", "2/2")[2]
    assert require_manifest(out).status == "complete"
    assert (out / MANIFEST).exists()
    assert whence(*build, "--shard", "3/2")[0] == 2
    assert whence(*build, "--shard", "1/2", "--finish")[0] == 2


def test_progress_of_a_job_is_of_its_own_rows(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    manifest = fake_manifest(N_ROWS)
    rejects = Rejects(tmp_path, manifest, 0.05)
    compute_shards(
        tmp_path,
        fake_examples(N_ROWS)(),
        InProcess(writer(tmp_path)),
        manifest,
        rejects,
        mine=Job(1, 2).has,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == sorted(seen)
    assert seen[-1] == (52, 52)
