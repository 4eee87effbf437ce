"""LiSSA: the inverse curvature times the query's gradient, by iteration."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from whence.errors import InputError
from whence.methods.base import Method, Subject, TurnSet
from whence.methods.gradients.source import Gradients, dampings, dot_with

POWER_STEPS = 20
"""Steps of power iteration for the largest eigenvalue. An estimate of half the true one would still converge."""


class LiSSA(Method):
    """scores[q, t] = sum over parameters p of s_p[q] . grad_p[t], s_p the last of

        r_0 = v,   r_{j+1} = v + r_j - (F_p + lambda_p I) r_j / sigma_p,   s_p = r_J / sigma_p,   v = grad_p[q]

    F_p = (1/m) sum_i grad_p[i] grad_p[i]^T, sigma_p its largest eigenvalue + lambda_p, lambda_p = damping * the mean
    eigenvalue. As J grows, s_p goes to (F_p + lambda_p I)^-1 v.

    Source: Agarwal et al. 2017 (arXiv 1602.03943), for influence Koh and Liang 2017 (arXiv 1703.04730). They multiply
    by the Hessian of sampled rows; here the curvature is each parameter's empirical Fisher, as in the comparison of
    DataInf (arXiv 2310.00902), of all training rows or, where these do not fit, of a seeded sample: no noise, and it
    cannot diverge. The code released there gives the damping the wrong sign. Sign: higher means more responsible.

    iterations: J. With few, the strongest directions of the curvature are damped and the weak ones left as they are.
    curvature_bytes: how many bytes of gradients make the curvature (m rows).
    """

    name = "lissa"
    version = "1"

    def __init__(
        self, subject: Subject, *, iterations: int = 50, damping: float = 0.1, curvature_bytes: int = 1 << 30
    ) -> None:
        super().__init__(subject)
        if iterations < 1 or damping <= 0:
            raise InputError(
                f"LiSSA was given {iterations} iterations and damping {damping}.",
                "Expected at least 1 iteration and a positive damping.",
                "Without an iteration it is TracIn; ask for that.",
            )
        self.iterations, self.damping, self.curvature_bytes = iterations, damping, curvature_bytes

    def fit(self, train: TurnSet) -> None:
        """One pass for damping and scale. Raises NonFiniteError."""
        self._train = Gradients(self.subject, train)
        self._lambda = dampings(self._train, self.damping)
        rows = torch.arange(len(train))
        m = max(1, min(len(train), self.curvature_bytes // self._train.row_bytes))
        if m < len(train):
            rows = torch.randperm(len(train), generator=torch.Generator().manual_seed(self.subject.seed))[:m]
        self._rows = rows.sort().values.tolist()

    def score(self, queries: TurnSet) -> Float[Tensor, "n_query n_train"]:
        """J products with the curvature, then one pass over the training rows. Raises NonFiniteError."""
        mine = Gradients(self.subject, queries)
        sample = self._train.select(self._rows)
        scores = torch.empty(len(queries), len(self._train), dtype=mine.dtype)
        step = max(1, self.subject.block_bytes // (2 * mine.row_bytes))
        for start in range(0, len(queries), step):
            part = list(range(start, min(start + step, len(queries))))
            held = mine.select(part)
            solved = torch.cat(
                [
                    solve(held[:, place], sample[:, place], damping, self.iterations, self.subject.seed)
                    for place, damping in zip(self._train.layout.slices(), self._lambda, strict=True)
                ],
                dim=1,
            )
            scores[part] = dot_with(solved, self._train)
        return scores


def solve(
    v: Float[Tensor, "n_query size"], sample: Float[Tensor, "m size"], damping: float, iterations: int, seed: int
) -> Float[Tensor, "n_query size"]:
    """s of the formula above for one parameter; 0 where the damping is 0: its gradient is zero in every row."""
    if damping == 0:
        return torch.zeros_like(v)
    sigma = largest_eigenvalue(sample, seed) + damping
    r = v
    for _ in range(iterations):
        r = v + r - ((r @ sample.T) @ sample / len(sample) + damping * r) / sigma
    return r / sigma


def largest_eigenvalue(sample: Float[Tensor, "m size"], seed: int) -> float:
    """Of (1/m) sum_i g_i g_i^T, by power iteration: a little below the true one, or equal."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(len(sample), generator=generator).to(sample.device, sample.dtype)
    value = 0.0
    for _ in range(POWER_STEPS):
        x = sample @ (x @ sample) / len(sample)
        value = float(x.norm())
        if value == 0:
            return 0.0
        x = x / value
    return value
