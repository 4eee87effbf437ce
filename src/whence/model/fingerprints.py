"""What an index is bound to: hashes of the weights, the adapter, the tokenizer and the chat template."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from whence.model.loading import LoadedModel

BYTES_AT_ONCE = 1 << 26


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
    state = dict(sorted(loaded.model.state_dict().items()))
    adapter = {name: tensor for name, tensor in state.items() if _of_adapter(name)}
    weights = {_plain_name(name): tensor for name, tensor in state.items() if name not in adapter}
    return Fingerprint(
        weights=_hash_tensors(weights),
        adapter=_hash_tensors(adapter) if adapter else "",
        tokenizer=hash_tokenizer(loaded.tokenizer),
        template=_hash_text(template),
    )


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


def _of_adapter(name: str) -> bool:
    return ".lora_" in name or ".modules_to_save." in name or ".ia3_" in name or ".prompt_encoder." in name


def _plain_name(name: str) -> str:
    """The name a weight has without an adapter's wrapping, so that the base hashes the same with and without."""
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")


def _hash_text(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().reshape(-1)
        step = max(1, BYTES_AT_ONCE // flat.element_size())
        for start in range(0, flat.numel(), step):
            piece = flat[start : start + step].to("cpu").contiguous()
            digest.update(piece.view(torch.uint8).numpy().data)
    return digest.hexdigest()
