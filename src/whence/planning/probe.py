"""The probe: a sample of the data encoded, and batches of it timed on the real model."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from random import Random
from statistics import median

from whence.data import EncodedTurn, Encoder, Example
from whence.errors import DataError, EncodingError
from whence.model import LoadedModel
from whence.planning.costs import BatchShape, Costs, fit_costs, layout, shape_of
from whence.planning.memory import device_peak_bytes, forget_device_peak, held_bytes, peak_bytes
from whence.progress import Progress
from whence.signatures import Extractor, Place

SAMPLE_ROWS = 1024
"""As many as a shard has by default: the sample's batches are then those of a shard of the data."""
TIMED_BATCHES = 12
REPEATS = 3
MEASURE_SECONDS = 12.0
"""Time for batches. Loading, reading and writing come on top; together they stay within half a minute."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows drawn at random, encoded. `read_seconds`: of reading all rows; `encode_seconds`: of encoding one row."""

    rows: tuple[tuple[Example, tuple[EncodedTurn, ...]], ...]
    n_drawn: int
    """Rows drawn; those that could not be encoded are not among `rows`."""
    read_seconds: float
    encode_seconds: float

    @property
    def turns(self) -> list[tuple[EncodedTurn, ...]]:
        """The turns of each row."""
        return [turns for _, turns in self.rows]


def draw_sample(examples: Iterable[Example], encoder: Encoder, *, n_rows: int, seed: int) -> Sample:
    """At most SAMPLE_ROWS rows in the order of the data. Raises DataError when none of them can be encoded."""
    drawn = set(Random(seed).sample(range(n_rows), min(SAMPLE_ROWS, n_rows)))
    started = time.perf_counter()
    kept = [example for row, example in enumerate(islice(examples, n_rows)) if row in drawn]
    read = time.perf_counter()
    rows, reason = [], ""
    for example in kept:
        try:
            rows.append((example, tuple(encoder.encode(example))))
        except EncodingError as error:
            reason = reason or str(error)
    if not rows:
        raise DataError(
            f"None of {len(kept)} sampled rows can be encoded; the first: {reason}", "An index needs rows.", ""
        )
    return Sample(tuple(rows), len(kept), read - started, (time.perf_counter() - read) / max(1, len(kept)))


@dataclass(frozen=True, slots=True)
class Peak:
    """Most memory: of the process, and of tensors on the CUDA device (None without one), in bytes.

    `measured` is False where the largest batch was not run, for want of time, and its share was extrapolated.
    """

    process: int
    device: int | None
    measured: bool


@dataclass(slots=True)
class Timings:
    """Timed batches of one model at some layers, growing with each layout that is tried."""

    shapes: list[BatchShape] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def costs(self) -> Costs:
        """The cost model of what was timed."""
        return fit_costs(self.shapes, self.seconds)


def time_batches(
    loaded: LoadedModel,
    vectors: Sequence[Place],
    groups: Sequence[Sequence[EncodedTurn]],
    *,
    max_tokens: int,
    seconds: float = MEASURE_SECONDS,
    known: Timings | None = None,
    tell: Progress | None = None,
    contrast: bool = False,
    base: LoadedModel | None = None,
) -> tuple[Timings, Peak]:
    """Times batches of many lengths, the shortest first, for about that many seconds, the largest among them.

    vectors: what the build stores. groups: the batches of a build with `max_tokens`. known: timings to add to.
    contrast, base: as of `Extractor`. A batch that would not fit into the time left, judged by those before it, is
    left out; memory is then extrapolated from the largest that was run.
    """
    extractor = Extractor(loaded, vectors=vectors, max_tokens=max_tokens, contrast=contrast, base=base)
    timings = known or Timings()
    groups = sorted(groups, key=lambda group: shape_of(group).tokens)
    largest = shape_of(groups[-1]).tokens
    chosen = _spread(groups, TIMED_BATCHES)
    before = held_bytes()
    forget_device_peak()
    on_device = device_peak_bytes(loaded.device)
    end = time.perf_counter() + seconds
    # Threads, caches and kernels start with the first call; it is not counted.
    _timed(extractor, groups[0][:1])
    rate = _timed(extractor, groups[0][:1]) / shape_of(groups[0][:1]).tokens
    ran = 0
    for number, group in enumerate([groups[0][:1], *chosen]):
        shape = shape_of(group)
        left = end - time.perf_counter()
        if number and rate * shape.tokens > left:
            continue
        times = [_timed(extractor, group)]
        while len(times) < REPEATS and sum(times) + times[0] < left / (len(chosen) + 1 - number):
            times.append(_timed(extractor, group))
        timings.shapes.append(shape)
        timings.seconds.append(median(times))
        rate, ran = timings.seconds[-1] / shape.tokens, max(ran, shape.tokens)
        if tell is not None:
            tell("timing batches", number + 1, len(chosen) + 1)
    grown = largest / ran if ran < largest else 1.0
    process = max(peak_bytes(), before + round((peak_bytes() - before) * grown))
    device = device_peak_bytes(loaded.device)
    if device is not None and on_device is not None:
        device = on_device + round((device - on_device) * grown)
    return timings, Peak(process, device, measured=ran == largest)


def build_batches(sample: Sample, *, shard_rows: int, max_tokens: int) -> list[list[EncodedTurn]]:
    """The batches that a build would make of the sample's rows."""
    return list(layout(sample.turns, shard_rows=shard_rows, max_tokens=max_tokens))


def _spread(groups: Sequence[Sequence[EncodedTurn]], n: int) -> list[Sequence[EncodedTurn]]:
    """At most n of the groups, evenly spread, the last (largest) among them."""
    if len(groups) <= n:
        return list(groups)
    return [groups[round(i * (len(groups) - 1) / (n - 1))] for i in range(n)]


def _timed(extractor: Extractor, turns: Sequence[EncodedTurn]) -> float:
    started = time.perf_counter()
    extractor.extract(turns)
    return time.perf_counter() - started


__all__ = ["Peak", "Sample", "Timings", "build_batches", "draw_sample", "time_batches"]
