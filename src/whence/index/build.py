"""`build_index`: from a model and training data to an index folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from itertools import islice
from pathlib import Path
from typing import Unpack

from whence.data import Scan, TemplateSource, scan
from whence.errors import DataError, IndexFolderError
from whence.index.add import add_vectors, missing_vectors
from whence.index.ann_summary import ANN
from whence.index.build_manifest import about_base, about_data, build_manifest, described_vectors, known_scan
from whence.index.data_parts import check_part
from whence.index.engines.choosing import Workers
from whence.index.engines.in_process import Engine, ShardWriter
from whence.index.held import depths_of, forms_asked, vectors_read
from whence.index.jobs import Job, JobState, check_versions, run_job
from whence.index.locking import locked
from whence.index.manifest import (
    ADDED,
    BACKUP,
    FINISH_LOCK,
    LOCK,
    MANIFEST,
    NEW_REJECTED,
    RECORDS,
    REFERENCES,
    REJECTED,
    RUN,
    SHARDS,
    Manifest,
    is_of_a_generation,
    read_manifest,
    refuse_others,
)
from whence.index.reopening import make_extractor
from whence.index.sameness import built_template, check_reading, reading_note, with_settings_of
from whence.index.settings import BuildSettings, IndexOptions, build_settings
from whence.index.shards import check_same, write_index_with
from whence.index.store import Index
from whence.index.stored_form import Storage
from whence.index.subject import Subject, chosen_layers, examples_to_index, open_subject, probe_turns
from whence.model import dtype_note, early_note, settle_layers
from whence.object_path import place, remove_tree
from whence.progress import Progress, counted
from whence.records import settings_of_folder
from whence.signatures import NEEDS_BASE

FOLDERS = (RECORDS, ADDED, REFERENCES, SHARDS, BACKUP, ANN)
N_SHOWN = 50
"""Rows that show how the chat template takes them."""
OURS = frozenset({MANIFEST, RUN, LOCK, FINISH_LOCK, NEW_REJECTED, *FOLDERS})
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
    workers: Workers | None = None,
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
    workers: who computes; None for this process alone.
    notify: called with a sentence at each stage.

    Raises:
        InputError: an option, the data, the model or the folder cannot be used; see its subclasses.
        NonFiniteError: a signature is NaN or infinite.
    """
    tell = notify or (lambda sentence: None)
    folder = place(out).expanduser().absolute()
    existing = _existing(folder, overwrite)
    settings = _settings(model, data, out, options, use_record, existing, tell)
    if add:
        _check_complete(folder, existing)
    _check_reading(folder, existing, tell, add=bool(add))
    settings = _as_the_index(settings, existing)
    found, seconds = _scanned(settings, existing, overwrite, progress, tell)
    prepared = _loaded(settings, tell)
    if add and existing is not None:
        return _add(settings, prepared.subject, found, existing, add, options.keys(), progress, tell)
    manifest = _described_build(settings, prepared, found, existing, seconds, progress, tell)
    if overwrite and folder.exists():
        _clear(folder)
    index = write_index_with(
        folder,
        lambda: examples_to_index(settings),
        prepared.engine(workers or Workers(), manifest),
        manifest,
        max_rejected=settings.max_rejected,
        progress=counted(progress, "indexing"),
    )
    state = "was already complete" if existing and existing.status == "complete" else "is complete"
    tell(f"The index {folder} {state}: {index.n_rows} rows, {index.n_records} records")
    return index


def build_part(
    model: str | Path,
    data: str | Path | None,
    out: str | Path,
    job: Job,
    *,
    use_record: bool = True,
    workers: Workers | None = None,
    progress: Progress | None = None,
    notify: Callable[[str], None] | None = None,
    **options: Unpack[IndexOptions],
) -> JobState:
    """One job of a build that several share: computes its shards, those that are not committed. See `build_index`.

    `finish_index` seals the index when all jobs are done.
    """
    tell = notify or (lambda sentence: None)
    existing = _existing(place(out).expanduser().absolute(), False)
    settings = _settings(model, data, out, options, use_record, existing, tell)
    if existing is not None:
        check_versions(existing)
    _check_reading(place(settings.out), existing, tell)
    settings = _as_the_index(settings, existing)
    known = known_scan(existing, settings) if existing is not None else None
    found, seconds = (known, 0.0) if known is not None else _scanned(settings, existing, False, progress, tell)
    prepared = _loaded(settings, tell)
    manifest = _described_build(settings, prepared, found, existing, seconds, progress, tell)
    return run_job(
        place(settings.out),
        examples_to_index(settings),
        prepared.engine(workers or Workers(), manifest),
        manifest,
        job,
        max_rejected=settings.max_rejected,
        progress=counted(progress, "indexing"),
    )


class _Prepared:
    """The model of a build, which is let go where others load it."""

    def __init__(self, settings: BuildSettings, subject: Subject, seconds: float) -> None:
        self.settings, self.subject, self.seconds = settings, subject, seconds

    def engine(self, workers: Workers, manifest: Manifest) -> Engine:
        out = place(self.settings.out)
        engine = workers.open(out, manifest, lambda: self._writer(out, manifest))
        if workers.elsewhere:
            del self.subject
        return engine

    def _writer(self, out: Path, manifest: Manifest) -> ShardWriter:
        extractor = make_extractor(self.settings, self.subject, manifest.vectors, contrast=self.subject.contrast)
        return ShardWriter(out, manifest, self.subject.encoder, extractor)


def _settings(
    model: str | Path,
    data: str | Path | None,
    out: str | Path,
    options: IndexOptions,
    use_record: bool,
    existing: Manifest | None,
    tell: Callable[[str], None],
) -> BuildSettings:
    begun = existing.settings | {"date": existing.read_as.date} if existing is not None else None
    taken = settings_of_folder(model, data, options, use_record=use_record, begun=begun)
    for note in taken.notes:
        tell(note)
    return build_settings(taken.model, taken.data, out, taken.options)


def _as_the_index(settings: BuildSettings, existing: Manifest | None) -> BuildSettings:
    """The settings with what an index that is there is known by: the day that its template writes, and of a complete
    one the template."""
    if existing is None:
        return settings
    update = {"date": settings.date or existing.read_as.date}
    if settings.template is None and existing.status == "complete":
        update["template"] = built_template(existing)
    return settings.model_copy(update=update)


def _scanned(
    settings: BuildSettings,
    existing: Manifest | None,
    overwrite: bool,
    progress: Progress | None,
    tell: Callable[[str], None],
) -> tuple[Scan, float]:
    """What is in the data, and the seconds that reading took."""
    started = time.monotonic()
    tell(f"Reading {settings.data}")
    found = _scan(settings, place(settings.out), existing, overwrite, progress)
    tell(about_data(found))
    return found, round(time.monotonic() - started, 3)


def _loaded(settings: BuildSettings, tell: Callable[[str], None]) -> _Prepared:
    started = time.monotonic()
    tell(f"Loading {settings.model}")
    subject = open_subject(settings, notify=tell)
    if note := dtype_note(subject.loaded):
        tell(note)
    tell(f"Chat template: {TEMPLATE_SOURCES[subject.encoder.template_source]}")
    for note in subject.encoder.about(islice(examples_to_index(settings), N_SHOWN)):
        tell(note)
    return _Prepared(settings, subject, time.monotonic() - started)


def _described_build(
    settings: BuildSettings,
    prepared: _Prepared,
    found: Scan,
    existing: Manifest | None,
    scan_seconds: float,
    progress: Progress | None,
    tell: Callable[[str], None],
) -> Manifest:
    """The manifest of what is to be built."""
    subject, started = prepared.subject, time.monotonic()
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
    manifest = build_manifest(settings, subject, found, layers, choice)
    tell(f"Storing {described_vectors(manifest.vectors)}, of {subject.loaded.n_layers} layers")
    tell(about_base(settings, subject))
    load = round(prepared.seconds + time.monotonic() - started, 3)
    return with_settings_of(existing, manifest.model_copy(update={"timings": {"scan": scan_seconds, "load": load}}))


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
    folder = place(settings.out)
    # How vectors are stored is the index's own matter, unless the command says it.
    kept = {name: getattr(existing, name) for name in ("precision", "dimensions") if name not in given}
    same = build_manifest(settings, subject, found, (existing.layer,), existing.layer_choice).model_copy(update=kept)
    if existing.rows_changed:
        _check_parts(existing, found)
        kept_rows = {"data": existing.data, "filters": existing.filters, "history": existing.history}
        same = same.model_copy(update=kept_rows)
    check_same(folder, existing, same.model_copy(update={"vectors": existing.vectors}), change_ok=True)
    forms = forms_asked(methods, has_base=bool(existing.base))
    if forms[0].name not in methods:
        del forms[0]
    whole_at = settle_layers(settings.requests, existing.n_layers, lambda: existing.layer) if "layers" in given else ()
    hidden_size, storage = subject.loaded.hidden_size, Storage(existing.precision, existing.dimensions)
    read = vectors_read(forms, depths_of(existing), whole_at=whole_at, hidden_size=hidden_size, storage=storage)
    missing = missing_vectors(existing, read)
    if not missing:
        tell(f"The index {folder} holds all that {', '.join(methods)} reads")
        return Index.open(folder)
    tell(f"Adding {described_vectors(missing)}")
    contrast = bool(existing.base) and any(vector.name in (*NEEDS_BASE, "eh") for vector in missing)
    extractor = make_extractor(settings, subject, missing, contrast=contrast)
    index = add_vectors(
        folder,
        subject.encoder,
        extractor,
        existing,
        read,
        methods=methods,
        layers=whole_at,
        progress=counted(progress, "indexing"),
    )
    tell(f"The index {folder} is complete: {index.n_rows} rows, {index.n_records} records")
    return index


def _check_parts(existing: Manifest, found: Scan) -> None:
    """Raises DataError unless DATA are those of the build, and those of every append are still there."""
    first, *appended = existing.parts()
    if not first.data.has_content(found.content_hash, found.beside_ids):
        raise DataError(
            f"These data are not those that the index was built from: {found.content_hash}.",
            f"Expected the content of {first.data.source}, {first.data.content_hash}.",
            f"Give {first.data.source} as DATA; appended rows are read from where they were.",
        )
    for part in appended:
        check_part(part)


def _check_complete(folder: Path, existing: Manifest | None) -> None:
    if existing is None or existing.status != "complete":
        raise IndexFolderError(
            f"There is no complete index at {folder} to add to.",
            "Vectors are added to an index that is complete.",
            "Build it with --methods in place of --add.",
        )


def _check_reading(folder: Path, existing: Manifest | None, tell: Callable[[str], None], *, add: bool = False) -> None:
    """Raises IndexFolderError where records would join others that were read otherwise; of a complete index says so."""
    if existing is None:
        return
    if add or existing.status != "complete":
        check_reading(folder, existing)
    elif note := reading_note(existing):
        tell(note)


def _existing(folder: Path, overwrite: bool) -> Manifest | None:
    """The index that is there already; with overwrite only a check that nothing else is lost."""
    if not overwrite:
        return read_manifest(folder)
    if folder.is_dir():
        refuse_others(folder, _is_ours)
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


def _is_ours(name: str) -> bool:
    return name in OURS or is_of_a_generation(name)


def _clear(folder: Path) -> None:
    """Removes the index that is replaced, and nothing else."""
    with locked(folder):
        refuse_others(folder, _is_ours)
        for name in FOLDERS:
            remove_tree(folder / name)
        for path in list(folder.iterdir()):
            if path.name == RUN or is_of_a_generation(path.name):
                path.unlink()
        if (folder / NEW_REJECTED).exists():
            (folder / NEW_REJECTED).replace(folder / REJECTED)
        # The manifest goes last: without it a folder with any of the others is taken for something else.
        (folder / MANIFEST).unlink(missing_ok=True)


__all__ = ["BuildSettings", "build_index", "build_part", "probe_turns"]
