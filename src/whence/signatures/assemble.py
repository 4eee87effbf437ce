"""From what is read at the predicting positions of a batch to the signatures of its turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from whence.errors import NonFiniteError
from whence.model import Layout, TokenLikelihood, TokenShift, shift_between
from whence.signatures.sketch import answer_sketch
from whence.signatures.types import MIN_TOKEN_GAIN, Extracted, Place, Signatures, TokenGradients


class Read(NamedTuple):
    """What both models say at the n predicting positions of a batch, turn by turn (`whence.model.padding.Layout`).

    H, H0: states of the fine-tuned model and of the one before it, by layer. last: after the final norm. E: errors by
    word and G: gradients by layer, both of the weighted loss. weights: of each token in that loss.
    """

    H: Mapping[int, Float[Tensor, "n hidden"]]
    E: Float[Tensor, "n hidden"] | None
    G: Mapping[int, Float[Tensor, "n hidden"]]
    last: Float[Tensor, "n hidden"]
    gradient_norm: Float[Tensor, " batch"]
    weights: Float[Tensor, " n"]
    after: TokenLikelihood
    before: TokenLikelihood | None = None
    H0: Mapping[int, Float[Tensor, "n hidden"]] = {}


def assembled(layout: Layout, vectors: Sequence[Place], read: Read, *, tokens: bool, gradients: bool) -> Extracted:
    """Signatures of the batch's turns, in its order. tokens: with states and errors at each position, and gradients."""
    nats = -read.after.log_prob  # [n]
    n_turns = len(layout.n_response)
    out = torch.float64 if nats.dtype == torch.float64 else torch.float32
    loss = torch.segment_reduce(nats * read.weights, "sum", lengths=layout.n_response, axis=0)
    shift = None if read.before is None else shift_between(read.after, read.before)
    counted = torch.ones_like(nats) if shift is None else shift.gain.clamp_min(MIN_TOKEN_GAIN)

    def vector(layer: int, name: str) -> Float[Tensor, "batch dim"]:
        if name == "g":
            return read.G[layer][layout.first]
        states = read.H[layer]
        if name == "eh":
            assert read.E is not None
            return answer_sketch(read.E, states, counted.to(out), layout.row, n_turns)
        if name in ("dm", "dh"):
            states = states.to(out) - read.H0[layer].to(out)
        return states[layout.first] if name in ("h", "dh") else _mean(states.to(out), layout)

    named: dict[int, dict[str, Tensor]] = {}
    for layer, name in vectors:
        named.setdefault(layer, {})[name] = vector(layer, name).to("cpu", out)
    gain = None
    if shift is not None:
        gain = torch.segment_reduce(shift.gain.double(), "sum", lengths=layout.n_response, axis=0).cpu()
    return Extracted(
        layers={layer: Signatures(**found) for layer, found in named.items()},
        loss=loss.to("cpu", out),
        n_response=layout.n_response.cpu(),
        gradient_norm=read.gradient_norm.to("cpu", out),
        mean_state=_mean(read.last.to(out), layout).cpu(),
        tokens=_tokens(layout, read, out, gradients) if tokens else None,
        log_likelihood_gain=gain,
        shifts=None if shift is None else _by_turn(layout, shift),
    )


def in_order(done: Sequence[tuple[list[int], Extracted]], n: int) -> Extracted:
    """Puts the batches' results back into the order in which the turns were given."""
    order = [i for indices, _ in done for i in indices]
    back = torch.empty(n, dtype=torch.long)
    back[torch.tensor(order, dtype=torch.long)] = torch.arange(n)
    places = back.tolist()
    parts = [part for _, part in done]
    first = parts[0]

    def joined(pick: Callable[[Extracted], Tensor]) -> Tensor:
        return torch.cat([pick(part) for part in parts])[back]

    def gain_of(part: Extracted) -> Tensor:
        assert part.log_likelihood_gain is not None
        return part.log_likelihood_gain

    layers = {
        layer: Signatures(
            **{name: joined(lambda part, at=(layer, name): part.layers[at[0]].get(at[1])) for name in found.named()}  # type: ignore[misc]
        )
        for layer, found in first.layers.items()
    }
    tokens: dict[int, TokenGradients] | None = None
    if first.tokens is not None:
        tokens = {}
        for layer in first.tokens:
            found = [part.tokens[layer] for part in parts if part.tokens is not None]
            lists = [[rows for part in found for rows in getattr(part, side)] for side in ("H", "E", "G")]
            tokens[layer] = TokenGradients(*(tuple(rows[i] for i in places) if rows else () for rows in lists))
    shifts = [shift for part in parts for shift in part.shifts or ()]
    return Extracted(
        layers,
        joined(lambda part: part.loss),
        joined(lambda part: part.n_response),
        joined(lambda part: part.gradient_norm),
        joined(lambda part: part.mean_state),
        tokens,
        None if first.log_likelihood_gain is None else joined(gain_of),
        None if first.shifts is None else tuple(shifts[i] for i in places),
    )


def check_finite(result: Extracted, labels: Callable[[int], str]) -> None:
    """Raises NonFiniteError, with the labels of the turns, for a value that is NaN or infinite."""
    bad = ~result.loss.isfinite()
    if result.log_likelihood_gain is not None:
        bad |= ~result.log_likelihood_gain.isfinite()
    for signatures in result.layers.values():
        for vectors in signatures.named().values():
            bad |= ~vectors.isfinite().all(1)
    if bad.any():
        rows = bad.nonzero()[:, 0].tolist()
        named = ", ".join(labels(i) for i in rows[:5]) + (f" and {len(rows) - 5} more" if len(rows) > 5 else "")
        raise NonFiniteError(
            f"The signature of {named} holds NaN or infinity (loss {result.loss[rows[0]].item()}).",
            "Every value of a signature must be finite.",
            "Try --dtype float32 or bfloat16; if it stays, the model's weights or that row are broken.",
        )


def _mean(states: Float[Tensor, "n hidden"], layout: Layout) -> Float[Tensor, "batch hidden"]:
    """found[i] = sum_{j of turn i} states[j] / n_response[i]"""
    # Sums in a fixed order on every device; adding by index has none on a GPU.
    return torch.segment_reduce(states, "mean", lengths=layout.n_response, axis=0)


def _tokens(layout: Layout, read: Read, out: torch.dtype, gradients: bool) -> dict[int, TokenGradients]:
    assert read.E is not None
    E = _cut(layout, read.E, out)
    return {
        layer: TokenGradients(_cut(layout, states, out), E, _cut(layout, read.G[layer], out) if gradients else ())
        for layer, states in read.H.items()
    }


def _cut(layout: Layout, values: Float[Tensor, "n hidden"], out: torch.dtype) -> tuple[Tensor, ...]:
    """By turn, on the CPU, each a tensor of its own."""
    return tuple(part.clone() for part in layout.by_turn(values.to("cpu", out)))


def _by_turn(layout: Layout, shift: TokenShift) -> tuple[TokenShift, ...]:
    sides: list[tuple[Tensor, ...]] = [layout.by_turn(side.cpu()) for side in shift if side is not None]
    return tuple(TokenShift(*values) for values in zip(*sides, strict=True))


__all__ = ["Read", "assembled", "check_finite", "in_order"]
