"""Figures as SVG: static and self-contained, without script or style, readable on a light and a dark page.

Text goes through `html.escape`; colours are attributes, which a page's content security policy does not touch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from whence.report.figures import Figure, Series, limits, ticks
from whence.report.printable import printable

WIDTH, HEIGHT = 420, 260
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 34, 44
"""Margins around the axes, pixels."""
PLAIN, MARKED = "#7a869a", "#d9480f"
"""Colours of points, with enough contrast on white and on black."""
FONT = "system-ui, sans-serif"


def figure_svg(figure: Figure) -> str:
    """One `<svg>` element. Raises ValueError for a figure without points."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
            f'height="{HEIGHT}" role="img" font-family="{FONT}" font-size="11" fill="currentColor">',
            f"<title>{_text(figure.title)}</title><desc>{_text(figure.description)}</desc>",
            *_drawn(figure),
            "</svg>",
        ]
    )


def sheet_svg(rows: Sequence[tuple[str, Sequence[Figure]]]) -> str:
    """A whole file: for each row its title and its figures side by side, on white."""
    head = 26
    width = WIDTH * max((len(figures) for _, figures in rows), default=1)
    height = (HEIGHT + head) * len(rows)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="{FONT}" font-size="11" fill="#1a1a1a" color="#1a1a1a">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for number, (title, figures) in enumerate(rows):
        top = number * (HEIGHT + head)
        lines.append(f'<text x="12" y="{top + 18}" font-size="13" font-weight="600">{_text(title)}</text>')
        for column, figure in enumerate(figures):
            lines += [f'<g transform="translate({column * WIDTH} {top + head})">', *_drawn(figure), "</g>"]
    return "\n".join([*lines, "</svg>"]) + "\n"


def _drawn(figure: Figure) -> Iterator[str]:
    points = figure.points
    if not points:
        raise ValueError("a figure without points")
    low_x, high_x = limits([x for x, _ in points])
    low_y, high_y = limits([y for _, y in points])

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - low_x) / (high_x - low_x) * (WIDTH - LEFT - RIGHT)
        return across, HEIGHT - BOTTOM - (y - low_y) / (high_y - low_y) * (HEIGHT - TOP - BOTTOM)

    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    yield f'<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="currentColor" stroke-opacity="0.5"/>'
    for value in ticks(low_x, high_x):
        x, _ = place(value, low_y)
        yield f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle" opacity="0.8">{value:g}</text>'
    for value in ticks(low_y, high_y):
        _, y = place(low_x, value)
        yield f'<path d="M{LEFT} {y:.1f}H{right}" stroke="currentColor" stroke-opacity="0.12"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" opacity="0.8">{value:g}</text>'
    yield f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 10}" text-anchor="middle">{_text(figure.x_label)}</text>'
    middle = (TOP + bottom) / 2
    turn = f'transform="rotate(-90 14 {middle})"'
    yield f'<text x="14" y="{middle}" text-anchor="middle" {turn}>{_text(figure.y_label)}</text>'
    if figure.cut:
        _, y = place(low_x, figure.cut[0])
        yield f'<path d="M{LEFT} {y:.1f}H{right}" stroke="{MARKED}" stroke-dasharray="5 4"/>'
    for one in figure.series:
        places = [place(*point) for point in one.points]
        if figure.joined and len(places) > 1:
            line = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
            yield f'<path d="M{line}" fill="none" stroke="{_colour(one)}" stroke-opacity="0.6"/>'
        radius = 4 if one.marked else 2.5
        for x, y in places:
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{_colour(one)}"/>'
    yield from _legend(figure.series)


def _legend(series: Sequence[Series]) -> Iterator[str]:
    """Names of the series above the axes, one after the other."""
    x = float(LEFT)
    for one in series:
        yield f'<circle cx="{x + 4:.1f}" cy="18" r="{4 if one.marked else 3}" fill="{_colour(one)}"/>'
        yield f'<text x="{x + 13:.1f}" y="22">{_text(one.name)}</text>'
        x += 30 + 6.2 * len(one.name)


def _colour(series: Series) -> str:
    return MARKED if series.marked else PLAIN


def _text(text: str) -> str:
    return escape(printable(text))


__all__ = ["figure_svg", "sheet_svg"]
