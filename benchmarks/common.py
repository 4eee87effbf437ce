"""What several scripts of this folder use: times, data files, the default form's vectors, a case's folder."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from whence.bench.natural import CLEAN, HARD_NEGATIVE
from whence.data import ASSISTANT, Encoder, Example, read_examples
from whence.model import LoadedModel, ModelSettings, load_model
from whence.scoring import Depths, default_method
from whence.signatures import Extractor
from whence.trace import Query, read_queries


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def spread(values: Sequence[float]) -> str:
    """The median, and each."""
    return f"{statistics.median(values):.3g} (" + ", ".join(f"{value:.3g}" for value in values) + ")"


def as_row(row: Example) -> dict[str, object]:
    """One line of a data file."""
    texts = {"response" if turn.role == ASSISTANT else "prompt": turn.content for turn in row.turns}
    return {**texts, **row.metadata}


def write_lines(path: Path, rows: Sequence[dict[str, object]]) -> None:
    """JSON lines."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def default_extractor(tuned: LoadedModel, base: LoadedModel | None, max_tokens: int) -> Extractor:
    """Reads the vectors of the default form with a base, the inner layer being one at a fifteenth of the depth."""
    form = default_method(has_base=True)
    layers = form.layers(Depths(rule=max(1, tuned.n_layers // 15), n_layers=tuned.n_layers))
    return Extractor(tuned, vectors=form.vectors(layers), max_tokens=max_tokens, contrast=True, base=base)


class GivenCase(NamedTuple):
    """A case of a pretrained model, opened."""

    loaded: LoadedModel
    encoder: Encoder
    rows: list[Example]
    faulty: Bool[np.ndarray, " n_row"]
    queries: list[Query]
    """The answers that show the fault."""


def given_case(folder: Path, base: str, max_length: int) -> GivenCase:
    """Opens a case's folder, of `whence bench --base` or of benchmarks/real_models.py."""
    loaded = load_model(ModelSettings(model=base, adapter=str(folder / "adapter")))
    rows = list(read_examples(folder / "train.jsonl"))
    faulty = np.array([row.metadata["label"] not in (CLEAN, HARD_NEGATIVE) for row in rows])
    queries = [query for query in read_queries(folder / "queries.jsonl") if query.metadata.get("shows_fault", True)]
    return GivenCase(loaded, Encoder(loaded.tokenizer, max_length=max_length), rows, faulty, queries)
