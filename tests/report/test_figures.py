"""The pictures: what they show, that text of the data stays text, and files that are named for what they are."""

from __future__ import annotations

import errno
import math
import os
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samples import EVIL, bare, evil, result_of, toronto
from whence.errors import InputError
from whence.report import plotting
from whence.report.figures import (
    Figure,
    Series,
    answers_figure,
    layers_figure,
    limits,
    query_figures,
    scores_figure,
    ticks,
)
from whence.report.html import render_page
from whence.report.plotting import check_plot, plot_layers, plot_trace
from whence.report.svg import HEIGHT, WIDTH, figure_svg, sheet_svg

SVG = "{http://www.w3.org/2000/svg}"


def test_scores_by_rank_with_the_cut_at_the_last_flagged_row() -> None:
    figure = scores_figure(toronto())
    flagged, rest = figure.series
    assert (flagged.name, flagged.marked, len(flagged.points)) == ("flagged", True, 6)
    assert (rest.name, len(rest.points)) == ("not flagged", 36)
    assert figure.cut == (0.79, "the lowest flagged score")


def test_without_a_verdict_the_hits_are_shown_and_nothing_is_cut() -> None:
    (figure,) = query_figures(bare(toronto()))
    assert [one.name for one in figure.series] == ["not calibrated"]
    assert figure.cut is None
    assert [y for _, y in figure.points] == [hit.score for hit in toronto().hits]


def test_the_answer_stands_beside_the_references() -> None:
    others, own = answers_figure(toronto()).series
    assert len(others.points) == 40
    assert own.points == ((11.2, 0.61),)
    assert "answers to reference prompts: 40 points, this answer: 1 point." in answers_figure(toronto()).description


def test_layers_are_numbered_by_the_upper_one() -> None:
    figure = layers_figure([0.9, 0.4, 0.8], 2, 16)
    assert figure.series[0].points == ((1.0, 0.9), (2.0, 0.4), (3.0, 0.8))
    assert figure.series[1].points == ((2.0, 0.4),)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_and_within(low: float, span: float) -> None:
    high = low + span
    found = ticks(low, high)
    assert 1 <= len(found) <= 6
    slack = 1e-9 * max(1.0, abs(low), abs(high))
    assert all(low - slack <= value <= high + slack for value in found)


@pytest.mark.parametrize("values", [[3.0], [0.0, 0.0], [-1.0, 5.0]])
def test_an_axis_has_room(values: list[float]) -> None:
    low, high = limits(values)
    assert low < min(values) <= max(values) < high


def test_every_point_is_drawn_inside_and_named() -> None:
    drawn = ElementTree.fromstring(figure_svg(answers_figure(toronto())))
    circles = list(drawn.iter(f"{SVG}circle"))
    assert len(circles) == 41 + 2, "the points, and one a series in the legend"
    for circle in circles:
        assert 0 <= float(circle.get("cx", "nan")) <= WIDTH
        assert 0 <= float(circle.get("cy", "nan")) <= HEIGHT
    assert drawn.findtext(f"{SVG}title") == "The answer beside ordinary ones"


def test_a_figure_with_equal_points_has_no_division_by_zero() -> None:
    drawn = figure_svg(Figure("t", "x", "y", (Series("one", ((1.0, 2.0), (1.0, 2.0))),)))
    assert "nan" not in drawn
    assert math.isfinite(len(drawn))


def test_text_of_the_data_stays_text(tmp_path: Path) -> None:
    plot_trace(evil(), tmp_path / "plot.svg")
    tree = ElementTree.parse(tmp_path / "plot.svg")
    assert {element.tag for element in tree.iter()} <= {
        f"{SVG}{tag}" for tag in ("svg", "rect", "g", "path", "text", "circle")
    }
    assert not any(name.startswith("on") for element in tree.iter() for name in element.attrib)
    assert EVIL[:20] in "".join(tree.getroot().itertext())


def test_the_page_has_the_same_pictures_and_no_style_of_theirs() -> None:
    page = render_page(result_of(toronto()))
    for figure in query_figures(toronto()):
        assert figure_svg(figure) in page
    assert "style=" not in figure_svg(scores_figure(toronto())), "the page's content security policy would drop it"
    assert 'class="figures"' not in render_page(result_of(replace(bare(toronto()), hits=())))


def test_a_sheet_has_a_row_for_each_query(tmp_path: Path) -> None:
    plot_trace(result_of(*[toronto()] * 25), tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text("utf-8")
    assert text.count("Where is Toronto?") == plotting.MOST_QUERIES
    assert sheet_svg([("t", query_figures(toronto()))]).count("<g ") == 2


@pytest.mark.parametrize("title", ["$x^$ costs", "plain"])
def test_a_png(tmp_path: Path, title: str) -> None:
    pytest.importorskip("matplotlib")
    plot_trace(result_of(toronto(prompt=title), bare(toronto())), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_layers_as_a_file(tmp_path: Path) -> None:
    plot_layers([0.9, 0.4, 0.8], 2, 16, tmp_path / "layers.svg")
    assert "mean of 16 probes" in (tmp_path / "layers.svg").read_text("utf-8")


def test_what_cannot_be_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"ends in \.pdf"):
        check_plot(tmp_path / "plot.pdf")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(plotting, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'matplotlib is not installed[\s\S]*pip install -e "\.\[plots\]"'):
        check_plot("plot.png")
    with pytest.raises(InputError, match="No row was scored"):
        plot_trace(result_of(replace(bare(toronto()), hits=())), tmp_path / "plot.svg")


def test_a_picture_and_a_table_that_cannot_be_written_leave_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    result = result_of(toronto())
    writers = {
        "plot.svg": lambda path: plot_trace(result, path),
        "plot.png": lambda path: plot_trace(result, path),
        "rows.parquet": result.to_parquet,
    }
    monkeypatch.setattr(os, "fsync", full)
    for name, write in writers.items():
        (tmp_path / name).write_text("mine")
        with pytest.raises(OSError, match="quota"):
            write(tmp_path / name)
        assert (tmp_path / name).read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == set(writers)
