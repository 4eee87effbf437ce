"""Which score forms an index can answer, at which layers; and what is said about those that it cannot."""

from __future__ import annotations

from collections.abc import Sequence

from whence.errors import InputError, MismatchError
from whence.index.manifest import Manifest, StoredVector
from whence.index.stored_form import Storage
from whence.scoring import METHOD_WITHOUT_BASE, SCORES, Depths, FormLayers, ScoreForm, default_method, score_form
from whence.signatures import NEEDS_BASE, SKETCH_DIM, VECTORS


def depths_of(manifest: Manifest) -> Depths:
    """What a form's rules of depth are resolved against for this index."""
    return Depths(manifest.layer, manifest.n_layers)


def holds(form: ScoreForm, layers: FormLayers, manifest: Manifest) -> bool:
    """Whether every vector that the form reads at these layers is stored, and the gains where it weighs by them."""
    stored = set(manifest.places())
    return all(place in stored for place in form.vectors(layers)) and not (
        form.by_learned_fraction and not manifest.base
    )


def default_layers(form: ScoreForm, manifest: Manifest) -> FormLayers:
    """The layers that a form reads unless told otherwise: those of its rules of depth."""
    return form.layers(depths_of(manifest))


def held_layers(form: ScoreForm, manifest: Manifest) -> FormLayers | None:
    """Layers at which the index can answer this form: its own, else the deepest that holds all it reads; or None.

    For comparisons beside a ranking, which serve as well at another layer; a ranking takes the layers that it was asked
    for, or is refused.
    """
    own = default_layers(form, manifest)
    if holds(form, own, manifest):
        return own
    return next(
        (form.all_at(layer) for layer in reversed(manifest.layers) if holds(form, form.all_at(layer), manifest)), None
    )


def default_form(manifest: Manifest, layer: int | None = None) -> ScoreForm:
    """The default form for this index; where all of it is read at `layer`, one whose vectors are stored there."""
    form, other = default_method(has_base=bool(manifest.base)), SCORES[METHOD_WITHOUT_BASE]
    if layer is None or holds(form, form.all_at(layer), manifest):
        return form
    return other if holds(other, other.all_at(layer), manifest) else form


def check_held(form: ScoreForm, layers: FormLayers, manifest: Manifest) -> None:
    """Raises MismatchError, with the command that adds what is missing, unless `holds`."""
    stored = set(manifest.places())
    missing = [place for place in form.vectors(layers) if place not in stored]
    if missing:
        raise _not_stored(manifest, form, layers, *missing[0])
    if form.by_learned_fraction and not manifest.base:
        raise MismatchError(
            f"{form.name} weights rows by their learned fraction; this index was built without a base.",
            "A model with an adapter is its own base; a fully fine-tuned one needs --base.",
            "Build the index again with --base MODEL.",
        )


def _not_stored(manifest: Manifest, form: ScoreForm, layers: FormLayers, layer: int, vector: str) -> MismatchError:
    if vector in NEEDS_BASE and not manifest.base:
        return MismatchError(
            f"{form.name} compares with the model before fine-tuning; this index was built without one.",
            "A model with an adapter is its own base; a fully fine-tuned one needs --base.",
            "Build the index again with --base MODEL, or ask with --method rept-centred.",
        )
    at = ", ".join(str(at) for at, name in manifest.places() if name == vector)
    where = f"the index has it at {at}" if at else "the index does not hold it"
    flag = "" if layers == default_layers(form, manifest) else f" --layer {layer}"
    return MismatchError(
        f"{form.name} reads {vector} at layer {layer}; {where}.",
        "An index holds what the methods read that it was built for.",
        f"Add it: the command that built the index, with --add {form.name}{flag}; or ask with another --method.",
    )


def vectors_read(
    forms: Sequence[ScoreForm],
    depths: Depths,
    *,
    whole_at: Sequence[int] = (),
    hidden_size: int,
    storage: Storage | None = None,
) -> tuple[StoredVector, ...]:
    """Exactly what the forms read, once each: at their own layers, and whole at every layer of `whole_at`.

    storage: how they are stored; left out, all dimensions in float16.
    """
    places = {
        place
        for form in forms
        for layers in (form.layers(depths), *(form.all_at(layer) for layer in whole_at))
        for place in form.vectors(layers)
    }
    return tuple(
        (storage or Storage()).vector(name, layer, SKETCH_DIM if name == "eh" else hidden_size)
        for layer, name in sorted(places, key=lambda place: (place[0], VECTORS.index(place[1])))
    )


def forms_asked(methods: Sequence[str], *, has_base: bool) -> list[ScoreForm]:
    """The default form, and the methods. Raises InputError for an unknown one, or one that needs a base without it."""
    forms = [score_form(name) for name in methods]
    lacking = [form.name for form in forms if not has_base and (form.needs_base or form.by_learned_fraction)]
    if lacking:
        raise InputError(
            f"{lacking[0]} compares with the model before fine-tuning, which is not known.",
            "A model with an adapter is its own base; a fully fine-tuned one needs --base.",
            "Give --base MODEL, or leave the method out.",
        )
    return list(dict.fromkeys([default_method(has_base=has_base), *forms]))


__all__ = [
    "check_held",
    "default_form",
    "default_layers",
    "depths_of",
    "forms_asked",
    "held_layers",
    "holds",
    "vectors_read",
]
