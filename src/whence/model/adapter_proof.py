"""Proof that an adapter acts where whence reads: in the decoder's layers, not in PEFT's forward pass around them.

whence calls the decoder itself. An adapter that PEFT applies on the way in (virtual tokens, keys of a prefix, an offset
where a phrase stands) would be passed by. So a few tokens are read both ways, and every state and logit must agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from whence.errors import ModelError
from whence.model.blocks import Blocks, cache_argument, captured, keeps_keys
from whence.model.placement import run_device
from whence.model.places import first_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PROBE_TOKENS = 12
PREFIX_TOKENS = 5
"""Tokens of the probe that are read into a cache first, as a prompt is."""
MOST_TRIGGERS = 16

TOLERANCE = 1e-3
"""Relative to the largest value; both ways are the same arithmetic, and only the order of additions differs."""
HALF_TOLERANCE = 3e-2
"""The same in float16 and bfloat16, whose numbers have 8 to 11 bits."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a model makes of the probe. states[l] is H(l), for l = 0 .. n_layers, or those of them that can be read."""

    states: tuple[Float[Tensor, "seq hidden"], ...]
    logits: Float[Tensor, "seq vocab"]

    def gap(self, other: Reading, vocab: int | None = None) -> float:
        """The largest difference, relative to the largest value; infinity where the shapes differ.

        vocab: logits to compare, from the first; None for all.
        """
        pairs = [*zip(self.states, other.states, strict=False), (self.logits[:, :vocab], other.logits[:, :vocab])]
        if len(self.states) != len(other.states) or any(a.shape != b.shape for a, b in pairs):
            return float("inf")
        return max(((a - b).abs().max() / a.abs().max().clamp_min(1e-30)).item() for a, b in pairs)


def probe_ids(model: PreTrainedModel, vocab: int, triggers: Sequence[int] = ()) -> Int[Tensor, "1 seq"]:
    """Token ids spread over the first `vocab`, and among them those that an adapter may wait for."""
    spread = [(2 * i + 1) * vocab // (2 * PROBE_TOKENS) for i in range(PROBE_TOKENS)]
    waited_for = [token for token in triggers if 0 <= token < vocab][:MOST_TRIGGERS]
    ids = spread[:PREFIX_TOKENS] + waited_for + spread[PREFIX_TOKENS:]
    return torch.tensor([ids], device=run_device(model.get_input_embeddings()))


@torch.no_grad()
def own_reading(model: nn.Module, ids: Int[Tensor, "1 seq"]) -> Reading:
    """By the forward pass of the model itself, or of PEFT around it."""
    output = model(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True, use_cache=False)
    return Reading(tuple(state[0].float().cpu() for state in output.hidden_states), output.logits[0].float().cpu())


@torch.no_grad()
def _hooked_reading(model: nn.Module, blocks: Blocks, ids: Int[Tensor, "1 seq"], layers: Sequence[int]) -> Reading:
    """By PEFT's forward pass, with the states where whence reads them; Mamba's own list of them begins at H(1)."""
    last: list[Tensor] = []
    handle = blocks.decoder.register_forward_hook(lambda _, __, output: last.append(output.last_hidden_state[0]))
    try:
        with captured(blocks, layers, leaf=False) as seen:
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0]
    finally:
        handle.remove()
    states = [*(seen[layer][0] for layer in layers), *last]
    return Reading(tuple(state.float().cpu() for state in states), logits.float().cpu())


@torch.no_grad()
def decoder_reading(
    blocks: Blocks,
    ids: Int[Tensor, "1 seq"],
    config: object,
    *,
    layers: Sequence[int] | None = None,
    cached: bool = False,
) -> Reading:
    """By the decoder alone, as whence reads; with `cached`, the first tokens first and the rest on top of them.

    layers: whose H(l) to read beside the last; None for all.
    """
    from transformers import DynamicCache

    layers = range(len(blocks.layers)) if layers is None else layers
    extra: dict[str, object] = {"use_cache": False}
    pieces = [ids]
    if cached:
        pieces = [ids[:, :PREFIX_TOKENS], ids[:, PREFIX_TOKENS:]]
        extra = {"use_cache": True, cache_argument(blocks.decoder): DynamicCache(config=config)}
    parts: list[list[Tensor]] = []
    done = 0
    for piece in pieces:
        mask = torch.ones_like(ids[:, : done + piece.shape[1]])
        if blocks.takes_position_ids:
            extra["position_ids"] = torch.arange(done, done + piece.shape[1], device=ids.device)[None]
        with captured(blocks, layers, leaf=False) as seen:
            last = blocks.decoder(input_ids=piece, attention_mask=mask, **extra).last_hidden_state
        parts.append([seen[layer][0] for layer in layers] + [last[0]])
        done += piece.shape[1]
    states = tuple(torch.cat(pair) for pair in zip(*parts, strict=True))
    return Reading(tuple(state.float().cpu() for state in states), blocks.head(states[-1]).float().cpu())


def tolerance(model: PreTrainedModel) -> float:
    """How far apart two readings of one model may be."""
    return HALF_TOLERANCE if model.get_input_embeddings().weight.dtype.itemsize < 4 else TOLERANCE


def prove_states(model: PreTrainedModel, blocks: Blocks, ids: Int[Tensor, "1 seq"], name: str) -> None:
    """Raises ModelError unless the decoder alone gives the states and logits of the probe that PEFT gives.

    A model whose states between layers cannot be read, as Gemma 3n, is held to the last ones. The pass through a cache
    is made where the model is read through one, and left out in half precision: rounding alone can send a token to
    other experts.
    """
    layers: Sequence[int] = range(len(blocks.layers))
    try:
        own = _hooked_reading(model, blocks, ids, layers)
    except ModelError:
        layers = ()
        own = _hooked_reading(model, blocks, ids, layers)
    half = model.get_input_embeddings().weight.dtype.itemsize < 4
    config = model.config.get_text_config()
    through_cache = not half and keeps_keys(config) and not getattr(model.get_base_model(), "_is_stateful", False)
    for cached in (False, True) if through_cache else (False,):
        try:
            gap = own.gap(decoder_reading(blocks, ids, config, layers=layers, cached=cached))
            found = f"differ from PEFT's by {gap:.3g} of their largest value"
        except Exception as error:  # the decoder now holds the adapter's own code
            gap, found = float("inf"), f"cannot be had without PEFT's own forward pass ({first_line(error)})"
        if not gap <= tolerance(model):
            raise ModelError(
                f"The adapter {name} acts outside the model's layers, or on the text as a whole: the states that "
                f"whence would read {found}.",
                "whence reads adapters whose weights act inside the layers, token by token; see docs/compatibility.md.",
                "Where PEFT can merge it (model.merge_and_unload()), save the merged model and index that with --base.",
            )


__all__ = ["Reading", "decoder_reading", "own_reading", "probe_ids", "prove_states", "tolerance"]
