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
from whence.index.manifest import Manifest, StoredVector, require_manifest
from whence.index.offsets import RecordOffsets
from whence.index.packed import PackedVectors
from whence.index.reading import damage_named, damaged, first_line, names_damage, names_damage_of_each
from whence.index.records import FIELDS, open_records
from whence.index.remote_cache import cache_folder
from whence.index.shard_commits import saved_rows
from whence.index.stored_form import directions, int8_numbers, read_columns
from whence.object_path import is_remote, place
from whence.scoring import CENTRED, Centres, VectorBlock, Vectors, rows_of

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
    vectors: dict[int, dict[str, VectorBlock]]
    gain: torch.Tensor | None = None
    """The log-likelihood gain of each response, nats, float64; where it was asked for."""

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True, slots=True)
class Index:
    """A complete index, open for reading.

    centres: means of the vectors as they were extracted. stored_centres: of the vectors as they are stored.
    """

    path: Path
    manifest: Manifest
    dataset: lance.LanceDataset
    centres: Centres
    stored_centres: Centres

    @classmethod
    def open(cls, path: str | Path) -> Index:
        """Opens an index folder. Raises IndexFolderError if it is missing, something else, damaged or unfinished."""
        folder = place(path)
        manifest = require_manifest(folder)
        try:
            with damage_named(folder):
                dataset = open_records(folder, manifest.records_version)
        except ValueError as error:
            raise damaged(folder, first_line(error)) from error
        if manifest.counts is None or manifest.status != "complete":
            raise IndexFolderError(
                f"The index {folder} is not finished: {saved_rows(folder)} of {manifest.data.n_rows} rows are saved.",
                "Only a complete index can be asked.",
                f"Continue with the command that began it: {replay_command(folder, manifest)}",
            )
        if dataset is None or dataset.count_rows() != manifest.counts.n_records:
            found = dataset.count_rows() if dataset is not None else 0
            raise damaged(folder, f"{found} of {manifest.counts.n_records} records are there")
        return cls(folder, manifest, dataset, *read_centres(folder, manifest))

    @property
    def beside(self) -> Path:
        """Folder of what asking keeps: the index's own; where it lies in an object store, one on this machine."""
        return cache_folder(self.manifest) if is_remote(self.path) else self.path

    @property
    def n_rows(self) -> int:
        """Rows with at least one record."""
        assert self.manifest.counts is not None
        return self.manifest.counts.n_rows

    def n_records_without_gain(self) -> int | None:
        """Records whose answer fine-tuning made no likelier; None in an index without the model before."""
        if not self.manifest.base:
            return None
        # Counted by Lance, block by block: memory does not grow with the rows.
        return self.n_records - int(self.dataset.count_rows(filter="log_likelihood_gain > 0"))

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

    @names_damage
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
            if "corrupt" in str(error):
                raise damaged(self.path, first_line(error)) from error
            raise InputError(
                f"The filter {where!r} cannot be used: {first_line(error)}",
                f"Columns: {', '.join(_shown_columns(self.columns))}.",
                "It is an SQL condition, such as --where \"source = 'vendor_b'\".",
            ) from error

    @names_damage_of_each
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

        Vectors are those that are stored (whence.index.stored_form); one's name followed by CENTRED gives it less its
        mean over all records, whatever the filter.
        """
        self.check_where(where)
        offsets = RecordOffsets(self.dataset)
        columns = ["row", "turn", "log_likelihood_gain"] if gain else ["row", "turn"]
        columns += self._columns(reads)
        scanner = self.dataset.scanner(
            columns=columns,
            filter=where,
            with_row_address=True,
            batch_size=block_rows,
            batch_readahead=READAHEAD,
            fragment_readahead=READAHEAD,
        )
        for batches in _joined(scanner.to_batches(), block_rows):
            vectors: dict[int, dict[str, VectorBlock]] = {}
            for layer, name in reads:
                vectors.setdefault(layer, {})[name] = self._vectors(batches, layer, name, dtype)
            yield RecordBlock(
                row=_numbers(batches, "row"),
                turn=_numbers(batches, "turn"),
                record=offsets.of(_numbers(batches, "_rowaddr")),
                vectors=vectors,
                gain=torch.from_numpy(_numbers(batches, "log_likelihood_gain").astype(np.float64)) if gain else None,
            )

    def _columns(self, reads: Sequence[tuple[int, str]]) -> list[str]:
        """Columns of the vectors that are read, each once."""
        plain = dict.fromkeys((layer, name.removesuffix(CENTRED)) for layer, name in reads)
        return [column for place in plain for column in read_columns(self._stored(place))]

    def _stored(self, place: tuple[int, str]) -> StoredVector:
        return next(vector for vector in self.manifest.vectors if vector.place == place)

    def _vectors(self, batches: Sequence[pa.RecordBatch], layer: int, name: str, dtype: torch.dtype) -> VectorBlock:
        plain = name.removesuffix(CENTRED)
        vector = self._stored((layer, plain))
        norms = torch.from_numpy(_numbers(batches, vector.norm_column)).to(dtype)
        if vector.precision == "int8" and dtype == torch.float32:
            scales = torch.from_numpy(_numbers(batches, vector.scale_column))
            centre = None if plain == name else self.stored_centres[layer, plain]
            return PackedVectors(int8_numbers(vector, batches), scales, norms, centre)
        stored = Vectors(directions(vector, batches, dtype), norms)
        if plain == name:
            return stored
        raw = stored.unit * stored.norm[:, None] - self.stored_centres[layer, plain].to(dtype)
        norm = torch.linalg.vector_norm(raw, dim=1)
        return Vectors(raw / torch.where(norm > 0, norm, torch.ones_like(norm))[:, None], norm)

    @names_damage
    def vectors(
        self,
        records: Sequence[int] | np.ndarray,
        reads: Sequence[tuple[int, str]],
        *,
        dtype: torch.dtype = torch.float32,
    ) -> dict[int, dict[str, Vectors]]:
        """The vectors of the records at these offsets, in this order, as `blocks` gives them. Only they are read."""
        offsets, back = np.unique(np.asarray(records, dtype=np.int64), return_inverse=True)
        places = torch.from_numpy(back)
        return rows_of(self.packed(offsets, reads, dtype=dtype), places)

    @names_damage
    def packed(
        self, records: np.ndarray, reads: Sequence[tuple[int, str]], *, dtype: torch.dtype = torch.float32
    ) -> dict[int, dict[str, VectorBlock]]:
        """The vectors of the records at these offsets, each once and ascending, as they are held to be scored."""
        batches = self.dataset.take(records.tolist(), columns=self._columns(reads)).combine_chunks().to_batches()
        found: dict[int, dict[str, VectorBlock]] = {}
        for layer, name in reads:
            found.setdefault(layer, {})[name] = self._vectors(batches, layer, name, dtype)
        return found

    @names_damage
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

    @names_damage
    def text_numbers(self) -> np.ndarray:
        """A number of each row's text, by the row's number in the data: equal for rows of the same id. uint64."""
        found = np.zeros(self.manifest.data.n_rows, dtype=np.uint64)
        for batch in self.dataset.scanner(columns=["row", "id"]).to_batches():
            ids = (int(id, 16) for id in batch.column("id").to_pylist())
            found[batch.column("row").to_numpy()] = np.fromiter(ids, dtype=np.uint64, count=len(batch))
        return found

    @names_damage
    def fetch(self, records: Sequence[int]) -> list[Record]:
        """The records at these offsets, in this order, without vectors. Only they are read."""
        if not len(records):
            return []
        names = [name for name in FIELDS if name not in ("shard", "turns")]
        offsets, back = np.unique(np.asarray(records, dtype=np.int64), return_inverse=True)
        found = self.dataset.take(offsets.tolist(), columns=names).to_pylist()
        return [Record(**(found[i] | {"metadata": json.loads(found[i]["metadata"])})) for i in back.tolist()]

    @names_damage
    def examples(self, rows: Sequence[int]) -> list[Example]:
        """The whole training examples of these rows (ordinals, as in `Record.row`), in this order."""
        if not len(rows):
            return []
        wanted = ", ".join(str(int(row)) for row in sorted(set(rows)))
        table = self.dataset.to_table(columns=["row", "file", "line", "turns", "metadata"], filter=f"row IN ({wanted})")
        # Its first record has the conversation. Not in the filter, which would read the text of all rows.
        found = {record["row"]: _example(record) for record in table.to_pylist() if record["turns"]}
        return [found[int(row)] for row in rows]

    @names_damage_of_each
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
    return np.concatenate([batch.column(column).to_numpy(zero_copy_only=False) for batch in batches])


def number_columns(dataset: lance.LanceDataset, columns: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns of single numbers, whole, in the order of the records."""
    batches = list(dataset.scanner(columns=list(columns), scan_in_order=True).to_batches())
    return {column: _numbers(batches, column) for column in columns}


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
