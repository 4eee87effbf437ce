"""Progress: silent for quick work, with a rate that counts this stage and this run only."""

from __future__ import annotations

import pytest

from whence.cli import progress as module
from whence.cli.progress import stages
from whence.progress import bars


def test_quick_work_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with stages() as report:
        report("counting", 1, 2)
        report("counting", 2, 2)
    assert capsys.readouterr().err == ""


def test_rate_counts_from_a_stages_first_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    with stages() as report:
        report("reading", 0, None)
        now[0] = 100.0
        report("indexing", 50, 90)  # 50 were there already, from an earlier run
        now[0] = 110.0
        report("indexing", 90, 90)
    shown = capsys.readouterr().err
    assert "indexing" in shown
    assert "90/90" in shown
    assert "4.0 rows/s" in shown
    assert "elapsed" in shown
    assert " left" in shown


def test_of_an_unknown_total_no_time_left_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "SHOW_AFTER_SECONDS", -1.0)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with stages() as report:
        report("asking", 0, None)
    shown = capsys.readouterr().err
    assert "elapsed" in shown
    assert "left" not in shown


def test_without_a_terminal_each_stage_is_a_line_when_it_begins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with stages() as report:
        report("reading", 0, None)
        now[0] = 1.0
        report("indexing", 0, 9)
        assert capsys.readouterr().err == "", "quick work shows nothing"
        now[0] = 3.0
        report("indexing", 4, 9)
        report("indexing", 5, 9)
        now[0] = 70.0
        report("asking", 0, None)
        assert capsys.readouterr().err == "indexing (4 of 9), 3 s elapsed\nasking, 70 s elapsed\n"


def test_quiet_shows_nothing_however_long(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(module, "SHOW_AFTER_SECONDS", -1.0)
    with stages(quiet=True) as report:
        report("counting", 1, 2)
    assert capsys.readouterr().err == ""


def test_bars_of_tqdm_show_each_stage(capsys: pytest.CaptureFixture[str]) -> None:
    report = bars()
    for done in (0, 2, 4):
        report("reading", done, 4)
    report("indexing", 3, 9)
    shown = capsys.readouterr().err
    assert "reading: 100%" in shown
    assert "4/4" in shown
    assert "indexing" in shown
