"""`build_index`: from a model and training data to an index folder."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Unpack

from pydantic import JsonValue

from whence.data import Scan, TemplateSource, scan
from whence.errors import IndexFolderError
from whence.index.add import add_vectors, missing_vectors
from whence.index.held import depths_of, forms_asked, vectors_read
from whence.index.manifest import (
    ADDED,
    CENTRES,
    LOCK,
    MANIFEST,
    NEW_REJECTED,
    RECORDS,
    REFERENCES,
    REJECTED,
    RUN,
    TEMPORARY,
    DataSummary,
    Manifest,
    StoredVector,
    read_manifest,
    refuse_others,
)
from whence.index.records import filter_columns
from whence.index.settings import BuildSettings, IndexOptions, build_settings
from whence.index.shards import check_same, locked, write_index
from whence.index.store import Index
from whence.index.stored_form import Storage
from whence.index.subject import Subject, chosen_layers, examples_to_index, open_subject, probe_turns
from whence.model import early_note, fingerprint, settle_layers
from whence.progress import Progress, counted
from whence.records import settings_of_folder
from whence.scoring import Depths
from whence.signatures import NEEDS_BASE, Extractor

OURS = frozenset({MANIFEST, RUN, REJECTED, RECORDS, ADDED, CENTRES, REFERENCES, LOCK, TEMPORARY, NEW_REJECTED})
TEMPLATE_SOURCES: dict[TemplateSource, str] = {
    "tokenizer": "the tokenizer's own",
    "fallback": "the tokenizer has none; whence's plain one is used",
    "given": "the given one",
}


def build_index(
    model: str | Path,
    data: str | Path | None,
    out: str | Path,
    *,
    add: Sequence[str] = (),
    overwrite: bool = False,
    use_record: bool = True,
    progress: Progress | None = None,
    notify: Callable[[str], None] | None = None,
    **options: Unpack[IndexOptions],
) -> Index:
    """Builds an index of the training data's signatures, continues an unfinished one, or opens a complete one.

    model, data, out, options: see BuildSettings; unknown options are refused. data None: what the model's folder says
        it was trained on (whence.yaml of `whence.TrainingRecord`, or another trainer's files; docs/trainers.md), from
        where options that are not given are taken too.
    use_record: False leaves those files aside.
    add: methods that the complete index in `out` must be able to answer from now on; only the vectors that it lacks are
        computed. The other options are those it was built with; `layers`, if given, are layers at which the methods
        read all their vectors.
    overwrite: replace the index in `out`, once model and data have proven usable.
    notify: called with a sentence at each stage.

    Raises:
        InputError: an option, the data, the model or the folder cannot be used; see its subclasses.
        NonFiniteError: a signature is NaN or infinite.
    """
    tell = notify or (lambda sentence: None)
    taken = settings_of_folder(model, data, options, use_record=use_record)
    settings = build_settings(taken.model, taken.data, out, taken.options)
    folder = Path(settings.out)
    for note in taken.notes:
        tell(note)
    existing = _existing(folder, overwrite)
    if add:
        _check_complete(folder, existing)
    timings: dict[str, float] = {}

    started = time.monotonic()
    tell(f"Reading {settings.data}")
    found = _scan(settings, folder, existing, overwrite, progress)
    timings["scan"] = round(time.monotonic() - started, 3)
    tell(_about_data(found))

    started = time.monotonic()
    tell(f"Loading {settings.model}")
    subject = open_subject(settings, notify=tell)
    tell(f"Chat template: {TEMPLATE_SOURCES[subject.encoder.template_source]}")
    if add and existing is not None:
        return _add(settings, subject, found, existing, add, options.keys(), progress, tell)
    layers, choice = chosen_layers(
        settings,
        subject,
        found.n_rows,
        known=existing.layer_choice.get("auto") if existing else None,
        progress=counted(progress, "choosing the layer"),
    )
    if isinstance(evidence := choice.get("auto"), dict):
        note = early_note(int(str(evidence["layer"])), subject.loaded.n_layers)
        if note:
            tell(note)
    manifest = _manifest(settings, subject, found, layers, choice)
    tell(f"Storing {_described(manifest.vectors)}, of {subject.loaded.n_layers} layers")
    tell(_about_base(settings, subject))
    timings["load"] = round(time.monotonic() - started, 3)
    manifest = manifest.model_copy(update={"timings": timings})

    if overwrite and folder.exists():
        _clear(folder)
    index = write_index(
        folder,
        lambda: examples_to_index(settings),
        subject.encoder,
        _extractor(settings, subject, manifest.vectors, contrast=subject.contrast),
        manifest,
        max_rejected=settings.max_rejected,
        progress=counted(progress, "indexing"),
    )
    state = "was already complete" if existing and existing.status == "complete" else "is complete"
    tell(f"The index {folder} {state}: {index.n_rows} rows, {index.n_records} records")
    return index


def _add(
    settings: BuildSettings,
    subject: Subject,
    found: Scan,
    existing: Manifest,
    methods: Sequence[str],
    given: Collection[str],
    progress: Progress | None,
    tell: Callable[[str], None],
) -> Index:
    """The index with what the methods read besides."""
    folder = Path(settings.out)
    # How vectors are stored is the index's own matter, unless the command says it.
    kept = {name: getattr(existing, name) for name in ("precision", "dimensions") if name not in given}
    same = _manifest(settings, subject, found, (existing.layer,), existing.layer_choice).model_copy(update=kept)
    check_same(folder, existing, same.model_copy(update={"vectors": existing.vectors}))
    forms = forms_asked(methods, has_base=bool(existing.base))[1:] or forms_asked((), has_base=bool(existing.base))
    whole_at = settle_layers(settings.requests, existing.n_layers, lambda: existing.layer) if "layers" in given else ()
    hidden_size, storage = subject.loaded.hidden_size, Storage(existing.precision, existing.dimensions)
    read = vectors_read(forms, depths_of(existing), whole_at=whole_at, hidden_size=hidden_size, storage=storage)
    wanted = existing.model_copy(
        update={
            "vectors": _joined(existing.vectors, read),
            "methods": tuple(dict.fromkeys([*existing.methods, *methods])),
        }
    )
    missing = missing_vectors(existing, wanted)
    if not missing:
        tell(f"The index {folder} holds all that {', '.join(methods)} reads")
        return Index.open(folder)
    tell(f"Adding {_described(missing)}")
    contrast = bool(existing.base) and any(vector.name in (*NEEDS_BASE, "eh") for vector in missing)
    extractor = _extractor(settings, subject, missing, contrast=contrast)
    index = add_vectors(
        folder,
        lambda: examples_to_index(settings),
        subject.encoder,
        extractor,
        wanted,
        progress=counted(progress, "indexing"),
    )
    tell(f"The index {folder} is complete: {index.n_rows} rows, {index.n_records} records")
    return index


def _extractor(
    settings: BuildSettings, subject: Subject, vectors: Sequence[StoredVector], *, contrast: bool
) -> Extractor:
    return Extractor(
        subject.loaded,
        vectors=[vector.place for vector in vectors],
        max_tokens=settings.max_tokens,
        contrast=contrast,
        base=subject.base if contrast else None,
    )


def _joined(held: Sequence[StoredVector], added: Sequence[StoredVector]) -> tuple[StoredVector, ...]:
    """Both, each once; those that are there keep their places."""
    return tuple(dict.fromkeys([*held, *added]))


def _described(vectors: Sequence[StoredVector]) -> str:
    """ "dm at 2, h at 30": what is read, for a person."""
    return ", ".join(f"{vector.name} at layer {vector.layer}" for vector in vectors)


def _check_complete(folder: Path, existing: Manifest | None) -> None:
    if existing is None or existing.status != "complete":
        raise IndexFolderError(
            f"There is no complete index at {folder} to add to.",
            "Vectors are added to an index that is complete.",
            "Build it with --methods in place of --add.",
        )


def _existing(folder: Path, overwrite: bool) -> Manifest | None:
    """The index that is there already; with overwrite only a check that nothing else is lost."""
    if not overwrite:
        return read_manifest(folder)
    if folder.is_dir():
        refuse_others(folder, OURS)
    elif folder.exists():
        raise IndexFolderError(f"{folder} is a file.", "An index is a folder.", "Give another path with -o.")
    return None


def _scan(
    settings: BuildSettings,
    folder: Path,
    existing: Manifest | None,
    overwrite: bool,
    progress: Progress | None,
) -> Scan:
    """An index that is there keeps its rejected.jsonl: equal data has equal rejects, and other data is refused."""
    rejects = None if existing else folder / (NEW_REJECTED if overwrite and folder.exists() else REJECTED)
    return scan(
        settings.data,
        columns=settings.columns,
        split=settings.split,
        max_rejected=settings.max_rejected,
        rejects_path=rejects,
        progress=progress,
    )


def _clear(folder: Path) -> None:
    """Removes the index that is replaced, and nothing else."""
    with locked(folder):
        refuse_others(folder, OURS)
        for name in (RECORDS, ADDED, REFERENCES):
            shutil.rmtree(folder / name, ignore_errors=True)
        for name in (RUN, REJECTED, CENTRES, TEMPORARY):
            (folder / name).unlink(missing_ok=True)
        if (folder / NEW_REJECTED).exists():
            os.replace(folder / NEW_REJECTED, folder / REJECTED)
        # The manifest goes last: without it a folder with any of the others is taken for something else.
        (folder / MANIFEST).unlink(missing_ok=True)


def _manifest(
    settings: BuildSettings,
    subject: Subject,
    found: Scan,
    layers: Sequence[int],
    choice: dict[str, JsonValue],
) -> Manifest:
    loaded, encoder = subject.loaded, subject.encoder
    forms = forms_asked(settings.methods, has_base=subject.contrast)
    depths = Depths(layers[0], loaded.n_layers)
    return Manifest(
        hashes=fingerprint(loaded, encoder.template),
        model=loaded.settings.model,
        adapter=loaded.settings.adapter,
        dtype=str(loaded.dtype).removeprefix("torch."),
        quantization=settings.quantization,
        n_layers=loaded.n_layers,
        layer=layers[0],
        layer_choice=choice,
        max_length=encoder.max_length,
        rows=encoder.rows,
        vectors=vectors_read(
            forms, depths, whole_at=layers[1:], hidden_size=loaded.hidden_size, storage=settings.storage
        ),
        precision=settings.precision,
        dimensions=settings.dimensions,
        methods=settings.methods,
        base=subject.base_identity(),
        filters=filter_columns(found.metadata_types, loaded.n_layers),
        data=DataSummary(
            source=settings.data,
            columns=settings.columns,
            split=settings.split,
            shape=found.shape,
            content_hash=found.content_hash,
            n_rows=found.n_rows,
            n_unreadable=found.n_rejected,
            n_duplicates=found.n_duplicates,
        ),
        shard_rows=settings.shard_rows,
        max_tokens=settings.max_tokens,
        versions={name: version(name) for name in ("whence", "torch", "transformers", "pylance")},
        settings=settings.model_dump(mode="json"),
    )


def _about_base(settings: BuildSettings, subject: Subject) -> str:
    if subject.base is not None:
        return f"Compared with {subject.base.settings.model}, the model before fine-tuning"
    if subject.contrast:
        return "Compared with the model before fine-tuning: itself, the adapter turned off"
    why = "give the model before fine-tuning with --base to have it" if settings.contrast else "as asked"
    return f"Without a comparison to the base ({why}): the default method is rept-centred"


def _about_data(found: Scan) -> str:
    duplicates = f", {found.n_duplicates} exact duplicates" if found.n_duplicates else ""
    rejected = f", {found.n_rejected} set aside" if found.n_rejected else ""
    return "; ".join([f"{found.n_rows} rows ({found.shape}){duplicates}{rejected}", *found.notes])


__all__ = ["BuildSettings", "build_index", "probe_turns"]
