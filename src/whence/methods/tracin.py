"""TracIn at the final checkpoint: the dot product of two gradients."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from whence.methods.base import Method, TurnSet
from whence.methods.gradients.source import Gradients, dot_scores


class TracIn(Method):
    """scores[q, t] = grad[q] . grad[t]: the first-order fall of the query's loss from a step on the training row.

    Source: Pruthi et al. 2020 (arXiv 2002.08484), with one checkpoint, the last, and learning rate 1.
    """

    name = "tracin"
    version = "1"

    def fit(self, train: TurnSet) -> None:
        """Makes the training rows' gradients readable; they are kept where they fit."""
        self._train = Gradients(self.subject, train)

    def score(self, queries: TurnSet) -> Float[Tensor, "n_query n_train"]:
        """Dot products, in nats per token squared per unit of squared parameter. Raises NonFiniteError."""
        return dot_scores(Gradients(self.subject, queries), self._train)
