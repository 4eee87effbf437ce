"""Kronecker-factored curvature of linear maps, with corrected eigenvalues (EK-FAC).

For a linear map with inputs a and output gradients s, position by position, the Fisher of its weight is approximated in
the basis of eigenvectors of E[s s^T] (x) E[a a^T]; the eigenvalues there are measured, not multiplied from the factors:

    eigenvalue[j, k] = mean_i (U_left^T grad[i] U_right)[j, k]^2

Source: George et al. 2018 (arXiv 1806.03884); for language models Grosse et al. 2023 (arXiv 2308.03296).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from whence.data import EncodedTurn
from whence.errors import NonFiniteError
from whence.methods.base import TurnSet
from whence.methods.gradients.parameters import Layout
from whence.methods.gradients.per_example import (
    PEAKS,
    Targets,
    backward_scale,
    gradient_dtype,
    padded_block,
    row_blocks,
    token_nats,
)
from whence.model import batches_alike

if TYPE_CHECKING:
    from whence.model import LoadedModel


@dataclass(frozen=True, slots=True)
class Basis:
    """Eigenvectors on both sides of one weight matrix, as it is stored: `left^T W right`."""

    left: Float[Tensor, "n_rows n_rows"]
    right: Float[Tensor, "n_columns n_columns"]

    def into(self, W: Float[Tensor, "batch n_rows n_columns"]) -> Float[Tensor, "batch n_rows n_columns"]:
        """W in the basis."""
        return self.left.T @ W @ self.right

    def back(self, W: Float[Tensor, "batch n_rows n_columns"]) -> Float[Tensor, "batch n_rows n_columns"]:
        """W out of the basis."""
        return self.left @ W @ self.right.T


def kronecker_bases(
    loaded: LoadedModel,
    rows: TurnSet,
    modules: Mapping[str, nn.Module],
    targets: Targets | None,
    *,
    max_tokens: int,
) -> dict[str, Basis]:
    """The eigenvectors of E[a a^T] and E[s s^T] of each module, over all real positions of all rows.

    A module that no row runs has none: an expert that none is sent to, or one whose weight the layer takes by itself.

    modules: linear maps (nn.Linear, Conv1D) by the name of their weight.
    targets: tokens sampled from the model in place of the rows' own; the loss is then a sum / sqrt(n) (fisher_scale).
    """
    dtype = gradient_dtype(loaded)
    peaks = PEAKS if loaded.dtype == torch.float16 else (None,)
    factors: dict[str, tuple[Tensor, Tensor]] = {}
    # In float16 a block may be run again with another scale, so its sums stay apart until it is done.
    of_block = {} if len(peaks) > 1 else factors
    real: list[Tensor] = [torch.empty(0)]

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            a = _real_rows(inputs[0], real[0])
            output.register_hook(lambda s: add(name, a, _real_rows(s, real[0])))  # type: ignore[no-untyped-call]

        return hook

    def add(name: str, a: Tensor, s: Tensor) -> None:
        _add(of_block, name, a.T @ a, s.T @ s)

    def leaf(_: nn.Module, __: object, output: Tensor) -> Tensor:
        """No parameter has a gradient, so the graph starts at the embedding."""
        return output.detach().requires_grad_(True)

    with ExitStack() as hooks, torch.enable_grad():
        hooks.callback(loaded.model.get_input_embeddings().register_forward_hook(leaf).remove)
        for name, module in modules.items():
            hooks.callback(module.register_forward_hook(watch(name)).remove)
        for block in batches_alike(loaded, rows.turns, _blocks_of(max_tokens)):
            padded = padded_block(loaded, rows.turns, block, targets)
            ids, wanted, weight = (part.to(loaded.device) for part in padded)
            lengths = torch.tensor([len(rows.turns[i].input_ids) - 1 for i in block], device=ids.device)
            real[0] = torch.arange(ids.shape[1], device=ids.device)[None] < lengths[:, None]
            logits = _last_logits(loaded, ids, real[0].long(), wanted.shape[1]).to(dtype)
            nats = token_nats(logits.flatten(0, 1), wanted.flatten())
            if targets is not None:
                weight = weight.sqrt()
            weight = weight.flatten()
            if len(peaks) == 1:
                torch.autograd.backward((nats * weight).sum())
                continue
            for peak in peaks:
                of_block.clear()
                scale = backward_scale(nats, weight, peak)
                torch.autograd.backward((nats * weight).sum() * scale, retain_graph=peak != peaks[-1])
                if all(S.isfinite().all() for _, S in of_block.values()):
                    break
            for name, (A, S) in of_block.items():
                _add(factors, name, A, S / scale.double().square())
            of_block.clear()
    for name, (_, S) in factors.items():
        _check_finite(S, name)
    return {name: _basis(modules[name], *factors[name], dtype) for name in modules if name in factors}


def _add(sums: dict[str, tuple[Tensor, Tensor]], name: str, A: Tensor, S: Tensor) -> None:
    if name not in sums:
        sums[name] = (A, S)
        return
    for total, more in zip(sums[name], (A, S), strict=True):
        total += more


def _check_finite(S: Tensor, name: str) -> None:
    if not S.isfinite().all():
        raise NonFiniteError(
            f"The gradients of the outputs of {name.removesuffix('.weight')} hold NaN or infinity.",
            "Every value of a gradient must be finite.",
            "Try --dtype float32 or bfloat16; if it stays, the model's weights or a row are broken.",
        )


def _blocks_of(max_tokens: int) -> Callable[[Sequence[EncodedTurn]], Iterator[list[int]]]:
    """At most 64 rows a block."""
    return partial(row_blocks, bytes_per_row=1, block_bytes=64, max_tokens=max_tokens)


def _last_logits(loaded: LoadedModel, ids: Tensor, mask: Tensor, kept: int) -> Float[Tensor, "batch kept vocab"]:
    positions = torch.arange(ids.shape[1] - kept, ids.shape[1], device=ids.device)
    output = loaded.model(input_ids=ids, attention_mask=mask, logits_to_keep=positions, use_cache=False)
    return output.logits  # type: ignore[no-any-return]


def _real_rows(x: Tensor, real: Tensor) -> Float[Tensor, "positions width"]:
    """Real positions, one a row. A map that sees only some positions (an expert) has all of them, padding included."""
    rows = x.detach().reshape(-1, x.shape[-1]).double()
    return rows[real.flatten()] if len(rows) == real.numel() else rows


def _basis(module: nn.Module, A: Tensor, S: Tensor, dtype: torch.dtype) -> Basis:
    of_inputs, of_outputs = (torch.linalg.eigh(factor).eigenvectors.to(dtype) for factor in (A, S))
    if isinstance(module, nn.Linear):
        return Basis(left=of_outputs, right=of_inputs)
    return Basis(left=of_inputs, right=of_outputs)  # Conv1D keeps its weight as [in, out]


def rotated(
    gradients: Float[Tensor, "batch n_params"], layout: Layout, bases: Mapping[str, Basis], *, back: bool = False
) -> Float[Tensor, "batch n_params"]:
    """Flat gradients, each weight's part moved into its basis, or out of it."""
    parts = []
    for name, shape, place in zip(layout.names, layout.shapes, layout.slices(), strict=True):
        W = gradients[:, place].reshape(-1, *shape)
        parts.append((bases[name].back(W) if back else bases[name].into(W)).reshape(len(W), -1))
    return torch.cat(parts, dim=1)


def fisher_scale(rows: TurnSet, block: Sequence[int], like: Tensor) -> Float[Tensor, "batch 1"]:
    """sqrt(n) of each row: what turns the gradient of a mean of n sampled losses into one whose square is the Fisher.

    Sampled losses at different positions are uncorrelated, so the gradient of sum / sqrt(n) has the expected square
    (1/n) sum_j J_j^T (diag p_j - p_j p_j^T) J_j, which is the Gauss-Newton matrix of the row's mean loss.
    """
    counts = torch.tensor([rows.turns[i].n_response for i in block], dtype=like.dtype, device=like.device)
    return counts.sqrt()[:, None]


@torch.no_grad()
def sampled_targets(loaded: LoadedModel, rows: TurnSet, *, seed: int, max_tokens: int) -> list[list[int]]:
    """Response tokens drawn from the model's own predictions at the response's positions, the text before unchanged.

    Row i draws from a generator of its own, so the sample does not depend on how rows are batched.
    """
    found: list[list[int]] = [[] for _ in rows.turns]
    for block in batches_alike(loaded, rows.turns, _blocks_of(max_tokens)):
        ids, wanted, weight = padded_block(loaded, rows.turns, block, None)
        ids = ids.to(loaded.device)
        logits = _last_logits(loaded, ids, torch.ones_like(ids), wanted.shape[1])
        chances = logits.double().softmax(dim=-1).cpu()
        for place, i in enumerate(block):
            generator = torch.Generator().manual_seed(seed * 1_000_003 + i)
            drawn = torch.multinomial(chances[place][weight[place] > 0], 1, generator=generator)
            found[i] = drawn[:, 0].tolist()
    return found
