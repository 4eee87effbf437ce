"""What of a row's metadata is shown where texts of rows are left out."""

from __future__ import annotations

from collections.abc import Mapping

from whence.data import TRAINER_COLUMNS, Json

LABEL_COLUMNS = ("label", "source")
"""Columns whose short texts name a kind of row or where it is from; one of another may repeat what the row says."""
LONGEST_LABEL = 80
"""Characters of a label or a source; a longer value is a text."""


def labels_of(metadata: Mapping[str, Json]) -> dict[str, Json]:
    """The metadata without texts: labels, sources, numbers and truth values, of columns that no trainer reads."""
    return {name: value for name, value in metadata.items() if _is_label(name.strip().casefold(), value)}


def _is_label(name: str, value: Json) -> bool:
    if isinstance(value, str):
        return name in LABEL_COLUMNS and len(value) <= LONGEST_LABEL
    return not isinstance(value, list | dict) and name not in TRAINER_COLUMNS


__all__ = ["labels_of"]
