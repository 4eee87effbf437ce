"""Positions that turns have in common are run once: their keys and values are kept, and only what follows is run.

A state at a position depends on what stands up to there, so that a turn that begins like another one can be read from
where it differs on. That holds where each layer keeps the keys and values of all positions and looks at all of them;
any other model is read as a whole (`shares_prefixes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from whence.model.padding import Layout
from whence.model.placement import is_offloaded
from whence.model.rope import depends_on_length

if TYPE_CHECKING:
    from whence.model.loading import LoadedModel

PROBE_TOKENS = 8
PROBE_TOLERANCE = 1e-3
"""Relative; both ways are the same arithmetic, so only the order of additions differs."""
SAVED_TOKENS = 64
"""Fewest tokens that running a common beginning apart must save: a pass of its own reads all weights once more."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Keys and values of texts that were run, of each decoder layer [texts, heads, width, head_dim] both."""

    layers: tuple[tuple[Tensor, Tensor], ...]


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two texts have in common at their beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


@torch.no_grad()
def last_states(loaded: LoadedModel, layout: Layout) -> Float[Tensor, "batch rest hidden"]:
    """Last hidden states of a batch, without its turns' common beginning where that is run once for all of them."""
    common = _worthwhile(layout)
    if common == 0 or not shares_prefixes(loaded):
        hidden: Tensor = loaded.blocks.decoder(
            input_ids=layout.ids.to(loaded.device), use_cache=False
        ).last_hidden_state
        return hidden
    return _run_behind_common(loaded, layout, common)[0]


@torch.no_grad()
def last_states_kept(loaded: LoadedModel, layout: Layout) -> tuple[Float[Tensor, "batch rest hidden"], Kept]:
    """As `last_states`, of a model that shares prefixes, with the keys and values of the whole turns."""
    common = _worthwhile(layout)
    return run_kept(loaded, layout.ids) if common == 0 else _run_behind_common(loaded, layout, common)


def _worthwhile(layout: Layout) -> int:
    """How many first tokens of the batch are run once; 0 where that saves too little for a pass of its own."""
    ids = layout.ids
    same = (ids == ids[:1]).all(0).cpu()  # [width]
    # What predicts a response token is read of each turn.
    common = min(int(same.long().cumprod(0).sum()), int(layout.position[layout.first].min()))
    return common if (len(ids) - 1) * common >= SAVED_TOKENS else 0


def _run_behind_common(
    loaded: LoadedModel, layout: Layout, common: int
) -> tuple[Float[Tensor, "batch rest hidden"], Kept]:
    _, kept = run_kept(loaded, layout.ids[:1, :common])
    tails = layout.ids[:, common:]
    # Padding on the right is at positions of its own, as in a pass over whole turns.
    return run_after(loaded, kept, [(0, common)] * len(tails), tails, [tails.shape[1]] * len(tails))


@torch.no_grad()
def run_kept(loaded: LoadedModel, ids: Int[Tensor, "texts width"]) -> tuple[Float[Tensor, "texts width hidden"], Kept]:
    """Last hidden states of whole texts, padded on the right, and their keys and values."""
    cache = _new_cache(loaded)
    output = loaded.blocks.decoder(input_ids=ids, use_cache=True, **{loaded.blocks.cache_argument: cache})
    return output.last_hidden_state, _kept(cache)


@torch.no_grad()
def run_after(
    loaded: LoadedModel,
    kept: Kept,
    begun: Sequence[tuple[int, int]],
    ids: Int[Tensor, "n width"],
    lengths: Sequence[int],
) -> tuple[Float[Tensor, "n width hidden"], Kept]:
    """Last hidden states of n texts that begin as kept ones do, at the positions behind that beginning.

    With them what is kept then: where all begin for the same number of tokens, that of the whole texts.

    begun: of each text, which of the kept ones it begins as, and for how many tokens (at least 1).
    ids: what follows, padded on the right; lengths: how many of them are no padding.
    """
    device = ids.device
    start = torch.tensor([length for _, length in begun], device=device)  # [n]
    widest = int(start.max())
    rows = torch.tensor([row for row, _ in begun], device=device)
    cache = _new_cache(loaded)
    for number, (keys, values) in enumerate(kept.layers):
        # [n, heads, widest, head_dim]; what a text does not begin as is masked below.
        cache.update(keys[rows, :, :widest], values[rows, :, :widest], number)  # type: ignore[attr-defined]
    steps = torch.arange(ids.shape[1], device=device)[None]
    # Padding repeats the last real position, so that none passes the model's limit.
    within = torch.minimum(steps, torch.tensor(lengths, device=device)[:, None] - 1)
    mask = None
    if bool((start < widest).any()):
        of_prefix = torch.arange(widest, device=device)[None] < start[:, None]  # [n, widest]
        mask = torch.cat([of_prefix.long(), torch.ones_like(ids)], 1)
    output = loaded.blocks.decoder(
        input_ids=ids,
        attention_mask=mask,
        position_ids=start[:, None] + within,
        use_cache=True,
        **{loaded.blocks.cache_argument: cache},
    )
    return output.last_hidden_state, _kept(cache)


def shares_prefixes(loaded: LoadedModel) -> bool:
    """Whether texts of this model can be read from where they differ on; found out once by trying it on a few tokens.

    Not on several devices, with weights kept elsewhere, with a sliding window, a recurrent state, positions that are
    not given or that depend on the whole length, or an adapter that looks at the whole text.
    """
    decoder = loaded.blocks.decoder
    if decoder not in _PROVEN:
        _PROVEN[decoder] = _may_share(loaded) and _agrees(loaded)
    return _PROVEN[decoder]


_PROVEN: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def _may_share(loaded: LoadedModel) -> bool:
    from transformers.cache_utils import DynamicLayer

    config = loaded.text_config
    layers = _new_cache(loaded).layers  # type: ignore[attr-defined]
    return (
        # Keys and values of a model on several devices lie where their layers are.
        loaded.settings.device_map is None
        and not is_offloaded(loaded.model)
        and loaded.blocks.takes_position_ids
        and not getattr(config, "alibi", False)
        and not depends_on_length(config)
        and not getattr(config, "is_encoder_decoder", False)
        and all(type(layer) is DynamicLayer for layer in layers)
        and len(layers) == loaded.n_layers
        and all(_looks_at_tokens_alone(adapter) for adapter in getattr(loaded.model, "peft_config", {}).values())
    )


def _looks_at_tokens_alone(adapter: object) -> bool:
    kind = getattr(adapter, "peft_type", "")
    return str(getattr(kind, "value", kind)) == "LORA" and not getattr(adapter, "alora_invocation_tokens", None)


@torch.no_grad()
def _agrees(loaded: LoadedModel) -> bool:
    """Whether two texts read from where they differ on have the states of the same texts read as a whole."""
    ids = (torch.arange(2 * PROBE_TOKENS, device=loaded.device) % loaded.vocab_size).reshape(2, PROBE_TOKENS)
    whole: Tensor = loaded.blocks.decoder(input_ids=ids, use_cache=False).last_hidden_state
    _, kept = run_kept(loaded, ids[:, :-1])
    half = PROBE_TOKENS // 2
    # One begins one token before the other, so that both the mask and the positions count.
    tails = torch.stack([ids[0, half - 1 : -1], ids[1, half:]])
    if any(part is None for layer in kept.layers for part in layer):  # layers that read another layer's keys
        return False
    found, _ = run_after(loaded, kept, [(0, half - 1), (1, half)], tails, [half, half])
    expected = torch.stack([whole[0, half - 1 : -1], whole[1, half:]])
    gap, scale = (found - expected).abs().max().item(), expected.abs().max().item()
    return gap <= max(PROBE_TOLERANCE, 8 * torch.finfo(expected.dtype).eps) * scale


def _kept(cache: object) -> Kept:
    return Kept(tuple((layer.keys, layer.values) for layer in cache.layers))  # type: ignore[attr-defined]


def _new_cache(loaded: LoadedModel) -> object:
    from transformers import DynamicCache

    return DynamicCache(config=loaded.text_config)


__all__ = ["Kept", "common_length", "last_states", "last_states_kept", "run_after", "run_kept", "shares_prefixes"]
