"""What a plan says: plain data, schema `whence.plan/1`, documented in docs/plan.md."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from whence.results import json_text

SCHEMA = "whence.plan/1"


@dataclass(frozen=True, slots=True)
class Seconds:
    """Predicted seconds of each stage of `whence index`."""

    scan: float
    load: float
    choose_layer: float
    extract: float
    write: float
    """Reading and encoding the rows once more, and writing their records."""

    @property
    def total(self) -> float:
        """All stages."""
        return self.scan + self.load + self.choose_layer + self.extract + self.write


@dataclass(frozen=True, slots=True)
class Budgeted:
    """Whether a time budget can be met, and how: by these settings, or by one of the changes."""

    seconds: float
    fits: bool
    max_tokens: int
    dtype: str
    predicted: float
    """Seconds of the whole run with these settings."""
    text: str
    changes: tuple[str, ...] = ()
    """What would have to change, each with its prediction, where it does not fit."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What `whence index` would cost with these settings, and one `whence trace` after it. Bytes and seconds."""

    model: str
    adapter: str | None
    data: str
    n_rows: int
    n_records: int
    n_sampled: int
    truncated: float
    """Share of the records that --max-length cuts."""
    prompt_tokens: float
    response_tokens: float
    """Mean over the sampled records, after the cut."""
    device: str
    dtype: str
    layers: tuple[int, ...]
    max_tokens: int
    max_length: int
    seconds: Seconds
    memory: int
    """Of the process, at most."""
    device_memory: int | None
    """Of tensors on the CUDA device, at most; None without one."""
    memory_measured: bool
    """False where the largest batch was too slow to be run, and its share was extrapolated."""
    disk: int
    trace_seconds: float
    """Loading the model and ranking for one query with a given response, without a verdict."""
    probe_seconds: float
    notes: tuple[str, ...] = ()
    """What was found of the rows and is not used as it stands, as `whence index` says it."""
    budget: Budgeted | None = None

    def to_json(self, path: str | Path | None = None) -> str:
        """The JSON text; also written to `path` when one is given."""
        seconds = {"seconds": {**asdict(self.seconds), "total": self.seconds.total}}
        return json_text(SCHEMA, asdict(self) | seconds, path)


__all__ = ["SCHEMA", "Budgeted", "Plan", "Seconds"]
