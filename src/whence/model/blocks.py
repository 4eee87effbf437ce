"""The inside of a causal language model: its decoder, its decoder layers, its output head.

Layer numbers follow the field: H(0) is the embedding output, H(l) the hidden state after decoder layer l, and
H(n_layers) the last hidden state, after the final norm.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from whence.errors import ModelError
from whence.model.placement import run_device, stored_weight

HEAD_PROBE_TOKENS = 6
HEAD_TOLERANCE = 1e-3
"""Relative; the head is the same arithmetic on the same numbers, so only the order of additions differs."""
STATE_DIMS = 3
"""A hidden state is [batch, seq, hidden]."""


@dataclass(frozen=True, slots=True)
class Head:
    """The output head with the scalings that some families put around it.

    z[v] = cap(scale sum_d W[v, d] x[d]),   cap(u) = softcap tanh(u / softcap), or u without a softcap
    """

    linear: nn.Module
    scale: float = 1.0
    softcap: float | None = None

    def __call__(self, hidden: Float[Tensor, "*n hidden"]) -> Float[Tensor, "*n vocab"]:
        """Logits of last hidden states, in the model's dtype."""
        logits: Tensor = self.linear(hidden)
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return logits

    @property
    def weight(self) -> Float[Tensor, "vocab hidden"] | None:
        """W, where the head is a plain linear map; None under an adapter or in fewer bits than a float has."""
        return self.linear.weight if type(self.linear) is nn.Linear else None

    @property
    def device(self) -> torch.device:
        """Where logits are computed."""
        return run_device(self.linear)

    def at_hand(self) -> Head:
        """The head with its weights where it computes, read once, if a device map keeps them elsewhere."""
        if type(self.linear) is not nn.Linear or not self.linear.weight.is_meta:
            return self
        linear = nn.Linear(self.linear.in_features, self.linear.out_features, bias=False, device="meta")
        for name, own in self.linear.named_parameters(recurse=False):
            setattr(linear, name, nn.Parameter(stored_weight(self.linear, name), requires_grad=own.requires_grad))
        return replace(self, linear=linear)


@dataclass(frozen=True, slots=True)
class Blocks:
    """The parts of a causal LM that whence reads and writes.

    decoder: ids -> last hidden state [batch, seq, hidden] (final norm included)
    layers:  the decoder layers, in order
    head:    last hidden states [..., hidden] -> logits [..., vocab], as the model itself computes them
    """

    decoder: nn.Module
    layers: Sequence[nn.Module]
    head: Head
    path: str
    """Where the layers are, as in `model.layers`."""
    takes_position_ids: bool
    cache_argument: str
    """What the decoder calls its cache of keys and values; releases of transformers differ."""


def find_blocks(model: nn.Module, path: str | None = None) -> Blocks:
    """Finds the decoder layers of `model`, a causal LM of transformers (an adapter may be inside).

    The layers are the only list of modules in the decoder whose length is the config's number of layers; `path`
    (as in "model.layers") settles it by hand. Raises ModelError that lists what was found.
    """
    causal_lm = _unwrap(model)
    decoder = _find_decoder(causal_lm)
    if decoder is None or causal_lm.get_output_embeddings() is None:  # type: ignore[operator]
        raise ModelError(
            f"{type(causal_lm).__name__} has no decoder with an output head.",
            "whence needs a causal language model of transformers, such as LlamaForCausalLM.",
            "Load the checkpoint with AutoModelForCausalLM, or give the folder of one.",
        )
    path, layers = _find_layers(causal_lm, path)
    accepts = inspect.signature(decoder.forward).parameters
    cache_argument = "cache" if "cache" in accepts else "past_key_values"
    return Blocks(decoder, layers, _find_head(causal_lm, decoder), path, "position_ids" in accepts, cache_argument)


def decoder_layers(model: nn.Module, path: str | None = None) -> Sequence[nn.Module]:
    """The decoder layers of a causal LM, which need no weights. Raises ModelError where they cannot be told apart."""
    return _find_layers(_unwrap(model), path)[1]


def cache_argument(decoder: nn.Module) -> str:
    """The name under which a decoder takes a cache of keys and values; transformers renames it at 5.40."""
    return "cache" if "cache" in inspect.signature(decoder.forward).parameters else "past_key_values"


def keeps_keys(config: object) -> bool:
    """Whether each layer, by a text config, keeps keys and values; what a recurrent layer keeps cannot be cut."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in DynamicCache(config=config).layers)


def _unwrap(model: nn.Module) -> nn.Module:
    """The causal LM inside a PEFT model; any other model as it is."""
    unwrap = getattr(model, "get_base_model", None)
    return unwrap() if callable(unwrap) else model


def _find_decoder(causal_lm: nn.Module) -> nn.Module | None:
    """The base model; where transformers has no attribute of its name, as in Llama 4, what `model` holds."""
    decoder = getattr(causal_lm, "base_model", None)
    return getattr(causal_lm, "model", None) if decoder is causal_lm else decoder


def _find_layers(causal_lm: nn.Module, path: str | None) -> tuple[str, Sequence[nn.Module]]:
    lists = {name: module for name, module in causal_lm.named_modules() if isinstance(module, nn.ModuleList)}
    n_layers = getattr(causal_lm.config.get_text_config(), "num_hidden_layers", None)  # type: ignore[operator,union-attr]
    listing = ", ".join(f"{name} ({len(module)})" for name, module in lists.items()) or "none"
    if path is not None:
        if path not in lists:
            raise ModelError(
                f"{type(causal_lm).__name__} has no list of modules at {path!r}.",
                f"Lists of modules found (with their lengths): {listing}.",
                "Give one of them with --blocks.",
            )
        return path, list(lists[path])
    fitting = [name for name, module in lists.items() if len(module) == n_layers and not _inside_any(name, lists)]
    if len(fitting) != 1:
        raise ModelError(
            f"The decoder layers of {type(causal_lm).__name__} could not be told apart.",
            f"Expected one list of {n_layers} modules (config.num_hidden_layers); lists of modules found (with their "
            f"lengths): {listing}.",
            "Name the list of decoder layers with --blocks PATH, as in --blocks model.layers.",
        )
    return fitting[0], list(lists[fitting[0]])


def _inside_any(name: str, lists: dict[str, nn.ModuleList]) -> bool:
    """Whether a list lies inside another one, as the experts of a mixture lie inside its layers."""
    return any(name.startswith(other + ".") for other in lists if other != name)


SCALES = ("logit_scale", "lm_head_multiplier")
DIVISOR = "logits_scaling"
SOFTCAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
"""What configs call the numbers of `Head`."""


def _find_head(causal_lm: nn.Module, decoder: nn.Module) -> Head:
    """The output head with its scalings, proven against the model's own logits."""
    config = causal_lm.config.get_text_config()  # type: ignore[operator,union-attr]
    scale = _first(config, SCALES) or 1.0
    divisor = _first(config, (DIVISOR,)) or 1.0
    head = Head(causal_lm.get_output_embeddings(), scale / divisor, _first(config, SOFTCAPS))  # type: ignore[operator]
    _prove_head(causal_lm, decoder, head)
    return head


def _first(config: object, names: Sequence[str]) -> float | None:
    """The first of these that the config has and that is no zero."""
    return next((float(value) for name in names if (value := getattr(config, name, None))), None)


@torch.no_grad()
def _prove_head(causal_lm: nn.Module, decoder: nn.Module, head: Head) -> None:
    device = run_device(causal_lm.get_input_embeddings())  # type: ignore[operator]
    vocab = causal_lm.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
    ids = torch.arange(HEAD_PROBE_TOKENS, device=device)[None] % vocab
    own = causal_lm(input_ids=ids, use_cache=False).logits.float().cpu()
    last = decoder(input_ids=ids, use_cache=False).last_hidden_state
    ours = head(last).float().cpu()
    gap = (own - ours).abs().max().item()
    if not gap <= HEAD_TOLERANCE * max(1.0, own.abs().max().item()):
        raise ModelError(
            f"The output head of {type(causal_lm).__name__} does more than a linear map with a known scaling: its "
            f"logits differ from ours by {gap:.3g} (largest logit {own.abs().max().item():.3g}).",
            f"whence knows {', '.join([*SOFTCAPS, *SCALES])} and {DIVISOR}.",
            "Open an issue with the model's config; its head has to be added to whence/model/blocks.py.",
        )


@contextmanager
def captured(
    blocks: Blocks, layers: Sequence[int], *, leaf: bool = True
) -> Iterator[dict[int, Float[Tensor, "batch seq hidden"]]]:
    """While open, each forward pass of the decoder stores H(l) for the asked inner layers (0 <= l < n_layers).

    With `leaf`, the lowest of them is cut from what came before and made a leaf, so that a graph is built above it and
    nowhere else. H(n_layers) is what the decoder returns; it needs no hook and is not stored.

    Raises ModelError in the forward pass for a layer whose input is no [batch, seq, hidden].
    """
    seen: dict[int, Tensor] = {}
    inner = sorted(layer for layer in set(layers) if layer < len(blocks.layers))

    def hook_for(layer: int) -> Callable[..., object]:
        def hook(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, object]) -> object:
            hidden = args[0] if args else kwargs.get("hidden_states")
            if not isinstance(hidden, Tensor) or hidden.dim() != STATE_DIMS:
                raise _unread(module, hidden)
            if leaf and layer == inner[0]:
                hidden = hidden.detach().requires_grad_(True)
                if args:
                    args = (hidden, *args[1:])
                else:
                    kwargs = {**kwargs, "hidden_states": hidden}
            seen[layer] = hidden
            return args, kwargs

        return hook

    handles = [blocks.layers[layer].register_forward_pre_hook(hook_for(layer), with_kwargs=True) for layer in inner]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _unread(layer: nn.Module, state: object) -> ModelError:
    found = f"a tensor of shape {tuple(state.shape)}" if isinstance(state, Tensor) else f"{type(state).__name__}"
    return ModelError(
        f"The states between the layers of this model cannot be read: {type(layer).__name__} takes {found}.",
        "Expected one hidden state a token, [batch, seq, hidden]; Gemma 3n, for one, carries several.",
        "Use another model, or a method that reads no inner layer, such as tracin.",
    )
