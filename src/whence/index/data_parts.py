"""The rows that an index has now, read from their data: those that it was built from and those that were appended."""

from __future__ import annotations

from collections.abc import Iterator

from whence.data import Example, read_examples, scan
from whence.errors import DataError
from whence.index.history import DataPart, described_content
from whence.index.manifest import Manifest


def examples_of(part: DataPart) -> Iterator[Example]:
    """The usable rows of a part of the data, deleted ones included, in the order of their numbers."""
    return read_examples(part.data.source, columns=part.data.columns, split=part.data.split)


def check_part(part: DataPart) -> None:
    """Raises DataError where the data of a part are not those that its rows came from."""
    data = part.data
    found = scan(data.source, columns=data.columns, split=data.split, max_rejected=1.0)
    if not data.has_content(found.content_hash, found.beside_ids):
        raise DataError(
            f"The data at {data.source} are not those that the index was built from: "
            f"{described_content(found.content_hash, found.beside_ids)}.",
            f"Expected content {described_content(data.content_hash, data.beside_ids)}.",
            "Bring them back, or build the index again with --overwrite.",
        )


def present_rows(manifest: Manifest) -> Iterator[Example]:
    """The rows of an index without those that were deleted. Raises DataError where the data have changed."""
    gone = set(manifest.deleted_rows().tolist())
    for part in manifest.parts():
        check_part(part)
        for i, example in enumerate(examples_of(part)):
            if part.first_row + i not in gone:
                yield example


__all__ = ["check_part", "examples_of", "present_rows"]
