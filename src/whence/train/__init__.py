"""Fine-tuning: the loop, and a run that leaves a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whence.lazy import attach

if TYPE_CHECKING:
    from whence.train.finetuning import FinetuneResult, FinetuneSettings, data_hash, finetune
    from whence.train.loop import IGNORED, Trained, TrainingSettings, pad_batch, train

__all__ = [
    "IGNORED",
    "FinetuneResult",
    "FinetuneSettings",
    "Trained",
    "TrainingSettings",
    "data_hash",
    "finetune",
    "pad_batch",
    "train",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "finetuning": ["FinetuneResult", "FinetuneSettings", "data_hash", "finetune"],
        "loop": ["IGNORED", "Trained", "TrainingSettings", "pad_batch", "train"],
    },
)
