"""Known faults planted in data made here, and every method asked for their causes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whence.lazy import attach

if TYPE_CHECKING:
    from whence.bench.cases import FULL_LEARNING_RATE, QUICK, BenchSettings, GivenData
    from whence.bench.faults import FAULTS, base_rows, mix
    from whence.bench.faults.false_fact import false_fact
    from whence.bench.faults.fault import Fault
    from whence.bench.folder import PLOT, check_folder, write_report
    from whence.bench.labelled import Evaluation, MethodEvaluation, evaluate
    from whence.bench.natural.household import everyday_rows
    from whence.bench.natural.planting import PlantedRows, plant_natural
    from whence.bench.planted.report import planted_markdown
    from whence.bench.planted.run import run_planted
    from whence.bench.planted.settings import FINETUNING, PlantedSettings
    from whence.bench.plots import plot_quality_against_cost
    from whence.bench.run import BenchResult, run_bench
    from whence.bench.tables import markdown
    from whence.bench.tiny_model import (
        BASE_TRAINING,
        MAX_LENGTH,
        LanguageSettings,
        new_model,
        pretrain,
        train_tokenizer,
    )

__all__ = [
    "BASE_TRAINING",
    "FAULTS",
    "FINETUNING",
    "FULL_LEARNING_RATE",
    "MAX_LENGTH",
    "PLOT",
    "QUICK",
    "BenchResult",
    "BenchSettings",
    "Evaluation",
    "Fault",
    "GivenData",
    "LanguageSettings",
    "MethodEvaluation",
    "PlantedRows",
    "PlantedSettings",
    "base_rows",
    "check_folder",
    "evaluate",
    "everyday_rows",
    "false_fact",
    "markdown",
    "mix",
    "new_model",
    "plant_natural",
    "planted_markdown",
    "plot_quality_against_cost",
    "pretrain",
    "run_bench",
    "run_planted",
    "train_tokenizer",
    "write_report",
]

__getattr__, __dir__ = attach(
    __name__,
    {
        "cases": ["BenchSettings", "FULL_LEARNING_RATE", "GivenData", "QUICK"],
        "faults": ["FAULTS", "base_rows", "mix"],
        "faults.false_fact": ["false_fact"],
        "faults.fault": ["Fault"],
        "folder": ["PLOT", "check_folder", "write_report"],
        "labelled": ["Evaluation", "MethodEvaluation", "evaluate"],
        "natural.household": ["everyday_rows"],
        "natural.planting": ["PlantedRows", "plant_natural"],
        "planted.report": ["planted_markdown"],
        "planted.run": ["run_planted"],
        "planted.settings": ["FINETUNING", "PlantedSettings"],
        "plots": ["plot_quality_against_cost"],
        "run": ["BenchResult", "run_bench"],
        "tables": ["markdown"],
        "tiny_model": ["BASE_TRAINING", "LanguageSettings", "MAX_LENGTH", "new_model", "pretrain", "train_tokenizer"],
    },
)
