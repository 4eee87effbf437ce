"""The model before fine-tuning: one that is given, or the fine-tuned one with its adapter turned off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from whence.errors import InputError, MismatchError
from whence.model.fingerprints import fingerprint
from whence.model.loading import LoadedModel
from whence.run_file import run_values


def has_before(loaded: LoadedModel, base: LoadedModel | None = None) -> bool:
    """Whether it can be told what fine-tuning changed: there is a base, or an adapter that can be turned off."""
    return base is not None or (hasattr(loaded.model, "disable_adapter") and loaded.adapter_off_is_base)


@contextmanager
def before_tuning(loaded: LoadedModel, base: LoadedModel | None = None) -> Iterator[LoadedModel]:
    """The base, if one is given; else, while open, `loaded` answers as its base does.

    Raises InputError for a model without an adapter and without a base.
    """
    if base is not None:
        yield base
        return
    if not has_before(loaded):
        raise InputError(
            "This model has no adapter that could be turned off."
            if loaded.adapter_off_is_base
            else "This model is not its base again when its adapter is turned off: the adapter brings weights of the "
            "base with it (biases or embeddings).",
            "What fine-tuning changed is seen against the model before it.",
            "Give the base model with --base.",
        )
    try:
        with loaded.model.disable_adapter():
            yield loaded
    finally:
        # peft, when it turns an adapter on again, makes its weights trainable.
        loaded.model.requires_grad_(False)


def weights_hash(loaded: LoadedModel) -> str:
    """Hash of a model's weights, without those of an adapter."""
    return fingerprint(loaded, "").weights


def check_base(loaded: LoadedModel, base: LoadedModel, *, weights: str = "", base_weights: str = "") -> None:
    """Raises MismatchError for a base that is the fine-tuned model, lies under another adapter, or reads other tokens.

    weights, base_weights: their hashes, where they are known already. A base in another dtype than the model's has
        another hash and is not compared.
    """
    adapter, same_dtype = loaded.settings.adapter, base.dtype == loaded.dtype
    weights, base_weights = weights or weights_hash(loaded), base_weights or weights_hash(base)
    if adapter is None and base_weights == weights:
        raise MismatchError(
            f"{base.settings.model} is the fine-tuned model itself.",
            "What fine-tuning changed is measured against the model before it.",
            "Give that one with --base.",
        )
    if adapter is not None and loaded.adapter_off_is_base and same_dtype and base_weights != weights:
        raise MismatchError(
            f"{base.settings.model} is not the base that the adapter {adapter} sits on.",
            f"Expected weights {weights}; these are {base_weights}.",
            "Leave --base out: the model is compared with its adapter turned off.",
        )
    ids = loaded.tokenizer.get_vocab()
    strange = sorted(token for token, number in base.tokenizer.get_vocab().items() if ids.get(token) != number)
    if strange or loaded.vocab_size > base.vocab_size <= max(ids.values()):
        found = f"the token {strange[0]!r} has another number" if strange else f"it knows {base.vocab_size} tokens only"
        raise MismatchError(
            f"{base.settings.model} reads other tokens than {loaded.settings.model}: {found}.",
            "Log-probabilities of the same tokens are compared.",
            "Give the model that was fine-tuned with --base.",
        )


def named_base(model: str) -> str | None:
    """The base that the run.yaml in a model's folder names, as `whence finetune` writes it; None unless it is there."""
    try:
        run = run_values(Path(model)) or {}
    except InputError:
        return None
    named = str(run.get("base") or "")
    return named if named and Path(named).is_dir() else None


__all__ = ["before_tuning", "check_base", "has_before", "named_base", "weights_hash"]
