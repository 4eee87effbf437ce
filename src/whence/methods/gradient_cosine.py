"""Cosine of two parameter gradients: TracIn without the lengths."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from whence.methods.base import Method, TurnSet
from whence.methods.gradients.parameters import unit_rows
from whence.methods.gradients.source import Gradients, dot_scores


class GradientCosine(Method):
    """scores[q, t] = cos(grad[q], grad[t]) over all chosen parameters, in [-1, 1]; 0 where a gradient is zero.

    Source: the "gradient cosine" control of Hanawa et al. 2021 (arXiv 2006.04528, "grad-cos").
    """

    name = "gradient-cosine"
    version = "1"

    def fit(self, train: TurnSet) -> None:
        """Makes the training rows' gradients readable; they are kept where they fit."""
        self._train = Gradients(self.subject, train)

    def score(self, queries: TurnSet) -> Float[Tensor, "n_query n_train"]:
        """Cosines. Raises NonFiniteError."""
        mine = Gradients(self.subject, queries)
        return dot_scores(mine, self._train, query_side=unit_rows, train_side=unit_rows)
