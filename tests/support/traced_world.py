"""A tiny model that knew the clean rows, and learned a harmless fault from known rows: for verdicts on whole traces."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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


def make_traced_world(folder: Path, *, lora: bool) -> TracedWorld:
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
    model, adapter = (base, tuned) if lora else (tuned, None)
    build_index(model, data, folder / "index", adapter=adapter and str(adapter), layers=[1, "last"], max_length=64)
    return TracedWorld(base, model, adapter, data, folder / "index")
