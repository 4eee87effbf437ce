"""The models that an index is asked with: the fine-tuned one that it was built with, and the one before fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from whence.data import EncodedTurn, Encoder
from whence.errors import MismatchError, ModelError
from whence.index import ADAPTER_OFF, Index, Manifest, built_template, check_base_settings, check_model
from whence.model import (
    LoadedModel,
    ModelSettings,
    Placement,
    TokenShift,
    as_placement,
    base_revision,
    base_settings,
    check_base,
    fingerprint,
    has_before,
    is_adapter,
    load_model,
    settings_beside,
    token_shifts,
    weights_hash,
)
from whence.signatures import Extractor, Signatures

Shifts = Sequence[TokenShift]
"""One a turn."""


@dataclass(frozen=True, slots=True)
class TracedModels:
    """The models of one index.

    base:      the model before fine-tuning, where it is a model of its own; None: `loaded` with its adapter turned off,
               where it has one.
    base_hash: of the base's weights; "" without one.
    contrast_base: what the index's contrasts are read against, `base` unless the index turned the adapter off.
    """

    loaded: LoadedModel
    encoder: Encoder
    extractor: Extractor
    base: LoadedModel | None
    base_hash: str
    contrast_base: LoadedModel | None

    @property
    def has_base(self) -> bool:
        """Whether it can be told what fine-tuning changed."""
        return has_before(self.loaded, self.base)

    def read(self, turns: Sequence[EncodedTurn], *, shifts: bool) -> tuple[dict[int, Signatures], Shifts | None]:
        """Signatures of encoded queries, by layer, and what fine-tuning changed at each of their response tokens.

        An index that holds contrasts has both models read for the signatures, and the shifts come with them; for
        another they are read only where they are wanted. None without a base. Raises NonFiniteError.
        """
        found = self.extractor.extract(turns, labels=lambda i: f"query {i + 1}")
        if found.shifts is not None or not shifts:
            return found.layers, found.shifts
        return found.layers, self.token_shifts(turns)

    def token_shifts(self, turns: Sequence[EncodedTurn]) -> list[TokenShift] | None:
        """What fine-tuning changed at each response token of each turn; None without a base. Raises NonFiniteError."""
        return token_shifts(self.loaded, turns, base=self.base) if self.has_base else None


def open_models(
    index: Index,
    model: LoadedModel | str | None,
    adapter: str | None,
    base: LoadedModel | str | None,
    device: str | Placement,
) -> TracedModels:
    """Loads what is not loaded yet, and checks that it is what the index was built with.

    Raises:
        ModelError: a model cannot be opened.
        MismatchError: the model is not the one that the index was built with, or the base cannot be its base.
    """
    manifest = index.manifest
    template = built_template(manifest)
    if isinstance(model, LoadedModel):
        loaded = model
    else:
        loaded = load_model(_settings(manifest, model, adapter, device), template_given=template is not None)
    encoder = Encoder(
        loaded.tokenizer,
        template=template,
        max_length=manifest.max_length,
        rows=manifest.read_as,
        n_embeddings=loaded.n_embeddings,
    )
    check_model(manifest, fingerprint(loaded, encoder.template), settings_beside(loaded))
    base, base_hash = _checked_base(manifest, loaded, base)
    contrast_base = None if manifest.base == ADAPTER_OFF else base
    extractor = Extractor(
        loaded,
        vectors=manifest.places(),
        max_tokens=manifest.max_tokens,
        contrast=bool(manifest.base),
        base=contrast_base,
    )
    return TracedModels(loaded, encoder, extractor, base, base_hash, contrast_base)


def _checked_base(
    manifest: Manifest, loaded: LoadedModel, base: LoadedModel | str | None
) -> tuple[LoadedModel | None, str]:
    """The base that is given or that the index was built with, and the hash of its weights; None and "" without.

    Raises MismatchError for one that cannot be the base, or is not the index's.
    """
    contrasted = manifest.base not in ("", ADAPTER_OFF)
    if base is None and contrasted:
        given = manifest.settings.get("base")
        settings = loaded.settings
        if settings.adapter is None:
            # A model in memory does not say where its base is; the index does.
            own = {"model": manifest.model, "adapter": manifest.adapter, "revision": _revision(manifest)}
            settings = settings.model_copy(update=own)
        _check_there("base", str(given or settings.model), "--base")
        base = load_model(base_settings(settings, None if given is None else str(given)))
    elif isinstance(base, str):
        base = load_model(base_settings(loaded.settings, base))
    if base is None:
        return None, ""
    found = weights_hash(base)
    if contrasted and found not in (manifest.base, manifest.hashes.weights):
        raise MismatchError(
            f"{base.settings.model} is not the base that the index was built with.",
            f"Expected weights {manifest.base}; these are {found}.",
            "Leave --base out, or build the index again with this one.",
        )
    if contrasted:
        check_base_settings(manifest, base)
    check_base(loaded, base, weights=manifest.hashes.weights, base_weights=found)
    return base, found


def _settings(manifest: Manifest, model: str | None, adapter: str | None, device: str | Placement) -> ModelSettings:
    """How the index's build loaded its model, with what the caller gives put in its place.

    Raises ModelError for a recorded place that is no longer there.
    """
    kept = manifest.settings
    # An adapter given as the model names its base itself.
    alone = model is not None and adapter is None and is_adapter(model)
    if model is None:
        _check_there("base" if manifest.adapter else "model", manifest.model, "--model")
    if adapter is None and not alone and manifest.adapter is not None:
        _check_there("adapter", manifest.adapter, "--adapter")
    return ModelSettings.model_validate(
        {
            "model": model or manifest.model,
            "adapter": None if alone else adapter or manifest.adapter,
            "dtype": manifest.dtype,
            **as_placement(device)._asdict(),
            "quantization": manifest.quantization,
            "revision": _revision(manifest, adapter) if model is None else None,
            "blocks": kept.get("blocks"),
            "trust_remote_code": bool(kept.get("trust_remote_code")),
        }
    )


def _revision(manifest: Manifest, adapter: str | None = None) -> str | None:
    """The revision at which the build loaded the model that the adapter sits on, or the whole model."""
    given = manifest.settings.get("revision")
    given = given if isinstance(given, str) else None
    place = adapter or manifest.adapter
    # An adapter in the place of MODEL.
    if place is not None and manifest.adapter is not None and not manifest.settings.get("adapter"):
        return base_revision(place, manifest.model, given)
    return given


def _check_there(what: str, recorded: str, option: str) -> None:
    """Raises ModelError for a recorded folder that has gone. A hub name cannot go."""
    if Path(recorded).is_absolute() and not Path(recorded).exists():
        raise ModelError(
            f"The index was built with the {what} {recorded}, which is not there any more.",
            "A trace asks the model of the index.",
            f"Give the folder where it is now with {option} (whence trace, whence eval), or move it back.",
        )


__all__ = ["TracedModels", "open_models"]
