"""What an index of a model would need that is too large to be tried here: arithmetic over its config and the data.

weights      parameters x bytes of a number, of the model and of a base that is a model of its own; with
             quantization, linear layers but the head take 4.5 or 8 bits
beside them  max_tokens x (10 hidden + 4 intermediate) numbers: the states of one batch within a layer
             3 pieces of logits in float32, of at most LOGITS_AT_ONCE numbers each
             vocab x hidden numbers, the head averaged over the tokens of a word, where errors are stored
operations   2 x parameters a token and pass; where a gradient is read at an inner layer, again for the layers above it
             and the response's tokens: weights are frozen, so a backward pass costs what its forward pass does
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from whence.data import Encoder, conversation_json, scan
from whence.errors import WhenceError
from whence.index import BuildSettings, StoredVector, examples_to_index, forms_asked, vectors_read
from whence.model import LOGITS_AT_ONCE, SHARE, ModelShape, load_tokenizer, model_shape, settle_layers
from whence.planning.probe import SAMPLE_ROWS, draw_sample
from whence.results import json_text
from whence.scoring import Depths

SCHEMA = "whence.plan.arithmetic/1"
FLOAT32 = 4
USUAL = (24 << 30, 80 << 30, 141 << 30)
"""Bytes of GPUs that are asked about where no size is given."""


@dataclass(frozen=True, slots=True)
class OnGpus:
    """How many GPUs of so many bytes hold all weights, each layer whole; None: not even a layer fits into one.

    offloaded: bytes that one such GPU leaves to the CPU or the disk, all of which come to it in each pass.
    """

    gpu_memory: int
    n_gpus: int | None
    offloaded: int | None


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Bytes, rows and operations of `whence index`, computed; nothing was loaded or measured.

    weights: of all models. beside: what a device needs besides its weights, at most. record: bytes of a row's vectors
    and text. tokens: mean of a row's prompt and response, None without a tokenizer. operations: of all rows. seconds:
    at the rate that was given.
    """

    model: str
    dtype: str
    n_parameters: int
    n_layers: int
    n_models: int
    n_passes: int
    weights: int
    beside: int
    n_rows: int
    n_records: int
    record: int
    disk: int
    tokens: float | None
    operations: float | None
    seconds: float | None
    gpus: tuple[OnGpus, ...]

    def to_json(self, path: str | Path | None = None) -> str:
        """The JSON text; also written to `path` when one is given."""
        return json_text(SCHEMA, asdict(self), path)


def reckon(settings: BuildSettings, *, gpu_memory: int | None = None, rate: float | None = None) -> Arithmetic:
    """What `whence index` with these settings needs. gpu_memory: bytes of one GPU. rate: operations a second of all.

    Raises ModelError for a config of no causal language model and for a layer that it does not have, and DataError for
    data that cannot be read.
    """
    shape = model_shape(settings.model_settings)
    adapter = settings.adapter is not None or shape.name != settings.model
    contrast = settings.contrast and (adapter or settings.base is not None)
    n_models = 2 if contrast and settings.base is not None and not adapter else 1
    found = scan(settings.data, columns=settings.columns, split=settings.split, max_rejected=settings.max_rejected)
    vectors = _vectors(settings, shape, contrast=contrast)
    beside = _beside(settings, shape, vectors)
    text, each, tokens, of_response = _rows(settings)
    n_passes = 2 if contrast else 1
    operations = None
    if tokens is not None:
        backward = _parameters_above(settings, shape, vectors) * of_response
        operations = 2.0 * (shape.n_parameters * tokens * n_passes + backward) * found.n_rows
    record = round(sum(_stored(vector) for vector in vectors) + text)
    n_records = round(each * found.n_rows)
    return Arithmetic(
        model=shape.name,
        dtype=shape.dtype,
        n_parameters=shape.n_parameters,
        n_layers=shape.n_layers,
        n_models=n_models,
        n_passes=n_passes,
        weights=n_models * shape.weights,
        beside=beside,
        n_rows=found.n_rows,
        n_records=n_records,
        record=record,
        disk=n_records * record,
        tokens=tokens,
        operations=operations,
        seconds=None if operations is None or rate is None else operations / rate,
        gpus=tuple(_on(size, shape.parts * n_models, beside) for size in ([gpu_memory] if gpu_memory else USUAL)),
    )


def devices_needed(parts: Sequence[int], room: int) -> int | None:
    """How many devices of `room` bytes hold the parts in their order, none of them split; None if one is too large."""
    if any(part > room for part in parts):
        return None
    n, left = 0, 0
    for part in parts:
        if part > left:
            n, left = n + 1, room
        left -= part
    return n


def _on(gpu_memory: int, parts: Sequence[int], beside: int) -> OnGpus:
    room = int(SHARE * gpu_memory) - beside
    n = devices_needed(parts, room)
    if n is None:
        return OnGpus(gpu_memory, None, None)
    held, most = 0, room - (max(parts) if n > 1 else 0)  # what is offloaded needs room where it is computed with
    for part in parts:
        if held + part > most:
            break
        held += part
    return OnGpus(gpu_memory, n, sum(parts) - held)


def _vectors(settings: BuildSettings, shape: ModelShape, *, contrast: bool) -> tuple[StoredVector, ...]:
    # The rule's layer is unknown without the model; each layer has vectors of the same size.
    settle_layers(settings.requests, shape.n_layers, lambda: shape.n_layers)  # refuses those that there are not
    layers = [request if isinstance(request, int) else shape.n_layers for request in settings.requests]
    return vectors_read(
        forms_asked(settings.methods, has_base=contrast),
        Depths(layers[0], shape.n_layers),
        whole_at=layers[1:],
        hidden_size=shape.hidden_size,
        storage=settings.storage,
    )


def _beside(settings: BuildSettings, shape: ModelShape, vectors: Sequence[StoredVector]) -> int:
    tokens = max(settings.max_tokens, settings.max_length)
    states = tokens * (10 * shape.hidden_size + 4 * shape.intermediate_size) * shape.itemsize
    averaged = shape.vocab_size * shape.hidden_size * shape.itemsize if any(v.name == "eh" for v in vectors) else 0
    return states + averaged + 3 * FLOAT32 * LOGITS_AT_ONCE


def _parameters_above(settings: BuildSettings, shape: ModelShape, vectors: Sequence[StoredVector]) -> int:
    """Parameters of the layers above the lowest inner one at which a gradient is read; 0 where none is."""
    inner = [vector.layer for vector in vectors if vector.name == "g" and vector.layer < shape.n_layers]
    if not inner:
        return 0
    # Quantised layers have other bytes, and as many parameters.
    plain = model_shape(settings.model_settings.model_copy(update={"quantization": None}))
    return sum(plain.parts[1 + min(inner) : -1]) // plain.itemsize


def _stored(vector: StoredVector) -> int:
    """Bytes of a vector with its norm and scale."""
    return vector.stored_dim + 2 * FLOAT32 if vector.precision == "int8" else 2 * vector.stored_dim + FLOAT32


def _rows(settings: BuildSettings) -> tuple[float, float, float | None, float]:
    """Of the first rows, means: bytes of text and records of a row, tokens (None without a tokenizer), and those of
    the responses."""
    examples = list(islice(examples_to_index(settings), SAMPLE_ROWS))
    text = sum(len(conversation_json(example).encode("utf-8", "replace")) for example in examples) / len(examples)
    answers = sum(sum(turn.role == "assistant" for turn in example.turns) for example in examples) / len(examples)
    try:
        encoder = Encoder(
            load_tokenizer(settings.model_settings, template_given=settings.template is not None),
            template=settings.template,
            max_length=settings.max_length,
            rows=settings.row_encoding,
        )
        sample = draw_sample(examples, encoder, n_rows=len(examples), seed=settings.seed)
    except WhenceError:
        return text, max(1.0, answers), None, 0.0
    turns = [turn for row in sample.turns for turn in row]
    n_rows = len(sample.rows)
    tokens, of_response = sum(len(turn.input_ids) for turn in turns), sum(turn.n_response for turn in turns)
    return text, len(turns) / n_rows, tokens / n_rows, of_response / n_rows


__all__ = ["Arithmetic", "OnGpus", "devices_needed", "reckon"]
