"""Which model and which adapter a user means, and where an adapter's base is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from whence.errors import ModelError
from whence.model.places import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    has_weights,
    is_adapter,
    is_hub_name,
    read_json,
    stored_file,
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model is to be read from. named_by: the adapter whose config names the base, where one does."""

    model: str
    adapter: str | None
    revision: str | None
    named_by: str | None = None


def settle(model: str, adapter: str | None, revision: str | None = None) -> Place:
    """A MODEL that is really an adapter's means: that adapter, on the base that its config names.

    Raises ModelError for a MODEL that is both an adapter and a whole model, and for a base that is not there.
    """
    path = stored_file(model, ADAPTER_CONFIG, revision)
    if path is None:
        return Place(model, adapter, revision or _named_revision(adapter, model))
    if has_weights(model, revision):
        raise ModelError(
            f"{model} holds a whole model and an adapter beside it ({ADAPTER_CONFIG}).",
            "If the adapter is merged into these weights already, it would be applied twice.",
            f"If it is merged, move {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS} out of that folder. If it is not, move them "
            "into a folder of their own and give that one with --adapter.",
        )
    if adapter is not None:
        raise ModelError(
            f"MODEL, {model}, is an adapter itself, and --adapter gives {adapter}.",
            "One adapter is read, on a whole model.",
            "Merge the first into its base (merge_and_unload) and give the merged model, or leave --adapter out.",
        )
    config = read_json(path, "an adapter's config")
    recorded = config.get("base_model_name_or_path")
    if not isinstance(recorded, str) or not recorded:
        raise ModelError(
            f"{model} holds an adapter whose config names no base model.",
            "An adapter needs the model it was trained on.",
            f"Give both: MODEL --adapter {model}, with the base as MODEL.",
        )
    base = _recorded_base(recorded, Path(model), str(model))
    try:
        nested = is_adapter(base)
    except ModelError as error:
        raise with_named_base(error, model) from error
    if nested:
        raise ModelError(
            f"The base that the adapter {model} names, {base}, is an adapter itself.",
            "One adapter is read, on a whole model.",
            f"Merge {base} into its own base (merge_and_unload), and give both: MERGED --adapter {model}.",
        )
    return Place(base, model, base_revision(model, base, revision), model)


def with_named_base(error: ModelError, adapter: str) -> ModelError:
    """The error about a base on the hub, with the adapter that names it and the way to give another place."""
    return ModelError(
        f"{error.found} (the base that the adapter {adapter} names)",
        error.expected,
        f"If the base is elsewhere, give both: MODEL --adapter {adapter}, with its folder as MODEL.",
    )


def base_revision(adapter: str, base: str, given: str | None) -> str | None:
    """The revision of an adapter's base where the adapter stands in the place of MODEL: the one that its config names.

    given: counts where the config names none, unless it is the adapter's own, which is on the hub.
    """
    return _named_revision(adapter, base) or (given if Path(adapter).is_dir() else None)


def _named_revision(adapter: str | None, base: str) -> str | None:
    """The revision of its base on the hub that an adapter's config names."""
    path = stored_file(adapter, ADAPTER_CONFIG) if adapter is not None else None
    if path is None or Path(base).exists():
        return None
    config = read_json(path, "an adapter's config")
    named = config.get("revision")
    return named if isinstance(named, str) and named and config.get("base_model_name_or_path") == base else None


def _recorded_base(recorded: str, folder: Path, adapter: str) -> str:
    """The base as an absolute folder, looked for from here and from the adapter's folder; else a hub name."""
    for start in (Path(), folder, folder.parent):
        found = start / Path(recorded).expanduser()
        if found.is_dir():
            return str(found.resolve())
    if is_hub_name(recorded) and not PureWindowsPath(recorded).drive:
        return recorded
    raise ModelError(
        f"The adapter {adapter} names the base {recorded!r}, which is not there.",
        "An adapter needs the model it was trained on.",
        f"Give both: MODEL --adapter {adapter}, with the folder of the base as MODEL.",
    )


__all__ = ["Place", "base_revision", "settle", "with_named_base"]
