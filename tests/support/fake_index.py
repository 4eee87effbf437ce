"""An encoder and an extractor without a model, so that the index can be tested by the thousand rows."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from whence.data import MAX_REJECTED, ContentHash
from whence.data.examples import ASSISTANT, EncodedTurn, Example, Turn
from whence.errors import EncodingError, InputError
from whence.index.engines.in_process import InProcess, ShardWriter
from whence.index.engines.local import EncodesExamples, ExtractsSignatures
from whence.index.manifest import DataSummary, Manifest, StoredVector
from whence.index.records import filter_columns
from whence.index.shards import write_index_with
from whence.index.store import Index
from whence.model.fingerprints import Fingerprint
from whence.progress import Count
from whence.signatures.types import Extracted, Signatures

HASHES = Fingerprint(weights="a1", adapter="", tokenizer="b2", template="c3")
TYPES = {"source": "str", "year": "int", "score": "float", "checked": "bool", "id": "str"}


class Unencodable(Example):
    """A row of the same content that the fake encoder refuses."""

    __slots__ = ()


def content_of(examples: Iterable[Example]) -> str:
    """The content hash that a scan of these rows gives."""
    content = ContentHash()
    for example in examples:
        content.take(example)
    return content.hexdigest()


def fake_examples(n_rows: int, *, unencodable: Sequence[int] = ()) -> Callable[[], Iterator[Example]]:
    """Rows of one to three assistant turns, of many lengths, with metadata."""

    def rows() -> Iterator[Example]:
        for row in range(n_rows):
            turns = [
                turn
                for k in range(1 + row % 3)
                for turn in (Turn("user", f"question {row}.{k}"), Turn(ASSISTANT, f"answer {row}.{k} " * (1 + row % 5)))
            ]
            metadata = {
                "source": "ab"[row % 2],
                "year": 2000 + row,
                "score": row / 2,
                "checked": row % 3 == 0,
                "id": "x",
            }
            made = Unencodable if row in unencodable else Example
            yield made(tuple(turns), file="train.jsonl", line=row + 1, metadata=metadata)

    return rows


class FakeEncoder:
    """A token per word."""

    def encode(self, example: Example) -> list[EncodedTurn]:
        if isinstance(example, Unencodable):
            raise EncodingError(f"{example.where}: no such template", "a template", "give one")
        pairs = zip(example.turns[::2], example.turns[1::2], strict=True)
        return [
            EncodedTurn(
                turn=k,
                input_ids=tuple(range(2 + len(answer.content.split()))),
                response_start=2,
                text=question.content + answer.content,
                offsets=(),
                prompt=question.content,
                response=answer.content,
                truncated=int(len(answer.content) > 40),
            )
            for k, (question, answer) in enumerate(pairs)
        ]


class FakeExtractor:
    """Vectors drawn from the text's hash. As in a real model their last bits depend on the batch they are made in."""

    def __init__(self, layers: Sequence[int] = (1,), dim: int = 8) -> None:
        self.layers, self.dim = layers, dim

    def extract(self, turns: Sequence[EncodedTurn], *, labels: Callable[[int], str] | None = None) -> Extracted:
        batch = 1e-3 * len(turns)
        drawn = np.stack(
            [
                np.random.default_rng(hashlib.blake2b(turn.text.encode(), digest_size=8).digest()[0]).standard_normal(
                    (len(self.layers), 2, self.dim), dtype=np.float32
                )
                for turn in turns
            ]
        )
        layers = {
            layer: Signatures(h=torch.from_numpy(drawn[:, i, 0]) + batch, g=1e-4 * torch.from_numpy(drawn[:, i, 1]))
            for i, layer in enumerate(self.layers)
        }
        n_response = torch.tensor([turn.n_response for turn in turns])
        loss = n_response.float() / 7 + batch
        return Extracted(
            layers,
            loss=loss,
            n_response=n_response,
            gradient_norm=loss / 3,
            mean_state=layers[self.layers[-1]].get("h"),
        )


class GivenExtractor:
    """Gives out prepared vectors: row i of each belongs to the turn whose prompt is `question i.0`."""

    def __init__(self, signatures: Signatures, order: dict[str, int], gain: torch.Tensor | None = None) -> None:
        self.signatures, self.order, self.gain = signatures, order, gain

    def extract(self, turns: Sequence[EncodedTurn], *, labels: Callable[[int], str] | None = None) -> Extracted:
        places = [self.order[turn.prompt] for turn in turns]
        return Extracted(
            {1: Signatures(**{name: raw[places] for name, raw in self.signatures.named().items()})},
            torch.ones(len(turns)),
            torch.ones(len(turns)).long(),
            torch.ones(len(turns)),
            mean_state=torch.zeros(len(turns), 4),
            log_likelihood_gain=None if self.gain is None else self.gain[places],
        )


def fake_manifest(
    n_rows: int,
    *,
    layers: Sequence[int] = (1,),
    dim: int = 8,
    names: Sequence[str] = ("h", "g"),
    rows: Iterable[Example] | None = None,
    **changes: object,
) -> Manifest:
    """The manifest of an index of `fake_examples(n_rows)`, or of so many other rows."""
    content = content_of(rows or fake_examples(n_rows)())
    vectors = tuple(StoredVector(name=name, layer=layer, dim=dim) for layer in layers for name in names)
    fields = {
        "hashes": HASHES,
        "model": "runs/my-sft",
        "dtype": "float32",
        "n_layers": max(layers),
        "layer": layers[0],
        "max_length": 64,
        "vectors": vectors,
        "filters": filter_columns(TYPES, max(layers)),
        "data": DataSummary(source="train.jsonl", content_hash=content, n_rows=n_rows),
        "shard_rows": 16,
    }
    return Manifest(**(fields | changes))


@dataclass(frozen=True)
class FakeWriter:
    """Opens a writer of the fake index in a worker process, which is killed at its `dies_at`-th shard.

    once: a file that is made then; where it is there nothing is killed.
    """

    out: Path
    manifest: Manifest
    dies_at: int = -1
    once: Path | None = None

    def __call__(self, device: str) -> ShardWriter:
        if device == "nowhere":
            raise InputError("There is no device nowhere.", "", "")
        return ShardWriter(self.out, self.manifest, FakeEncoder(), _Dying(self.dies_at, self.once))


class _Dying(FakeExtractor):
    def __init__(self, dies_at: int, once: Path | None) -> None:
        super().__init__()
        self.calls, self.dies_at, self.once = 0, dies_at, once

    def extract(self, turns: Sequence[EncodedTurn], **named: object) -> Extracted:
        self.calls += 1
        if self.calls == self.dies_at and not (self.once is not None and self.once.exists()):
            if self.once is not None:
                self.once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().extract(turns)


def write_index(
    out: Path,
    examples: Callable[[], Iterator[Example]],
    encoder: EncodesExamples,
    extractor: ExtractsSignatures,
    manifest: Manifest,
    *,
    max_rejected: float = MAX_REJECTED,
    progress: Count | None = None,
) -> Index:
    """Builds the index that `manifest` describes in this process."""
    engine = InProcess(ShardWriter(out, manifest, encoder, extractor))
    return write_index_with(out, examples, engine, manifest, max_rejected=max_rejected, progress=progress)
