"""Writing an index: crashes, resumption, what is set aside, folders that are something else, full disks."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from fake_index import FakeEncoder, FakeExtractor, fake_examples, fake_manifest, write_index
from whence.data.examples import EncodedTurn
from whence.errors import DataError, IndexFolderError, NonFiniteError
from whence.index import shard_commits
from whence.index.locking import locked
from whence.index.manifest import BACKUP, CENTRES, LOCK, MANIFEST, RECORDS, REJECTED, RUN, read_manifest
from whence.index.store import Index
from whence.index.verification import verify
from whence.signatures.types import Extracted

N_ROWS = 100
TESTS = Path(__file__).parents[1]

MEMORY_SLACK_KIB = 32 * 1024
"""Allocators, and Lance for each commit, keep a little (10 MiB). 8,000 further rows, 16,000 records of dimension 2048,
would be 128 MiB."""


def build(out: Path, n_rows: int = N_ROWS, **options: object) -> Index:
    extractor = options.pop("extractor", FakeExtractor())
    rows = fake_examples(n_rows, unencodable=options.pop("unencodable", ()))
    manifest = options.pop("manifest", fake_manifest(n_rows))
    return write_index(out, rows, FakeEncoder(), extractor, manifest, **options)


def records(out: Path) -> pa.Table:
    return Index.open(out).dataset.to_table()


def in_child(command: str, out: Path, *n_rows: int) -> str:
    path = os.pathsep.join(filter(None, [str(TESTS / "support"), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    environment["MALLOC_ARENA_MAX"] = "1"  # holes in an arena for each thread are not memory that grows with rows
    script = [sys.executable, str(TESTS / "index" / "build_in_child.py"), command, str(out), *map(str, n_rows)]
    return subprocess.run(script, env=environment, check=True, capture_output=True, text=True).stdout


def test_records_hold_every_turn_of_every_row_in_order(tmp_path: Path) -> None:
    index = build(tmp_path / "index")
    table = records(tmp_path / "index")
    expected = [(row, turn) for row in range(N_ROWS) for turn in range(1 + row % 3)]
    assert list(zip(table["row"].to_pylist(), table["turn"].to_pylist(), strict=True)) == expected
    assert (index.n_rows, index.n_records) == (N_ROWS, len(expected))
    assert set(table["shard"].to_pylist()) == set(range(7))
    second = table.slice(1, 1).to_pylist()[0]
    assert second["prompt"] == "question 1.0"
    assert second["response"] == "answer 1.0 answer 1.0 "
    assert (second["n_prompt"], second["n_response"], second["truncated"]) == (2, 4, 0)
    assert (second["file"], second["line"]) == ("train.jsonl", 2)
    assert json.loads(second["metadata"])["year"] == 2001
    assert (second["source"], second["year"], second["score"], second["checked"]) == ("b", 2001, 0.5, False)
    assert index.manifest.counts is not None
    assert index.manifest.counts.n_truncated == sum(count > 0 for count in table["truncated"].to_pylist())
    assert verify(index) == []


def test_vectors_come_back_with_direction_and_norm(tmp_path: Path) -> None:
    class Plain(FakeExtractor):
        def extract(self, turns: list[EncodedTurn], **_: object) -> Extracted:
            self.given = super().extract(turns)
            return self.given

    extractor = Plain()
    index = build(tmp_path / "index", 1, extractor=extractor, manifest=fake_manifest(1))
    (block,) = index.blocks([(1, "h"), (1, "g")])
    for name, raw in (("h", extractor.given.layers[1].h), ("g", extractor.given.layers[1].g)):
        stored = block.vectors[1][name]
        torch.testing.assert_close(stored.norm, raw.norm(dim=1))
        torch.testing.assert_close(stored.unit * stored.norm[:, None], raw, rtol=2**-10, atol=1e-7)


def test_killed_at_any_moment_the_index_is_the_same(tmp_path: Path) -> None:
    killed, runs = map(int, in_child("kill", tmp_path / "killed", 800).split())
    assert killed == runs
    build(tmp_path / "whole", 800, unencodable=(3, 40))
    assert records(tmp_path / "killed").equals(records(tmp_path / "whole"))
    assert (tmp_path / "killed" / REJECTED).read_bytes() == (tmp_path / "whole" / REJECTED).read_bytes()
    assert verify(tmp_path / "killed") == []
    names = {path.name for path in (tmp_path / "killed").iterdir()}
    assert names == {MANIFEST, RUN, REJECTED, RECORDS, CENTRES, LOCK, BACKUP, "files-0.jsonl"}
    data = list((tmp_path / "killed" / RECORDS / "data").iterdir())
    assert len(data) == 50, "files of killed commits are cleared away"


def test_interrupt_keeps_what_is_committed(tmp_path: Path) -> None:
    def interrupt(done: int, _total: int) -> None:
        if done >= 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "index", progress=interrupt)
    with pytest.raises(IndexFolderError, match=r"32 of 100 rows are saved(.|\n)*whence index runs/my-sft train.jsonl"):
        Index.open(tmp_path / "index")
    assert verify(tmp_path / "index") == ["not finished: 32 of 100 rows are saved"]

    encoded = []

    class Counting(FakeEncoder):
        def encode(self, example: object) -> list[EncodedTurn]:
            encoded.append(example)
            return super().encode(example)

    write_index(tmp_path / "index", fake_examples(N_ROWS), Counting(), FakeExtractor(), fake_manifest(N_ROWS))
    assert len(encoded) == N_ROWS - 32, "committed shards are not computed again"
    build(tmp_path / "whole")
    assert records(tmp_path / "index").equals(records(tmp_path / "whole"))


def test_progress_never_falls_and_ends_at_the_total(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    build(tmp_path / "index", progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (N_ROWS, N_ROWS)


def test_complete_index_is_left_alone(tmp_path: Path) -> None:
    build(tmp_path / "index")
    before = {path: path.read_bytes() for path in (tmp_path / "index").rglob("*") if path.is_file()}
    index = build(tmp_path / "index", extractor=None)
    assert index.n_rows == N_ROWS
    assert {path: path.read_bytes() for path in (tmp_path / "index").rglob("*") if path.is_file()} == before


def test_other_settings_are_refused_with_what_differs(tmp_path: Path) -> None:
    build(tmp_path / "index")
    other = fake_manifest(N_ROWS, layers=(1, 2), max_length=32)
    with pytest.raises(IndexFolderError) as caught:
        build(tmp_path / "index", manifest=other)
    message = str(caught.value)
    assert "vectors: the index has ['h_1', 'g_1'], this command gives ['h_1', 'g_1', 'h_2', 'g_2']" in message
    assert "max_length: the index has 64, this command gives 32" in message
    assert "--overwrite" in message
    assert "weights" not in message
    assert verify(tmp_path / "index") == []


def test_foreign_folder_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(IndexFolderError, match=r"not an index; it holds thesis\.txt"):
        build(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(IndexFolderError, match="is a file"):
        build(tmp_path / "thesis.txt")
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_two_runs_do_not_write_one_index(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(IndexFolderError, match="Another run"):
        build(tmp_path)
    assert build(tmp_path).n_rows == N_ROWS


def test_unencodable_rows_are_set_aside_with_their_reason(tmp_path: Path) -> None:
    index = build(tmp_path / "index", unencodable=(3, 40))
    lines = [json.loads(line) for line in (tmp_path / "index" / REJECTED).read_text().splitlines()]
    assert [(line["file"], line["line"], line["row"]) for line in lines] == [
        ("train.jsonl", 4, 3),
        ("train.jsonl", 41, 40),
    ]
    assert "no such template" in lines[0]["reason"]
    assert index.n_rows == N_ROWS - 2
    assert index.manifest.counts is not None
    assert index.manifest.counts.n_rejected == 2
    assert verify(index) == []


def test_share_of_rejected_rows_counts_the_readers_too(tmp_path: Path) -> None:
    data = fake_manifest(N_ROWS).data.model_copy(update={"n_unreadable": 4})
    manifest = fake_manifest(N_ROWS, data=data)
    # 4 + 1 of 104 is below 5 %, 4 + 2 is above.
    assert build(tmp_path / "few", manifest=manifest, unencodable=(50,)).manifest.counts.n_rejected == 5
    with pytest.raises(
        DataError, match=r"6 of 104 rows cannot be used \(5\.8%\)(.|\n)*train\.jsonl:51: no such template"
    ):
        build(tmp_path / "many", manifest=manifest, unencodable=(50, 70))
    index = build(tmp_path / "many", manifest=manifest, unencodable=(50, 70), max_rejected=0.1)
    assert index.n_rows == N_ROWS - 2
    assert len((tmp_path / "many" / REJECTED).read_text().splitlines()) == 2


def test_no_usable_row_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="None of the 3 rows"):
        build(tmp_path / "index", 3, unencodable=(0, 1, 2), manifest=fake_manifest(3), max_rejected=1.0)


def test_data_that_changed_since_the_scan_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gave 90 usable rows, but 100"):
        build(tmp_path / "index", 90, manifest=fake_manifest(100))


def test_non_finite_value_names_its_row(tmp_path: Path) -> None:
    class Broken(FakeExtractor):
        def extract(self, turns: list[EncodedTurn], **_: object) -> Extracted:
            extracted = super().extract(turns)
            for i, turn in enumerate(turns):
                if turn.prompt == "question 20.1":
                    extracted.layers[1].g[i, 3] = torch.nan
            return extracted

    with pytest.raises(NonFiniteError, match=r"train\.jsonl:21 "):
        build(tmp_path / "index", extractor=Broken())
    assert verify(tmp_path / "index") == ["not finished: 16 of 100 rows are saved"]


def test_zero_gradient_is_legal(tmp_path: Path) -> None:
    class Sure(FakeExtractor):
        def extract(self, turns: list[EncodedTurn], **_: object) -> Extracted:
            extracted = super().extract(turns)
            extracted.layers[1].g.zero_()
            return extracted

    index = build(tmp_path / "index", extractor=Sure())
    assert verify(index) == []
    blocks = list(index.blocks([(1, "g")]))
    assert all((block.vectors[1]["g"].unit == 0).all() and (block.vectors[1]["g"].norm == 0).all() for block in blocks)


def test_full_disk_says_what_is_saved_and_the_same_command_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = shard_commits.write_fragment, []

    def full(*given: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(*given)

    monkeypatch.setattr(shard_commits, "write_fragment", full)
    with pytest.raises(
        IndexFolderError, match=r"No space left on device(.|\n)*32 of 100 rows are saved(.|\n)*same command"
    ):
        build(tmp_path / "index")
    monkeypatch.undo()
    build(tmp_path / "index")
    build(tmp_path / "whole")
    assert records(tmp_path / "index").equals(records(tmp_path / "whole"))


def test_lances_own_write_error_is_understood(tmp_path: Path) -> None:
    message = in_child("full", tmp_path / "index", 200)
    assert "File too large" in message
    assert "0 of 200 rows are saved" in message
    manifest = read_manifest(tmp_path / "index")
    assert manifest is not None
    assert manifest.status == "building"


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    few, many = map(int, in_child("memory", tmp_path, 1000, 9000).split())
    assert many - few < MEMORY_SLACK_KIB
