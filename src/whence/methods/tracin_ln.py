"""TracIn with each parameter's gradient scaled to unit length, so that no layer dominates the sum."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from whence.methods.base import Method, TurnSet
from whence.methods.gradients.parameters import unit_per_parameter
from whence.methods.gradients.source import Gradients, dot_scores


class TracInLN(Method):
    """scores[q, t] = sum over parameters p of cos(grad_p[q], grad_p[t]), in [-n_parameters, n_parameters].

    "Layer" is one parameter tensor, as in the released RapidIn code (Lin et al. 2024, arXiv 2405.11724), whose
    normalisation this is, without its sketch. A tensor with zero gradient contributes 0.
    """

    name = "tracin-ln"
    version = "1"

    def fit(self, train: TurnSet) -> None:
        """Makes the training rows' gradients readable; they are kept where they fit."""
        self._train = Gradients(self.subject, train)

    def score(self, queries: TurnSet) -> Float[Tensor, "n_query n_train"]:
        """Sums of cosines. Raises NonFiniteError."""
        unit = unit_per_parameter(self._train.layout)
        return dot_scores(Gradients(self.subject, queries), self._train, query_side=unit, train_side=unit)
