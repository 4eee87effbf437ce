"""RapidIn: normalised gradients, sketched by one permutation and random signs."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from whence.methods.base import Method, Subject, TurnSet
from whence.methods.gradients.parameters import unit_per_parameter
from whence.methods.gradients.projection import PermutedGroups, projected
from whence.methods.gradients.source import Gradients


class RapidIn(Method):
    """scores[q, t] = sketch(u[q]) . sketch(u[t]), u the gradient with each parameter's part at unit length.

    Source: Lin et al. 2024 (arXiv 2405.11724). One permutation, drawn from the subject's seed, serves every row (some
    released baselines draw a fresh one a row: their vectors are not comparable). The sketch is float32, not float16.

    dim: numbers kept a row (the paper's 65,536); with fewer parameters than that the sketch is exact.
    """

    name = "rapidin"
    version = "1"

    def __init__(self, subject: Subject, *, dim: int = 65_536) -> None:
        super().__init__(subject)
        self.dim = dim

    def fit(self, train: TurnSet) -> None:
        """One pass over the training rows; keeps their sketches. Raises NonFiniteError."""
        gradients = Gradients(self.subject, train)
        self._unit = unit_per_parameter(gradients.layout)
        self._sketch = PermutedGroups(gradients.layout.size, self.dim, self.subject.seed)
        self._kept = projected(gradients, self._sketch, self._unit)

    def score(self, queries: TurnSet) -> Float[Tensor, "n_query n_train"]:
        """Dot products of sketches. Raises NonFiniteError."""
        return projected(Gradients(self.subject, queries), self._sketch, self._unit) @ self._kept.T

    def bytes_per_row(self) -> float:
        """The sketch."""
        return float(self._kept[0].nbytes)
