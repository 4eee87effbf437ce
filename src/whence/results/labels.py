"""What of a row's metadata is shown where texts of rows are left out."""

from __future__ import annotations

from collections.abc import Mapping

from whence.data import TRAINER_COLUMNS, Json

LONGEST_LABEL = 80
"""Characters of a label, a source, a date; a longer value is a text."""


def labels_of(metadata: Mapping[str, Json]) -> dict[str, Json]:
    """The metadata without texts: columns that some trainer reads, lists, objects and long values."""
    return {
        name: value
        for name, value in metadata.items()
        if name.strip().casefold() not in TRAINER_COLUMNS
        and not isinstance(value, list | dict)
        and not (isinstance(value, str) and len(value) > LONGEST_LABEL)
    }


__all__ = ["labels_of"]
