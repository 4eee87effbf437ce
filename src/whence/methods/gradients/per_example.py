"""Per-example gradients of the mean response loss with respect to chosen parameters, many rows at a time.

    gradient[i] = d/dtheta (1/n_i) sum_j -log p(y_ij | x_i, y_i<j)        nats per token

A row's gradient is that of a full forward and backward pass of the row alone; torch.func maps that pass over a block of
rows. Rows are padded on the right, where causal attention never looks. No parameter needs requires_grad, and none is
touched: values that differ from the model's own (a checkpoint's) are passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from whence.data import EncodedTurn
from whence.errors import ModelError, NonFiniteError
from whence.methods.gradients.parameters import Layout
from whence.model import batches_alike, depends_on_length

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from whence.model import LoadedModel

Targets = Callable[[int], Sequence[int]]
"""Response tokens of row i to take the loss of, in place of the row's own (EK-FAC samples them from the model)."""

RowLoss = Callable[[dict[str, Tensor], Tensor, Tensor, Tensor, float | None], tuple[Tensor, Tensor]]
"""(chosen parameters, ids, wanted, weight, peak) -> scale * loss of one row, scale; see `backward_scale`."""

RowGradients = Callable[[dict[str, Tensor], Tensor, Tensor, Tensor, float | None], tuple[dict[str, Tensor], Tensor]]
"""The same of many rows -> the gradient of each times its scale, by parameter; the scales, [batch]."""

PEAKS = (1024.0, 1.0, 2.0**-10)
"""Largest error of a logit with which a backward pass in float16 starts: below it small gradients become 0, above it
large ones infinite. The first with which all is finite is taken."""

SMALLEST_ERROR = 2.0**-100
"""Errors of logits below it are not scaled up further."""


def gradient_dtype(loaded: LoadedModel) -> torch.dtype:
    """float64 of a float64 model, else float32."""
    return torch.float64 if loaded.dtype == torch.float64 else torch.float32


def row_blocks(
    turns: Sequence[EncodedTurn], *, bytes_per_row: int, block_bytes: int, max_tokens: int
) -> Iterator[list[int]]:
    """Row numbers, each once, like lengths together; at most max_tokens padded tokens and block_bytes in a block."""
    rows_at_most = max(1, block_bytes // max(1, bytes_per_row))
    order = sorted(range(len(turns)), key=lambda i: (len(turns[i].input_ids), i))
    block: list[int] = []
    for i in order:
        if block and (len(block) == rows_at_most or (len(block) + 1) * len(turns[i].input_ids) > max_tokens):
            yield block
            block = []
        block.append(i)
    if block:
        yield block


def per_example_gradients(
    loaded: LoadedModel,
    turns: Sequence[EncodedTurn],
    layout: Layout,
    *,
    values: Mapping[str, Tensor] | None = None,
    targets: Targets | None = None,
    max_tokens: int = 4096,
    block_bytes: int = 1 << 28,
    name: Callable[[int], str] = "row {}".format,
) -> Iterator[tuple[list[int], Float[Tensor, "batch n_params"]]]:
    """Blocks of (row numbers, flat gradients) in float32 (float64 of a float64 model), on the model's device.

    values: parameters to use in place of the model's own, by name.
    Raises NonFiniteError naming the rows, ModelError for a row that does not fit into memory alone.
    """
    dtype, device = gradient_dtype(loaded), loaded.device
    weights = {key: p.detach() for key, p in loaded.model.named_parameters()} | dict(values or {})
    chosen = {key: weights[key] for key in layout.names}
    others = {key: weights[key] for key in (values or {}) if key not in chosen}
    gradients_of = _over_rows(_row_loss(loaded.model, others))
    row_bytes = layout.size * dtype.itemsize
    peaks = PEAKS if loaded.dtype == torch.float16 else (None,)
    with _ready_for_vmap(loaded.model, dtype):
        blocks = partial(row_blocks, bytes_per_row=row_bytes, block_bytes=block_bytes, max_tokens=max_tokens)
        for rows in batches_alike(loaded, turns, blocks):
            block = padded_block(loaded, turns, rows, targets)
            ids, wanted, weight = (part.to(device) for part in block)
            flat = _flat_gradients(gradients_of, chosen, (ids, wanted, weight), peaks, layout, dtype)
            _check_finite(flat, rows, name)
            yield rows, flat


def _flat_gradients(
    gradients_of: RowGradients,
    chosen: dict[str, Tensor],
    block: tuple[Tensor, Tensor, Tensor],
    peaks: Sequence[float | None],
    layout: Layout,
    dtype: torch.dtype,
) -> Float[Tensor, "batch n_params"]:
    """Flat gradients of a block's rows, each with the first of the peaks with which it is finite."""
    found, scales = gradients_of(chosen, *block, peaks[0])
    flat = torch.cat([found[key].reshape(len(scales), -1).to(dtype) for key in layout.names], dim=1)
    if peaks[0] is not None:
        flat /= scales[:, None]
    if len(peaks) > 1 and (left := ~flat.isfinite().all(dim=1)).any():
        ids, wanted, weight = (part[left] for part in block)
        flat[left] = _flat_gradients(gradients_of, chosen, (ids, wanted, weight), peaks[1:], layout, dtype)
    return flat


def _over_rows(loss: RowLoss) -> RowGradients:
    """All rows at once; or, where torch.func cannot go through the model, row by row with a plain backward pass.

    So it is with control flow that looks at the data (some expert routers), with functions that bring a backward pass
    of their own (LoHa), and with buffers that a pass changes (longrope).
    """
    one_by_one = False

    def gradients(
        chosen: dict[str, Tensor], ids: Tensor, wanted: Tensor, weight: Tensor, peak: float | None
    ) -> tuple[dict[str, Tensor], Tensor]:
        nonlocal one_by_one

        def with_peak(chosen: dict[str, Tensor], ids: Tensor, wanted: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
            return loss(chosen, ids, wanted, weight, peak)

        if not one_by_one:
            mapped = vmap(grad(with_peak, has_aux=True), in_dims=(None, 0, 0, 0))
            try:
                found, scales = mapped(chosen, ids, wanted, weight)
                return found, scales
            except RuntimeError as error:
                if not any(word in str(error) for word in ("vmap", "transform")):
                    raise
                one_by_one = True
        rows = [_row_gradient(loss, chosen, *row, peak) for row in zip(ids, wanted, weight, strict=True)]
        by_name = {name: torch.stack([found[name] for found, _ in rows]) for name in chosen}
        return by_name, torch.stack([scale for _, scale in rows])

    return gradients


def _row_gradient(
    loss: RowLoss, chosen: dict[str, Tensor], ids: Tensor, wanted: Tensor, weight: Tensor, peak: float | None
) -> tuple[dict[str, Tensor], Tensor]:
    """The gradient of one row by autograd; 0 for a parameter that the row does not use."""
    with torch.enable_grad():
        leaves = {name: value.detach().requires_grad_(True) for name, value in chosen.items()}
        scaled, scale = loss(leaves, ids, wanted, weight, peak)
        found = torch.autograd.grad(scaled, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(leaves, found, strict=True)), scale


def _row_loss(model: PreTrainedModel, others: Mapping[str, Tensor]) -> RowLoss:
    def loss(
        chosen: dict[str, Tensor], ids: Tensor, targets: Tensor, weight: Tensor, peak: float | None
    ) -> tuple[Tensor, Tensor]:
        """ids: [seq]; targets, weight: [kept], for the last `kept` positions; weight 1/n where the loss counts."""
        n, device = len(ids), ids.device
        inputs = {
            "input_ids": ids[None],
            "attention_mask": torch.ones(1, n, dtype=torch.long, device=device),
            "logits_to_keep": torch.arange(n - len(targets), n, device=device),
            "use_cache": False,
        }
        logits = functional_call(model, {**others, **chosen}, (), inputs).logits[0]
        nats = token_nats(logits.to(weight.dtype), targets)
        scale = backward_scale(nats, weight, peak)
        return (nats * weight).sum() * scale, scale

    return loss


def token_nats(logits: Float[Tensor, "n vocab"], targets: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """-log p of each target, with a gradient that keeps its digits where p is nearly 1.

    The target is left out of the sum over the vocabulary (`whence.model.likelihood_of_logits` has why).
    """
    spoken = targets[:, None]
    others = logits.scatter(1, spoken, -torch.inf).logsumexp(1)
    return -F.logsigmoid(logits.gather(1, spoken)[:, 0] - others)


def backward_scale(nats: Float[Tensor, " n"], weight: Float[Tensor, " n"], peak: float | None) -> Tensor:
    """The power of two that brings the largest error of a logit, max_j weight[j] (1 - p[j]), to at most `peak`.

    1 without a peak.
    """
    if peak is None:
        return torch.ones_like(nats[0])
    largest = (-torch.expm1(-nats.detach()) * weight).amax().clamp_min(SMALLEST_ERROR)
    return peak / largest.log2().ceil().exp2()


def padded_block(
    loaded: LoadedModel, turns: Sequence[EncodedTurn], rows: Sequence[int], targets: Targets | None
) -> tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch kept"], Float[Tensor, "batch kept"]]:
    """(ids, wanted, weight) of some rows, padded on the right, without their last token, which predicts nothing.

    `wanted[b, j]` is what position `seq - kept + j` should predict, and weight is 1/n there, else 0. The positions that
    are kept are those from the first one of any row that predicts a response token.
    """
    pad_id, dtype = loaded.pad_id, gradient_dtype(loaded)
    # As long as the rows are where that decides how they are rotated.
    width = max(len(turns[i].input_ids) for i in rows) - (not depends_on_length(loaded.text_config))
    first = min(turns[i].t for i in rows)
    ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    wanted = torch.full((len(rows), width - first), pad_id, dtype=torch.long)
    weight = torch.zeros((len(rows), width - first), dtype=dtype)
    for place, i in enumerate(rows):
        turn = turns[i]
        response = slice(turn.t - first, turn.t - first + turn.n_response)
        ids[place, : len(turn.input_ids) - 1] = torch.tensor(turn.input_ids[:-1])
        own = turn.input_ids[turn.response_start :]
        wanted[place, response] = torch.tensor(own if targets is None else targets(i))
        weight[place, response] = 1 / turn.n_response
    return ids, wanted, weight


@contextmanager
def _ready_for_vmap(model: PreTrainedModel, dtype: torch.dtype) -> Iterator[None]:
    """In eval mode and with the plain attention, both as before afterwards.

    Fused attention would be mapped row by row. A float64 model keeps it: the plain one takes its softmax in float32.
    """
    training, attention = model.training, getattr(model.config, "_attn_implementation", None)
    switch = attention not in (None, "eager") and dtype != torch.float64
    model.eval()
    if switch:
        model.set_attn_implementation("eager")
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise ModelError(
            "Out of memory in a block of per-example gradients.",
            "A block must fit beside the model.",
            "Lower block_bytes or max_tokens, or choose fewer parameters (an adapter, or the linear maps).",
        ) from error
    finally:
        model.train(training)
        if switch:
            model.set_attn_implementation(attention)


def _check_finite(flat: Tensor, rows: Sequence[int], name: Callable[[int], str]) -> None:
    bad = (~torch.isfinite(flat).all(dim=1)).nonzero()[:, 0].tolist()
    if bad:
        named = ", ".join(name(rows[i]) for i in bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
        raise NonFiniteError(
            f"The gradient of {named} holds NaN or infinity.",
            "Every value of a gradient must be finite.",
            "Try --dtype float32 or bfloat16; if it stays, the model's weights or that row are broken.",
        )
