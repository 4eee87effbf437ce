"""Quality against cost as a picture, one panel per variant; needs matplotlib, the extra `plots`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from whence.bench.rows import ResultRow
from whence.errors import InputError, install_extra

PANEL = (6.4, 4.8)
"""Width and height of a panel, inches."""
LABEL_HEIGHT = 0.033
"""Of average precision, between two labels beside a panel."""
LEAST_SECONDS = 1e-3
"""Methods that take less are drawn here; the axis is logarithmic."""


def plot_quality_against_cost(rows: Sequence[ResultRow], path: str | Path) -> bool:
    """Draws each method's mean average precision (over tasks and seeds) over its mean seconds a case, as PNG.

    Returns whether there was anything to draw. Raises InputError where matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError(
            "The plots were not drawn: matplotlib is not installed.",
            "Tables and results are complete without it.",
            f"{install_extra('plots')}. Then give the same command again.",
        ) from error
    points = {variant: found for variant in _variants(rows) if (found := quality_and_cost(rows, variant))}
    if not points:
        return False
    figure = Figure(figsize=(PANEL[0] * len(points), PANEL[1]), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (variant, found) in zip(figure.subplots(1, len(points), squeeze=False)[0], points.items(), strict=True):
        places = spread([quality for _, quality in found.values()], LABEL_HEIGHT)
        for (method, (seconds, quality)), place in zip(found.items(), places, strict=True):
            (point,) = axes.plot(seconds, quality, "o", markersize=4)
            axes.annotate(
                method,
                (seconds, quality),
                xytext=(1.02, place),
                textcoords=("axes fraction", "data"),
                annotation_clip=False,
                va="center",
                fontsize=7,
                arrowprops={"arrowstyle": "-", "color": point.get_color(), "alpha": 0.35, "linewidth": 0.6},
            )
        axes.set(xscale="log", ylim=(0, 1.03), title=variant)
        axes.set(xlabel="seconds a case (fit and all queries)", ylabel="average precision")
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=130)
    return True


def spread(values: Sequence[float], gap: float) -> list[float]:
    """Places near the values, in their order and at least `gap` apart, so that labels beside them do not overlap.

    Neighbours that are too near are joined into a block around their mean; blocks that then touch are joined too.
    """
    order = sorted(range(len(values)), key=lambda i: values[i])
    blocks: list[list[int]] = []
    for i in order:
        blocks.append([i])
        while (
            len(blocks) > 1
            and _middle(blocks[-1], values) - _middle(blocks[-2], values)
            < gap * (len(blocks[-1]) + len(blocks[-2])) / 2
        ):
            last = blocks.pop()
            blocks[-1] += last
    places = [0.0] * len(values)
    for block in blocks:
        lowest = _middle(block, values) - gap * (len(block) - 1) / 2
        for step, i in enumerate(block):
            places[i] = lowest + gap * step
    return places


def _middle(block: Sequence[int], values: Sequence[float]) -> float:
    return math.fsum(values[i] for i in block) / len(block)


def quality_and_cost(rows: Sequence[ResultRow], variant: str) -> dict[str, tuple[float, float]]:
    """method -> (mean seconds of fit and score a case, mean average precision) over the cases that it could do."""
    found: dict[str, tuple[float, float]] = {}
    for method in dict.fromkeys(str(row["method"]) for row in rows):
        pairs = [
            (float(fit) + float(score), float(ap))
            for row in rows
            if row["variant"] == variant
            and row["method"] == method
            and isinstance(ap := row.get("ap"), int | float)
            and isinstance(fit := row.get("seconds_fit"), int | float)
            and isinstance(score := row.get("seconds_score"), int | float)
        ]
        if pairs:
            seconds, quality = (math.fsum(column) / len(pairs) for column in zip(*pairs, strict=True))
            found[method] = (max(seconds, LEAST_SECONDS), quality)
    return found


def _variants(rows: Sequence[ResultRow]) -> list[str]:
    return list(dict.fromkeys(str(row["variant"]) for row in rows))
