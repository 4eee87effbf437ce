"""EK-FAC influence: the dot product of gradients in the metric of an inverse Fisher, linear map by linear map."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from whence.errors import InputError, ModelError, WhenceWarning
from whence.methods.base import Method, Subject, TurnSet
from whence.methods.gradients.kronecker import fisher_scale, kronecker_bases, rotated, sampled_targets
from whence.methods.gradients.parameters import choose_parameters, layout_of, linear_modules
from whence.methods.gradients.per_example import gradient_dtype, per_example_gradients
from whence.methods.gradients.source import Gradients, dot_scores, rounding_floor


class EKFAC(Method):
    """scores[q, t] = sum over linear maps p of grad_p[q] . (F_p + lambda_p I)^-1 grad_p[t], F_p in EK-FAC's form

        F_p = U diag(e) U^T,   e = mean_i (U^T grad'_p[i])^2,   lambda_p = damping * mean(e)

    with U the Kronecker eigenbasis (see gradients/kronecker.py).

    fisher: "sampled" takes grad' with response tokens drawn from the model (one sample a row, as in the
        paper), scaled so that its mean square is the Gauss-Newton matrix of the mean loss; "empirical" with the rows'
        own tokens: no chance in it, and a worse curvature.

    Source: Grosse et al. 2023 (arXiv 2308.03296, section 3.1; damping 0.1 times the mean eigenvalue as there). They
    take MLP weights of a model trained in full; ours takes every chosen weight that is a linear map inside the decoder
    layers (an adapter's or the model's, without biases), and the mean loss of a row instead of the sum. Embeddings,
    norms, the output head, experts stored as one tensor and maps that no row runs as a module are left out. Sign:
    higher means more responsible.
    """

    name = "ekfac"
    version = "1"

    def __init__(
        self, subject: Subject, *, damping: float = 0.1, fisher: Literal["sampled", "empirical"] = "sampled"
    ) -> None:
        super().__init__(subject)
        if fisher not in ("sampled", "empirical") or damping <= 0:
            raise InputError(
                f"EK-FAC was given fisher {fisher!r} and damping {damping}.",
                "Expected fisher 'sampled' or 'empirical' and a positive damping.",
            )
        self.damping, self.fisher = damping, fisher

    def fit(self, train: TurnSet) -> None:
        """Two or three passes: samples (if any), factors, eigenvalues. Raises ModelError, NonFiniteError."""
        subject, loaded = self.subject, self.subject.loaded
        chosen = set(choose_parameters(loaded, subject.parameters).names)
        modules = {name: module for name, module in linear_modules(loaded).items() if name in chosen}
        if not modules:
            raise ModelError(
                f"EK-FAC found no linear map among the chosen parameters ({subject.parameters}).",
                "It needs weights of linear maps inside the decoder layers, an adapter's or the model's.",
                'Choose parameters="linear".',
            )
        self._layout = layout_of(loaded, modules)
        sampled = None
        if self.fisher == "sampled":
            sampled = sampled_targets(loaded, train, seed=subject.seed, max_tokens=subject.max_tokens)
        targets = None if sampled is None else sampled.__getitem__
        self._bases = kronecker_bases(loaded, train, modules, targets, max_tokens=subject.max_tokens)
        if len(self._bases) < len(modules):
            self._layout = layout_of(loaded, self._measured(modules))
        total = torch.zeros(self._layout.size, dtype=torch.float64, device=loaded.device)
        for places, block in per_example_gradients(
            loaded,
            train.turns,
            self._layout,
            targets=targets,
            max_tokens=subject.max_tokens,
            block_bytes=subject.block_bytes,
            name=train.name,
        ):
            if sampled is not None:
                block = block * fisher_scale(train, places, block)
            total += rotated(block, self._layout, self._bases).double().square().sum(dim=0)
        self._inverse = self._damped_inverse(total / len(train))
        self._train = Gradients(subject, train, layout=self._layout)

    def score(self, queries: TurnSet) -> Float[Tensor, "n_query n_train"]:
        """The queries' gradients are preconditioned, then one pass over the training rows. Raises NonFiniteError."""
        return dot_scores(
            Gradients(self.subject, queries, layout=self._layout), self._train, query_side=self.precondition
        )

    def precondition(self, gradients: Float[Tensor, "batch n_params"]) -> Float[Tensor, "batch n_params"]:
        """(F + lambda I)^-1 gradient, flat."""
        turned = rotated(gradients, self._layout, self._bases)
        return rotated(turned * self._inverse.to(gradients.dtype), self._layout, self._bases, back=True)

    def _measured(self, names: Iterable[str]) -> list[str]:
        """The names of the maps that have a basis; says which have none. Raises ModelError if none has one."""
        left_out = [name.removesuffix(".weight") for name in names if name not in self._bases]
        found = f"{len(left_out)} linear maps, the first {left_out[0]}, were not run as modules in any row"
        if not self._bases:
            raise ModelError(
                f"EK-FAC found no curvature: all {found}.",
                "It needs maps that the layers call; a fused kernel takes their weights by themselves.",
                "Choose another method, such as tracin.",
            )
        warnings.warn(f"EK-FAC leaves out {found}.", WhenceWarning, stacklevel=3)
        return [name for name in names if name in self._bases]

    def _damped_inverse(self, eigenvalues: Float[Tensor, " n_params"]) -> Float[Tensor, " n_params"]:
        """1 / (e + lambda_p); 0 for a weight whose gradient is zero in every row, up to rounding."""
        inverse = torch.zeros_like(eigenvalues)
        means = torch.stack([eigenvalues[place].mean() for place in self._layout.slices()])
        floor = rounding_floor(means, gradient_dtype(self.subject.loaded))
        for place, mean in zip(self._layout.slices(), means, strict=True):
            if mean > floor:
                inverse[place] = 1 / (eigenvalues[place] + self.damping * mean)
        return inverse
