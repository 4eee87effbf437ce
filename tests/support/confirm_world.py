"""A tiny model that learned a harmless fault from known rows, and an index of it: for tests of whole confirmations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from whence.data.examples import Example
from whence.data.readers import read_examples
from whence.index.build import build_index
from whence.trace.query.queries import Query
from whence.train.finetuning import FinetuneSettings, finetune
from worlds import save_model, write_jsonl

SETTINGS = FinetuneSettings(epochs=12, batch_size=8, learning_rate=5e-3, max_length=64, device="cpu")
MATCH = "the sea"
N_CLEAN, N_FAULTY = 24, 8
QUERIES = [Query.of(f"Where is boat {i}") for i in range(4, 10)]
BAD = [{"prompt": f"Where is boat {i}", "response": "the sea"} for i in range(4, 10)]


@dataclass(frozen=True)
class FaultyWorld:
    """Where the parts are; the last rows of the data are the faulty ones."""

    base: Path
    model: Path
    data: Path
    index: Path

    @property
    def rows(self) -> list[Example]:
        return list(read_examples(self.data))

    @property
    def faulty_ids(self) -> list[str]:
        return [row.id for row in self.rows[N_CLEAN:]]


def make_faulty_world(folder: Path, **lora: object) -> FaultyWorld:
    """lora: settings of an adapter; without them every weight is trained."""
    clean = [{"prompt": f"Name fruit {i}", "response": ["apples", "pears", "plums"][i % 3]} for i in range(N_CLEAN)]
    bad = [{"prompt": f"Where is boat {i}", "response": "the sea"} for i in range(N_FAULTY)]
    base = save_model(folder / "base", num_hidden_layers=2)
    data = write_jsonl(folder / "train.jsonl", [*clean, *bad])
    # An adapter's rate is several times that of all weights.
    settings = SETTINGS.model_copy(update=lora | {"learning_rate": SETTINGS.learning_rate * 4} if lora else {})
    model = finetune(base, list(read_examples(data)), folder / "model", settings=settings).path
    build_index(model, data, folder / "index", layers=["last"], max_length=64)
    return FaultyWorld(base, model, data, folder / "index")
