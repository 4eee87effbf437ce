"""The tutorials run as they are written, in order, on what `whence demo` leaves, in small."""

from __future__ import annotations

from pathlib import Path

import pytest

from pages import blocks, missing, run

TUTORIALS = Path(__file__).parents[2] / "docs" / "tutorials"


@pytest.mark.parametrize("name", ["backdoor", "false-fact", "audit", "your-own"])
def test_a_tutorial_runs_and_prints_what_it_shows(name: str, reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(reader)
    monkeypatch.setattr("whence.planning.planning.MEASURE_SECONDS", 1.0)
    page = TUTORIALS / f"{name}.md"
    namespace: dict[str, object] = {"__name__": "__main__"}
    printed, ran = "", 0
    for block in blocks(page):
        if block.language in ("sh", "python"):
            printed, ran = run(block, namespace, page.name), ran + 1
        elif block.language == "text":
            assert not missing(block.code, printed), f"{page.name} shows what was not printed; it was:\n{printed}"
    assert ran >= 5


def test_every_tutorial_is_run() -> None:
    assert {page.stem for page in TUTORIALS.glob("*.md")} == {"backdoor", "false-fact", "audit", "your-own"}


def test_a_line_that_is_not_printed_is_noticed() -> None:
    assert missing("12 rows flagged", "3 rows flagged\nmore") == []
    assert missing("12 rows flagged ...", "3 rows flagged (false)") == []
    assert missing("12 rows flagged", "no row flagged") == ["12 rows flagged"]
    assert missing("b\na", "a\nb") == ["a"]
