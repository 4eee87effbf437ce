"""Small models trained on rows with a planted fault, for the parts of `audit.py` that need many of them.

Models of one seed share a base and a tokenizer, which are made once; each is trained as `whence demo` trains its own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from whence.bench import BASE_TRAINING, LanguageSettings, new_model, pretrain, train_tokenizer
from whence.data import ASSISTANT, Example
from whence.demo.world import FINETUNING
from whence.files import new_folder
from whence.index import build_index
from whence.train import finetune


def base_of(place: Path, seed: int, rows: Sequence[Example], others: Sequence[Example]) -> Path:
    """A base trained on `rows`, made where it is not there. others: rows whose words its tokenizer must know too."""
    if not place.exists():
        with new_folder(place) as partial:
            tokenizer = train_tokenizer([*rows, *others], LanguageSettings().vocab_size)
            model = new_model(tokenizer, LanguageSettings(seed=seed))
            pretrain(model, tokenizer, rows, BASE_TRAINING.model_copy(update={"seed": seed}))
            model.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
    return place


def trained_on(place: Path, base: Path, rows: Sequence[Example], seed: int) -> Path:
    """`place` with train.jsonl, model and index; made where it is not there."""
    if not place.exists():
        with new_folder(place) as partial:
            settings = FINETUNING.model_copy(update={"seed": seed})
            finetune(base, rows, partial / "model", settings=settings)
            write_lines(partial / "train.jsonl", [as_row(row) for row in rows])
            build_index(str(partial / "model"), str(partial / "train.jsonl"), str(partial / "index"), base=str(base))
    return place


def as_row(row: Example) -> dict[str, object]:
    """One line of a data file."""
    texts = {"response" if turn.role == ASSISTANT else "prompt": turn.content for turn in row.turns}
    return {**texts, **row.metadata}


def write_lines(path: Path, rows: Sequence[dict[str, object]]) -> None:
    """JSON lines."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


__all__ = ["as_row", "base_of", "trained_on", "write_lines"]
