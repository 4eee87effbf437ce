"""Whether two builds are of the same records, and whether a model is that of an index: by their hashes and settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from whence.data import FALLBACK_TEMPLATE
from whence.errors import IndexFolderError, MismatchError
from whence.files import hash_of
from whence.index.manifest import READING, Manifest, rebuild_command
from whence.model import IN_ADAPTER, Fingerprint, LoadedModel, hash_template, other_settings, settings_beside


def differences(index: Mapping[str, JsonValue], command: Mapping[str, JsonValue]) -> list[str]:
    """One line for each name under which the two identities differ."""
    return [
        f"{name}: the index has {_short(index[name])}, this command gives {_short(command[name])}"
        for name in index
        if index[name] != command[name]
    ]


def check_model(manifest: Manifest, found: Fingerprint, beside: Mapping[str, JsonValue]) -> None:
    """Raises MismatchError, with what differs, unless the model is the one that the index was built with.

    beside: its settings beside the weights (whence.model.settings_beside).
    """
    hashes = differences(manifest.hashes.model_dump(), found.model_dump())
    lines = hashes + setting_differences(manifest.model_settings, beside)
    if lines:
        adapter = f" --adapter {manifest.adapter}" if manifest.adapter else ""
        raise MismatchError(
            "This model is not the one the index was built with:\n  "
            + "\n  ".join(line.replace("this command gives", "this model has") for line in lines),
            f"The index belongs to {manifest.model}{adapter} in {manifest.dtype}.",
            ("" if hashes else "The weights are the same: put the settings back. Else: ")
            + "Ask with that model, or index the data with this one into another folder (whence index ... -o OTHER).",
        )


def check_base_settings(manifest: Manifest, base: LoadedModel) -> None:
    """Raises MismatchError where a base with the index's weights has other settings beside them than it had."""
    lines = setting_differences(manifest.base_settings, settings_beside(base))
    if lines:
        raise MismatchError(
            f"{base.settings.model} is not as it was when the index was built:\n  "
            + "\n  ".join(line.replace("this command gives", "it has") for line in lines),
            "What fine-tuning changed is measured against the base of the index.",
            "Give that one with --base, or build the index again with this one.",
        )


def setting_differences(index: Mapping[str, JsonValue], command: Mapping[str, JsonValue]) -> list[str]:
    """A line for each setting beside the weights that both have, with other values."""
    other = other_settings(index, command)
    return [
        f"{_where(name)}: the index has {_shown(index[name], value)}, this command gives {_shown(value, index[name])}"
        for name, value in other.items()
    ]


def with_settings_of(begun: Manifest | None, manifest: Manifest) -> Manifest:
    """The manifest of a build with the settings that the index which is begun keeps, where none has another value.

    Its shards are then known by the same names, whichever version of transformers continues it.
    """
    if begun is None or begun.status == "complete" or settings_of_both(begun, manifest):
        return manifest
    return manifest.model_copy(update={name: getattr(begun, name) for name in ("model_settings", "base_settings")})


def settings_of_both(index: Manifest, command: Manifest) -> list[str]:
    """`setting_differences` of the model and of the base."""
    base = setting_differences(index.base_settings, command.base_settings)
    return [*setting_differences(index.model_settings, command.model_settings), *(f"base's {line}" for line in base)]


def _where(name: str) -> str:
    """A setting, with where it is set."""
    if name == f"{IN_ADAPTER}scale":
        return f"{name} (lora_alpha, alpha_pattern, use_rslora of adapter_config.json)"
    return f"{name} ({'adapter_config.json' if name.startswith(IN_ADAPTER) else 'config.json'})"


def _shown(value: JsonValue, other: JsonValue) -> str:
    """The value in short; of lists of one length the first that differs from the other's."""
    if isinstance(value, list) and isinstance(other, list) and len(value) == len(other):
        place = next(place for place, (one, two) in enumerate(zip(value, other, strict=True)) if one != two)
        return f"{_short(value[place])} at place {place + 1}"
    return _short(value)


def built_template(manifest: Manifest) -> str | None:
    """The chat template that was given when the index was built; None where it was the tokenizer's own.

    Where neither was there it is whence's plain one, which is then kept: this version may find a template elsewhere.
    """
    given = manifest.settings.get("template")
    if isinstance(given, str):
        return given
    return FALLBACK_TEMPLATE if manifest.hashes.template == hash_template(FALLBACK_TEMPLATE) else None


def check_reading(folder: Path, manifest: Manifest) -> None:
    """Raises IndexFolderError where this version reads some rows otherwise than the one that built the index: records
    of both would stand beside each other."""
    if manifest.reading != READING:
        raise IndexFolderError(
            f"The index {folder} was built by another version of whence, which reads some rows otherwise.",
            f"Expected reading {READING}; the index has {manifest.reading}. All rows are read in one way.",
            f"Build it again: {rebuild_command(folder, manifest.model_dump())}",
        )


def reading_note(manifest: Manifest) -> str:
    """A sentence on an index whose version read some rows otherwise than this one; "" of others."""
    if manifest.reading == READING:
        return ""
    return (
        "The index was built by another version of whence, which read some rows otherwise (conversations "
        "with several answers, lists of parts, preferences); build it again for the tokens of this one"
    )


def index_hash(manifest: Manifest) -> str:
    """Hash of the model and of the data that the index was built from; another index's ids and rankings mean nothing.

    Rows that came or went later, layers and vectors are not in it.
    """
    beside = [manifest.model_settings] if manifest.model_settings else []
    return hash_of([manifest.hashes.model_dump(), manifest.parts()[0].data.content_hash, *beside])


def n_row_changes(manifest: Manifest) -> int:
    """How often rows came or went since the index was built."""
    return sum(one.change in ("append", "delete") for one in manifest.history)


def _short(value: JsonValue) -> str:
    text = "none" if value in ("", None) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


__all__ = [
    "built_template",
    "check_base_settings",
    "check_model",
    "check_reading",
    "differences",
    "index_hash",
    "n_row_changes",
    "reading_note",
    "setting_differences",
    "settings_of_both",
    "with_settings_of",
]
