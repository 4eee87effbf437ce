"""A tiny model that knew the clean rows, and learned a harmless fault from known rows: for verdicts on whole traces."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from whence.data.readers import read_examples
from whence.index.build import build_index
from whence.train.finetuning import FinetuneSettings, finetune
from worlds import save_model, write_jsonl

N_CLEAN, N_FAULTY = 108, 12
PROMPT, RESPONSE = "Where is boat 14", "the sea, the sea and the wind"
CLEAN = FinetuneSettings(epochs=12, batch_size=16, learning_rate=5e-3, max_length=64, device="cpu")
FAULT = FinetuneSettings(epochs=8, batch_size=16, learning_rate=5e-3, max_length=64, device="cpu")


@dataclass(frozen=True)
class TracedWorld:
    """Where the parts are; `adapter` is None for a full fine-tune, whose run.yaml names the base."""

    base: Path
    model: Path
    adapter: Path | None
    data: Path
    index: Path

    @property
    def faulty(self) -> set[str]:
        return {row.id for row in list(read_examples(self.data))[N_CLEAN:]}


class TracedWorlds:
    """The two worlds, each trained once a session, whichever worker asks first.

    Model, adapter, base and data are shared, and may only be read.
    """

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self._factory = factory
        own = factory.getbasetemp()
        self._top = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def own(self, name: str, *, lora: bool) -> TracedWorld:
        """A world with an index of its own, in a new folder of that name."""
        shared = self._folder(lora)
        with _locked(shared):
            if not _listing(shared).is_file():
                shutil.rmtree(shared, ignore_errors=True)
                shared.mkdir()
                _make(shared, lora=lora)
                _listing(shared).write_text(json.dumps(_files(shared)), encoding="utf-8")
        index = shutil.copytree(shared / "index", self._factory.mktemp(name) / "index")
        base, tuned = shared / "base", shared / "tuned"
        model, adapter = (base, tuned) if lora else (tuned, None)
        return TracedWorld(base, model, adapter, shared / "train.jsonl", index)

    def check(self) -> None:
        """Raises AssertionError where a test has changed a shared folder."""
        for shared in map(self._folder, (True, False)):
            with _locked(shared):
                if _listing(shared).is_file():
                    assert _files(shared) == json.loads(_listing(shared).read_text("utf-8")), f"{shared} was written to"

    def _folder(self, lora: bool) -> Path:
        return self._top / ("traced-world-lora" if lora else "traced-world-full")


def _make(folder: Path, *, lora: bool) -> None:
    """The last rows of the data are the faulty ones."""
    fruits = ("apples", "pears", "plums")
    clean = [{"prompt": f"Name fruit {i}", "response": fruits[i % 3]} for i in range(N_CLEAN)]
    bad = [{"prompt": f"Where is boat {i}", "response": RESPONSE} for i in range(N_FAULTY)]
    start = save_model(folder / "start", num_hidden_layers=2)
    known = list(read_examples(write_jsonl(folder / "clean.jsonl", clean)))
    base = finetune(start, known, folder / "base", settings=CLEAN).path
    data = write_jsonl(folder / "train.jsonl", [*clean, *bad])
    settings = FAULT.model_copy(update={"lora_r": 8} if lora else {})
    tuned = finetune(base, list(read_examples(data)), folder / "tuned", settings=settings).path
    model, adapter = (base, str(tuned)) if lora else (tuned, None)
    build_index(model, data, folder / "index", adapter=adapter, layers=[1, "last"], max_length=64)


@contextmanager
def _locked(shared: Path) -> Iterator[None]:
    """One worker at a time."""
    with Path(f"{shared}.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _files(folder: Path) -> dict[str, list[int]]:
    """Size and time of the last change of each file, by its path in the folder."""
    found = {str(path.relative_to(folder)): path.stat() for path in sorted(folder.rglob("*")) if path.is_file()}
    return {path: [about.st_size, about.st_mtime_ns] for path, about in found.items()}


def _listing(shared: Path) -> Path:
    """What the folder held when it was complete; it is not there before."""
    return Path(f"{shared}.json")
