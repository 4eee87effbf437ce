"""Pictures as files, `--plot FILE`: SVG needs nothing more, PNG needs matplotlib (the extra `plots`)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

from whence.errors import InputError, install_extra
from whence.files import write_result
from whence.report.figures import Figure, Series, layers_figure, query_figures
from whence.report.svg import sheet_svg
from whence.report.terminal import shorten
from whence.results import TraceResult

MOST_QUERIES = 20
"""Drawn of a result; more would be no picture."""
PANEL = (5.6, 3.5)
"""Width and height of a panel of a PNG, inches."""
KINDS = (".svg", ".png")

Rows = Sequence[tuple[str, Sequence[Figure]]]
"""Title and figures of each row of a sheet."""


def check_plot(path: str | Path) -> None:
    """Raises InputError for a name that is neither SVG nor PNG, and for a PNG where matplotlib is not installed."""
    suffix = Path(path).suffix.lower()
    if suffix not in KINDS:
        raise InputError(f"--plot {path} ends in {suffix or 'nothing'}.", "A picture is .svg or .png.", "Rename it.")
    if suffix == ".png" and find_spec("matplotlib") is None:
        raise InputError("matplotlib is not installed.", "A PNG needs it, an SVG does not.", install_extra("plots"))


def plot_trace(result: TraceResult, path: str | Path) -> None:
    """Draws each query's scores by rank and the answers that its verdict compared, into a new .svg or .png.

    Of more than `MOST_QUERIES` queries the first are drawn. Raises InputError as `check_plot`, and where there is
    nothing to draw.
    """
    titled = [
        (f"{shorten(query.prompt, 60)} -> {shorten(query.response, 60)}", query_figures(query))
        for query in result.queries[:MOST_QUERIES]
    ]
    _write([(title, figures) for title, figures in titled if figures], path)


def plot_layers(similarity: Sequence[float], layer: int, n_probes: int, path: str | Path) -> None:
    """Draws the similarity of adjacent layers; see `whence.report.figures.layers_figure`. Raises as `check_plot`."""
    figure = layers_figure(similarity, layer, n_probes)
    _write([(figure.title, [figure])], path)


def _write(rows: Rows, path: str | Path) -> None:
    check_plot(path)
    if not rows:
        raise InputError("No row was scored.", "A picture needs at least one.", "Leave --where or --plot out.")
    if Path(path).suffix.lower() == ".svg":
        # A lone surrogate, which JSON may carry, has no UTF-8 form.
        text = sheet_svg(rows).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        write_result(path, text)
    else:
        write_result(path, _png(rows))


def _png(rows: Rows) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Sheet

    columns = max(len(figures) for _, figures in rows)
    sheet = Sheet(figsize=(PANEL[0] * columns, PANEL[1] * len(rows)), layout="constrained")
    FigureCanvasAgg(sheet)
    for (title, figures), panels in zip(rows, sheet.subplots(len(rows), columns, squeeze=False), strict=True):
        for axes in panels[len(figures) :]:
            axes.set_axis_off()
        for number, (figure, axes) in enumerate(zip(figures, panels, strict=False)):
            for one in figure.series:
                axes.plot(*zip(*one.points, strict=True), **_style(one, figure.joined))
            if figure.cut:
                axes.axhline(figure.cut[0], color="#d9480f", linestyle="--", linewidth=1)
            axes.set_xlabel(figure.x_label)
            axes.set_ylabel(figure.y_label)
            # Dollars in a title would be read as mathematics.
            axes.set_title(title if number == 0 else "", loc="left", fontsize=9, parse_math=False)
            axes.legend(fontsize=8)
    picture = BytesIO()
    sheet.savefig(picture, format="png", dpi=150, metadata={"Software": "whence"})
    return picture.getvalue()


def _style(series: Series, joined: bool) -> dict[str, object]:
    line = "-" if joined and len(series.points) > 1 else "none"
    colour, size = ("#d9480f", 6) if series.marked else ("#7a869a", 3.5)
    return {"marker": "o", "linestyle": line, "color": colour, "markersize": size, "label": series.name}


__all__ = ["check_plot", "plot_layers", "plot_trace"]
