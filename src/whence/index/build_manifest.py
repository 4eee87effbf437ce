"""What a build is, before it begins: its manifest, and sentences about it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from pydantic import JsonValue

from whence.data import Scan
from whence.index.held import forms_asked, vectors_read
from whence.index.history import DataSummary
from whence.index.manifest import Manifest, StoredVector
from whence.index.records import filter_columns
from whence.index.settings import BuildSettings
from whence.index.subject import Subject
from whence.model import fingerprint, recorded_base, settings_beside
from whence.scoring import Depths


def build_manifest(
    settings: BuildSettings,
    subject: Subject,
    found: Scan,
    layers: Sequence[int],
    choice: dict[str, JsonValue],
) -> Manifest:
    """The manifest of an index that is begun."""
    loaded, encoder = subject.loaded, subject.encoder
    forms = forms_asked(settings.methods, has_base=subject.contrast)
    depths = Depths(layers[0], loaded.n_layers)
    return Manifest(
        hashes=fingerprint(loaded, encoder.template),
        model_settings=settings_beside(loaded),
        base_settings={} if subject.base is None else settings_beside(subject.base),
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
            beside_ids=found.beside_ids,
        ),
        shard_rows=settings.shard_rows,
        max_tokens=settings.max_tokens,
        versions={name: version(name) for name in ("whence", "torch", "transformers", "pylance")},
        settings=settings.model_dump(mode="json"),
    )


def known_scan(begun: Manifest, settings: BuildSettings) -> Scan | None:
    """What the job that began the index found in these data; None where the settings name others.

    That the data are still the same is checked when the index is sealed.
    """
    data = begun.data
    if (data.source, data.columns, data.split) != (settings.data, settings.columns, settings.split):
        return None
    return Scan(
        n_rows=data.n_rows,
        n_rejected=data.n_unreadable,
        n_duplicates=data.n_duplicates,
        duplicates=(),
        content_hash=data.content_hash,
        metadata_types={column.name: column.type for column in begun.filters},
        shape=data.shape,
        beside_ids=data.beside_ids,
    )


def about_base(settings: BuildSettings, subject: Subject) -> str:
    """What the model is compared with."""
    if subject.base is not None:
        return f"Compared with {subject.base.settings.model}, the model before fine-tuning"
    if subject.contrast:
        return "Compared with the model before fine-tuning: itself, the adapter turned off"
    if not settings.contrast:
        return "Without a comparison with the base, as asked: no verdicts, and rows are ranked by rept-centred"
    named = recorded_base(settings.model)
    gone = f"The base that its run.yaml names is not there: {named}. " if named else ""
    return (
        f"{settings.model} is read as a model fine-tuned as a whole. {gone}Without the model before it (--base) there "
        "are no verdicts, and rows are ranked by rept-centred. If an adapter was trained, give its folder as MODEL"
    )


def about_data(found: Scan) -> str:
    """What a scan found."""
    duplicates = f", {found.n_duplicates} exact duplicates" if found.n_duplicates else ""
    rejected = f", {found.n_rejected} set aside" if found.n_rejected else ""
    return "; ".join([f"{found.n_rows} rows ({found.shape}){duplicates}{rejected}", *found.notes])


def described_vectors(vectors: Sequence[StoredVector]) -> str:
    """ "dm at 2, h at 30": what is read, for a person."""
    return ", ".join(f"{vector.name} at layer {vector.layer}" for vector in vectors)


__all__ = ["about_base", "about_data", "build_manifest", "described_vectors", "known_scan"]
