"""`whence clean --undo`: the rows of a manifest put back where they were."""

from __future__ import annotations

import glob
from pathlib import Path

from whence.cleaning import tables, text
from whence.cleaning.manifest import CleanedFile, CleanManifest, read_clean_manifest
from whence.cleaning.outputs import content_hash, copy_file, copy_splits, new_output, refuse_existing
from whence.errors import DataError, InputError


def undo_clean(manifest: str | Path, out: str | Path | None = None) -> Path:
    """Puts the rows of a manifest back: the source as it was, in the new `out` (None: where the source was).

    Text comes back byte for byte (of .gz, the unpacked text); a table with equal rows under its schema.

    Raises InputError: `out` is there already, or the source was a pattern and there is no `out`; DataError: no
        manifest, an output that has changed since, or tables with fewer rows than the source had.
    """
    record = read_clean_manifest(Path(manifest))
    if out is None and glob.has_magic(record.source) and not Path(record.source).exists():
        raise InputError(
            f"The data were {record.source}, several files of a pattern.",
            "They are put back into one new folder.",
            "Name it with -o FOLDER.",
        )
    target = Path(out) if out is not None else Path(record.source)
    refuse_existing(target)
    root = Path(record.output)
    for file in record.files:
        _check_hash(Path(file.output), file)
    with new_output(target) as partial:
        for file in record.files:
            _restored(file, partial / Path(file.output).relative_to(root))
        _check_rows(record, partial, root)
        copy_splits(root, partial, of_folders=False)
        for name in record.copied:
            if (root / name).is_file():
                copy_file(root / name, partial / name)
    return target


def _restored(file: CleanedFile, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    output = Path(file.output)
    if file.kind != "text":
        lines, replaced = [row.line for row in file.rows], [row.replacement is not None for row in file.rows]
        edits = tables.restoration(lines, replaced, tables.unpack(file.arrow)) if file.arrow else []
        tables.write_spliced(output, place, edits)
        return
    made = [text.Edit(row.start or 0, row.text.encode(), (row.replacement or "").encode()) for row in file.rows]
    with text.open_text(output) as source, text.create_text(place) as out:
        text.apply_edits(source, out, text.inverse(made))
    if content_hash(place) != file.source_hash:
        raise DataError(
            f"What was put back for {file.source} is not what was there.",
            f"Expected SHA-256 {file.source_hash}.",
            "The manifest has been changed since; restore it from a copy.",
        )


def _check_hash(path: Path, file: CleanedFile) -> None:
    found = content_hash(path) if path.exists() else "no such file"
    if found != file.output_hash:
        raise DataError(
            f"{path} is not the file that was written: {found[:16]}.",
            f"Expected SHA-256 {file.output_hash[:16]}.",
            "Undo works on the cleaned data as they were left; bring those back first.",
        )


def _check_rows(record: CleanManifest, restored: Path, root: Path) -> None:
    """Raises DataError for tables with fewer rows than the source had that could be used."""
    if any(file.kind == "text" for file in record.files):
        return
    outputs = [Path(file.output) for file in record.files]
    found = sum(tables.count_rows(restored / output.relative_to(root), output) for output in outputs)
    if found < record.n_rows:
        raise DataError(
            f"What was put back for {record.source} has {found} rows.",
            f"Expected at least {record.n_rows}, the usable rows that were read.",
            "Rows were lost when the data were cleaned; take the source itself.",
        )
