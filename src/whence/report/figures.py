"""What the pictures of a trace show, as plain data: scores by rank, the answers that were compared, quality by layer.

`whence.report.svg` draws them for the page, the notebook and `--plot FILE.svg`, `whence.report.plotting` as PNG.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from whence.results import QueryResult

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one kind. `marked`: those that the picture is about, drawn darker and larger."""

    name: str
    points: tuple[Point, ...]
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """Points over two linear axes. `cut`: height of a dashed line, and what it says. `joined`: a line through each
    series' points."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    cut: tuple[float, str] | None = None
    joined: bool = False

    @property
    def points(self) -> list[Point]:
        """Of all series."""
        return [point for one in self.series for point in one.points]

    @property
    def description(self) -> str:
        """The picture in words."""
        parts = [f"{one.name}: {len(one.points)} point{'' if len(one.points) == 1 else 's'}" for one in self.series]
        cut = f" The dashed line is {self.cut[1]}, at {self.cut[0]:.3g}." if self.cut else ""
        return f"{self.y_label} by {self.x_label}. {', '.join(parts)}.{cut}"


def query_figures(query: QueryResult) -> list[Figure]:
    """Scores by rank, and the answers that the verdict compared; without points a figure is left out."""
    return [figure for figure in (scores_figure(query), answers_figure(query)) if figure.points]


def scores_figure(query: QueryResult) -> Figure:
    """Scores by rank: the first rows as the verdict saw them, without a verdict the hits; the cut at the last flagged
    one among them."""
    compared = query.comparison
    scores = compared.scores if compared else tuple(hit.score for hit in query.hits)
    flagged = set(compared.flagged_ranks) if compared else set()
    ranked = [(float(rank), score) for rank, score in enumerate(scores, 1)]
    out = tuple(point for point in ranked if point[0] in flagged)
    rest = tuple(point for point in ranked if point[0] not in flagged)
    series = [Series("flagged", out, marked=True)] if out else []
    series += [Series("not flagged" if compared else "not calibrated", rest)] if rest else []
    cut = (min(score for _, score in out), "the lowest flagged score") if out else None
    return Figure("Scores by rank", "rank of the row", "score", tuple(series), cut)


def answers_figure(query: QueryResult) -> Figure:
    """This answer beside the model's answers to the reference prompts, by the two figures that a verdict compares."""
    compared = query.comparison
    labels = ("log-likelihood gain of its most changed tokens, nats", "mean score of its best rows")
    if compared is None:
        return Figure("The answer beside ordinary ones", *labels, ())
    others = tuple(zip(compared.reference_peak_gains, compared.reference_best_scores, strict=True))
    series = [Series("answers to reference prompts", others)] if others else []
    series.append(Series("this answer", ((compared.peak_gain, compared.best_score),), marked=True))
    return Figure("The answer beside ordinary ones", *labels, tuple(series))


def layers_figure(similarity: Sequence[float], layer: int, n_probes: int) -> Figure:
    """Cosine of adjacent layers by the upper one. similarity[i]: of layers i and i + 1; layer: the chosen one."""
    points = tuple((float(i), value) for i, value in enumerate(similarity, 1))
    chosen = tuple(point for point in points if point[0] == layer)
    return Figure(
        f"Similarity of adjacent layers, mean of {n_probes} probes",
        "layer",
        "cosine with the layer below",
        (Series("layers", points), *((Series("chosen", chosen, marked=True),) if chosen else ())),
        joined=True,
    )


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers in [low, high], at least two where they differ: multiples of 1, 2 or 5 times a power of ten."""
    span = high - low
    if not span > 0:
        return [low]
    return max((found for step in _steps(span) if len(found := _multiples(low, high, step)) <= most), key=len)


def _steps(span: float) -> Iterator[float]:
    exponent = math.floor(math.log10(span))
    for power in (exponent - 1, exponent):
        for factor in (1, 2, 5):
            yield factor * 10.0**power


def _multiples(low: float, high: float, step: float) -> list[float]:
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def limits(values: Sequence[float]) -> tuple[float, float]:
    """The ends of an axis: those of the values, with a twentieth to spare; one apart where all are equal."""
    low, high = min(values), max(values)
    spare = 0.05 * (high - low) or 0.5
    return low - spare, high + spare


__all__ = ["Figure", "Series", "answers_figure", "layers_figure", "limits", "query_figures", "scores_figure", "ticks"]
