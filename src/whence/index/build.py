"""`build_index`: from a model and training data to an index folder."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field, JsonValue, ValidationError

from whence.data.encoding import Encoder
from whence.data.examples import EncodedTurn, Example
from whence.data.readers import read_examples
from whence.data.scan import Scan, scan
from whence.data.templates import TemplateSource
from whence.errors import EncodingError, IndexFolderError, InputError, ModelError
from whence.index.manifest import (
    ADAPTER_OFF,
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
    read_manifest,
    refuse_others,
)
from whence.index.records import filter_columns
from whence.index.shards import Progress, locked, write_index
from whence.index.store import Index
from whence.model.before import check_base, has_before, named_base, weights_hash
from whence.model.fingerprint import fingerprint
from whence.model.layers import choose_layer_from, probe_similarities
from whence.model.loading import LoadedModel, ModelSettings, load_model
from whence.signatures.extract import Extractor
from whence.signatures.sketch import SKETCH_DIM
from whence.signatures.types import CONTRASTS, VECTORS

LayerRequest = int | Literal["auto", "last"]
OURS = frozenset({MANIFEST, RUN, REJECTED, RECORDS, CENTRES, REFERENCES, LOCK, TEMPORARY, NEW_REJECTED})
TEMPLATE_SOURCES: dict[TemplateSource, str] = {
    "tokenizer": "the tokenizer's own",
    "fallback": "the tokenizer has none; whence's plain one is used",
    "given": "the given one",
}


class BuildSettings(ModelSettings):
    """Everything that `build_index` can be told; run.yaml holds it. See ModelSettings for the model's part.

    data: a file, folder, glob or data set, as `read_examples` takes it; columns and split go with it.
    layers: "auto" (the rule, see whence.model.layers), "last", a number, or a list of these. Methods that read one
        layer read the first.
    contrast: also store what fine-tuning taught, which the default method reads; costs one more forward pass.
    base: the model before fine-tuning, a folder or hub name; not needed with an adapter, which is turned off. Left out,
        the one that the model's run.yaml names. A model that has neither is indexed without.
    template: Jinja text of a chat template; None takes the tokenizer's own.
    max_length: most tokens of a prompt and its response together.
    max_rejected: share of the rows that may be set aside, in [0, 1].
    shard_rows: rows computed between two commits. max_tokens: padded tokens in one batch.
    n_probes, seed: rows that the layer rule looks at, and how they are drawn.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str
    out: str
    layers: LayerRequest | tuple[LayerRequest, ...] = ("auto", "last")
    contrast: bool = True
    base: str | None = None
    columns: dict[str, str] | None = None
    split: str | None = None
    template: str | None = None
    max_length: int = Field(default=1024, ge=4)
    max_rejected: float = Field(default=0.05, ge=0, le=1)
    shard_rows: int = Field(default=1024, ge=1)
    max_tokens: int = Field(default=2048, ge=1)
    n_probes: int = Field(default=128, ge=1)
    seed: int = 0

    @property
    def model_settings(self) -> ModelSettings:
        """The part that loads the model."""
        return ModelSettings(**self.model_dump(include=set(ModelSettings.model_fields)))


def build_index(
    model: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    preparing: Callable[[str, int, int | None], None] | None = None,
    notify: Callable[[str], None] | None = None,
    **options: object,
) -> Index:
    """Builds an index of the training data's signatures, continues an unfinished one, or opens a complete one.

    model, data, out, options: see BuildSettings; unknown options are refused.
    overwrite: replace the index in `out`, once model and data have proven usable.
    progress: called with (rows done, rows in all). preparing: called before that, with (name of the stage, rows done,
        rows in all where that is known). notify: called with a sentence at each stage.

    Raises:
        InputError: an option, the data, the model or the folder cannot be used; see its subclasses.
        NonFiniteError: a signature is NaN or infinite.
    """
    places = {"model": _absolute(model), "data": _absolute(data), "out": str(Path(out).expanduser().absolute())}
    if options.get("base") is None and options.get("adapter") is None:
        options = options | {"base": named_base(places["model"])}
    for name in ("adapter", "base"):
        if options.get(name) is not None:
            places[name] = _absolute(str(options[name]))
    settings = _settings(options | places)
    folder, tell = Path(settings.out), notify or (lambda sentence: None)
    existing = _existing(folder, overwrite)
    timings: dict[str, float] = {}

    started = time.monotonic()
    tell(f"Reading {settings.data}")
    watch = preparing or (lambda stage, done, total: None)
    found = _scan(settings, folder, existing, overwrite, lambda done: watch("reading", done, None))
    timings["scan"] = round(time.monotonic() - started, 3)
    tell(_about_data(found))

    started = time.monotonic()
    tell(f"Loading {settings.model}")
    loaded = load_model(settings.model_settings)
    limit = min(settings.max_length, loaded.max_length or settings.max_length)
    encoder = Encoder(loaded.tokenizer, template=settings.template, max_length=limit)
    layers, choice = _layers(
        settings, loaded, encoder, found, existing, lambda done, total: watch("choosing the layer", done, total)
    )
    tell(f"Chat template: {TEMPLATE_SOURCES[encoder.template_source]}")
    tell(f"Reading layer {', '.join(map(str, layers))} of {loaded.n_layers}")
    base = load_base(settings, loaded)
    manifest = _manifest(settings, loaded, encoder, found, layers, choice, base)
    tell(_about_base(manifest, loaded, base))
    timings["load"] = round(time.monotonic() - started, 3)
    manifest = manifest.model_copy(update={"timings": timings})

    if overwrite and folder.exists():
        _clear(folder)
    extractor = Extractor(
        loaded, manifest.layers, max_tokens=settings.max_tokens, contrast=bool(manifest.base), base=base
    )
    index = write_index(
        folder,
        lambda: _read(settings),
        encoder,
        extractor,
        manifest,
        max_rejected=settings.max_rejected,
        progress=progress,
    )
    state = "was already complete" if existing and existing.status == "complete" else "is complete"
    tell(f"The index {folder} {state}: {index.n_rows} rows, {index.n_records} records")
    return index


def probe_turns(
    examples: Iterable[Example], encoder: Encoder, *, n_rows: int, n_probes: int = 128, seed: int = 0
) -> list[EncodedTurn]:
    """The first turns of `n_probes` rows drawn without replacement; rows that cannot be encoded are left out.

    Memory: the probes. The draw depends on n_rows, n_probes and seed alone.
    """
    drawn = set(random.Random(seed).sample(range(n_rows), min(n_probes, n_rows)))
    probes: list[EncodedTurn] = []
    for row, example in enumerate(islice(examples, max(drawn, default=-1) + 1)):
        if row in drawn:
            try:
                probes.append(encoder.encode(example)[0])
            except EncodingError:
                # Counted and written down when the row's shard is built.
                continue
    return probes


def _settings(options: dict[str, object]) -> BuildSettings:
    try:
        return BuildSettings.model_validate(options)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise InputError(
            "build_index cannot use these settings:\n  " + "\n  ".join(lines),
            f"Settings: {', '.join(BuildSettings.model_fields)}.",
            "See whence.index.build.BuildSettings for what each takes.",
        ) from error


def _existing(folder: Path, overwrite: bool) -> Manifest | None:
    """The index that is there already; with overwrite only a check that nothing else is lost."""
    if not overwrite:
        return read_manifest(folder)
    if folder.is_dir():
        refuse_others(folder, OURS)
    elif folder.exists():
        raise IndexFolderError(f"{folder} is a file.", "An index is a folder.", "Give another path with -o.")
    return None


def _read(settings: BuildSettings) -> Iterator[Example]:
    return read_examples(settings.data, columns=settings.columns, split=settings.split)


def _scan(
    settings: BuildSettings,
    folder: Path,
    existing: Manifest | None,
    overwrite: bool,
    progress: Callable[[int], None],
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
        for name in (RECORDS, REFERENCES):
            shutil.rmtree(folder / name, ignore_errors=True)
        for name in (RUN, REJECTED, CENTRES, TEMPORARY):
            (folder / name).unlink(missing_ok=True)
        if (folder / NEW_REJECTED).exists():
            os.replace(folder / NEW_REJECTED, folder / REJECTED)
        # The manifest goes last: without it a folder with any of the others is taken for something else.
        (folder / MANIFEST).unlink(missing_ok=True)


def _layers(
    settings: BuildSettings,
    loaded: LoadedModel,
    encoder: Encoder,
    found: Scan,
    existing: Manifest | None,
    progress: Progress,
) -> tuple[tuple[int, ...], dict[str, JsonValue]]:
    """The layers asked for, in that order, and how they were chosen. An unfinished index keeps its choice."""
    requests = settings.layers if isinstance(settings.layers, tuple) else (settings.layers,)
    choice: dict[str, JsonValue] = {"request": list(requests)}
    chosen: list[int] = []
    for request in requests:
        if request == "auto":
            evidence = existing.layer_choice.get("auto") if existing else None
            if not isinstance(evidence, dict):
                evidence = _choose(settings, loaded, encoder, found.n_rows, progress)
            choice["auto"] = evidence
            chosen.append(int(str(evidence["layer"])))
        else:
            chosen.append(loaded.n_layers if request == "last" else request)
    if not chosen or not all(0 <= layer <= loaded.n_layers for layer in chosen):
        raise ModelError(
            f"Layers {list(requests)} were asked for.",
            f"Layers go from 0 (the embedding output) to {loaded.n_layers} (after the final norm); at least one.",
            "Choose one with --layer, or let --layer auto choose.",
        )
    return tuple(dict.fromkeys(chosen)), choice


def _choose(
    settings: BuildSettings, loaded: LoadedModel, encoder: Encoder, n_rows: int, progress: Progress
) -> dict[str, JsonValue]:
    """The rule's choice with its evidence, as JSON."""
    probes = probe_turns(_read(settings), encoder, n_rows=n_rows, n_probes=settings.n_probes, seed=settings.seed)
    made = choose_layer_from(probe_similarities(loaded, probes, progress=progress), seed=settings.seed)
    share: dict[str, JsonValue] = {str(layer): part for layer, part in made.share.items()}
    return asdict(made) | {"similarity": list(made.similarity), "share": share}


def _manifest(
    settings: BuildSettings,
    loaded: LoadedModel,
    encoder: Encoder,
    found: Scan,
    layers: Sequence[int],
    choice: dict[str, JsonValue],
    base: LoadedModel | None,
) -> Manifest:
    contrast = settings.contrast and has_before(loaded, base)
    vectors, places = stored_vectors(loaded.hidden_size, layers, contrast=contrast)
    return Manifest(
        hashes=fingerprint(loaded, encoder.template),
        model=loaded.settings.model,
        adapter=loaded.settings.adapter,
        dtype=str(loaded.dtype).removeprefix("torch."),
        quantization=settings.quantization,
        layers=tuple(sorted(layers)),
        layer=layers[0],
        layer_choice=choice,
        max_length=encoder.max_length,
        vectors=vectors,
        at=places,
        base=(ADAPTER_OFF if base is None else weights_hash(base)) if contrast else "",
        filters=filter_columns(found.metadata_types, layers, vectors),
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


def load_base(settings: BuildSettings, loaded: LoadedModel) -> LoadedModel | None:
    """The base that is to be compared with, where it is a model of its own. Raises MismatchError if it cannot be."""
    if settings.base is None or not settings.contrast:
        return None
    other = {"model": settings.base, "adapter": None, "revision": None}
    base = load_model(settings.model_settings.model_copy(update=other))
    check_base(loaded, base)
    # An adapter turned off is the same model, and needs no second one in memory.
    return None if has_before(loaded) else base


def stored_vectors(
    hidden_size: int, layers: Sequence[int], *, contrast: bool
) -> tuple[dict[str, int], dict[str, tuple[int, ...]]]:
    """`Manifest.vectors` and `Manifest.at` for layers in the order they were asked for.

    What fine-tuning changed stands at the first of them, where the default form reads it.
    """
    names = [name for name in VECTORS if contrast or name not in CONTRASTS]
    places: dict[str, tuple[int, ...]] = {name: (layers[0],) for name in names if name in CONTRASTS}
    return {name: SKETCH_DIM if name == "eh" else hidden_size for name in names}, places


def _about_base(manifest: Manifest, loaded: LoadedModel, base: LoadedModel | None) -> str:
    if base is not None:
        return f"Compared with {base.settings.model}, the model before fine-tuning"
    if manifest.base:
        return "Compared with the model before fine-tuning: itself, the adapter turned off"
    why = "as asked" if has_before(loaded) else "give the model before fine-tuning with --base to have it"
    return f"Without what fine-tuning taught ({why}): the default method is rept-centred"


def _about_data(found: Scan) -> str:
    duplicates = f", {found.n_duplicates} exact duplicates" if found.n_duplicates else ""
    rejected = f", {found.n_rejected} set aside" if found.n_rejected else ""
    return "; ".join([f"{found.n_rows} rows ({found.shape}){duplicates}{rejected}", *found.notes])


def _absolute(place: str | Path) -> str:
    """A path that is there as an absolute one, so that run.yaml works from anywhere; a hub name as it is."""
    path = Path(place).expanduser()
    return str(path.resolve()) if path.exists() else str(place)


__all__ = ["BuildSettings", "build_index", "probe_turns"]
