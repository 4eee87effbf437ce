"""How good a ranking is, and how often a behaviour shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whence.lazy import attach

if TYPE_CHECKING:
    from whence.metrics.figures import Figures, measure
    from whence.metrics.matchers import Matcher, begins, contains, numbered, quotes
    from whence.metrics.rates import Rate, rate, wilson
    from whence.metrics.retrieval import average_precision, bootstrap, over_queries, precision_at_k, ranking, shown

__all__ = [
    "Figures",
    "Matcher",
    "Rate",
    "average_precision",
    "begins",
    "bootstrap",
    "contains",
    "measure",
    "numbered",
    "over_queries",
    "precision_at_k",
    "quotes",
    "ranking",
    "rate",
    "shown",
    "wilson",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "figures": ["Figures", "measure"],
        "matchers": ["Matcher", "begins", "contains", "numbered", "quotes"],
        "rates": ["Rate", "rate", "wilson"],
        "retrieval": ["average_precision", "bootstrap", "over_queries", "precision_at_k", "ranking", "shown"],
    },
)
