"""An index open for reading: blocks of vectors, counts under a filter, single records."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import torch

from whence.data import Example, Json, read_conversation
from whence.errors import IndexFolderError, InputError
from whence.index.centres import read_centres
from whence.index.manifest import Manifest, require_manifest
from whence.index.offsets import RecordOffsets
from whence.index.records import FIELDS, norm_column, open_records, vector_column
from whence.index.shard_notes import saved_rows
from whence.scoring import CENTRED, Centres, Vectors

READAHEAD = 2
"""Batches that Lance decodes ahead. Its default of 16 holds gigabytes of vectors of a wide model."""


@dataclass(frozen=True, slots=True)
class Record:
    """A stored record without its vectors."""

    row: int
    turn: int
    id: str
    file: str
    line: int
    prompt: str
    response: str
    metadata: dict[str, Json]
    loss: float
    log_likelihood_gain: float | None
    gradient_norm: float
    n_prompt: int
    n_response: int
    truncated: int


@dataclass(frozen=True, slots=True)
class RecordBlock:
    """A run of records while the index is read: numbers [n] and the vectors that were asked for."""

    row: np.ndarray
    turn: np.ndarray
    record: np.ndarray
    """Offset in the dataset, as `fetch` takes it."""
    vectors: dict[int, dict[str, Vectors]]
    gain: torch.Tensor | None = None
    """The log-likelihood gain of each response, nats, float64; where it was asked for."""

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True, slots=True)
class Index:
    """A complete index, open for reading."""

    path: Path
    manifest: Manifest
    dataset: lance.LanceDataset
    centres: Centres

    @classmethod
    def open(cls, path: str | Path) -> Index:
        """Opens an index folder. Raises IndexFolderError if it is missing, something else, damaged or unfinished."""
        folder = Path(path)
        manifest = require_manifest(folder)
        try:
            dataset = open_records(folder, manifest.records_version)
        except (OSError, ValueError) as error:
            raise _damaged(folder, first_line(error)) from error
        if manifest.counts is None or manifest.status != "complete":
            raise IndexFolderError(
                f"The index {folder} is not finished: {saved_rows(folder)} of {manifest.data.n_rows} rows are saved.",
                "Only a complete index can be asked.",
                f"Continue with the command that began it: {replay_command(folder, manifest)}",
            )
        if dataset is None or dataset.count_rows() != manifest.counts.n_records:
            found = dataset.count_rows() if dataset is not None else 0
            raise _damaged(folder, f"{found} of {manifest.counts.n_records} records are there")
        return cls(folder, manifest, dataset, read_centres(folder, manifest))

    @property
    def n_rows(self) -> int:
        """Rows with at least one record."""
        assert self.manifest.counts is not None
        return self.manifest.counts.n_rows

    @property
    def n_records(self) -> int:
        """Records: one per row and turn."""
        assert self.manifest.counts is not None
        return self.manifest.counts.n_records

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers with vectors."""
        return self.manifest.layers

    @property
    def columns(self) -> dict[str, str]:
        """What `where` can name: column -> the name it has in the data, both as the user would write them."""
        own = {name: name for name in FIELDS}
        return own | {column.column: column.name for column in self.manifest.filters}

    def count_rows(self, where: str | None = None) -> int:
        """Rows (not records) that the filter lets through. Raises InputError for a filter that is none."""
        self.check_where(where)
        return count_distinct_rows(self.dataset, where)

    def check_where(self, where: str | None) -> None:
        """Raises InputError, with the columns there are, for a filter that Lance cannot evaluate."""
        if where is None:
            return
        try:
            self.dataset.count_rows(filter=where)
        except (ValueError, OSError, RuntimeError) as error:
            raise InputError(
                f"The filter {where!r} cannot be used: {first_line(error)}",
                f"Columns: {', '.join(_shown_columns(self.columns))}.",
                "It is an SQL condition, such as --where \"source = 'vendor_b'\".",
            ) from error

    def blocks(
        self,
        reads: Sequence[tuple[int, str]] = (),
        *,
        where: str | None = None,
        block_rows: int = 8192,
        dtype: torch.dtype = torch.float32,
        gain: bool = False,
    ) -> Iterator[RecordBlock]:
        """The records in blocks, with the vectors named by (layer, vector) and nothing else read from disk.

        gain: read the log-likelihood gains too; the index must have been built with the model before fine-tuning.

        A vector's name followed by CENTRED gives it less its mean over all records, whatever the filter. Unit vectors
        are normalised again in `dtype`, so that float16's rounding leaves every cosine in [-1, 1].
        """
        self.check_where(where)
        offsets = RecordOffsets(self.dataset)
        columns = ["row", "turn", "log_likelihood_gain"] if gain else ["row", "turn"]
        for layer, name in dict.fromkeys((layer, name.removesuffix(CENTRED)) for layer, name in reads):
            columns += [vector_column(layer, name), norm_column(layer, name)]
        scanner = self.dataset.scanner(
            columns=columns,
            filter=where,
            with_row_address=True,
            batch_size=block_rows,
            batch_readahead=READAHEAD,
            fragment_readahead=READAHEAD,
        )
        for batches in _joined(scanner.to_batches(), block_rows):
            vectors: dict[int, dict[str, Vectors]] = {}
            for layer, name in reads:
                vectors.setdefault(layer, {})[name] = self._vectors(batches, layer, name, dtype)
            yield RecordBlock(
                row=_numbers(batches, "row"),
                turn=_numbers(batches, "turn"),
                record=offsets.of(_numbers(batches, "_rowaddr")),
                vectors=vectors,
                gain=torch.from_numpy(_numbers(batches, "log_likelihood_gain").astype(np.float64)) if gain else None,
            )

    def _vectors(self, batches: Sequence[pa.RecordBatch], layer: int, name: str, dtype: torch.dtype) -> Vectors:
        plain = name.removesuffix(CENTRED)
        stored = _stored_vectors(batches, layer, plain, dtype)
        if plain == name:
            return stored
        raw = stored.unit * stored.norm[:, None] - self.centres[layer, plain].to(dtype)
        norm = torch.linalg.vector_norm(raw, dim=1)
        return Vectors(raw / torch.where(norm > 0, norm, torch.ones_like(norm))[:, None], norm)

    def vectors(
        self, records: Sequence[int], reads: Sequence[tuple[int, str]], *, dtype: torch.dtype = torch.float32
    ) -> dict[int, dict[str, Vectors]]:
        """The vectors of the records at these offsets, in this order, as `blocks` gives them. Only they are read."""
        names = dict.fromkeys((layer, name.removesuffix(CENTRED)) for layer, name in reads)
        columns = [column for layer, name in names for column in (vector_column(layer, name), norm_column(layer, name))]
        offsets, back = np.unique(np.asarray(records, dtype=np.int64), return_inverse=True)
        batches = self.dataset.take(offsets.tolist(), columns=columns).combine_chunks().to_batches()
        places = torch.from_numpy(back)
        found: dict[int, dict[str, Vectors]] = {}
        for layer, name in reads:
            vectors = self._vectors(batches, layer, name, dtype)
            found.setdefault(layer, {})[name] = Vectors(vectors.unit[places], vectors.norm[places])
        return found

    def log_likelihood_gains(self) -> np.ndarray:
        """The log-likelihood gain of each row, in nats, by the row's number in the data.

        gain[t] = max_k gain of its turn k - log(number of its turns), so that exp(-gain) bounds the chance that any of
        them was made so much likelier by chance. NaN for rows that are not there, and everywhere without the model
        before fine-tuning.
        """
        found = np.full(self.manifest.data.n_rows, -np.inf)
        turns = np.zeros(len(found))
        for batch in self.dataset.scanner(columns=["row", "log_likelihood_gain"]).to_batches():
            gain = batch.column("log_likelihood_gain").cast(pa.float64()).to_numpy(zero_copy_only=False)
            np.maximum.at(found, batch.column("row").to_numpy(), gain)
            np.add.at(turns, batch.column("row").to_numpy(), 1)
        return np.where(np.isneginf(found), np.nan, found - np.log(np.maximum(turns, 1)))

    def fetch(self, records: Sequence[int]) -> list[Record]:
        """The records at these offsets, in this order, without vectors. Only they are read."""
        if not len(records):
            return []
        names = [name for name in FIELDS if name not in ("shard", "turns")]
        offsets, back = np.unique(np.asarray(records, dtype=np.int64), return_inverse=True)
        found = self.dataset.take(offsets.tolist(), columns=names).to_pylist()
        return [Record(**(found[i] | {"metadata": json.loads(found[i]["metadata"])})) for i in back.tolist()]

    def examples(self, rows: Sequence[int]) -> list[Example]:
        """The whole training examples of these rows (ordinals, as in `Record.row`), in this order."""
        if not len(rows):
            return []
        wanted = ", ".join(str(int(row)) for row in sorted(set(rows)))
        table = self.dataset.to_table(
            columns=["row", "file", "line", "turns", "metadata"], filter=f"turn = 0 AND row IN ({wanted})"
        )
        found = {record["row"]: _example(record) for record in table.to_pylist()}
        return [found[int(row)] for row in rows]

    def texts(self, where: str | None = None) -> Iterator[Record]:
        """Every record in the order of the data, without vectors."""
        self.check_where(where)
        names = [name for name in FIELDS if name not in ("shard", "turns")]
        for batch in self.dataset.scanner(columns=names, filter=where, scan_in_order=True).to_batches():
            for record in batch.to_pylist():
                yield Record(**(record | {"metadata": json.loads(record["metadata"])}))


def _example(record: Mapping[str, str | int]) -> Example:
    turns, inputs = read_conversation(str(record["turns"]))
    return Example(turns, str(record["file"]), int(record["line"]), json.loads(str(record["metadata"])), inputs)


def replay_command(folder: Path, manifest: Manifest) -> str:
    """The command line that continues this build."""
    adapter = f" --adapter {manifest.adapter}" if manifest.adapter else ""
    return (
        f"whence index {manifest.model} {manifest.data.source}{adapter} -o {folder} (all settings: {folder}/run.yaml)"
    )


def first_line(error: BaseException) -> str:
    """Lance's message without the places in its own source."""
    lines = str(error).splitlines() or [type(error).__name__]
    kept = [part for part in lines[0].split(", ") if ".rs:" not in part]
    return ", ".join(kept)[:300].rstrip(".,") + "."


def _joined(batches: Iterator[pa.RecordBatch], block_rows: int) -> Iterator[list[pa.RecordBatch]]:
    """Runs of batches of at most block_rows records together. A batch of Lance ends where a shard does.

    Lance can join them itself (strict_batch_size), at ten times the cost of reading them.
    """
    run: list[pa.RecordBatch] = []
    for batch in batches:
        if run and sum(map(len, run)) + len(batch) > block_rows:
            yield run
            run = []
        if len(batch):
            run.append(batch)
    if run:
        yield run


def _numbers(batches: Sequence[pa.RecordBatch], column: str) -> np.ndarray:
    return np.concatenate([batch.column(column).to_numpy() for batch in batches])


def _stored_vectors(batches: Sequence[pa.RecordBatch], layer: int, name: str, dtype: torch.dtype) -> Vectors:
    column = vector_column(layer, name)
    numpy_dtype = np.float64 if dtype == torch.float64 else np.float32
    raw = np.empty((sum(map(len, batches)), batches[0].schema.field(column).type.list_size), dtype=numpy_dtype)
    start = 0
    for batch in batches:
        raw[start : start + len(batch)] = batch.column(column).flatten().to_numpy().reshape(len(batch), -1)
        start += len(batch)
    unit = torch.from_numpy(raw)
    length = torch.linalg.vector_norm(unit, dim=1, keepdim=True)
    unit /= torch.where(length > 0, length, torch.ones_like(length))
    norm = torch.from_numpy(_numbers(batches, norm_column(layer, name)).astype(numpy_dtype))
    return Vectors(unit, norm)


def count_distinct_rows(dataset: lance.LanceDataset, where: str | None) -> int:
    """Counts by block: the records of one row are adjacent, so only a block's first row can have been seen."""
    count, last = 0, -1
    for batch in dataset.scanner(columns=["row"], filter=where, scan_in_order=True).to_batches():
        rows = batch.column("row").to_numpy()
        if len(rows):
            count += int((np.diff(rows, prepend=last) != 0).sum())
            last = int(rows[-1])
    return count


def _shown_columns(columns: Mapping[str, str]) -> list[str]:
    shown = []
    for column, name in columns.items():
        quoted = column if column.isidentifier() else f"`{column}`"
        shown.append(quoted if column == name else f"{quoted} (your column {name!r})")
    return shown


def _damaged(folder: Path, what: str) -> IndexFolderError:
    return IndexFolderError(
        f"The index {folder} is damaged: {what}",
        "Every record that the manifest counts must be there.",
        f"`whence verify {folder}` lists what is wrong, and with --repair computes it again.",
    )
