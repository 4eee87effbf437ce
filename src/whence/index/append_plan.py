"""Which append the committed shards of a complete index belong to, until it is published."""

from __future__ import annotations

import shlex
import warnings
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from whence.errors import IndexFolderError, WhenceWarning
from whence.files import write_atomically
from whence.index.history import DataSummary
from whence.index.manifest import SHARDS, Manifest

PLAN = "append.json"


class AppendPlan(BaseModel):
    """The data that are being appended to the index of a generation. refused: they could not be used as they were."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    generation: int
    data: DataSummary
    refused: bool = False

    def write(self, folder: Path) -> None:
        """Keeps the plan beside the shards."""
        (folder / SHARDS).mkdir(exist_ok=True)
        write_atomically(folder / SHARDS / PLAN, self.model_dump_json())

    def command(self, folder: Path) -> str:
        """What finishes the append."""
        columns = ",".join(f"{role}={name}" for role, name in (self.data.columns or {}).items())
        words = ["whence", "append", str(folder), self.data.source]
        words += ["--columns", columns] if columns else []
        words += ["--split", self.data.split] if self.data.split else []
        return shlex.join(words)


def open_plan(folder: Path, manifest: Manifest) -> AppendPlan | None:
    """The append to this generation of the index that is not finished; None where there is none."""
    try:
        plan = AppendPlan.model_validate_json((folder / SHARDS / PLAN).read_bytes())
    except (OSError, ValueError):
        return None
    return plan if plan.generation == manifest.generation else None


def check_no_other(folder: Path, plan: AppendPlan, data: DataSummary) -> None:
    """Raises IndexFolderError where the unfinished append is of another source than `data`, unless it was refused."""
    if plan.data.source != data.source and not plan.refused:
        raise IndexFolderError(
            f"Another append to {folder} is not finished: that of {plan.data.source}.",
            "One after the other.",
            f"Finish it ({plan.command(folder)}), or remove {folder / SHARDS}.",
        )


def warn_of_plan(folder: Path, manifest: Manifest) -> None:
    """Says that another change of the index discards what an unfinished append has computed."""
    plan = open_plan(folder, manifest)
    if plan is not None and not plan.refused:
        warnings.warn(
            f"The append of {plan.data.source} to {folder} was not finished; the shards that it computed are discarded."
            f" To append these rows afterwards: {plan.command(folder)}",
            WhenceWarning,
            stacklevel=3,
        )


__all__ = ["AppendPlan", "check_no_other", "open_plan", "warn_of_plan"]
