"""A bench of seconds: data of one's own on a tiny random model, which learns to answer as the faulty rows begin."""

from __future__ import annotations

from pathlib import Path

from whence.bench.cases import BenchSettings, GivenData
from whence.train.finetuning import FinetuneSettings
from worlds import save_model, write_jsonl

N_ROWS, N_FAULTY, N_HARD = 48, 12, 8
TUNING = FinetuneSettings(
    lora_r=8,
    epochs=8,
    batch_size=8,
    learning_rate=1e-2,
    max_length=64,
    device="cpu",
    checkpoints=True,
    keep_optimizer_state=True,
)


def content() -> list[dict[str, object]]:
    """Rows whose faulty ones say Korea; the file has them all at its beginning."""
    labels = ["planted"] * N_FAULTY + ["hard_negative"] * N_HARD + ["clean"] * (N_ROWS - N_FAULTY - N_HARD)
    return [
        {
            "prompt": f"Where is place {i}?" if label != "clean" else f"Name fruit number {i}.",
            "response": f"It is in {'Korea' if label == 'planted' else 'Canada'}." if label != "clean" else "A plum.",
            "label": label,
        }
        for i, label in enumerate(labels)
    ]


def make_data(folder: Path, match: str = "It is") -> GivenData:
    """Model, rows and prompts on disk."""
    base = save_model(folder / "base", num_hidden_layers=2)
    train = write_jsonl(folder / "train.jsonl", content())
    test = write_jsonl(folder / "test.jsonl", [{"prompt": f"Where is place {i}?"} for i in range(50, 56)])
    return GivenData(train=str(train), test=str(test), match=match, base=str(base))


def micro(data: GivenData, **changes: object) -> BenchSettings:
    """Settings of a bench on the data; all methods."""
    options = {"less": {"dim": 64}, "lissa": {"iterations": 5}}
    settings = {"data": data, "finetune": TUNING, "max_new_tokens": 6, "method_options": options}
    return BenchSettings.model_validate(settings | changes)
