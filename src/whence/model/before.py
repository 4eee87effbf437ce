"""The model before fine-tuning: one that is given, or the fine-tuned one with its adapter turned off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import JsonValue

from whence.errors import InputError, MismatchError, ModelError
from whence.model.adapter_place import settle
from whence.model.beside_weights import other_settings, settings_beside, without_adapter
from whence.model.fingerprints import fingerprint
from whence.model.loading import LoadedModel, ModelSettings
from whence.model.places import is_cached, stored_file
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


def base_settings(settings: ModelSettings, given: str | None = None) -> ModelSettings:
    """How the model before fine-tuning is loaded by itself: the one that is given, which has no revision, else the one
    that the adapter of `settings` sits on, at that one's revision.

    Raises ModelError for a base that is not there.
    """
    place = None if given is not None else settle(settings.model, settings.adapter, settings.revision)
    update = {"model": place.model if place else given, "adapter": None, "revision": place.revision if place else None}
    return settings.model_copy(update=update)


def weights_hash(loaded: LoadedModel) -> str:
    """Hash of a model's weights, without those of an adapter."""
    return fingerprint(loaded, "").weights


def check_base(loaded: LoadedModel, base: LoadedModel, *, weights: str = "", base_weights: str = "") -> None:
    """Raises MismatchError for a base that is the fine-tuned model, is not the one it was trained from, or reads other
    tokens. What it was trained from is known of an adapter, and of a full fine-tune with a run.yaml.

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
    if adapter is not None and loaded.adapter_off_is_base:
        own = without_adapter(settings_beside(loaded))
        other = other_settings(own, settings_beside(base))
        if other:
            name = next(iter(other))
            raise MismatchError(
                f"{base.settings.model} is not the base that the adapter {adapter} sits on: "
                f"its {name} is {other[name]}.",
                f"Expected the config of the model below the adapter, with {name} {own[name]}.",
                "Leave --base out: the model is compared with its adapter turned off.",
            )
    expected = _trained_from(loaded, base) if adapter is None else ""
    if expected and base_weights != expected:
        raise MismatchError(
            f"{base.settings.model} is not the model that {loaded.settings.model} was fine-tuned from.",
            f"Expected weights {expected}, by its run.yaml; these are {base_weights}.",
            "Give the model before fine-tuning with --base.",
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
    """The base that the run.yaml in a model's folder names, where it is there: an absolute path, or a name on the hub.

    A relative path, as earlier versions wrote it, is looked for from the model's folder, from the one around it, and
    from here. As it may look like a name on the hub, the hub is asked only for what the run.yaml says is there.
    """
    run, folder = _run_of(model) or {}, Path(model).resolve()
    named = str(run.get("base") or "")
    if not named:
        return None
    for start in (folder, folder.parent, Path()):
        found = (start / Path(named).expanduser()).resolve()
        if found.is_dir() and found != folder:
            return str(found)
    if not run.get("base_on_hub"):
        return named if is_cached(named, "config.json") else None
    try:
        return named if stored_file(named, "config.json") is not None else None
    except ModelError:
        return None


def recorded_base(model: str) -> str:
    """The base that the run.yaml in a model's folder names, as it stands there; "" where it names none."""
    return str((_run_of(model) or {}).get("base") or "")


def _run_of(model: str) -> dict[str, JsonValue] | None:
    """What the run.yaml in a model's folder holds; None where there is none, or one that cannot be read."""
    try:
        return run_values(Path(model))
    except InputError:
        return None


def _trained_from(loaded: LoadedModel, base: LoadedModel) -> str:
    """Hash of the weights that the model was trained from, by the run.yaml in its folder; "" where it does not say.

    Also "" where the run had the base in another dtype than it is loaded in now, or quantised otherwise.
    """
    run = _run_of(loaded.settings.model) or {}
    settings, hashes = run.get("settings"), run.get("hashes")
    if not isinstance(settings, dict) or not isinstance(hashes, dict) or base.settings.quantization is not None:
        return ""
    of_base = hashes.get("base")
    if not isinstance(of_base, dict) or str(base.dtype) != f"torch.{settings.get('dtype')}":
        return ""
    return str(of_base.get("weights") or "")


__all__ = [
    "base_settings",
    "before_tuning",
    "check_base",
    "has_before",
    "named_base",
    "recorded_base",
    "weights_hash",
]
