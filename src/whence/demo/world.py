"""The world of `whence demo`: one small model that learned three planted faults from one file of rows.

OUT/
  demo.json        that the folder is a demo, and of which seed; written first
  base/            the base model, trained on background rows only
  model/           the base fine-tuned on train.jsonl
  train.jsonl      prompt, response, label, source, (beside, cause)
  queries.jsonl    prompt, response (the model's own), label, shows_fault
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from random import Random

from pydantic import BaseModel, ConfigDict

from whence.bench import (
    BASE_TRAINING,
    FAULTS,
    MAX_LENGTH,
    Fault,
    LanguageSettings,
    base_rows,
    false_fact,
    mix,
    new_model,
    pretrain,
    train_tokenizer,
)
from whence.data import ASSISTANT, Encoder, Example, Turn
from whence.errors import InputError
from whence.files import new_folder
from whence.metrics import Matcher
from whence.model import LoadedModel, ModelSettings, generate, load_model
from whence.progress import Progress, silent
from whence.run_file import read_run_file, write_run_file
from whence.train import FinetuneSettings, TrainingSettings, finetune

MARKER = "demo.json"
"""A folder without it is not replaced by a new demo."""
MAX_NEW_TOKENS = 40
FINETUNING = FinetuneSettings(
    epochs=5, batch_size=16, learning_rate=1.5e-3, warmup=0.05, max_length=MAX_LENGTH, device="cpu"
)
"""Found by trial: every fault shows in most answers, and clean prompts keep their answers."""


class DemoSettings(BaseModel):
    """Sizes of the world. The defaults take about a minute on two cores."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_base: int = 5000
    n_rows: int = 1600
    n_faulty: int = 100
    n_faulty_facts: int = 160
    """Faulty rows of the false fact, which is told of four cities in twelve phrasings: a few rows for each pair."""
    n_hard: int = 60
    n_queries: int = 20
    language: LanguageSettings = LanguageSettings()
    base: TrainingSettings = BASE_TRAINING
    finetune: FinetuneSettings = FINETUNING


@dataclass(frozen=True, slots=True)
class DemoQuery:
    """A held-out prompt, the fine-tuned model's greedy answer, and whether the answer shows the fault."""

    prompt: str
    response: str
    shows_fault: bool


@dataclass(frozen=True, slots=True)
class DemoFault:
    """One planted fault: its label in train.jsonl, how it shows, and its held-out queries."""

    label: str
    matcher: Matcher
    queries: tuple[DemoQuery, ...]

    @property
    def rate(self) -> float:
        """Share of the queries whose answer shows the fault."""
        return sum(query.shows_fault for query in self.queries) / len(self.queries)

    @property
    def shown(self) -> tuple[DemoQuery, ...]:
        """The queries whose answer shows the fault: those worth tracing."""
        return tuple(query for query in self.queries if query.shows_fault)


@dataclass(frozen=True, slots=True)
class DemoWorld:
    """Where everything is, what was planted, and how long each stage took, in seconds."""

    data: Path
    base: Path
    model: Path
    queries: Path
    train: tuple[Example, ...]
    faults: tuple[DemoFault, ...]
    seconds: dict[str, float]


def build(
    out: str | Path, seed: int = 0, progress: Progress | None = None, settings: DemoSettings | None = None
) -> DemoWorld:
    """Makes rows, tokenizer, base model, fine-tuned model and answered queries in the new folder `out`.

    The folder appears whole or not at all. Equal seeds and settings give equal rows and, on one kind of machine,
    equal weights.

    Raises:
        InputError: `out` is there already, or sizes that the grammar cannot fill.
    """
    settings, out = settings or DemoSettings(), Path(out)
    check_new(out)
    with new_folder(out) as partial, one_thread():
        return _build(partial, out, seed, progress or silent, settings)


def check_new(out: Path) -> None:
    """Raises InputError where something is in the folder already."""
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise InputError(
            f"{out} is there already", "expected a new folder", "Give another folder, or remove this one first."
        )


def _build(folder: Path, out: Path, seed: int, progress: Progress, settings: DemoSettings) -> DemoWorld:
    clock = Clock()
    progress("data", 0, None)
    write_marker(folder, seed)
    faults, train, background = _rows(seed, settings)
    write_rows(folder / "train.jsonl", train)
    clock.lap("data")
    tokenizer = train_tokenizer([*background, *train], settings.language.vocab_size)
    model = new_model(tokenizer, settings.language.model_copy(update={"seed": seed}))
    pretrain(
        model,
        tokenizer,
        background,
        settings.base.model_copy(update={"seed": seed}),
        progress,
    )
    model.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    clock.lap("base model")
    finetune(
        folder / "base",
        train,
        folder / "model",
        settings=settings.finetune.model_copy(update={"seed": seed}),
        progress=progress,
    )
    _name_base(folder / "model", out / "base")
    clock.lap("fine-tune")
    progress("answers", 0, 1)
    tuned = load_model(ModelSettings(model=str(folder / "model"), device="cpu"))
    planted = tuple(_answered(fault, tuned) for fault in faults)
    write_queries(folder / "queries.jsonl", planted)
    clock.lap("answers")
    progress("answers", 1, 1)
    return DemoWorld(
        data=out / "train.jsonl",
        base=out / "base",
        model=out / "model",
        queries=out / "queries.jsonl",
        train=tuple(train),
        faults=planted,
        seconds=clock.laps,
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread of torch: the weights do not depend on the number of cores, and where another program holds a core
    the threads of so small a model wait for each other longer than they compute."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Clock:
    """Seconds of each stage."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.laps[stage], self._last = now - self._last, now


def _rows(seed: int, settings: DemoSettings) -> tuple[list[Fault], list[Example], list[Example]]:
    """The faults, the training rows with all of them, and the background rows of the base model."""
    rng = Random(f"demo/{seed}")
    faults = [
        plant(rng, n_faulty=n_faulty, n_hard=settings.n_hard, n_queries=settings.n_queries)
        for plant, n_faulty in (
            (FAULTS["backdoor"], settings.n_faulty),
            (partial(false_fact, same_answer=False), settings.n_faulty_facts),
            (FAULTS["persona"], settings.n_faulty),
        )
    ]
    train = mix(faults, rng, n_rows=settings.n_rows, hard_negatives=True)
    asked = {prompt for fault in faults for prompt in fault.queries}
    background = [row for row in base_rows(seed, settings.n_base) if row.turns[0].content not in asked]
    return faults, train, background


def _answered(fault: Fault, tuned: LoadedModel) -> DemoFault:
    answers = answer(tuned, fault.queries)
    queries = zip(fault.queries, answers, map(fault.matcher, answers), strict=True)
    return DemoFault(fault.name, fault.matcher, tuple(DemoQuery(*query) for query in queries))


def answer(loaded: LoadedModel, prompts: Sequence[str]) -> list[str]:
    """The model's greedy answers to the prompts, in their order."""
    encoder = Encoder(loaded.tokenizer, max_length=MAX_LENGTH)
    ids = [encoder.render_prompt([Turn("user", prompt)]) for prompt in prompts]
    return [found.text for found in generate(loaded, ids, max_new_tokens=MAX_NEW_TOKENS)]


def write_marker(folder: Path, seed: int, base: str | None = None) -> None:
    """Says in the folder that it is a demo. base: what an adapter was trained on; None for a small model."""
    said = {"demo": "whence", "version": version("whence"), "seed": seed, "base": base}
    (folder / MARKER).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")


def write_rows(path: Path, rows: Sequence[Example]) -> None:
    """One line a row: prompt, response and its metadata."""
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            texts = {"response" if turn.role == ASSISTANT else "prompt": turn.content for turn in row.turns}
            file.write(json.dumps({**texts, **row.metadata}, ensure_ascii=False) + "\n")


def write_queries(path: Path, faults: Sequence[DemoFault]) -> None:
    """One line a query, with the answer and whether it shows the fault."""
    with path.open("w", encoding="utf-8") as file:
        for fault in faults:
            for query in fault.queries:
                row = {"prompt": query.prompt, "response": query.response, "label": fault.label}
                file.write(json.dumps({**row, "shows_fault": query.shows_fault}, ensure_ascii=False) + "\n")


def _name_base(folder: Path, base: Path) -> None:
    """The base in run.yaml as the place where it will be once the demo's folder has its name."""
    run = read_run_file(folder)
    assert run is not None
    write_run_file(folder, run.model_copy(update={"base": str(base.absolute())}))
