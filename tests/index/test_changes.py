"""Rows come and go: an index answers as one that was built of the rows that it has."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from field_templates import DATED
from whence.errors import DataError, IndexFolderError, InputError, WhenceWarning
from whence.index.appending import append_rows
from whence.index.build import build_index
from whence.index.changes import require_rows_as_built
from whence.index.compacting import compact_index
from whence.index.data_parts import present_rows
from whence.index.deleting import delete_rows, read_ids
from whence.index.engines.local import LocalEngine
from whence.index.history import described_numbers, read_numbers
from whence.index.jobs import finish_index
from whence.index.manifest import MANIFEST, RECORDS, REFERENCES, REJECTED, RUN, Manifest, require_manifest
from whence.index.publishing import back_up, read_table
from whence.index.repairing import repair
from whence.index.store import Index
from whence.index.subject import open_subject
from whence.index.verification import verify
from whence.scoring import default_method
from whence.trace import Query, Tracer
from worlds import World, rows, write_jsonl

SHARD = 8
SCORE_TOLERANCE = 2e-3
"""float16 rounds a component by 2^-11; sums of two such vectors move a cosine by less than four times that."""


def data(folder: Path, name: str, start: int, stop: int, **more: object) -> Path:
    content = [row | more | {"response": f"{row['response']} zebra{i:03d}"} for i, row in enumerate(rows(40))]
    return write_jsonl(folder / name, content[start:stop])


def build(world: World, source: Path, out: Path) -> Index:
    return build_index(world.model, source, out, layers=2, methods=["rept"], max_length=64, shard_rows=SHARD)


@pytest.fixture(scope="module")
def parts(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Indexes: `old` of rows 0 to 19, `grown` with 20 to 39 appended in two steps, `whole` of 0 to 39 at once."""
    folder = tmp_path_factory.mktemp("changes")
    data(folder, "whole.jsonl", 0, 40)
    build(world, data(folder, "old.jsonl", 0, 20), folder / "old")
    build(world, folder / "whole.jsonl", folder / "whole")
    shutil.copytree(folder / "old", folder / "grown")
    append_rows(folder / "grown", data(folder, "new.jsonl", 20, 31))
    append_rows(folder / "grown", data(folder, "newer.jsonl", 31, 40))
    return folder


def test_appended_rows_obey_marks_as_the_rows_of_the_index(world: World, tmp_path: Path) -> None:
    def talk(start: int, stop: int) -> list[dict[str, object]]:
        return [
            {
                "messages": [
                    {"role": "user", "content": row["prompt"]},
                    {"role": "assistant", "content": row["response"], "weight": 0},
                ]
            }
            for row in rows(stop)[start:]
        ]

    source = write_jsonl(tmp_path / "old.jsonl", talk(0, 4))
    settings = {"layers": 2, "max_length": 64, "shard_rows": SHARD}
    build_index(world.model, source, tmp_path / "index", columns={"marks": ""}, **settings)
    index = append_rows(tmp_path / "index", write_jsonl(tmp_path / "new.jsonl", talk(4, 6)))
    assert index.n_rows == 6
    assert index.manifest.parts()[1].data.columns == {"marks": ""}


def of_an_earlier_version(index: Path) -> None:
    require_manifest(index).model_copy(update={"reading": 1}).write(index)


def test_records_of_two_readings_do_not_join(parts: Path, world: World, tmp_path: Path, whence) -> None:
    """An index of a version that read rows otherwise is asked, verified and deleted from, and nothing is added."""
    shutil.copytree(parts / "old", tmp_path / "index")
    of_an_earlier_version(tmp_path / "index")
    with pytest.raises(IndexFolderError, match=r"another version of whence(.|\n)*--overwrite"):
        append_rows(tmp_path / "index", parts / "new.jsonl")
    settings = {"layers": 2, "max_length": 64, "shard_rows": SHARD}
    with pytest.raises(IndexFolderError, match="another version of whence"):
        build_index(world.model, parts / "old.jsonl", tmp_path / "index", add=["repsim"], **settings)
    told: list[str] = []
    build_index(world.model, parts / "old.jsonl", tmp_path / "index", methods=["rept"], notify=told.append, **settings)
    assert told[-1].endswith("was already complete: 20 rows, 20 records")
    assert sum("another version" in note for note in told) == 1
    for command in (
        ("verify", tmp_path / "index", "--sample", "1"),
        ("trace", tmp_path / "index", "--prompt", "a", "--response", "b", "--no-verdict"),
    ):
        assert whence(*command, "--device", "cpu")[2].count("read some rows otherwise") == 1
    assert delete_rows(tmp_path / "index", [id_of(tmp_path / "index", 3)]).manifest.reading == 1
    damaged = next((tmp_path / "index" / RECORDS / "data").iterdir())
    damaged.write_bytes(b"")
    with pytest.raises(IndexFolderError, match="another version of whence"):
        repair(tmp_path / "index")


def test_a_build_of_another_reading_is_not_continued(world: World, tmp_path: Path) -> None:
    source, out = data(tmp_path, "old.jsonl", 0, 12), tmp_path / "index"
    build(world, source, out)
    require_manifest(out).model_copy(update={"status": "building", "reading": 1}).write(out)
    with pytest.raises(IndexFolderError, match=r"another version of whence(.|\n)*--overwrite"):
        build(world, source, out)
    with pytest.raises(IndexFolderError, match="another version of whence"):
        finish_index(out, max_rejected=0.0)


def test_an_index_keeps_the_day_that_its_template_writes(world: World, tmp_path: Path) -> None:
    settings = {"layers": 2, "max_length": 64, "shard_rows": SHARD, "template": DATED}
    source = data(tmp_path, "old.jsonl", 0, 3)
    build_index(world.model, source, tmp_path / "index", date="2024-07-26", **settings)
    index = build_index(world.model, source, tmp_path / "index", **settings)
    assert index.manifest.rows.date == "2024-07-26"
    today = build_index(world.model, source, tmp_path / "today", **settings).manifest
    replayed = yaml.safe_load((tmp_path / "today" / RUN).read_text("utf-8"))
    assert today.settings["date"] is None
    assert replayed["settings"]["date"] == replayed["resolved"]["date"] == today.rows.date is not None
    with pytest.raises(IndexFolderError, match="date: the index has 2024-07-26, this command gives 2025-01-01"):
        build_index(world.model, source, tmp_path / "index", date="2025-01-01", **settings)
    index = append_rows(tmp_path / "index", data(tmp_path, "new.jsonl", 3, 5))
    (turn,) = Tracer(index).models.encoder.encode(index.examples([4])[0])
    assert turn.text.startswith("<|user|>26 Jul 2024")
    lengths = index.dataset.to_table(columns=["n_prompt"])["n_prompt"].to_pylist()
    assert lengths[4] == turn.n_prompt
    with pytest.raises(InputError, match=r"date: .*Invalid isoformat"):
        build_index(world.model, source, tmp_path / "other", date="yesterday", **settings)


def test_an_index_from_before_the_day_was_kept_has_that_of_its_build(world: World, tmp_path: Path) -> None:
    settings = {"layers": 2, "max_length": 64, "shard_rows": SHARD, "template": DATED}
    source, out = data(tmp_path, "old.jsonl", 0, 3), tmp_path / "index"
    manifest = build_index(world.model, source, out, date="2024-07-26", **settings).manifest
    built = manifest.history[0].model_copy(update={"when": "2024-07-26T12:00:00Z"})
    no_day = {"reading": 1, "rows": manifest.rows.model_copy(update={"date": None}), "history": (built,)}
    manifest.model_copy(update=no_day).write(out)
    back_up(out, require_manifest(out))
    index = Index.open(out)
    (turn,) = Tracer(index).models.encoder.encode(index.examples([1])[0])
    assert turn.text.startswith("<|user|>26 Jul 2024")
    assert verify(out, sample=3) == []
    assert build_index(world.model, source, out, **settings).manifest == index.manifest, "it is complete"


def answers(index: Path) -> list[list[tuple[str, float]]]:
    """(id, score) of the first rows for three queries, by two methods."""
    tracer = Tracer(index)
    queries = [Query.of(f"Where is place {i}?", f"It is in Canada number {i % 5}.") for i in (3, 17, 33)]
    found = []
    for method in (None, "rept"):
        for result in tracer.trace_many(queries, k=10, verdict=False, words=0, method=method):
            found.append([(hit.id, hit.score) for hit in result.hits])
    return found


def assert_same_answers(found: Path, expected: Path) -> None:
    for ours, theirs in zip(answers(found), answers(expected), strict=True):
        assert [one for one, _ in ours] == [one for one, _ in theirs]
        np.testing.assert_allclose([s for _, s in ours], [s for _, s in theirs], atol=SCORE_TOLERANCE)


def id_of(index: Path, row: int) -> str:
    return Index.open(index).dataset.to_table(filter=f"row = {row}", columns=["id"])["id"][0].as_py()


def held(folder: Path, text: str) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_appended_rows_answer_as_if_they_had_always_been_there(parts: Path) -> None:
    grown, whole = Index.open(parts / "grown"), Index.open(parts / "whole")
    assert verify(grown, sample=40) == []
    assert (grown.n_rows, grown.n_records) == (whole.n_rows, whole.n_records) == (40, 40)
    assert grown.dataset.to_table(columns=["row", "id"]).equals(whole.dataset.to_table(columns=["row", "id"]))
    for place, centre in whole.centres.items():
        torch.testing.assert_close(grown.centres[place], centre, rtol=1e-3, atol=1e-3)
    assert_same_answers(parts / "grown", parts / "whole")
    assert [(one.change, one.first_row, one.first_shard, one.n_rows) for one in grown.manifest.history] == [
        ("build", 0, 0, 20),
        ("append", 20, 3, 11),
        ("append", 31, 5, 9),
    ]


def test_new_metadata_are_columns_for_all_rows(parts: Path, tmp_path: Path) -> None:
    shutil.copytree(parts / "old", tmp_path / "index")
    index = append_rows(tmp_path / "index", data(tmp_path, "more.jsonl", 20, 40, year=2024.5, label=3))
    assert index.count_rows("year > 2024") == 20
    assert index.count_rows("label = '3'") == 20
    assert index.count_rows("label = 'planted'") == 4
    assert index.count_rows("source = 'vendor_a'") == 20
    assert verify(index, sample=5) == []
    assert_same_answers(tmp_path / "index", parts / "whole")


@pytest.mark.parametrize(("old", "new"), [(2**53 + 1, 2.5), (2.5, 2**53 + 1)])
def test_appended_rows_round_no_number(world: World, tmp_path: Path, old: float, new: float) -> None:
    """A column of whole numbers and floats is one of floats, which have not all whole numbers beyond 2^53."""
    build(world, data(tmp_path, "old.jsonl", 0, 2, stamp=old), tmp_path / "index")
    index = append_rows(tmp_path / "index", data(tmp_path, "new.jsonl", 2, 4, stamp=new))
    assert index.count_rows("stamp = '9007199254740993'") == 2
    assert index.count_rows("stamp = '2.5'") == 2


def test_deleted_rows_are_gone_and_compact_takes_their_text(parts: Path, world: World, tmp_path: Path) -> None:
    index, gone = tmp_path / "index", [0, 9, 10, 24, *range(32, 40)]
    shutil.copytree(parts / "grown", index)
    (index / REFERENCES).mkdir()
    (index / REFERENCES / "answered-1.safetensors").write_text("zebra009")
    left = [i for i in range(40) if i not in gone]
    write_jsonl(
        tmp_path / "left.jsonl", [rows(40)[i] | {"response": f"{rows(40)[i]['response']} zebra{i:03d}"} for i in left]
    )
    build(world, tmp_path / "left.jsonl", tmp_path / "fresh")
    assert held(index, "zebra009")
    changed = delete_rows(index, [id_of(index, row) for row in gone])
    assert (changed.n_rows, changed.dataset.count_rows()) == (28, 28)
    assert changed.manifest.deleted_rows().tolist() == gone
    assert not (index / REFERENCES).exists()
    assert verify(changed, sample=28) == []
    assert_same_answers(index, tmp_path / "fresh")
    fetched = [changed.fetch(block.record.tolist()) for block in changed.blocks()]
    assert [record.row for some in fetched for record in some] == left
    assert held(index, "zebra009")
    (index / REFERENCES).mkdir(exist_ok=True)
    (index / REFERENCES / "answered-2.safetensors").write_text("zebra009 of a trace that ran meanwhile")
    compacted = compact_index(index)
    for row in gone:
        assert held(index, f"zebra{row:03d}") == []
    assert held(index, "zebra001")
    assert verify(compacted, sample=28) == []
    assert_same_answers(index, tmp_path / "fresh")
    # Of vectors as they were extracted sums alone are kept, and a deleted one cannot be taken out.
    for place, centre in Index.open(tmp_path / "fresh").stored_centres.items():
        torch.testing.assert_close(compacted.stored_centres[place], centre, rtol=1e-3, atol=2e-3)
    table = read_table(index, compacted.manifest)
    assert table is not None
    # 8, 8, 4 rows of the build, 8 + 3 and 9 appended; neighbours that fit a shard's 8 rows are one file.
    assert [[rows.shard for rows in one.shards] for one in table.fragments] == [[0], [1], [2], [3], [4], [5]][
        : len(table.fragments)
    ]
    assert compact_index(index).manifest == compacted.manifest, "nothing is left to do"


def test_damage_names_every_source_of_a_file(parts: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    shutil.copytree(parts / "old", index)
    append_rows(index, data(tmp_path, "first.jsonl", 20, 22))
    append_rows(index, data(tmp_path, "second.jsonl", 22, 24))
    compact_index(index)
    for file in (index / RECORDS / "data").iterdir():
        file.write_bytes(file.read_bytes()[:-1])
    assert any(
        line.endswith("rows 16 to 19 (old.jsonl), 20 to 21 (first.jsonl), 22 to 23 (second.jsonl)")
        for line in verify(index)
    )


def test_damage_is_repaired_in_an_index_whose_rows_changed(parts: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    shutil.copytree(parts / "grown", index)
    delete_rows(index, [id_of(index, 22), id_of(index, 1)])
    before = Index.open(index).dataset.to_table()
    for file in (index / RECORDS / "data").iterdir():
        file.write_bytes(file.read_bytes()[:-1])
    assert len(verify(index)) == 7
    assert len(repair(index)) == 7
    assert verify(index, sample=38) == []
    assert Index.open(index).dataset.to_table().equals(before)
    assert held(index, "zebra022") == []
    shutil.copytree(parts / "grown", tmp_path / "again")
    delete_rows(tmp_path / "again", [id_of(tmp_path / "again", 22)])
    for file in (tmp_path / "again" / RECORDS / "_deletions").iterdir():
        file.unlink()
    assert "_deletions" in verify(tmp_path / "again")[0]
    repair(tmp_path / "again")
    assert verify(tmp_path / "again") == []
    assert Index.open(tmp_path / "again").n_rows == 39


def test_rows_of_a_pattern_are_found_from_any_folder(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the folder's own name looks like a pattern."""
    folder = tmp_path / "run [1]"
    folder.mkdir()
    data(folder, "old-1.jsonl", 0, 6)
    data(folder, "old-2.jsonl", 6, 12)
    data(folder, "new-1.jsonl", 12, 16)
    monkeypatch.chdir(folder)
    build(world, Path("old-*.jsonl"), Path("index"))
    append_rows("index", "new-*.jsonl")
    monkeypatch.chdir(tmp_path)
    assert len(list(present_rows(Index.open(folder / "index").manifest))) == 16
    for file in (folder / "index" / RECORDS / "data").iterdir():
        file.write_bytes(file.read_bytes()[:-1])
    repair(folder / "index")
    assert verify(folder / "index") == []


@pytest.mark.parametrize("step", ["compute_shards", "commit_more", "publish"])
def test_an_append_that_was_cut_has_not_happened_and_goes_on(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    index, new = tmp_path / "index", data(tmp_path, "new.jsonl", 20, 31)
    shutil.copytree(parts / "old", index)

    def dying(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"whence.index.appending.{step}", dying)
        with pytest.raises(KeyboardInterrupt):
            append_rows(index, new, columns={"prompt": "prompt", "response": "response"})
    assert verify(index) == []
    assert Index.open(index).n_rows == 20
    with pytest.raises(IndexFolderError, match=r"Another append(.|\n)*Finish it \(whence append .* --columns prompt="):
        append_rows(index, data(tmp_path, "other.jsonl", 31, 40))
    computed = []
    with monkeypatch.context() as patch:
        original = LocalEngine.compute_shard
        patch.setattr(LocalEngine, "compute_shard", lambda *given: computed.append(1) or original(*given))
        append_rows(index, new)
    assert len(computed) == (2 if step == "compute_shards" else 0), "shards that are committed are not computed again"
    assert verify(index) == []
    assert Index.open(index).n_rows == 31


def test_an_append_whose_clearing_was_cut_has_happened(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "index"
    shutil.copytree(parts / "old", index)

    def dying(*given: object, before: Manifest | None = None, **_: object) -> None:
        if before is not None:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("whence.index.appending.clear", dying)
        with pytest.raises(KeyboardInterrupt):
            append_rows(index, data(tmp_path, "new.jsonl", 20, 31))
    assert verify(index) == []
    assert Index.open(index).n_rows == 31
    assert append_rows(index, tmp_path / "new.jsonl").n_rows == 31, "the same command again"
    assert append_rows(index, data(tmp_path, "other.jsonl", 31, 40)).n_rows == 40
    assert verify(index) == []


def test_rows_are_appended_again_only_on_purpose(parts: Path, tmp_path: Path, whence) -> None:
    index, new = tmp_path / "index", data(tmp_path, "new.jsonl", 20, 25)
    shutil.copytree(parts / "old", index)
    append_rows(index, new)
    before = (index / MANIFEST).read_bytes()
    status, _, said = whence("append", index, new)
    assert status == 0
    assert "already appended" in said
    assert "were appended;" not in said
    assert (index / MANIFEST).read_bytes() == before
    append_rows(index, data(tmp_path, "other.jsonl", 20, 25))
    assert append_rows(index, tmp_path / "other.jsonl", again=True).n_rows == 35
    assert verify(index) == []


def test_appended_rows_are_read_by_the_columns_of_the_build(world: World, tmp_path: Path) -> None:
    content = [row | {"response": "a draft", "final": f"{row['response']} at last"} for row in rows(12)]
    source = write_jsonl(tmp_path / "old.jsonl", content[:8])
    options = {"layers": 2, "max_length": 64, "shard_rows": SHARD}
    build_index(world.model, source, tmp_path / "index", columns={"response": "final"}, **options)
    told: list[str] = []
    index = append_rows(tmp_path / "index", write_jsonl(tmp_path / "new.jsonl", content[8:]), notify=told.append)
    assert [row.response for row in index.fetch([9, 11])] == [content[i]["final"] for i in (9, 11)]
    assert "Columns as the index was built: response=final" in told
    lacking = write_jsonl(tmp_path / "lacking.jsonl", rows(4))
    with pytest.raises(DataError, match="response=final names a column that is not there"):
        append_rows(index.path, lacking)
    assert append_rows(index.path, lacking, columns={"response": "response"}).n_rows == 16


@pytest.mark.parametrize("name", ["new.jsonl", "corrected.jsonl"])
def test_an_append_that_was_refused_makes_way_for_corrected_data(world: World, tmp_path: Path, name: str) -> None:
    options = {"layers": 2, "max_length": 64, "shard_rows": 4, "truncation": "keep_start"}
    index = build_index(world.model, data(tmp_path, "old.jsonl", 0, 4), tmp_path / "index", **options).path
    long = [row | {"prompt": "long " * 200} for row in rows(4)]
    with pytest.raises(DataError, match="set aside"):
        append_rows(index, write_jsonl(tmp_path / "new.jsonl", [*rows(12)[4:8], *long]))
    changed = append_rows(index, write_jsonl(tmp_path / name, rows(12)[4:10]))
    assert changed.n_rows == 10
    assert verify(index, sample=10) == []


def cut_in_append(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index to which rows 20 to 30 were being appended: all shards are there, and were not published."""
    index = tmp_path / "index"
    shutil.copytree(parts / "old", index)

    def dying(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("whence.index.appending.publish", dying)
        with pytest.raises(KeyboardInterrupt):
            append_rows(index, data(tmp_path, "new.jsonl", 20, 31))
    return index


def test_an_append_that_was_cut_goes_on_with_changed_data(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = cut_in_append(parts, tmp_path, monkeypatch)
    told: list[str] = []
    changed = append_rows(index, data(tmp_path, "new.jsonl", 22, 31), notify=told.append)
    assert any("its data have changed" in sentence for sentence in told)
    assert changed.n_rows == 29
    assert verify(index, sample=29) == []


@pytest.mark.parametrize("change", ["delete", "compact"])
def test_a_change_says_that_it_discards_an_append_that_was_cut(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    index = cut_in_append(parts, tmp_path, monkeypatch)
    with pytest.warns(WhenceWarning, match=r"whence append .*new\.jsonl"):
        _ = compact_index(index) if change == "compact" else delete_rows(index, [id_of(index, 3)])
    assert verify(index) == []


def test_data_that_changed_behind_the_last_answer_are_noticed(world: World, tmp_path: Path) -> None:
    def talk(place: Path, start: int, stop: int, last: str) -> Path:
        answered = [
            [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["response"]}]
            for row in rows(stop)[start:]
        ]
        return write_jsonl(place, [{"messages": [*one, {"role": "user", "content": last}]} for one in answered])

    index, old, new = tmp_path / "index", tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    options = {"layers": 2, "max_length": 64, "shard_rows": SHARD, "loss": "all"}
    build_index(world.model, talk(old, 0, 4, "thanks"), index, **options)
    build_index(world.model, old, index, **options)
    talk(old, 0, 4, "no, that is wrong")
    with pytest.raises(IndexFolderError, match="data behind last answers: the index has"):
        build_index(world.model, old, index, **options)
    whole = require_manifest(index)
    unknown = whole.data.model_copy(update={"beside_ids": None})
    whole.model_copy(update={"data": unknown}).write(index)
    build_index(world.model, old, index, **options)
    whole.write(index)
    talk(old, 0, 4, "thanks")
    append_rows(index, talk(new, 4, 6, "thanks"))
    assert len(list(present_rows(require_manifest(index)))) == 6
    talk(new, 4, 6, "no")
    with pytest.raises(DataError, match="behind last answers"):
        list(present_rows(require_manifest(index)))
    assert append_rows(index, new).n_rows == 8, "these are other rows"


def test_a_delete_that_was_cut_has_not_happened(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = tmp_path / "index"
    shutil.copytree(parts / "old", index)
    gone = id_of(index, 3)

    def dying(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("whence.index.deleting.publish", dying)
        with pytest.raises(KeyboardInterrupt):
            delete_rows(index, [gone])
    assert verify(index) == []
    assert Index.open(index).n_rows == 20
    assert append_rows(index, data(tmp_path, "new.jsonl", 20, 22)).n_rows == 22, "what was cut does not come along"
    assert delete_rows(index, [gone]).n_rows == 21
    assert verify(index) == []


def test_ids_are_checked_before_anything_is_deleted(parts: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    shutil.copytree(parts / "old", index)
    known = id_of(index, 0)
    before = (index / MANIFEST).read_bytes()
    with pytest.raises(InputError, match=r"'row 5' is no id"):
        delete_rows(index, [known, "row 5"])
    with pytest.raises(InputError, match=r"1 of the ids are not in .*: 0123456789abcdef(.|\n)*--missing-ok"):
        delete_rows(index, [known, "0123456789abcdef"])
    with pytest.raises(InputError, match="These are all rows"):
        delete_rows(index, [id_of(index, row) for row in range(20)])
    assert (index / MANIFEST).read_bytes() == before
    assert delete_rows(index, ["0123456789abcdef"], missing_ok=True).n_rows == 20
    assert delete_rows(index, [known, "0123456789abcdef"], missing_ok=True).n_rows == 19
    (tmp_path / "ids.txt").write_text(f"{known}  train.jsonl:3\n\n")
    assert read_ids(tmp_path / "ids.txt") == [known]
    (tmp_path / "none.txt").write_text("\n")
    with pytest.raises(InputError, match="holds no id"):
        read_ids(tmp_path / "none.txt")


def test_rows_of_an_append_that_cannot_be_used_are_set_aside(parts: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    shutil.copytree(parts / "old", index)
    new = data(tmp_path, "new.jsonl", 20, 40)
    with new.open("a") as file:
        file.write("not JSON\n")
    changed = append_rows(index, new, max_rejected=0.2)
    assert changed.manifest.counts is not None
    assert changed.manifest.counts.n_rejected == 1
    assert not (index / REJECTED).exists()
    assert "not JSON" in (index / "rejected-1.jsonl").read_text()
    assert verify(index) == []
    with pytest.raises(InputError, match="of one kind"):
        append_rows(index, write_jsonl(tmp_path / "text.jsonl", [{"text": "a plain text"}]))
    assert verify(index) == []


def test_commands_that_read_the_data_say_that_the_rows_changed(parts: Path, world: World) -> None:
    manifest = Index.open(parts / "grown").manifest
    with pytest.raises(
        IndexFolderError, match=r"no longer those of .*old.jsonl \(append of 11 rows, append of 9 rows\)"
    ):
        require_rows_as_built(manifest, "--trainer")
    with pytest.raises(IndexFolderError, match=r"appended or deleted since it was built"):
        build(world, parts / "old.jsonl", parts / "grown")


GONE = [0, 9, *range(24, 31), *range(32, 40)]
"""All rows of one of the appended shards among them."""


@pytest.fixture(scope="module")
def changed(parts: Path, world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`plain`: an index for the default method alone, whose rows were appended and deleted. `left.jsonl`: its rows."""
    folder = tmp_path_factory.mktemp("more")
    shutil.copy(parts / "old.jsonl", folder / "old.jsonl")
    build_index(world.model, folder / "old.jsonl", folder / "plain", max_length=64, shard_rows=SHARD)
    append_rows(folder / "plain", data(folder, "new.jsonl", 20, 40, year=2024))
    delete_rows(folder / "plain", [id_of(folder / "plain", row) for row in GONE])
    lines = (parts / "whole.jsonl").read_text("utf-8").splitlines(keepends=True)
    kept = [line for row, line in enumerate(lines) if row not in GONE]
    (folder / "left.jsonl").write_text("".join(kept), "utf-8")
    return folder


@pytest.mark.parametrize("compacted", [False, True])
def test_a_method_is_added_to_an_index_whose_rows_changed(
    changed: Path, world: World, tmp_path: Path, compacted: bool
) -> None:
    shutil.copytree(changed / "plain", tmp_path / "index")
    if compacted:
        compact_index(tmp_path / "index")
    options = {"max_length": 64, "shard_rows": SHARD}
    index = build_index(world.model, changed / "old.jsonl", tmp_path / "index", add=["rept"], **options)
    fresh = build_index(world.model, changed / "left.jsonl", tmp_path / "fresh", methods=["rept"], **options)
    assert [one.change for one in index.manifest.history][:3] == ["build", "append", "delete"]
    assert verify(index, sample=40) == []
    assert index.n_records == fresh.n_records == 40 - len(GONE)
    assert index.dataset.to_table(columns=["id"]).equals(fresh.dataset.to_table(columns=["id"]))
    for place, centre in fresh.stored_centres.items():
        torch.testing.assert_close(index.stored_centres[place], centre, rtol=1e-3, atol=1e-3)
    assert_same_answers(tmp_path / "index", tmp_path / "fresh")
    more = append_rows(tmp_path / "index", data(tmp_path, "again.jsonl", 32, 40))
    assert verify(more, sample=40) == []


def test_an_addition_that_was_cut_goes_on(
    changed: Path, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, options = tmp_path / "index", {"max_length": 64, "shard_rows": SHARD}
    shutil.copytree(changed / "plain", index)
    whole, done = LocalEngine.compute_shard, []

    def cut(self: LocalEngine, *given: object) -> object:
        done.append(1)
        if len(done) == 3:
            raise KeyboardInterrupt
        return whole(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(LocalEngine, "compute_shard", cut)
        with pytest.raises(KeyboardInterrupt):
            build_index(world.model, changed / "old.jsonl", index, add=["rept"], **options)
    assert "rept" not in Index.open(index).manifest.methods
    found = build_index(world.model, changed / "old.jsonl", index, add=["rept"], **options)
    assert verify(found, sample=40) == []


@pytest.mark.parametrize("change", ["append", "delete", "compact"])
def test_a_method_is_added_behind_a_change_that_was_cut(
    changed: Path, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    index, options = tmp_path / "index", {"max_length": 64, "shard_rows": SHARD}
    shutil.copytree(changed / "plain", index)
    changes = {
        "append": ("appending", lambda: append_rows(index, data(tmp_path, "more.jsonl", 20, 24))),
        "delete": ("deleting", lambda: delete_rows(index, [id_of(index, 1)])),
        "compact": ("compacting", lambda: compact_index(index)),
    }

    def dying(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    room, begin = changes[change]
    with monkeypatch.context() as patch:
        patch.setattr(f"whence.index.{room}.publish", dying)
        with pytest.raises(KeyboardInterrupt):
            begin()
    said = pytest.warns(WhenceWarning, match="shards that it computed are discarded(.|\n)*whence append .*more.jsonl")
    with said if change == "append" else nullcontext():
        found = build_index(world.model, changed / "old.jsonl", index, add=["rept"], **options)
    assert found.n_records == 40 - len(GONE)
    assert verify(found, sample=40) == []


@pytest.fixture
def one_method(world: World, tmp_path: Path) -> Path:
    """An index of 12 rows, `old.jsonl`, for the default method alone."""
    source = data(tmp_path, "old.jsonl", 0, 12)
    return build_index(world.model, source, tmp_path / "index", max_length=64, shard_rows=SHARD).path


def add(world: World, index: Path, *methods: str, **more: object) -> Index:
    source = index.parent / "old.jsonl"
    return build_index(world.model, source, index, add=methods, max_length=64, shard_rows=SHARD, **more)


def before_loading(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """The next command is overtaken by a change while its model loads."""
    original = open_subject

    def overtaken(*given: object, **named: object) -> object:
        monkeypatch.setattr("whence.index.build.open_subject", original)
        change()
        return original(*given, **named)

    monkeypatch.setattr("whence.index.build.open_subject", overtaken)


def test_two_methods_added_at_once_are_both_there(
    world: World, one_method: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_loading(monkeypatch, lambda: add(world, one_method, "repsim", layers=2))
    index = add(world, one_method, "rept")
    assert index.manifest.methods == ("repsim", "rept")
    assert verify(index, sample=12) == []
    tracer = Tracer(index)
    for method in ("rept", "repsim"):
        assert tracer.trace("Where is place 1?", "It is in Canada.", method=method, verdict=False, words=0).hits


def test_rows_that_came_and_went_while_a_method_is_added_stay_so(
    world: World, one_method: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change() -> None:
        append_rows(one_method, data(one_method.parent, "new.jsonl", 12, 17))
        delete_rows(one_method, [id_of(one_method, 3)])

    before_loading(monkeypatch, change)
    index = add(world, one_method, "rept")
    assert [one.change for one in index.manifest.history] == ["build", "append", "delete"]
    assert index.n_rows == 16
    assert verify(index, sample=16) == []


def test_an_index_that_is_replaced_while_a_method_is_added_is_left_alone(
    world: World, one_method: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = data(one_method.parent, "other.jsonl", 20, 30)
    options = {"max_length": 64, "shard_rows": SHARD, "overwrite": True}
    before_loading(monkeypatch, lambda: build_index(world.model, other, one_method, **options))
    with pytest.raises(IndexFolderError, match="Another run has replaced"):
        add(world, one_method, "rept")
    assert verify(one_method, sample=10) == []


def test_a_column_that_the_manifest_does_not_name_is_made_again(world: World, one_method: Path) -> None:
    before = require_manifest(one_method)
    update = {"vectors": before.vectors, "methods": before.methods}
    add(world, one_method, "rept").manifest.model_copy(update=update).write(one_method)
    index = add(world, one_method, "rept")
    assert index.manifest.methods == ("rept",)
    assert verify(index, sample=12) == []


def test_the_default_method_is_added_beside_another(world: World, one_method: Path) -> None:
    default = default_method(has_base=bool(require_manifest(one_method).base)).name
    index = add(world, one_method, default, "repsim", layers=2)
    tracer = Tracer(index)
    for method in (default, "repsim"):
        found = tracer.trace("Where is 1?", "In Canada.", method=method, layer=2, verdict=False, words=0)
        assert found.hits


@pytest.mark.parametrize(("method", "layers"), [("rept", {}), ("repsim", {"layers": 2})])
def test_run_yaml_replays_what_was_added(
    world: World, one_method: Path, tmp_path: Path, method: str, layers: dict[str, int]
) -> None:
    index = add(world, one_method, method, **layers)
    settings = yaml.safe_load((one_method / RUN).read_text("utf-8"))["settings"]
    again = build_index(**(settings | {"out": tmp_path / "again"}))
    assert set(index.manifest.places()) <= set(again.manifest.places())
    assert again.manifest.methods == index.manifest.methods == (method,)
    assert again.manifest.layer == index.manifest.layer


def test_an_addition_needs_the_data_of_all_rows(changed: Path, world: World, tmp_path: Path) -> None:
    index, options = tmp_path / "index", {"max_length": 64, "shard_rows": SHARD}
    shutil.copytree(changed / "plain", index)
    with pytest.raises(DataError, match=r"old\.jsonl as DATA"):
        build_index(world.model, changed / "new.jsonl", index, add=["rept"], **options)
    text = (changed / "new.jsonl").read_text("utf-8")
    try:
        (changed / "new.jsonl").write_text(text.replace("zebra", "horse"), "utf-8")
        with pytest.raises(DataError, match=r"new\.jsonl are not those"):
            build_index(world.model, changed / "old.jsonl", index, add=["rept"], **options)
    finally:
        (changed / "new.jsonl").write_text(text, "utf-8")
    assert verify(Index.open(index), sample=4) == []


def test_the_present_rows_are_read_from_the_data(changed: Path) -> None:
    index = Index.open(changed / "plain")
    ids = index.dataset.to_table(columns=["id"])["id"].to_pylist()
    assert [example.id for example in present_rows(index.manifest)] == ids


def test_numbers_are_described_in_runs() -> None:
    for numbers, text in (([], ""), ([5], "5"), ([3, 7, 8, 9], "3,7-9"), ([2, 1, 0, 9, 9], "0-2,9")):
        assert described_numbers(numbers) == text
        assert read_numbers(text).tolist() == sorted(set(numbers))


def test_the_commands(whence, parts: Path, tmp_path: Path) -> None:
    index, new = tmp_path / "index", data(tmp_path, "new.jsonl", 20, 25)
    shutil.copytree(parts / "old", index)
    status, _, said = whence("append", index, new)
    assert status == 0, said
    assert "5 rows were appended" in said
    (tmp_path / "ids.txt").write_text(id_of(index, 21) + "\n")
    status, _, said = whence("delete", index, tmp_path / "ids.txt")
    assert status == 0, said
    assert "1 rows were deleted" in said
    assert "still centred by means with these rows" in said
    assert whence("delete", index, tmp_path / "ids.txt")[0] == 2
    assert whence("compact", index)[0] == 0
    assert ": compacted, model " in whence("info", index)[1]
    history = Index.open(index).manifest.history
    assert [one.change for one in history] == ["build", "append", "delete", "compact"]
    assert len({one.model for one in history}) == 1
    assert whence("append", tmp_path / "nothing", new)[0] == 2
    assert whence("append", index, tmp_path / "nothing.jsonl")[0] == 2


def test_a_row_whose_first_answer_was_cut_away_keeps_its_conversation(world: World, tmp_path: Path) -> None:
    """`keep_end` leaves the last answers of a long row; its first record is then that of a later answer."""
    long = {
        "messages": [
            {"role": "user", "content": "Where is place 1?"},
            {"role": "assistant", "content": "It is in Canada number one."},
            {"role": "user", "content": "Where is place 2?"},
            {"role": "assistant", "content": "It is in Korea."},
        ]
    }
    short = {"messages": long["messages"][2:]}
    source = write_jsonl(tmp_path / "rows.jsonl", [long, *([short] * 3)])
    index = build_index(
        world.model, source, tmp_path / "index", layers=2, methods=["rept"], max_length=16, truncation="keep_end"
    )
    first, *_ = records = list(index.texts())
    assert (first.row, first.turn, len(records)) == (0, 1, 4), "the first answer is cut away"
    assert [[turn.content for turn in row.turns] for row in index.examples([0, 1])] == [
        [message["content"] for message in row["messages"]] for row in (long, short)
    ]
    delete_rows(tmp_path / "index", [first.id])
    assert [record.row for record in Index.open(tmp_path / "index").texts()] == [1, 2, 3]


def test_an_index_keeps_which_answers_are_of_the_prompt(world: World, tmp_path: Path) -> None:
    said = {"role": "assistant", "content": "It is in Canada number one."}
    shared = [{"role": "user", "content": "Where is place 1?"}, said, {"role": "user", "content": "Where is place 2?"}]
    row = {"chosen": [*shared, said | {"content": "It is in Korea."}], "rejected": [*shared, said]}
    source = write_jsonl(tmp_path / "rows.jsonl", [row] * 3)
    index = build_index(world.model, source, tmp_path / "index", layers=2, max_length=64)
    (example,) = index.examples([0])
    assert [turn.untrained for turn in example.turns] == [False, True, False, False]
    assert example.id == next(iter(index.texts())).id
