"""What an index is bound to: hashes of the weights, the adapter, the tokenizer and the chat template."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from whence.model.loading import LoadedModel
from whence.model.placement import weights_of

BYTES_AT_ONCE = 1 << 26
MODEL_IN_PEFT = "base_model.model."


class Fingerprint(BaseModel):
    """Hexadecimal BLAKE2b-128 hashes. `adapter` is empty when there is none.

    The weights are hashed as loaded (name, dtype, shape, bytes), so a checkpoint loaded in another dtype or
    quantisation is another model: its hidden states differ too.
    """

    model_config = ConfigDict(frozen=True)

    weights: str
    adapter: str
    tokenizer: str
    template: str


def fingerprint(loaded: LoadedModel, template: str) -> Fingerprint:
    """Hashes the loaded model, its adapter and tokenizer, and the chat template in use (`Encoder.template`)."""
    weights, adapter = _parts(loaded.model)
    return Fingerprint(
        weights=_hash_tensors(weights),
        adapter=_hash_tensors(adapter) if adapter else "",
        tokenizer=hash_tokenizer(loaded.tokenizer),
        template=hash_template(template),
    )


def hash_template(template: str) -> str:
    """Hash of a chat template."""
    return _hash_text(template)


def hash_tokenizer(tokenizer: object) -> str:
    """Hash of the whole tokenizer: vocabulary, merges, normaliser, special tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        # Truncation and padding are set by each call; they belong to the call, not to the tokenizer.
        content = json.loads(backend.to_str())
        content.pop("truncation", None)
        content.pop("padding", None)
    else:
        content = tokenizer.get_vocab()  # type: ignore[attr-defined]
    special = {key: str(value) for key, value in tokenizer.special_tokens_map.items()}  # type: ignore[attr-defined]
    return _hash_text(json.dumps([content, special], sort_keys=True, ensure_ascii=True))


Stored = dict[str, Callable[[], Tensor]]
"""Weights by name, each read when it is called."""


def _parts(model: nn.Module) -> tuple[Stored, Stored]:
    """The model's weights by the names that they have without an adapter, and the adapter's."""
    state = weights_of(model)
    if not hasattr(model, "get_base_model"):
        return state, {}
    wrappers = _wrappers(model)
    weights: Stored = {}
    adapter: Stored = {}
    for name, tensor in state.items():
        plain = _plain_name(name, wrappers)
        if plain is None:
            adapter[name] = tensor
        else:
            weights[plain] = tensor
    return weights, adapter


def _wrappers(model: nn.Module) -> dict[str, str]:
    """Where PEFT has put a module of its own around one of the model's: its path, and the path of the one inside."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    found = {}
    for path, module in model.named_modules():
        if isinstance(module, BaseTunerLayer) and hasattr(module, "base_layer"):
            found[path + "."] = "base_layer."
        elif isinstance(getattr(module, "token_adapter", None), nn.Module):
            found[path + "."] = "token_adapter.base_layer."
        elif isinstance(getattr(module, "original_module", None), nn.Module):
            found[path + "."] = "original_module."
        elif isinstance(getattr(module, "adaption_prompt", None), nn.Parameter):
            found[path + "."] = "model."
    return found


def _plain_name(name: str, wrappers: Mapping[str, str]) -> str | None:
    """The name of a weight without an adapter's wrapping, so that the base hashes the same with and without.

    None for a weight of the adapter.
    """
    if not name.startswith(MODEL_IN_PEFT):
        return None
    plain, path = "", ""
    rest = name
    while rest:
        part, dot, rest = rest.partition(".")
        path += part + dot
        plain += part + dot
        while path in wrappers:
            if not rest.startswith(wrappers[path]):
                return None
            rest = rest.removeprefix(wrappers[path])
            path += wrappers[path]
    return plain.removeprefix(MODEL_IN_PEFT)


def _hash_text(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _hash_tensors(tensors: Mapping[str, Callable[[], Tensor]]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().reshape(-1)
        step = max(1, BYTES_AT_ONCE // flat.element_size())
        for start in range(0, flat.numel(), step):
            piece = flat[start : start + step].to("cpu").contiguous()
            digest.update(piece.view(torch.uint8).numpy().data)
    return digest.hexdigest()
