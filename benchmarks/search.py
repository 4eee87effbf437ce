"""What asking costs: one query and 64 over an index of many rows, beside the memory bandwidth of this machine.

    python benchmarks/search.py --ann --like INDEX [--rows 1000000] [--threads 2] [--keep DIR]
    python benchmarks/search.py [--rows 1000000] [--hidden 4096] [--queries 64] [--threads 2] [--repeats 3] [--keep DIR]

An index of random vectors in the default's stored form is written (one record a row, a short text; as many rows a
fragment as `--fragment` says), with the default method's vectors of a model of that width. Then, in this order:

bandwidth   a sum over float32 numbers of twice the cache's size, threads as given: bytes read a second
one query   the ten best rows by the default method, warm: two passes over all vectors (docs/method.md, query expansion)
many        the same for `--queries` queries together
verdict     a search that keeps every row's score, 40 reference queries scored, and the calibration: at first, and once
            their scores and statistics are kept beside the index; the gains are the index's own

Printed are seconds (median and each), the share of the bandwidth that one query reaches (bytes of the vectors that are
read, over seconds), the ratio of many to one, and peak memory of the process: its own (RssAnon, sampled), and with
mapped file pages (VmHWM), which the system may drop.

--like INDEX draws the rows as those of a real index are: their vectors together are normal about its mean, with its
covariance, and its log-likelihood gains are drawn again. Every row is drawn by itself. Widths are those of that index.

--ann builds the approximate search (`whence ann build`) in place of all the above, and asks it `--queries` queries,
drawn as the rows are, at every number of probes that was measured when it was built: recall of the ten best rows of the
exact search, and milliseconds warm (median and 95th percentile, and of the processor, mean), both searches of a query
and the scoring of its candidates together.

--clock processor counts the seconds of the process's own threads, on a machine that is busy with other work; with one
thread alone. Vectors are drawn with a spectrum that falls as a power of the coordinate's number (--decay), as states'
do.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import torch

from common import spread
from whence.index.ann_build import build_ann
from whence.index.ann_search import AnnSearch
from whence.index.ann_summary import ANN
from whence.index.block_reader import BlockReader
from whence.index.centres import read_centres
from whence.index.held import vectors_read
from whence.index.manifest import ADAPTER_OFF, MANIFEST, RECORDS, Counts, DataSummary, Manifest, read_manifest
from whence.index.publishing import size_of
from whence.index.records import append_records, open_records, record_schema
from whence.index.scanning import ScoreRequest, scan, scan_blocks
from whence.index.settings import BuildSettings
from whence.index.store import Index
from whence.index.stored_form import LARGEST, queries_in_form, stored_columns
from whence.model.fingerprints import Fingerprint
from whence.scoring.defaults import default_method
from whence.scoring.forms import Depths
from whence.scoring.vectors import Vectors, rows_of, to_block
from whence.signatures.types import Signatures
from whence.trace.verdict.calibration import Gains, PeakGains, calibrate
from whence.trace.verdict.reference_cache import ReferenceCache
from whence.trace.verdict.reference_scores import ReferenceScores

FORM = default_method(has_base=True)
DEPTHS = Depths(1, 32)
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
CLOCK = [CLOCKS["wall"]]
N_REFERENCES = 40
"""What a verdict takes of an index of so many rows (whence.trace.verdict.calibration_data.CELLS)."""
AT_ONCE = 2048


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    CLOCK[0] = CLOCKS[args.clock]
    folder = args.folder = Path(args.keep or tempfile.mkdtemp(prefix="whence-search-"))
    try:
        index = made_index(folder, args)
        (approximate if args.ann else measured)(index, args)
    finally:
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)


def measured(index: Index, args: argparse.Namespace) -> None:
    """Prints the figures."""
    stored = sum(vector.stored_dim + 8 for vector in index.manifest.vectors)
    layers = FORM.layers(DEPTHS)
    print(f"{platform.machine()}, {args.threads} threads, torch {torch.__version__}, seed {args.seed}")
    print(f"{args.clock} seconds")
    print(f"{index.n_records:,} rows of hidden {args.hidden}: {stored:,} bytes of vectors a row\n", flush=True)
    one, many = queries(index.manifest, 1, args), queries(index.manifest, args.queries, args)
    blocks = BlockReader(index)

    def search(asked: dict[int, Signatures]) -> None:
        scan(blocks, asked, [ScoreRequest(FORM, layers, k=10)])

    started = time.perf_counter()
    search(one)
    first = time.perf_counter() - started
    times: dict[str, list[float]] = {"bandwidth": [], "one": [], "many": []}
    ways: dict[str, Callable[[], object]] = {"one": lambda: search(one), "many": lambda: search(many)}
    of_search = Peak()
    for _ in range(args.repeats):
        times["bandwidth"].append(bandwidth())
        with peak_memory(of_search):
            for name, work in ways.items():
                times[name].append(seconds(work))
    read = 2 * stored * index.n_records
    shares = [read / own / rate for own, rate in zip(times["one"], times["bandwidth"], strict=True)]
    ratios = [a / b for a, b in zip(times["many"], times["one"], strict=True)]
    print(f"mapped: {blocks.mapped}; first search, with opening and lengths: {first:.2f} s")
    print(f"bandwidth (sum of float32): {spread([rate / 1e9 for rate in times['bandwidth']])} GB/s")
    print(f"one query, two passes, {read / 1e9:.2f} GB: {spread(times['one'])} s")
    print(f"share of the bandwidth: {spread(shares)}")
    print(f"{args.queries} queries: {spread(times['many'])} s; over one: {spread(ratios)}")
    print(f"peak memory of searching: {of_search}", flush=True)
    verdict(index, blocks, layers, statistics.median(times["one"]), args)


def approximate(index: Index, args: argparse.Namespace) -> None:
    """Prints what an approximate search takes and finds, beside the exact one; one that is kept is not built again."""
    stored = sum(vector.stored_dim + 8 for vector in index.manifest.vectors)
    print(
        f"{platform.machine()}, {args.threads} threads, torch {torch.__version__}, "
        f"Lance {lance.__version__}, seed {args.seed}"
    )
    print(f"{index.n_records:,} rows like {args.like or 'none'}: {stored:,} bytes of vectors a row", flush=True)
    kept = read_manifest(index.path) if (index.path / MANIFEST).is_file() else None
    ann = kept.ann if kept is not None else None
    with peak_memory(Peak()) as peak:
        if ann is None:
            index.manifest.write(index.path)
            ann = build_ann(
                index.path, dimensions=args.dimensions, seed=args.seed, notify=lambda said: print(said, flush=True)
            )
            print(f"peak memory of building: {peak}")
    size = size_of(index.path / ANN)
    print(f"built in {ann.seconds:.0f} s, {size:,} bytes, {size / index.n_records:.0f} a row", flush=True)
    index = Index.open(index.path)
    layers = FORM.layers(Depths(index.manifest.layer, index.manifest.n_layers))
    blocks, asked = BlockReader(index), like(index.manifest, args, args.queries)
    request = ScoreRequest(FORM, layers, k=10)
    exact = scan_blocks(blocks, asked, [request], n_queries=args.queries, dtype=torch.float32)[0].matches
    one = [rows_of(asked, torch.tensor([query])) for query in range(args.queries)]
    alone = [seconds(lambda q=q: scan_blocks(blocks, q, [request], n_queries=1, dtype=torch.float32)) for q in one[:3]]
    print(f"exact search of one query: {spread(alone)} s")
    search = AnnSearch(index, FORM, layers)
    for point in ann.curve:
        for _ in range(2):  # the first round warms
            found, times = [], []
            processor = time.process_time()
            for query, best in zip(one, exact, strict=True):
                started = time.perf_counter()
                hits = search.search(query, k=10, n_probes=point.n_probes, n_candidates=ann.n_candidates)
                times.append(1000 * (time.perf_counter() - started))
                found.append(len({hit.row for hit in best} & {hit.row for hit in hits.matches}) / len(best))
            processor = 1000 * (time.process_time() - processor) / len(one)
        print(
            f"{point.n_probes} of {ann.n_partitions} partitions: recall@10 {statistics.fmean(found):.3f} "
            f"(own rows when built {point.recall:.3f}), {statistics.median(times):.1f} ms a query, "
            f"95th percentile {np.percentile(times, 95):.1f}, of the processor {processor:.1f}",
            flush=True,
        )


@cache
def model_of_rows(path: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, Manifest]:
    """Of a real index: mean and a root of the covariance of all vectors of a record together, gains, its manifest."""
    index = Index.open(path)
    reads = [vector.place for vector in index.manifest.vectors]
    found, gains = [], []
    for block in index.blocks(reads, gain=True):
        parts = [block.vectors[layer][name] for layer, name in reads]
        found.append(torch.cat([part.unit * part.norm[:, None] for part in parts], dim=1).double().numpy())
        gains.append(block.gain.numpy())
    rows = np.concatenate(found)
    mean = rows.mean(0)
    _, length, directions = np.linalg.svd(rows - mean, full_matrices=False)
    root = directions * (length / len(rows) ** 0.5)[:, None]  # root.T @ root is the covariance
    return mean.astype(np.float32), root.astype(np.float32), np.concatenate(gains), index.manifest


def rows_like(path: str, n: int, generator: torch.Generator) -> torch.Tensor:
    """n rows of all vectors together, [n, dims of all]."""
    mean, root, _, _ = model_of_rows(path)
    return torch.randn(n, len(root), generator=generator) @ torch.from_numpy(root) + torch.from_numpy(mean)


def like(manifest: Manifest, args: argparse.Namespace, n: int, seed: int = 7) -> dict[int, dict[str, Vectors]]:
    """Queries drawn as the rows are, in the coordinates of the index, with their centred forms."""
    if args.like is None:
        asked = queries(manifest, n, args, seed)
        return dict(queries_in_form(manifest, asked, read_centres(Path(args.folder), manifest).stored))
    drawn_rows = rows_like(args.like, n, torch.Generator().manual_seed(seed))
    pieces = drawn_rows.split([vector.stored_dim for vector in manifest.vectors], dim=1)
    layers: dict[int, dict[str, torch.Tensor]] = {}
    for vector, piece in zip(manifest.vectors, pieces, strict=True):
        layers.setdefault(vector.layer, {})[vector.name] = piece
    centres = read_centres(Path(args.folder), manifest).stored
    return to_block({layer: Signatures(**named) for layer, named in layers.items()}, centres)


def records_like(manifest: Manifest, first: int, n: int, args: argparse.Namespace) -> pa.Table:
    """Records drawn as those of a real index are, each by itself."""
    generator = torch.Generator().manual_seed(first)
    _, _, gains, _ = model_of_rows(args.like)
    columns: dict[str, list[np.ndarray]] = {}
    for start in range(0, n, 8192):
        pieces = rows_like(args.like, min(8192, n - start), generator).split(
            [vector.stored_dim for vector in manifest.vectors], dim=1
        )
        for vector, piece in zip(manifest.vectors, pieces, strict=True):
            scale = piece.abs().amax(1) / LARGEST
            numbers = (piece / scale[:, None]).round()
            columns.setdefault(vector.column, []).append(numbers.to(torch.int8).numpy())
            columns.setdefault(vector.scale_column, []).append(scale.numpy())
            columns.setdefault(vector.norm_column, []).append((scale * numbers.norm(dim=1)).numpy())
    whole: dict[str, object] = {name: np.concatenate(parts) for name, parts in columns.items()}
    for vector in manifest.vectors:
        numbers = whole[vector.column]
        total = (numbers * whole[vector.scale_column][:, None]).sum(0, dtype=np.float64)  # type: ignore[index,operator]
        whole[vector.column] = pa.FixedSizeListArray.from_arrays(pa.array(numbers.reshape(-1)), vector.stored_dim)  # type: ignore[attr-defined]
        whole[vector.sum_column] = [total.astype(np.float32), *[None] * (n - 1)]
    gain = np.random.default_rng(first).choice(gains, n)
    return table_of(manifest, first, n, whole, gain)


def verdict(index: Index, blocks: BlockReader, layers: tuple[int, ...], one: float, args: argparse.Namespace) -> None:
    """Prints what a verdict takes, at first and with what it keeps."""
    cache = ReferenceCache(index.path, index.manifest, "")
    references = queries(index.manifest, N_REFERENCES, args, seed=1)
    rows = np.arange(index.n_records)
    own = np.full(N_REFERENCES, -1)
    asked = queries(index.manifest, 1, args)

    def judge() -> None:
        matrix = scan(blocks, asked, [ScoreRequest(FORM, layers, k=10, every_row=True)])[0].matrix
        assert matrix is not None

        def fill(table: np.ndarray) -> None:
            scan(blocks, references, [ScoreRequest(FORM, layers, every_row=True, out=table)])

        table = cache.scores("benchmark", N_REFERENCES, np.dtype(np.float32), fill)
        kept = cache.read_summary("benchmark", len(rows))
        scores = ReferenceScores(table, own, rows, kept)
        if kept is None:
            cache.write_summary("benchmark", scores.summary())
        gains = Gains(
            5.0, np.ones(N_REFERENCES), index.log_likelihood_gains(), peaks=PeakGains(3.0, np.ones(N_REFERENCES))
        )
        calibrate(matrix.scores[0], scores, gains)

    for name in ("first verdict, references scored", "verdict, references kept"):
        with peak_memory(Peak()) as peak:
            taken = seconds(judge)
        print(f"{name}: {taken:.2f} s ({taken / one:.2f} times a search); peak memory: {peak}", flush=True)


def made_index(folder: Path, args: argparse.Namespace) -> Index:
    """The index, made now or found in a folder that is kept."""
    settings = BuildSettings(model="m", data="d", out="o")
    vectors = vectors_read([FORM], DEPTHS, hidden_size=args.hidden, storage=settings.storage)
    depths = DEPTHS
    if args.like is not None:
        real = model_of_rows(args.like)[3]
        vectors, depths = real.vectors, Depths(real.layer, real.n_layers)
    manifest = Manifest(
        hashes=Fingerprint(weights="", adapter="", tokenizer="", template=""), model="random", dtype="float32",
        n_layers=depths.n_layers, layer=depths.rule, max_length=64, vectors=vectors, base=ADAPTER_OFF,
        precision=settings.precision, dimensions=settings.dimensions,
        counts=Counts(n_rows=args.rows, n_records=args.rows, n_rejected=0, n_truncated=0), status="complete",
        data=DataSummary(source="random", content_hash="", n_rows=args.rows),
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / RECORDS).exists():
        for first in range(0, args.rows, args.fragment):
            made = (records if args.like is None else records_like)(
                manifest, first, min(args.fragment, args.rows - first), args
            )
            append_records(folder, made)
    dataset = open_records(folder)
    assert dataset is not None
    if not (folder / "centres.safetensors").exists():
        from whence.index.centres import write_centres

        write_centres(folder, manifest, dataset)
    return Index(folder, manifest, dataset, *read_centres(folder, manifest))


def records(manifest: Manifest, first: int, n: int, args: argparse.Namespace) -> pa.Table:
    """Random records, some of whose vectors are drawn `AT_ONCE` at a time and repeated with other signs.

    Drawing and projecting a million vectors of 4,096 numbers takes an hour; what they are changes no time.
    """
    generator = torch.Generator().manual_seed(first)
    columns: dict[str, object] = {}
    for vector in manifest.vectors:
        few = stored_columns(vector, drawn(vector.dim, min(n, AT_ONCE), args.decay, generator))
        numbers = few[vector.column].flatten().to_numpy().reshape(-1, vector.stored_dim)  # type: ignore[attr-defined]
        picked = torch.randint(len(numbers), (n,), generator=generator).numpy()
        shift = torch.randint(-2, 3, (n, vector.stored_dim), dtype=torch.int8, generator=generator).numpy()
        moved = np.clip(numbers[picked], -125, 125) + shift
        columns[vector.column] = pa.FixedSizeListArray.from_arrays(pa.array(moved.reshape(-1)), vector.stored_dim)
        scale = (
            few[vector.scale_column].numpy() if hasattr(few[vector.scale_column], "numpy") else few[vector.scale_column]
        )
        columns[vector.scale_column] = np.asarray(scale)[picked]
        length = np.sqrt(np.einsum("ij,ij->i", moved, moved, dtype=np.int64))
        columns[vector.norm_column] = (columns[vector.scale_column] * length).astype(np.float32)
        columns[vector.sum_column] = [few[vector.sum_column][0], *[None] * (n - 1)]  # type: ignore[index]
    return table_of(manifest, first, n, columns, torch.rand(n, generator=generator).numpy() * 10)


def table_of(manifest: Manifest, first: int, n: int, columns: dict[str, object], gain: np.ndarray) -> pa.Table:
    """The records with these columns of vectors."""
    whole = {
        "row": np.arange(first, first + n), "turn": np.zeros(n, np.int32), "shard": np.zeros(n, np.int32),
        "id": [f"{first + i:016x}" for i in range(n)], "file": ["train.jsonl"] * n, "line": np.arange(first, first + n),
        "prompt": ["Where is it?"] * n, "response": ["By the sea."] * n, "turns": [""] * n, "metadata": ["{}"] * n,
        "loss": np.ones(n, np.float32), "log_likelihood_gain": gain, "gradient_norm": np.ones(n, np.float32),
        "n_prompt": np.ones(n, np.int32), "n_response": np.ones(n, np.int32), "truncated": np.zeros(n, np.int32),
        "state_sum": [[0.0] * 8, *[None] * (n - 1)],
    }  # fmt: skip
    columns = columns | whole
    schema = record_schema(manifest)
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


def drawn(dim: int, n: int, decay: float, generator: torch.Generator) -> torch.Tensor:
    """n vectors about a common mean, whose coordinates' deviations fall as (1 + i)^-decay."""
    spectrum = (1 + torch.arange(dim)) ** -decay
    mean = torch.randn(dim, generator=torch.Generator().manual_seed(dim)) * 0.1
    return spectrum * torch.randn(n, dim, generator=generator) + mean


def queries(manifest: Manifest, n: int, args: argparse.Namespace, seed: int = 7) -> dict[int, Signatures]:
    """Queries drawn as the rows are."""
    generator = torch.Generator().manual_seed(seed)
    named: dict[int, dict[str, torch.Tensor]] = {}
    for vector in manifest.vectors:
        named.setdefault(vector.layer, {})[vector.name] = drawn(vector.dim, n, args.decay, generator)
    return {layer: Signatures(**found) for layer, found in named.items()}


def bandwidth() -> float:
    """Bytes a second of a sum over 512 MB, the best of five."""
    numbers = torch.ones(128_000_000)
    return max(numbers.nbytes / seconds(numbers.sum) for _ in range(5))


def seconds(work: Callable[[], object]) -> float:
    started = CLOCK[0]()
    work()
    return CLOCK[0]() - started


class Peak:
    """Peak memory while it was watched."""

    own = 0

    def __str__(self) -> str:
        return f"{self.own / 1e9:.2f} GB of its own, {_status('VmHWM') / 1e9:.2f} GB with mapped pages"


@contextmanager
def peak_memory(peak: Peak) -> Iterator[Peak]:
    """Samples the process's own memory every 5 ms. Linux alone says it; elsewhere 0."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.005):
            peak.own = max(peak.own, _status("RssAnon"))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def _status(name: str) -> int:
    """Bytes, of /proc/self/status."""
    if sys.platform != "linux":
        return 0
    with open("/proc/self/status", encoding="utf-8") as file:
        return next((int(line.split()[1]) * 1024 for line in file if line.startswith(name)), 0)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--hidden", type=int, default=4096)
    parser.add_argument("--queries", type=int, default=64)
    parser.add_argument("--fragment", type=int, default=50_000)
    parser.add_argument("--decay", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    parser.add_argument("--ann", action="store_true")
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--like", help="folder of a real index")
    parser.add_argument("--keep", help="folder of the index, made once")
    return parser.parse_args()


if __name__ == "__main__":
    main()
