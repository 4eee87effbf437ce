"""`whence ann build`: an approximate search of an index, and how well it finds rows.

    ann/projection.safetensors   the principal directions of a sample of X (whence.index.linear), and the mean of all X
    ann/vectors.lance            each record's X in these directions, float16, with Lance's index of kind `KIND`
    ann/columns/*.raw            the stored vectors once more, where the records' own cannot be mapped
                                 (whence.index.mapped): narrow ones, and those of an index with deleted rows

RaBitQ (Gao and Long 2024, arXiv 2405.12497), which Lance calls IVF_RQ, keeps a vector in a few bits a dimension;
vectors lie in partitions, and a query reads the nearest of them. The recall is measured on rows of the index, asked
without themselves, at growing numbers of partitions, against an exact search by the same form; the curve is kept in the
manifest. `ann/` is made again at any time and holds no text; a change of the rows removes it.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import NamedTuple

import lance
import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from safetensors.torch import save

from whence.errors import IndexFolderError
from whence.files import write_atomically
from whence.index.ann_search import METRIC, PROJECTION, VECTORS, AnnSearch
from whence.index.ann_summary import ANN, Ann, AnnPoint
from whence.index.block_reader import BlockReader
from whence.index.held import default_form, default_layers
from whence.index.linear import is_linear, joined_rows
from whence.index.locking import locked
from whence.index.manifest import require_manifest
from whence.index.publishing import back_up
from whence.index.remote_cache import COLUMNS, fill_columns
from whence.index.saving import saving
from whence.index.scanning import ScoreRequest, scan_blocks
from whence.index.store import Index, number_columns
from whence.object_path import is_remote, place, remove_tree, storage_options
from whence.progress import Progress, silent
from whence.scoring import CENTRED, FormLayers, ScoreForm, rows_of

KIND = "IVF_RQ"
DIMENSIONS = 256
N_SAMPLE = 16_384
N_QUERIES = 128
N_CANDIDATES = 300
"""Records that a query's second search gives, the first two thirds as many; all are scored exactly."""
ENOUGH = 0.995
"""A recall above which no more partitions are tried."""
MEASURED_K = 10
LEAST_RECORDS = 1_000
"""An index with fewer has nothing to gain."""
MOST_PARTITIONS = 4096
ROWS_OF_A_CENTRE = 256
"""Lance's k-means takes so many for each centre."""
AT_ONCE = 4096


class _Form(NamedTuple):
    form: ScoreForm
    roles: FormLayers

    @property
    def reads(self) -> list[tuple[int, str]]:
        return self.form.reads(self.roles)


def build_ann(
    index: str | Path,
    *,
    dimensions: int = DIMENSIONS,
    seed: int = 0,
    progress: Progress | None = None,
    notify: Callable[[str], None] | None = None,
) -> Ann:
    """Builds the approximate search of a complete index for its default form, and measures its recall.

    dimensions: of a searched vector, at most. seed: draws the sample and the rows that are asked.

    Memory: some blocks of the index, and 40 bytes a record. Raises IndexFolderError for an index that has too few rows,
    or that another run is changing.
    """
    started, tell, report = time.monotonic(), notify or (lambda sentence: None), progress or silent
    folder = place(index)
    require_manifest(folder)
    with locked(folder):
        # Behind the lock: a manifest that another run has replaced meanwhile names files that are gone.
        opened_index = Index.open(folder)
        with saving(folder, opened_index.n_rows):
            return _built(opened_index, dimensions, seed, started, report, tell)


def _built(
    index: Index, dimensions: int, seed: int, started: float, report: Progress, tell: Callable[[str], None]
) -> Ann:
    """The search of an index that is locked, measured and named in its manifest. Raises IndexFolderError."""
    folder = index.path
    asked = _Form(form := default_form(index.manifest), default_layers(form, index.manifest))
    _check(index, asked.form)
    if index.manifest.ann is not None:
        # A manifest that names what is being replaced would be wrong after a cut.
        _publish(folder, index, None)
    remove_tree(folder / ANN)
    (folder / ANN).mkdir(parents=True, exist_ok=True)
    made = _Made(index, asked, dimensions, seed, report)
    tell(f"{made.dim} dimensions of {made.basis.shape[0]} keep {made.kept:.1%} of the variance")
    made.write(folder)
    tell(f"{KIND} of {made.n_partitions} partitions is made")
    ann = Ann(
        form=form.name,
        version=form.version,
        layers=form.described(asked.roles),
        generation=index.manifest.generation,
        kind=KIND,
        dim=made.dim,
        kept=round(made.kept, 4),
        n_partitions=made.n_partitions,
        n_sample=made.n_sample,
        n_candidates=N_CANDIDATES,
        n_queries=min(N_QUERIES, index.n_records),
        curve=(),
        seconds=0,
    )
    named = replace(index, manifest=index.manifest.model_copy(update={"ann": ann}))
    curve = tuple(_measured(named, asked, seed, report))
    ann = ann.model_copy(update={"curve": curve, "seconds": round(time.monotonic() - started, 1)})
    _publish(folder, index, ann)
    return ann


def _check(index: Index, form: ScoreForm) -> None:
    if index.n_records < LEAST_RECORDS or not is_linear(form):
        raise IndexFolderError(
            f"The index {index.path} has {index.n_records} records.",
            f"An approximate search is made of {LEAST_RECORDS:,} or more.",
            "Ask it as it is: an exact search of so few takes no time.",
        )


def _publish(folder: Path, index: Index, ann: Ann | None) -> None:
    manifest = index.manifest.model_copy(update={"ann": ann})
    manifest.write(folder)
    back_up(folder, manifest)


class _Made:
    """The projection, and the searched vectors on their way to disk."""

    def __init__(self, index: Index, asked: _Form, dimensions: int, seed: int, report: Progress) -> None:
        self._index, self._asked, self._report = index, asked, report
        self._reader = BlockReader(index)
        self._reader.prepare(asked.reads, gain=asked.form.by_learned_fraction)
        records = np.array(sorted(Random(seed).sample(range(index.n_records), min(N_SAMPLE, index.n_records))))
        self.n_sample = len(records)
        self.basis, self.kept = principal(self._sampled(records), dimensions, seed)
        self.n_partitions = n_partitions(index.n_records)
        self._total = torch.zeros(self.basis.shape[0], dtype=torch.float64)

    @property
    def dim(self) -> int:
        return self.basis.shape[1]

    def write(self, folder: Path) -> None:
        """Writes the vectors, their index and the projection."""
        path, options = folder / ANN / VECTORS, storage_options(folder)
        schema = pa.schema({"record": pa.int64(), "vector": pa.list_(pa.float16(), self.dim)})
        batches = pa.RecordBatchReader.from_batches(schema, self._batches(schema))
        dataset: lance.LanceDataset = lance.write_dataset(batches, str(path), mode="create", storage_options=options)
        self._report("making the approximate index", 0, None)
        dataset.create_index("vector", KIND, metric=METRIC, num_partitions=self.n_partitions, storage_options=options)
        content = save({"basis": self.basis.contiguous(), "mean": self._total / self._index.n_records})
        write_atomically(folder / ANN / PROJECTION, content)
        if not self._reader.mapped and not is_remote(folder):
            stored = {vector.place: vector for vector in self._index.manifest.vectors}
            names = [stored[layer, name.removesuffix(CENTRED)].column for layer, name in self._asked.reads]
            fill_columns(folder / ANN / COLUMNS, self._index.dataset, names)

    def _sampled(self, records: np.ndarray) -> Float[torch.Tensor, "n dim"]:
        gain = None
        if self._asked.form.by_learned_fraction:
            gains = number_columns(self._index.dataset, ["log_likelihood_gain"])["log_likelihood_gain"]
            gain = torch.from_numpy(gains[records]).double()
        return joined_rows(*self._asked, self._reader.packed(records, self._asked.reads), gain)

    def _batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        by_gain = self._asked.form.by_learned_fraction
        done = 0
        for block in self._reader.blocks(self._asked.reads, dtype=torch.float32, gain=by_gain):
            for start in range(0, len(block), AT_ONCE):
                places = torch.arange(start, min(start + AT_ONCE, len(block)))
                vectors = rows_of(block.vectors, places)
                rows = joined_rows(*self._asked, vectors, None if block.gain is None else block.gain[places])
                self._total += rows.sum(0, dtype=torch.float64)
                short = (rows @ self.basis).half().numpy()
                flat = pa.FixedSizeListArray.from_arrays(pa.array(short.reshape(-1)), self.dim)
                record = pa.array(block.record[start : start + len(places)].astype(np.int64))
                yield pa.RecordBatch.from_arrays([record, flat], schema=schema)
                done += len(places)
                self._report("projecting vectors", done, self._index.n_records)


def n_partitions(n_records: int) -> int:
    """sqrt(n) partitions of sqrt(n) records, but none of fewer than `ROWS_OF_A_CENTRE` to train its centre with."""
    return max(1, min(MOST_PARTITIONS, math.isqrt(n_records), n_records // ROWS_OF_A_CENTRE))


def principal(
    rows: Float[torch.Tensor, "n dim"], dimensions: int, seed: int
) -> tuple[Float[torch.Tensor, "dim short"], float]:
    """Principal directions of rows about their mean, and the share of the variance in them.

    A multiple of 8 of them, as Lance's quantiser wants. By a randomised decomposition (Halko et al. 2011, SIAM Review
    53), drawn by the seed.
    """
    wanted = max(8, min(dimensions, *rows.shape) // 8 * 8)
    centred = rows - rows.mean(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _, length, basis = torch.svd_lowrank(centred, q=min(wanted + 16, *rows.shape), niter=2)
    total = float(centred.square().sum())
    kept = float(length[:wanted].square().sum())
    return basis[:, :wanted].contiguous(), min(1.0, kept / total) if total > 0 else 1.0


def _measured(index: Index, asked: _Form, seed: int, report: Progress) -> list[AnnPoint]:
    """The recall at growing numbers of probes, up to all partitions or `ENOUGH`."""
    reader = BlockReader(index)
    records = sorted(Random(seed + 1).sample(range(index.n_records), min(N_QUERIES, index.n_records)))
    search = AnnSearch(index, asked.form, asked.roles, reader)
    queries = reader.vectors(records, asked.reads, dtype=torch.float32)
    report("asking exactly, to compare", 0, None)
    request = ScoreRequest(asked.form, asked.roles, k=MEASURED_K + 1)
    exact = scan_blocks(reader, queries, [request], n_queries=len(records), dtype=torch.float32)[0].matches
    own = [search.row_of(record) for record in records]
    best = [_without(matches, row) for matches, row in zip(exact, own, strict=True)]
    curve: list[AnnPoint] = []
    # 1, 2, 3, 4, 6, 8, 12, ...
    steps = {step for i in range(13) for step in (2**i, 3 * 2**i // 2)}
    probes = sorted({min(step, n_partitions(index.n_records)) for step in steps})
    for number, n_probes in enumerate(probes):
        report("measuring the recall", number, len(probes))
        found, seconds = [], []
        for query in range(len(records)):
            one = rows_of(queries, torch.tensor([query]))
            begun = time.perf_counter()
            hits = search.search(one, k=MEASURED_K + 1, n_probes=n_probes, n_candidates=N_CANDIDATES)
            seconds.append(time.perf_counter() - begun)
            found.append(len(best[query] & _without(hits.matches, own[query])) / max(1, len(best[query])))
        recall, took = statistics.fmean(found), statistics.median(seconds)
        curve.append(AnnPoint(n_probes=n_probes, recall=round(recall, 4), milliseconds=round(1000 * took, 2)))
        if recall >= ENOUGH:
            break
    return curve


def _without(matches: Sequence[tuple[float, int, int, int]], row: int) -> set[int]:
    """Rows of a ranking, without one of them, `MEASURED_K` at most."""
    return set([match[1] for match in matches if match[1] != row][:MEASURED_K])


__all__ = ["DIMENSIONS", "KIND", "N_CANDIDATES", "build_ann", "principal"]
