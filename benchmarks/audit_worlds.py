"""Small models trained on rows with a planted fault, for the parts of `audit.py` that need many of them.

Models of one seed share a base and a tokenizer, which are made once; each is trained as `whence demo` trains its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common import as_row, write_lines
from whence.bench import BASE_TRAINING, LanguageSettings, new_model, pretrain, train_tokenizer
from whence.data import Example
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


__all__ = ["base_of", "trained_on"]
