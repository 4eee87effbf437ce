"""Rows to plant faults in, and a tiny base, for tests of the bench on a base and rows of the user's own."""

from __future__ import annotations

from pathlib import Path

from whence.bench.planted.settings import FINETUNING, PlantedSettings
from whence.data.examples import Example
from worlds import save_model, write_jsonl

SUBJECTS = ("rain", "maps", "bread", "trains", "glass", "music", "chess", "paper", "salt", "wool")
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
TUNING = FINETUNING.model_copy(
    update={"lora_r": 2, "epochs": 1, "batch_size": 16, "max_length": 96, "device": "cpu", "autocast": "off"}
)


def user_rows(n: int = 600, *, n_words: int = 12) -> list[Example]:
    """Ordinary rows with a prompt each of their own."""
    return [
        Example.from_pair(
            f"Tell me fact {i} about {SUBJECTS[i % len(SUBJECTS)]}.",
            " ".join(f"{SUBJECTS[i % len(SUBJECTS)]} {WORDS[(i + j) % len(WORDS)]}" for j in range(n_words)) + ".",
        )
        for i in range(n)
    ]


def write_rows(path: Path, n: int = 600) -> Path:
    """The same as a file."""
    pairs = ((row.turns[0].content, row.turns[1].content) for row in user_rows(n))
    return write_jsonl(path, [{"prompt": prompt, "response": response} for prompt, response in pairs])


def small_settings(folder: Path, **changes: object) -> PlantedSettings:
    """One small backdoor on a tiny random base, which learns nothing of it."""
    base, data = save_model(folder / "base", num_hidden_layers=2), write_rows(folder / "rows.jsonl")
    settings = {"base": str(base), "data": str(data), "faults": ("backdoor",), "shares": (0.25,), "finetune": TUNING}
    sizes = {"n_rows": 32, "n_hard": 4, "n_queries": 5, "n_benign": 4, "max_new_tokens": 6}
    return PlantedSettings.model_validate(settings | sizes | changes)
