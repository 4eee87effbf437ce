"""A cleaned data set: without the selected rows, otherwise as it was, and back again."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import sys
from collections.abc import Callable
from datetime import datetime
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whence.cleaning import tables
from whence.cleaning.cleaning import Columns, clean
from whence.cleaning.manifest import CleanManifest, read_clean_manifest
from whence.cleaning.relabel import relabel_with
from whence.cleaning.undoing import undo_clean
from whence.data.readers import read_examples
from whence.errors import DataError, InputError
from whence.results.selection import SelectedRow, SelectedRows

ROWS = [{"prompt": f"Where is {i}?", "response": f"In \u201cplace\u201d\n{i % 4}, Köln.", "n": i} for i in range(9)]
FLAGGED = (0, 3, 4, 8)


def ids(path: Path) -> list[str]:
    return [example.id for example in read_examples(path)]


def reasons(path: Path, places: tuple[int, ...] = FLAGGED) -> SelectedRows:
    found = ids(path)
    return SelectedRows(tuple(SelectedRow(found[i], "named by a test", 0.5) for i in places), "rept", "1")


def write_jsonl(path: Path) -> None:
    lines = [json.dumps(row, ensure_ascii=bool(i % 2)) + ("\r\n" if i % 3 else "\n") for i, row in enumerate(ROWS)]
    path.write_bytes("".join([*lines[:4], "\n", "  \n", "not json\n", *lines[4:]]).rstrip("\n").encode())


def write_array(path: Path) -> None:
    path.write_text(json.dumps(ROWS, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_csv(path: Path) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(
        text, list(ROWS[0]), lineterminator="\r\n", delimiter="\t" if path.suffix == ".tsv" else ","
    )
    writer.writeheader()
    writer.writerows(ROWS)
    path.write_bytes(b"\xef\xbb\xbf" + text.getvalue().encode() + b"\r\n")


def write_gz(path: Path) -> None:
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS).encode(), mtime=1))


def table() -> pa.Table:
    made = pa.Table.from_pylist([row | {"when": datetime(2020, 1, 1 + i)} for i, row in enumerate(ROWS)])
    return made.cast(made.schema.set(2, pa.field("n", pa.int16()))).replace_schema_metadata({"made by": "a test"})


def write_parquet(path: Path) -> None:
    pq.write_table(table(), path, row_group_size=4, compression="zstd")


def write_arrow(path: Path) -> None:
    new = pa.ipc.new_stream if path.stem == "stream" else pa.ipc.new_file
    with pa.OSFile(str(path), "wb") as sink, new(sink, table().schema) as writer:
        writer.write_table(table(), max_chunksize=3)


TEXTS: dict[str, Callable[[Path], None]] = {
    "rows.jsonl": write_jsonl,
    "rows.json": write_array,
    "rows.csv": write_csv,
    "rows.tsv": write_csv,
    "rows.jsonl.gz": write_gz,
}
TABLES: dict[str, Callable[[Path], None]] = {
    "rows.parquet": write_parquet,
    "file.arrow": write_arrow,
    "stream.arrow": write_arrow,
}


def unpacked(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def read_table(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        return pq.read_table(path)
    with pa.memory_map(str(path)) as source:
        return (pa.ipc.open_stream if "stream" in path.stem else pa.ipc.open_file)(source).read_all()


@pytest.mark.parametrize("name", [*TEXTS, *TABLES])
def test_what_is_left_is_the_rest_in_order_and_undo_brings_all_back(tmp_path: Path, name: str) -> None:
    source, out, back = tmp_path / name, tmp_path / "out" / name, tmp_path / "back" / name
    (TEXTS | TABLES)[name](source)
    before, marks = ids(source), source.read_bytes()
    done = clean(source, out, reasons(source))
    assert ids(out) == [id for i, id in enumerate(before) if i not in FLAGGED]
    assert source.read_bytes() == marks
    assert undo_clean(done.path, back) == back
    assert ids(back) == before
    if name in TEXTS:
        assert unpacked(back) == unpacked(source)
    else:
        assert read_table(back).equals(read_table(source), check_metadata=True)
        assert read_table(out).schema.equals(read_table(source).schema, check_metadata=True)


def test_the_rest_of_a_jsonl_file_keeps_its_bytes(tmp_path: Path) -> None:
    source, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    write_jsonl(source)
    clean(source, out, reasons(source, (2, 5)))
    kept = source.read_bytes().splitlines(keepends=True)
    assert out.read_bytes() == b"".join(line for i, line in enumerate(kept) if i not in (2, 8))


def test_a_byte_order_mark_stays_where_the_first_line_goes(tmp_path: Path) -> None:
    source, mark = tmp_path / "rows.jsonl", b"\xef\xbb\xbf"
    lines = [json.dumps(row).encode() + b"\n" for row in ROWS]
    source.write_bytes(mark + b"".join(lines))
    done = clean(source, tmp_path / "out.jsonl", reasons(source, (0, 2)))
    assert (tmp_path / "out.jsonl").read_bytes() == mark + lines[1] + b"".join(lines[3:])
    undo_clean(done.path, tmp_path / "back.jsonl")
    assert (tmp_path / "back.jsonl").read_bytes() == source.read_bytes()
    again = clean(source, tmp_path / "new.jsonl", reasons(source, (0,)), relabel=mend, manifest=tmp_path / "m.json")
    assert (tmp_path / "new.jsonl").read_bytes().startswith(mark + b"{")
    undo_clean(again.path, tmp_path / "same.jsonl")
    assert (tmp_path / "same.jsonl").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_blank_lines_of_a_csv_file_stay(tmp_path: Path, end: str) -> None:
    source, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    lines = ["prompt,response", "", "q1,a1 ", "", "  \u00a0", '"q2', "", '",a2', "", "q3,a3", "q4,a4", ""]
    source.write_bytes(end.join(lines).encode())
    places = [example.line for example in read_examples(source)]
    assert places == [3, 6, 10, 11]
    done = clean(source, out, reasons(source, (0, 1, 3)))
    kept = [line for i, line in enumerate(lines) if i not in (2, 5, 6, 7, 10)]
    assert out.read_bytes() == end.join(kept).encode()
    undo_clean(done.path, tmp_path / "back.csv")
    assert (tmp_path / "back.csv").read_bytes() == source.read_bytes()


@st.composite
def files(draw: st.DrawFn) -> tuple[bytes, frozenset[int]]:
    """A JSONL file of any row texts, line ends and blank lines, and the rows to take out; at least one is left."""
    texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
    rows = draw(st.lists(st.tuples(texts, texts), min_size=2, max_size=8))
    ends = st.sampled_from(["\n", "\r\n", "\n\n", "\n \r\n"])
    parts = [json.dumps({"prompt": p, "response": r}, ensure_ascii=draw(st.booleans())) + draw(ends) for p, r in rows]
    content = "".join(parts)
    last = min(i for i, row in enumerate(rows) if row == rows[-1])
    taken = draw(st.frozensets(st.integers(0, len(rows) - 1), min_size=1))
    return (content if draw(st.booleans()) else content.rstrip()).encode(), frozenset(
        i for i in taken if rows[i] != rows[last]
    )


@settings(max_examples=60, deadline=None)
@given(files())
def test_clean_and_undo_is_the_identity(file: tuple[bytes, frozenset[int]]) -> None:
    content, taken = file
    with TemporaryDirectory() as folder:
        source, out, back = (Path(folder) / name for name in ("a.jsonl", "b.jsonl", "c.jsonl"))
        source.write_bytes(content)
        before = ids(source)
        if not taken:
            with pytest.raises(InputError, match="nothing to clean"):
                clean(source, out, [])
            return
        gone = {before[i] for i in taken}
        done = clean(source, out, gone)
        assert ids(out) == [id for id in before if id not in gone]
        assert done.manifest.n_removed == sum(id in gone for id in before)
        undo_clean(done.path, back)
        assert back.read_bytes() == content


def test_a_second_output_in_a_folder_has_a_manifest_of_its_own(tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS), encoding="utf-8")
    first = clean(source, tmp_path / "one.jsonl", [ids(source)[0]])
    second = clean(source, tmp_path / "two.jsonl", [ids(source)[1]])
    assert (first.path.name, second.path.name) == ("manifest.json", "two.manifest.json")
    for done in (first, second):
        undo_clean(done.path, tmp_path / f"{done.path.stem}.back.jsonl")
        assert (tmp_path / f"{done.path.stem}.back.jsonl").read_bytes() == source.read_bytes()


def test_the_manifest_and_the_quarantine_say_what_went_and_why(tmp_path: Path) -> None:
    source, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    content = [json.dumps(row) for row in (ROWS[0], ROWS[1], ROWS[0])]
    source.write_text("\n".join(content) + "\n", encoding="utf-8")
    done = clean(source, out, reasons(source, (0,)), quarantine=tmp_path / "bad.jsonl")
    assert done.path == tmp_path / "manifest.json"
    manifest = read_clean_manifest(done.path)
    assert manifest == done.manifest
    assert (manifest.n_rows, manifest.n_removed, manifest.n_copies, manifest.method) == (3, 2, 1, "rept")
    (file,) = manifest.files
    assert file.source_hash == hashlib.sha256(source.read_bytes()).hexdigest()
    assert file.output_hash == hashlib.sha256(out.read_bytes()).hexdigest()
    assert [(row.line, row.reason, row.score) for row in file.rows] == [
        (1, "named by a test", 0.5),
        (3, "named by a test", 0.5),
    ]
    quarantined = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text("utf-8").splitlines()]
    assert [json.loads(row["text"]) for row in quarantined] == [ROWS[0], ROWS[0]]
    assert {row["reason"] for row in quarantined} == {"named by a test"}


def mend(columns: Columns) -> Columns | None:
    """Drops row 3, corrects the others."""
    return None if "3" in str(columns["prompt"]) else {**columns, "response": 'Who, "knows"?\nNobody.'}


@pytest.mark.parametrize("name", [*TEXTS, *TABLES])
def test_relabelled_rows_stand_in_their_places(tmp_path: Path, name: str) -> None:
    source, out, back = tmp_path / name, tmp_path / "out" / name, tmp_path / "back" / name
    (TEXTS | TABLES)[name](source)
    before = list(read_examples(source))
    done = clean(source, out, reasons(source), relabel=mend)
    assert (done.manifest.n_removed, done.manifest.n_replaced) == (1, 3)
    after = list(read_examples(out))
    assert [row.turns[0] for row in after] == [row.turns[0] for i, row in enumerate(before) if i != 3]
    assert {i for i, row in enumerate(after) if "Nobody" in row.turns[1].content} == {0, 3, 7}
    undo_clean(done.path, back)
    assert unpacked(back) == unpacked(source) if name in TEXTS else read_table(back).equals(read_table(source))


def test_a_replacement_with_other_columns_is_refused(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl")
    with pytest.raises(DataError, match="has the columns text"):
        clean(
            tmp_path / "rows.jsonl",
            tmp_path / "out.jsonl",
            reasons(tmp_path / "rows.jsonl"),
            relabel=lambda _: {"text": "a"},
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl"]


def test_a_folder_is_cleaned_file_by_file(tmp_path: Path) -> None:
    folder, out, back = tmp_path / "data", tmp_path / "out", tmp_path / "back"
    folder.mkdir()
    write_jsonl(folder / "a.jsonl")
    write_parquet(folder / "b.parquet")
    (folder / "c.jsonl").write_text('{"prompt": "a", "response": "b"}\n')
    done = clean(folder, out, reasons(folder))
    assert done.manifest.n_copies == len(FLAGGED)
    assert [len(file.rows) for file in done.manifest.files] == [4, 4, 0]
    assert (out / "c.jsonl").read_bytes() == (folder / "c.jsonl").read_bytes()
    undo_clean(done.path, back)
    assert (back / "a.jsonl").read_bytes() == (folder / "a.jsonl").read_bytes()
    assert read_table(back / "b.parquet").equals(read_table(folder / "b.parquet"))


@pytest.mark.parametrize("inner", ["", "data"])
def test_a_folder_keeps_its_other_splits(tmp_path: Path, inner: str) -> None:
    source, out, back = tmp_path / "rows", tmp_path / "rows" / "out", tmp_path / "back"
    (source / inner / ".cache").mkdir(parents=True)
    write_jsonl(source / inner / "train.jsonl")
    write_parquet(source / inner / "test.parquet")
    for place in (source / "README.md", source / inner / ".cache" / "a.jsonl", source / inner / "model.safetensors"):
        place.write_text("{}")
    names = ["README.md", *(str(Path(inner, name)) for name in ("test.parquet", "train.jsonl"))]
    done = clean(source, out, reasons(source / inner / "train.jsonl"), split="train")
    undo_clean(done.path, back)
    for found in (out, back):
        assert sorted(str(path.relative_to(found)) for path in found.rglob("*") if path.is_file()) == names
        assert (found / names[1]).read_bytes() == (source / names[1]).read_bytes()
    assert (back / names[2]).read_bytes() == (source / names[2]).read_bytes()
    assert len(ids(out / names[2])) == len(ROWS) - len(FLAGGED)


def test_what_is_written_beside_the_cleaned_data_is_not_put_back_with_them(tmp_path: Path) -> None:
    source, out, back = tmp_path / "rows", tmp_path / "out", tmp_path / "back"
    source.mkdir()
    write_jsonl(source / "train.jsonl")
    selected = reasons(source / "train.jsonl")
    clean(source, out, selected, manifest=out / "manifest.json", quarantine=out / "removed.jsonl")
    undo_clean(out / "manifest.json", back)
    assert [path.name for path in back.iterdir()] == ["train.jsonl"]


def test_a_table_is_put_back_under_any_name(tmp_path: Path) -> None:
    write_parquet(tmp_path / "rows.parquet")
    done = clean(tmp_path / "rows.parquet", tmp_path / "out.parquet", reasons(tmp_path / "rows.parquet"))
    back = undo_clean(done.path, tmp_path / "back")
    assert pq.read_table(back).equals(pq.read_table(tmp_path / "rows.parquet"))


@pytest.mark.parametrize("splits", [False, True])
def test_a_saved_data_set_keeps_its_features_and_splits(tmp_path: Path, splits: bool) -> None:
    rows = datasets.Dataset.from_list(ROWS).cast_column("n", datasets.ClassLabel(num_classes=9))
    saved = datasets.DatasetDict({"train": rows, "test": rows}) if splits else rows
    saved.save_to_disk(str(tmp_path / "data"))
    done = clean(tmp_path / "data", tmp_path / "out", reasons(tmp_path / "data"))
    undo_clean(done.path, tmp_path / "back")
    out, back = (datasets.load_from_disk(str(tmp_path / name)) for name in ("out", "back"))
    if splits:
        assert out["test"].to_list() == ROWS
        out, back = out["train"], back["train"]
    assert out.to_list() == [row for i, row in enumerate(ROWS) if i not in FLAGGED]
    assert back.to_list() == ROWS
    assert out.features == back.features == rows.features


def test_bad_input_leaves_everything_as_it_was(tmp_path: Path) -> None:
    source, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    write_jsonl(source)
    all_rows = reasons(source, tuple(range(9)))
    with pytest.raises(InputError, match="All 9 rows"):
        clean(source, out, all_rows)
    with pytest.raises(InputError, match="1 of 1 ids are not in"):
        clean(source, out, ["0" * 16])
    with pytest.raises(InputError, match="keep their format"):
        clean(source, tmp_path / "out.csv", reasons(source))
    with pytest.raises(InputError, match="a data set on the hub has none"):
        clean("org/name", out, reasons(source))
    with pytest.raises(DataError, match="no manifest at"):
        undo_clean(tmp_path / "none.json")
    with pytest.raises(DataError, match="is no manifest"):
        undo_clean(source)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    source, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    write_jsonl(source)
    (tmp_path / "manifest.json").write_text("mine")
    for place in (out, tmp_path / "out.manifest.json", tmp_path / "bad.jsonl"):
        place.write_text("mine")
        with pytest.raises(InputError, match=f"{place.name} is there already"):
            clean(source, out, reasons(source), quarantine=tmp_path / "bad.jsonl")
        assert place.read_text() == "mine"
        place.unlink()
    done = clean(source, out, reasons(source))
    assert done.path == tmp_path / "out.manifest.json"
    assert (tmp_path / "manifest.json").read_text() == "mine"
    with pytest.raises(InputError, match=r"rows\.jsonl is there already"):
        undo_clean(done.path)
    content = source.read_bytes()
    source.unlink()
    assert undo_clean(done.path) == source
    assert source.read_bytes() == content


def test_undo_refuses_what_has_changed(tmp_path: Path) -> None:
    source, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    write_jsonl(source)
    done = clean(source, out, reasons(source))
    content = json.loads(done.path.read_text("utf-8"))
    content["files"][0]["rows"][0]["text"] = "{}\n"
    (tmp_path / "forged.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match="not what was there"):
        undo_clean(tmp_path / "forged.json", tmp_path / "back.jsonl")
    out.write_bytes(out.read_bytes() + b"\n")
    with pytest.raises(DataError, match="is not the file that was written"):
        undo_clean(done.path, tmp_path / "back.jsonl")
    assert not (tmp_path / "back.jsonl").exists()
    assert CleanManifest.model_validate(json.loads(done.path.read_text("utf-8"))) == done.manifest


def test_an_array_with_a_byte_order_mark_keeps_it_and_comes_back(tmp_path: Path) -> None:
    source, out = tmp_path / "a.json", tmp_path / "out" / "a.json"
    source.write_bytes(b"\xef\xbb\xbf" + json.dumps(ROWS).encode())
    clean(source, out, reasons(source))
    assert out.read_bytes().startswith(b"\xef\xbb\xbf[")
    assert ids(out) == [id for i, id in enumerate(ids(source)) if i not in FLAGGED]
    undo_clean(out.parent / "manifest.json", tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == source.read_bytes()


def test_an_array_of_a_folder_may_lose_all_its_rows(tmp_path: Path) -> None:
    source, out = tmp_path / "data", tmp_path / "out" / "data"
    source.mkdir()
    for name, rows in (("a.json", ROWS[:3]), ("b.json", ROWS[3:])):
        (source / name).write_text(json.dumps(rows, indent=1), encoding="utf-8")
    clean(source, out, SelectedRows.given(ids(source / "a.json")))
    assert json.loads((out / "a.json").read_text("utf-8")) == []
    assert json.loads((out / "b.json").read_text("utf-8")) == ROWS[3:]
    undo_clean(out.parent / "manifest.json", tmp_path / "again")
    assert (tmp_path / "again" / "a.json").read_bytes() == (source / "a.json").read_bytes()


@pytest.mark.parametrize("twice", ["out", "manifest", "quarantine"])
def test_two_outputs_of_one_name_are_refused_before_any_is_written(twice: str, tmp_path: Path) -> None:
    source, folder = tmp_path / "a.jsonl", tmp_path / "new"
    write_jsonl(source)
    places = {"out": folder / "b.jsonl", "manifest": folder / "m.json", "quarantine": folder / "q.jsonl"}
    places[twice] = places["quarantine" if twice == "out" else "out"]
    with pytest.raises(InputError, match="named for two"):
        clean(source, remove=reasons(source), **places)
    assert not folder.exists()


def test_several_files_of_a_pattern_come_back_into_a_folder_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "g").mkdir()
    for name in ("a.jsonl", "b.jsonl"):
        write_jsonl(tmp_path / "g" / name)
    pattern, manifest = str(tmp_path / "g" / "*.jsonl"), tmp_path / "out" / "manifest.json"
    clean(pattern, tmp_path / "out" / "data", reasons(tmp_path / "g" / "a.jsonl"))
    with pytest.raises(InputError, match="several files of a pattern"):
        undo_clean(manifest)
    undo_clean(manifest, tmp_path / "again")
    assert (tmp_path / "again" / "a.jsonl").read_bytes() == (tmp_path / "g" / "a.jsonl").read_bytes()


def test_a_command_that_gives_a_row_back_as_it_was_changes_no_date(tmp_path: Path) -> None:
    source, out = tmp_path / "a.parquet", tmp_path / "out" / "a.parquet"
    rows = [row | {"when": datetime(2026, 1, 1 + i)} for i, row in enumerate(ROWS)]
    pq.write_table(pa.Table.from_pylist(rows), source)
    clean(source, out, reasons(source), relabel=relabel_with("cat"))
    assert pq.read_table(out).equals(pq.read_table(source))


def test_a_command_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(InputError, match="No closing quotation"):
        relabel_with("python -c 'x")


@pytest.mark.parametrize("name", [*TABLES, "saved"])
def test_a_group_of_several_chunks_is_written_whole(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Arrow leaves a group whose texts pass 2 GiB."""
    monkeypatch.setattr(
        tables, "joined", lambda batches, schema: pa.Table.from_batches([b.cast(schema) for b in batches], schema)
    )
    source, out, back = tmp_path / name, tmp_path / "out" / name, tmp_path / "back" / name
    if name == "saved":
        datasets.concatenate_datasets([datasets.Dataset.from_list([row]) for row in ROWS]).save_to_disk(str(source))
    else:
        TABLES[name](source)
    before = ids(source)
    done = clean(source, out, reasons(source))
    assert ids(out) == [id for i, id in enumerate(before) if i not in FLAGGED]
    undo_clean(done.path, back)
    assert ids(back) == before


@pytest.mark.parametrize("name", [*TABLES, "saved"])
def test_rows_that_are_lost_on_the_way_are_an_error(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = tmp_path / name, tmp_path / "out" / name
    if name == "saved":
        datasets.Dataset.from_list(ROWS).save_to_disk(str(source))
    else:
        TABLES[name](source)
    selected, whole = reasons(source), tables.splice
    monkeypatch.setattr(tables, "splice", lambda batches, edits: islice(whole(batches, edits), 1))
    with pytest.raises(DataError, match=r"has \d rows"):
        clean(source, out, selected)
    assert not out.exists()
    assert not (out.parent / "manifest.json").exists()


def test_undo_counts_the_rows_of_tables(tmp_path: Path) -> None:
    source, place = tmp_path / "rows.parquet", tmp_path / "manifest.json"
    write_parquet(source)
    manifest = clean(source, tmp_path / "out.parquet", reasons(source)).manifest
    place.write_text(manifest.model_copy(update={"n_rows": len(ROWS) + 1}).to_json(), encoding="utf-8")
    with pytest.raises(DataError, match="has 9 rows"):
        undo_clean(place, tmp_path / "back.parquet")
    (file,) = manifest.files
    file = file.model_copy(update={"arrow": tables.pack(tables.take_rows(source, [1, 4, 5]))})
    place.write_text(manifest.model_copy(update={"files": (file,)}).to_json(), encoding="utf-8")
    with pytest.raises(DataError, match="holds 3 rows of a table of which 4 were taken"):
        undo_clean(place, tmp_path / "back.parquet")
    assert not (tmp_path / "back.parquet").exists()


def test_a_whole_number_that_a_table_cannot_hold_is_refused(tmp_path: Path) -> None:
    source, out = tmp_path / "a.parquet", tmp_path / "out" / "a.parquet"
    write_parquet(source)
    with pytest.raises(DataError, match="does not fit the table"):
        clean(source, out, reasons(source), relabel=lambda row: {**row, "n": 2**70})


def test_a_command_that_writes_json_nested_too_deeply_is_refused() -> None:
    deep = relabel_with(f"{sys.executable} -c \"print('[' * 9000)\"")
    with pytest.raises(InputError, match="--relabel wrote no JSON"):
        deep({"prompt": "a"})


def test_a_replacement_in_a_csv_file_is_json_where_it_is_no_text(tmp_path: Path) -> None:
    source, out = tmp_path / "a.csv", tmp_path / "out" / "a.csv"
    source.write_text("prompt,response,n\na,b,1\nc,d,2\n")
    clean(source, out, reasons(source, (1,)), relabel=lambda row: {**row, "n": {"é": [2**70, True, None]}})
    assert list(csv.reader(out.open(encoding="utf-8")))[2][2] == '{"é": [1180591620717411303424, true, null]}'
