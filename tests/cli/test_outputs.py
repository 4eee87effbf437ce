"""What commands write and print: nothing of the user's is replaced, nothing that was computed is lost."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from audits import audit_of
from samples import result_of, toronto
from whence.cli.audit import show
from whence.cli.outputs import check_outputs, files_named, hand_out
from whence.cli.telling import any_locale, print_json, printer, say
from whence.errors import InputError, WhenceWarning
from whence.results.audit_result import AuditResult
from whence.results.trace_result import TraceResult
from worlds import World

Run = Callable[..., tuple[int, str, str]]
ASK = ("-p", "Where is place 3?", "-r", "In Korea.", "--no-verdict")
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")


def ascii_output(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    """The bytes that reach standard output of a locale that knows ASCII alone."""
    found = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(found, encoding="ascii", write_through=True))
    return found


def test_json_is_utf8_in_any_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    text = result_of(toronto("Wo ist Köln? \U0001f4a5")).to_json()
    found = ascii_output(monkeypatch)
    print_json(text)
    assert found.getvalue() == text.encode("utf-8")


def test_what_a_locale_has_no_sign_for_is_an_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ascii_output(monkeypatch)
    any_locale()
    printer().print("Köln \U0001f4a5", markup=False)
    assert found.getvalue() == b"K\\xf6ln \\U0001f4a5\n"


def test_a_lone_surrogate_is_written_as_json_spells_it(tmp_path: Path) -> None:
    result = result_of(toronto("a\udc80b"))
    result.to_json(tmp_path / "out.json")
    assert "a\\udc80b" in (tmp_path / "out.json").read_text("utf-8")
    assert TraceResult.from_dict(json.loads((tmp_path / "out.json").read_text("utf-8"))) == result


def test_what_is_said_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say("runs/a\x1b[2J\u200b\nb", err=True)
    printer().print("runs/a\x1b[2J\u202e", markup=False)
    assert capsys.readouterr() == ("runs/a⟨U+001B⟩[2J⟨U+202E⟩\n", "runs/a⟨U+001B⟩[2J⟨U+200B⟩\nb\n")


def test_an_error_steers_no_terminal(whence: Run, tmp_path: Path) -> None:
    status, _, said = whence("info", tmp_path / "a\x1b[2J\u202eb")
    assert status == 2
    assert "a⟨U+001B⟩[2J⟨U+202E⟩b" in said
    assert not set(said) & set("\x1b\u202e")


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize("broken", ["to_json", "to_html", "to_markdown"])
def test_an_audit_that_cannot_be_written_is_shown_and_its_other_files_are_there(
    broken: str, quiet: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_room(self: AuditResult, path: Path, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(AuditResult, broken, no_room)
    places = {"--json": tmp_path / "a.json", "--html": tmp_path / "a.html", "--markdown": tmp_path / "a.md"}
    with pytest.raises(PermissionError):
        show(audit_of(), places, quiet=quiet, no_text=False)
    shown = capsys.readouterr().out
    assert "outputs have flagged rows" in shown
    assert len(list(tmp_path.iterdir())) == shown.count("written: ") == 2


def test_json_of_standard_output_is_there_although_a_file_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    def no_room(self: AuditResult, path: Path, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(AuditResult, "to_html", no_room)
    with pytest.raises(OSError, match="No space left"):
        show(
            audit_of(),
            {"--json": Path("-"), "--html": tmp_path / "a.html", "--markdown": None},
            quiet=True,
            no_text=False,
        )
    assert json.loads(capfdbinary.readouterr().out)["schema"] == "whence.audit/1"


def test_every_error_of_writing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(name: str) -> Callable[[], None]:
        def write() -> None:
            raise InputError(f"No {name}.", "A reason.", "A remedy.")

        return write

    shown: list[int] = []
    with pytest.raises(InputError, match="No page"):
        hand_out([fail("page"), fail("plot")], lambda: shown.append(1), quiet=True)
    assert shown == [1]
    assert "No plot" in capsys.readouterr().err


@needs_full
def test_a_trace_on_a_full_disk_is_shown_and_its_place_named(whence: Run, world: World) -> None:
    status, shown, said = whence("trace", world.index, *ASK, "--html", FULL, "-q", "--json", "-")
    assert status == 2
    assert json.loads(shown)["queries"]
    assert "No space left on device: /dev/full" in said
    status, shown, said = whence("trace", world.index, *ASK, "--markdown", FULL)
    assert status == 2
    assert "rank" in shown
    assert "written" not in shown


@needs_full
def test_standard_output_on_a_full_disk_is_one_error(world: World) -> None:
    command = [
        sys.executable,
        "-c",
        "from whence.cli.main import main; main()",
        "info",
        str(world.index),
        "--json",
        "-",
    ]
    with FULL.open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr.splitlines()[:1]) == (2, [b"Error: No space left on device"])
    assert b"Exception" not in done.stderr


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "-"])
def test_names_of_standard_output_get_the_json_alone(whence: Run, world: World, name: str) -> None:
    status, shown, _ = whence("info", world.index, "--json", name)
    assert status == 0
    assert json.loads(shown)["schema"] == "whence.info/1"


def test_eval_writes_json_to_standard_output(whence: Run, world: World, tmp_path: Path, monkeypatch) -> None:
    """It wrote a file named `-`."""
    monkeypatch.chdir(tmp_path)
    rows = [json.loads(line) for line in world.data.read_text("utf-8").splitlines()]
    (tmp_path / "bad.jsonl").write_text(json.dumps(rows[0]) + "\n", "utf-8")
    status, shown, said = whence(
        "eval", world.index, "--queries", "bad.jsonl", "--label-column", "label", "--json", "-"
    )
    assert (status, json.loads(shown)["schema"]) == (0, "whence.eval/2"), said
    assert os.listdir(tmp_path) == ["bad.jsonl"]


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("--json", "mine.json", '{"a": 1}', "whence did not write"),
        ("--json", "notes.txt", "notes", "whence did not write"),
        ("--plot", "mine.svg", "<?xml version='1.0'?><svg/>", "whence did not write"),
        ("--plot", "mine.png", "\x89PNG", "whence did not write"),
        ("--json", "empty.json", "", ""),
        ("--json", "out.json", '{\n  "schema": "whence.plan/6"', ""),
        ("--html", "page.html", "anything", ""),
    ],
)
def test_a_file_that_whence_did_not_write_is_not_replaced(
    name: str, file: str, content: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / file).write_text(content, "utf-8")
    if not message:
        check_outputs({name: tmp_path / file}, quiet=False)
        return
    with pytest.raises(InputError, match=message):
        check_outputs({name: tmp_path / file}, quiet=False)


def test_what_whence_wrote_is_replaced(tmp_path: Path) -> None:
    from whence.report import plot_layers

    result_of(toronto()).to_json(tmp_path / "out.json")
    plot_layers([0.5, 0.7], 1, 8, tmp_path / "out.svg")
    check_outputs({"--json": tmp_path / "out.json", "--plot": tmp_path / "out.svg"}, quiet=False)


def test_layers_and_plan_replace_no_data_no_model_and_no_index(whence: Run, world: World, tmp_path: Path) -> None:
    for place in (world.data, world.index / "manifest.json", Path(world.model) / "config.json"):
        before = place.read_bytes()
        status, _, said = whence("plan", world.model, world.data, "--json", place)
        assert (status, place.read_bytes()) == (2, before)
        assert "is a file of" in said or "is the file of DATA too" in said
    picture = tmp_path / "photo.svg"
    picture.write_text("<svg>mine</svg>", "utf-8")
    status, _, said = whence("layers", world.model, world.data, "--plot", picture)
    assert (status, picture.read_text("utf-8")) == (2, "<svg>mine</svg>")
    assert "whence did not write" in said


def test_data_of_a_pattern_are_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text("{}\n", "utf-8")
    found = files_named(DATA="*.jsonl", MODEL="owner/name", BASE=None)
    assert {path.name for path in found.values()} == {"a.jsonl", "b.jsonl"}
    with pytest.raises(InputError, match="is the file of DATA"):
        check_outputs({"--json": Path("b.jsonl")}, quiet=False, inputs=found)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to_is_named_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    with pytest.raises(InputError, match="Nothing can be written into"):
        check_outputs({"--json": tmp_path / "locked" / "out.json"}, quiet=False)


@pytest.mark.parametrize(
    "command", [["append", "{none}", "{data}"], ["compact", "{none}"], ["verify", "{none}", "--repair"]]
)
def test_an_index_that_is_not_there_is_said_by_every_command(
    whence: Run, world: World, tmp_path: Path, command: list[str]
) -> None:
    """It was the lock in the folder that was not found."""
    status, _, said = whence(*(word.format(none=tmp_path / "none", data=world.data) for word in command))
    assert status == 2
    assert f"There is no index at {tmp_path / 'none'}" in said


def test_a_confirmation_is_not_written_into_an_index_or_a_model(whence: Run, world: World) -> None:
    for folder in (world.index, Path(world.model)):
        status, _, said = whence("confirm", world.index, "--match", "Korea", "-o", folder)
        assert status == 2
        assert "-o names a folder for the results alone" in said


DIGITS = "1" * 5000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trace", "{index}", *ASK, "--span-tokens", f"0:{DIGITS}"], "cannot be read"),
        (["trace", "{index}", *ASK, "--span", f"Korea#{DIGITS}"], "The response has no"),
        (["plan", "{model}", "{data}", "--layer", DIGITS], "is no layer"),
        (["plan", "{model}", "{data}", "--dimensions", DIGITS], "cannot be used"),
        (["plan", "{model}", "{data}", "--columns", "prompt=a,prompt=b"], "has a name twice"),
        (["plan", "{model}", "{data}", "--rate", "inf"], "is no rate"),
    ],
)
def test_odd_numbers_and_names_twice_are_one_message(whence: Run, world: World, words: list[str], message: str) -> None:
    places = {"index": world.index, "model": world.model, "data": world.data}
    status, _, said = whence(*(word.format(**places) for word in words))
    assert status == 2
    assert message in said
    assert said.count("Error:") == 1


def test_a_warning_of_ours_is_a_sentence() -> None:
    from whence.cli.main import _warning

    assert _warning("A\x1b[2J note.", WhenceWarning, "a.py", 3) == "Warning: A⟨U+001B⟩[2J note.\n"
    assert _warning("x", UserWarning, "a.py", 3).startswith("a.py:3: UserWarning: x")
