"""Forward passes that read hidden states at the positions that predict a response token.

Two of them give the same numbers. `plain` runs the whole batch once, without a graph, and is what an index pays for.
`with_graph` is for gradients at an inner layer l (RepT's g): H(l) at t depends only on positions up to t, and a
gradient at t only on positions from t on, so

1. the prompt before t runs without a graph and leaves only its keys and values,
2. the positions from t on run on top of that cache, without a graph up to layer l, with one above it.

A model that keeps something else of a prompt (a recurrent state), or that is rotated by the length of the whole text,
runs its turns whole in place of that (`splits_prompts`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from whence.data import EncodedTurn
from whence.model import Layout, LoadedModel, captured, depends_on_length, keeps_keys, laid_out, last_states, wide
from whence.signatures.head import FLOAT16_SCALE
from whence.signatures.padding import PaddedBatch, padded, tail_positions

PROBE_PROMPT, PROBE_RESPONSE = 5, 3
PROBE_TOLERANCE = 1e-3
"""Relative; both ways are the same arithmetic, so only the order of additions differs."""

Run = tuple[Callable[[], Tensor], Bool[Tensor, "batch seq"]]
"""A pass that gives last hidden states [batch, seq, hidden], and which of its positions predict a response token."""


@dataclass(frozen=True, slots=True)
class States:
    """States of n predicting positions, turn by turn, without padding.

    H: by layer, of those that were asked for. last: after the final norm.
    graph: where gradients can be taken: last hidden states [batch, seq, hidden] with their graph, the states of the
        inner layers in it, and which of these positions are the n; None of a plain pass.
    """

    H: dict[int, Float[Tensor, "n hidden"]]
    last: Float[Tensor, "n hidden"]
    graph: tuple[Tensor, dict[int, Tensor], Tensor] | None = None

    def gradients(self, of_last: Float[Tensor, "n hidden"]) -> dict[int, Float[Tensor, "n hidden"]]:
        """dL/dH(l) at each inner layer l of the graph, from dL/d(last): one backward pass, float32 or float64."""
        assert self.graph is not None, "states were read without a graph"
        last, inner, real = self.graph
        # In float16 the gradient of a mean loss would leave the range of normal numbers.
        scale = FLOAT16_SCALE if last.dtype == torch.float16 else 1.0
        upper = torch.zeros_like(last)  # [batch, seq, hidden]
        upper[real.to(last.device)] = (of_last * scale).to(last.device, last.dtype)
        found = torch.autograd.grad(last, list(inner.values()), upper)
        return {layer: wide(_picked(gradient, real)) / scale for layer, gradient in zip(inner, found, strict=True)}


@torch.no_grad()
def plain(model: LoadedModel, layout: Layout, layers: Sequence[int]) -> States:
    """One forward pass over the whole batch; padding stands on the right, where causal attention does not look.

    A beginning that all turns share is run once where the model allows it (`last_states`).
    """
    inner = [layer for layer in layers if layer < model.n_layers]
    with captured(model.blocks, inner, leaf=False) as seen:
        last = last_states(model, layout)  # [batch, rest, hidden], as are the states that were captured
    read = {layer: layout.predicting(states) for layer, states in seen.items()}
    at_last = layout.predicting(last)
    return States({layer: read.get(layer, at_last) for layer in layers}, at_last)


def with_graph(
    model: LoadedModel,
    turns: Sequence[EncodedTurn],
    layout: Layout,
    layers: Sequence[int],
    gradient_layers: Sequence[int],
) -> States:
    """The same, with a graph above the lowest of the gradient layers, over the positions from t on."""
    run, real = _behind_prompts(model, turns) if splits_prompts(model) else _whole(model, layout)
    inner = [layer for layer in layers if layer < model.n_layers]
    with (
        torch.enable_grad(),
        captured(model.blocks, gradient_layers) as graph,
        captured(model.blocks, inner, leaf=False) as seen,
    ):
        last = run()
    states = {**seen, model.n_layers: last}
    read = {layer: _picked(states[layer].detach(), real) for layer in layers}
    return States(read, _picked(last.detach(), real), (last, graph, real))


def _behind_prompts(model: LoadedModel, turns: Sequence[EncodedTurn]) -> Run:
    """The positions from t on, on top of the prompts before it, which are run here."""
    batch = padded(turns, model.pad_id, model.device)
    cache = _prefix(batch, model)
    mask = torch.cat([batch.prefix_mask, batch.tail_mask], 1)
    return partial(_decode, batch.tail, mask, tail_positions(batch), cache, model), batch.tail_mask.bool()


def _whole(model: LoadedModel, layout: Layout) -> Run:
    real = torch.zeros_like(layout.ids, dtype=torch.bool)
    real[layout.row, layout.position] = True

    def run() -> Tensor:
        hidden: Tensor = model.blocks.decoder(input_ids=layout.ids.to(model.device), use_cache=False).last_hidden_state
        return hidden

    return run, real


def splits_prompts(model: LoadedModel) -> bool:
    """Whether a prompt's keys and values are all that is needed of it; found out once by trying it on a few tokens."""
    decoder = model.blocks.decoder
    if decoder not in _SPLITS:
        config = model.text_config
        _SPLITS[decoder] = not depends_on_length(config) and keeps_keys(config) and _agrees(model)
    return _SPLITS[decoder]


_SPLITS: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


@torch.no_grad()
def _agrees(model: LoadedModel) -> bool:
    """Whether turns behind their prompts have the states of whole turns."""
    # Prompts of unlike lengths, but for models that cannot bear padding on the left (`Extractor`).
    lengths = (PROBE_PROMPT, PROBE_PROMPT) if masks_to_nan(model) else (PROBE_PROMPT, PROBE_PROMPT - 1)
    turns = []
    for length in lengths:
        ids = tuple(i % model.vocab_size for i in range(length + PROBE_RESPONSE))
        turns.append(EncodedTurn(0, ids, length, "", (), "", ""))
    whole, where = _whole(model, laid_out(turns, model.pad_id, model.device))
    expected = _picked(whole(), where)
    try:
        run, real = _behind_prompts(model, turns)
        found = _picked(run(), real)
    except (
        RuntimeError,
        ValueError,
        TypeError,
        IndexError,
        AttributeError,
    ):  # a cache of another kind, in the model's own code
        return False
    gap, size = (found - expected).abs().max().item(), expected.abs().max().item()
    return gap <= max(PROBE_TOLERANCE, 8 * torch.finfo(expected.dtype).eps) * size


def masks_to_nan(model: LoadedModel) -> bool:
    """Whether a padding position on the left becomes NaN, and spreads: only in float64 with eager attention.

    transformers' eager attention takes its softmax in float32, where float64's mask value is minus infinity.
    """
    eager = getattr(model.text_config, "_attn_implementation", None) == "eager"
    return eager and model.dtype == torch.float64


def _picked(states: Float[Tensor, "batch seq hidden"], real: Bool[Tensor, "batch seq"]) -> Float[Tensor, "n hidden"]:
    """The real positions of states, which may be on another device, on the mask's."""
    return states[real.to(states.device)].to(real.device)


@torch.no_grad()
def _prefix(batch: PaddedBatch, model: LoadedModel) -> object | None:
    """Keys and values of the prompts before t; None when no prompt has more than one token."""
    if batch.prefix.shape[1] == 0:
        return None
    from transformers import DynamicCache

    cache: object = DynamicCache(config=model.text_config)
    positions = (batch.prefix_mask.cumsum(1) - 1).clamp_min(0)
    _decode(batch.prefix, batch.prefix_mask, positions, cache, model)
    return cache


def _decode(
    ids: Tensor, mask: Tensor, positions: Tensor, cache: object | None, model: LoadedModel
) -> Float[Tensor, "batch seq hidden"]:
    extra: dict[str, object] = {"position_ids": positions} if model.blocks.takes_position_ids else {}
    if cache is not None:
        extra[model.blocks.cache_argument] = cache
    output = model.blocks.decoder(input_ids=ids, attention_mask=mask, use_cache=cache is not None, **extra)
    hidden: Tensor = output.last_hidden_state
    return hidden


__all__ = ["States", "masks_to_nan", "plain", "splits_prompts", "with_graph"]
