"""The pass before the work: counts, rejected rows, duplicates, hash, types; and what stays when it fails."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whence.data import scanning as scan_module
from whence.data.examples import Example, Turn
from whence.data.readers import read_examples
from whence.data.scanning import ContentHash, DuplicateGroup, Scan, scan
from whence.errors import DataError
from whence.index.manifest import read_manifest

GOOD = {"prompt": "q", "response": "a"}
MANY = 10_000
MEMORY_LIMIT = 2**19
"""Bytes of Python objects; the memory test's ids alone, as a set of text, would take more than twice as many."""


def write(path: Path, rows: list[Any]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def numbered(count: int) -> list[dict[str, str]]:
    return [{"prompt": f"q{i}", "response": "a"} for i in range(count)]


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_clean_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [GOOD | {"n": 1, "x": None}, {"prompt": "p", "response": "a", "n": 2.5}])
    found = scan(path, rejects_path=tmp_path / "rejected.jsonl")
    assert found == Scan(
        n_rows=2,
        n_rejected=0,
        n_duplicates=0,
        duplicates=(),
        content_hash=found.content_hash,
        metadata_types={"n": "float", "x": "str"},
        shape="prompt/response",
    )
    assert leftovers(tmp_path) == ["a.jsonl"]


def test_whole_numbers_that_a_float_would_round_make_the_column_text(tmp_path: Path) -> None:
    wide, floats = [GOOD | {"n": 2**53 + 1}], [{"prompt": "p", "response": "a", "n": 2.5}]
    for rows in (wide + floats, floats + wide):
        found = scan(write(tmp_path / "a.jsonl", rows))
        assert (found.metadata_types, found.wide) == ({"n": "str"}, {"n"})
    assert scan(write(tmp_path / "a.jsonl", wide)).metadata_types == {"n": "int"}


def test_what_the_ids_leave_out_has_a_hash_of_its_own() -> None:
    said, other = (Turn("user", "a"), Turn("assistant", "b")), Example((Turn("user", "e"), Turn("assistant", "f")))

    def found(*turns: Turn) -> ContentHash:
        content = ContentHash()
        for example in (Example(turns), other):
            content.take(example)
        return content

    again = (Turn("user", "c"), Turn("assistant", "d"))
    plain = found(*said, *again)
    behind, edited = (found(*said, *again, Turn("user", last)) for last in ("more", "else"))
    prompt = found(said[0], replace(said[1], untrained=True), *again)
    assert plain.beside_ids() == ""
    assert {one.hexdigest() for one in (behind, edited, prompt)} == {plain.hexdigest()}
    assert len({one.beside_ids() for one in (plain, behind, edited, prompt)}) == 4


def plain_hash(examples: list[Example]) -> str:
    """The content hash as its docstring says it."""
    lines = (f"{e.id} {json.dumps(e.metadata, ensure_ascii=False, sort_keys=True)}\n" for e in examples)
    return hashlib.blake2b("".join(lines).encode(), digest_size=16).hexdigest()


def test_the_hash_is_of_content_in_order_not_of_place_or_format(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "response": "a", "source": "x", "n": 1}, {"prompt": "p", "response": "ü", "source": "y"}]
    base = scan(write(tmp_path / "a.jsonl", rows)).content_hash
    assert base == plain_hash(list(read_examples(tmp_path / "a.jsonl")))
    reordered = [dict(reversed(row.items())) for row in rows]
    (tmp_path / "b.json").write_text(json.dumps(reordered, indent=1))
    assert scan(tmp_path / "b.json").content_hash == base
    assert scan(write(tmp_path / "c.jsonl", rows[::-1])).content_hash != base
    for change in ({"source": "z"}, {"n": 2}, {"response": "b"}, {"more": None}):
        changed = [rows[0] | change, rows[1]]
        assert scan(write(tmp_path / "d.jsonl", changed)).content_hash != base


def test_rejected_rows_are_counted_and_written(tmp_path: Path) -> None:
    rows: list[Any] = [*numbered(40), '{"prompt": "q", "response": "é",}', {"prompt": "q", "response": "\ud800"}]
    path = write(tmp_path / "a.jsonl", rows)
    rejects = tmp_path / "new" / "rejected.jsonl"
    found = scan(path, rejects_path=rejects)
    assert (found.n_rows, found.n_rejected) == (40, 2)
    written = [json.loads(line) for line in rejects.read_text(encoding="utf-8").splitlines()]
    assert written == [
        {
            "file": str(path),
            "line": 41,
            "reason": "invalid JSON at line 41 column 32: trailing comma before '}'",
            "raw": '{"prompt": "q", "response": "é",}',
        },
        {
            "file": str(path),
            "line": 42,
            "reason": "column 'response' holds a lone surrogate (U+D800) at character 1",
            "raw": '{"prompt": "q", "response": "\\ud800"}',
        },
    ]
    assert leftovers(rejects.parent) == ["rejected.jsonl"]
    assert scan(path).n_rejected == 2


@pytest.mark.parametrize(
    ("n_good", "n_bad", "max_rejected", "allowed"),
    [(95, 5, 0.05, None), (94, 6, 0.05, "0.06"), (0, 0, 0.0, None), (199, 1, 0.0, "0.01"), (1, 9, 1.0, None)],
)
def test_too_many_rejected_rows_stop_the_run(
    tmp_path: Path, n_good: int, n_bad: int, max_rejected: float, allowed: str | None
) -> None:
    path = write(tmp_path / "a.jsonl", [GOOD, *numbered(n_good)[1:], *[{"prompt": "q", "response": ""}] * n_bad])
    rejects = tmp_path / "rejected.jsonl"
    if allowed is None:
        assert scan(path, max_rejected=max_rejected, rejects_path=rejects).n_rejected == n_bad
        return
    with pytest.raises(DataError) as caught:
        scan(path, max_rejected=max_rejected, rejects_path=rejects)
    message = str(caught.value)
    assert f"{n_bad} of {n_good + n_bad} rows" in message
    assert message.count("empty response (column 'response')") == min(n_bad, 3)
    assert f"{path}:{n_good + 1}: empty response" in message
    assert str(rejects) in message
    assert message.endswith(f"--max-rejected {allowed}")
    assert len(rejects.read_text().splitlines()) == n_bad
    assert scan(path, max_rejected=float(allowed)).n_rejected == n_bad


def test_all_rows_rejected_always_stops(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ["nonsense", "more"])
    with pytest.raises(DataError, match=r"all 2 rows of .* are rejected") as caught:
        scan(path, max_rejected=1.0, rejects_path=tmp_path / "rejected.jsonl")
    assert "--max-rejected does not help" in str(caught.value)
    assert len((tmp_path / "rejected.jsonl").read_text().splitlines()) == 2


def test_a_scan_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rejects = tmp_path / "rejected.jsonl"
    rejects.write_text("before")
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'nonsense\n{"prompt": "q", "response": "a"}\n\xff\n')
    with pytest.raises(DataError, match="not UTF-8"):
        scan(path, rejects_path=rejects)
    assert rejects.read_text() == "before"
    assert leftovers(tmp_path) == ["a.jsonl", "rejected.jsonl"]

    def interrupt(example: Example, *rest: object) -> None:
        raise KeyboardInterrupt

    write(path, ["nonsense", GOOD])
    monkeypatch.setattr(scan_module, "unify", interrupt)
    with pytest.raises(KeyboardInterrupt):
        scan(path, rejects_path=rejects)
    assert rejects.read_text() == "before"
    assert leftovers(tmp_path) == ["a.jsonl", "rejected.jsonl"]


def test_rejects_that_cannot_be_written_are_one_clear_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [GOOD, "nonsense"])
    with pytest.raises(DataError, match="the rejected rows cannot be written to"):
        scan(path, max_rejected=1.0, rejects_path=path / "rejected.jsonl")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="the rejected rows cannot be written to"):
        scan(path, max_rejected=1.0, rejects_path=tmp_path / "folder")
    assert leftovers(tmp_path) == ["a.jsonl", "folder"]


@pytest.mark.parametrize("n_bad", [1, 100])
def test_a_full_disk_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_bad: int) -> None:
    """One row fails when the file is closed, a hundred while they are written."""
    path = write(tmp_path / "a.jsonl", [GOOD, *["nonsense" * 1000] * n_bad])
    (tmp_path / "full").symlink_to("/dev/full")
    monkeypatch.setattr(scan_module._RejectsFile, "_temporary", tmp_path / "full")
    with pytest.raises(DataError, match="No space left on device"):
        scan(path, max_rejected=1.0, rejects_path=tmp_path / "rejected.jsonl")
    assert leftovers(tmp_path) == ["a.jsonl"]
    assert Path("/dev/full").exists()


def test_duplicates_are_counted_and_named(tmp_path: Path) -> None:
    other = {"prompt": "p", "response": "a"}
    path = write(
        tmp_path / "a.jsonl", [GOOD, other, GOOD | {"source": "x"}, {"prompt": "z", "response": "a"}, other, GOOD]
    )
    found = scan(path)
    ids = [example.id for example in read_examples(path)]
    assert (found.n_rows, found.n_duplicates) == (6, 3)
    assert found.duplicates == (
        DuplicateGroup(ids[0], (f"{path}:1", f"{path}:3", f"{path}:6")),
        DuplicateGroup(ids[1], (f"{path}:2", f"{path}:5")),
    )


def test_the_sample_of_duplicates_is_bounded(tmp_path: Path) -> None:
    rows = numbered(scan_module.MAX_GROUPS + 5)
    found = scan(write(tmp_path / "a.jsonl", rows * 13))
    assert found.n_duplicates == len(rows) * 12
    assert len(found.duplicates) == scan_module.MAX_GROUPS
    assert {len(group.places) for group in found.duplicates} == {scan_module.MAX_PLACES}


@settings(max_examples=40, deadline=None)
@given(picks=st.lists(st.integers(0, 6), min_size=1, max_size=30))
def test_duplicates_equal_a_plain_count(tmp_path_factory: pytest.TempPathFactory, picks: list[int]) -> None:
    path = write(tmp_path_factory.mktemp("dup") / "a.jsonl", [{"text": f"t{pick}"} for pick in picks])
    found = scan(path)
    places: dict[int, list[str]] = {}
    for line, pick in enumerate(picks, 1):
        places.setdefault(pick, []).append(f"{path}:{line}")
    assert found.n_duplicates == len(picks) - len(places)
    expected = {tuple(lines[:10]) for lines in places.values() if len(lines) > 1}
    assert {group.places for group in found.duplicates} == expected


def test_several_files_with_several_shapes(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [GOOD])
    write(tmp_path / "b.jsonl", [{"text": "t", "n": 1}])
    write(tmp_path / "c.jsonl", [GOOD | {"n": "one"}])
    found = scan(tmp_path)
    assert (found.shape, found.n_rows, found.n_duplicates) == ("prompt/response, text", 3, 1)
    assert found.metadata_types == {"n": "str"}
    assert scan(tmp_path / "b.jsonl", columns={"text": "text"}).shape == "text"


def test_columns_and_split_are_passed_on(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", [{"q": "x", "a": "y"}])
    write(tmp_path / "test.jsonl", [{"q": "x", "a": "y"}])
    found = scan(tmp_path, columns={"prompt": "q", "response": "a"}, split="test")
    assert (found.n_rows, found.shape) == (1, "q/a")


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"text": f"t{i}", "n": i} for i in range(MANY)])
    seen: list[int] = []
    tracemalloc.start()
    try:
        assert scan(path, progress=lambda stage, done, total: seen.append(done)).n_rows == MANY
        assert tracemalloc.get_traced_memory()[1] < MEMORY_LIMIT
    finally:
        tracemalloc.stop()
    assert seen == list(range(1000, MANY + 1, 1000))


def test_what_a_killed_scan_leaves_is_no_foreign_file(tmp_path: Path) -> None:
    """The rows that are set aside are written beside the file that they become; a kill leaves that neighbour."""
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a"}\n{"prompt": "a", "response": "b"}\n')
    out, left = tmp_path / "index", []

    def look(stage: str, done: int, total: int | None) -> None:
        left.extend(path.name for path in out.iterdir())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("whence.data.scanning.PROGRESS_ROWS", 1)
        scan(tmp_path / "bad.jsonl", max_rejected=1.0, rejects_path=out / "rejected.jsonl", progress=look)
    assert len(left) == 1
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / left[0]).touch()
    assert read_manifest(tmp_path / "killed") is None
