"""The model of an index that is there, loaded again as it was when the index was built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from whence.errors import InputError, MismatchError
from whence.index.engines.local import EncodesExamples, ExtractsSignatures
from whence.index.manifest import Manifest, StoredVector
from whence.index.sameness import built_template, check_base_settings, check_model
from whence.index.settings import BuildSettings, build_settings
from whence.index.subject import Subject, open_subject
from whence.model import Placement, as_placement, fingerprint, settings_beside
from whence.signatures import Extractor


class Workbench(NamedTuple):
    """What computes the records of an index."""

    encoder: EncodesExamples
    extractor: ExtractsSignatures


OpenWorkbench = Callable[[Manifest], Workbench]
"""Called with the index's manifest when it is known that something must be computed; see `reopen`."""


def reopen(
    manifest: Manifest,
    *,
    model: str | None = None,
    adapter: str | None = None,
    base: str | None = None,
    device: str | Placement = "auto",
    notify: Callable[[str], None] | None = None,
) -> Workbench:
    """Loads the model, base and encoder that the index was built with. model, adapter, base: where they have moved to.

    Raises:
        ModelError: they cannot be loaded.
        MismatchError: they are not those that the index was built with.
    """
    settings = reopened_settings(manifest, model=model, adapter=adapter, base=base, device=device)
    if notify is not None:
        notify(f"Loading {settings.model}")
    subject = open_subject(settings, notify=notify)
    loaded = subject.loaded
    check_model(manifest, fingerprint(loaded, subject.encoder.template), settings_beside(loaded))
    if manifest.base and subject.base_identity() != manifest.base:
        raise MismatchError(
            "The model before fine-tuning is not the one that the index was built with.",
            f"The index has {manifest.base}, this is {subject.base_identity() or 'none'}.",
            "Give its place with --base.",
        )
    if subject.base is not None:
        check_base_settings(manifest, subject.base)
    return Workbench(subject.encoder, make_extractor(settings, subject, manifest.vectors, contrast=bool(manifest.base)))


def reopened_settings(
    manifest: Manifest,
    *,
    model: str | None = None,
    adapter: str | None = None,
    base: str | None = None,
    device: str | Placement = "auto",
) -> BuildSettings:
    """The settings of the build, with the places where things are now."""
    known = dict(manifest.settings)
    if not {"model", "data", "out"} <= set(known):
        raise InputError(
            "The index does not say how it was built.", "Its manifest has the settings of `whence index`.", ""
        )
    places = {"model": model, "adapter": adapter, "base": base}
    known |= {name: place for name, place in places.items() if place is not None}
    # The values depend on the number format, which "auto" takes by the device.
    known |= {"dtype": manifest.dtype, **as_placement(device)._asdict(), "max_length": manifest.max_length}
    known |= {"date": manifest.read_as.date, "template": built_template(manifest)}
    return build_settings(str(known.pop("model")), str(known.pop("data")), str(known.pop("out")), known)


def make_extractor(
    settings: BuildSettings, subject: Subject, vectors: Sequence[StoredVector], *, contrast: bool
) -> Extractor:
    """What reads these vectors of the model."""
    return Extractor(
        subject.loaded,
        vectors=[vector.place for vector in vectors],
        max_tokens=settings.max_tokens,
        contrast=contrast,
        base=subject.base if contrast else None,
    )


__all__ = ["OpenWorkbench", "Workbench", "make_extractor", "reopen", "reopened_settings"]
