"""run.yaml, which a fine-tune leaves in its folder: what was made, of what, how; read and written here alone."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from whence.errors import InputError
from whence.files import write_atomically

RUN = "run.yaml"
FINETUNE: Literal["whence finetune"] = "whence finetune"
"""The command whose run.yaml this module describes; an index has one of its own."""


class RunCheckpoint(BaseModel):
    """A checkpoint, relative to the run's folder, with the mean learning rate of its epoch."""

    model_config = ConfigDict(frozen=True)

    path: str
    learning_rate: float


class RunHashes(BaseModel):
    """Of the rows in their order, and of the base: weights, adapter, tokenizer and template."""

    model_config = ConfigDict(frozen=True)

    data: str
    base: dict[str, str]


class RunRows(BaseModel):
    """How the rows were read. `source` is a path or a name on the hub; "" and None: not known, or not given."""

    model_config = ConfigDict(frozen=True)

    source: str = ""
    columns: dict[str, str] | None = None
    split: str | None = None
    template: str | None = None
    """Jinja text in place of the tokenizer's template, where one was given."""
    date: str | None = None
    """The day that the template wrote, as in 2026-11-30, where it writes today's."""
    max_length: int | None = None
    """Most tokens of one example."""
    n_cut: int | None = None
    """Rows that lost tokens to it."""


class RunFile(BaseModel):
    """A fine-tune, as its run.yaml holds it, in this order. `settings` are those of `FinetuneSettings`."""

    model_config = ConfigDict(frozen=True)

    command: Literal["whence finetune"] = FINETUNE
    base: str
    base_on_hub: bool = False
    """Whether `base` is a name on the hub; it is not known in files of earlier versions."""
    settings: dict[str, JsonValue]
    hashes: RunHashes
    rows: RunRows = RunRows()
    n_examples: int
    n_turns: int
    n_steps: int
    loss: dict[str, float]
    """Of the first and of the last step, nats per token."""
    checkpoints: tuple[RunCheckpoint, ...]
    seconds: float
    threads: int
    versions: dict[str, str]


def write_run_file(folder: Path, run: RunFile) -> None:
    """Writes the folder's run.yaml."""
    import yaml

    text = yaml.safe_dump(run.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    write_atomically(folder / RUN, text)


def read_run_file(folder: Path) -> RunFile | None:
    """The run.yaml of a fine-tune's folder; None where there is none, or one of another command.

    Raises InputError for one that is damaged or of another version.
    """
    found = run_values(folder)
    if found is None:
        return None
    try:
        return RunFile.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        raise unreadable(folder, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def run_values(folder: Path) -> dict[str, JsonValue] | None:
    """What the folder's run.yaml holds, unchecked but for its command: for those who need a part of it.

    None where there is none, or one of another command. Raises InputError for one that is no YAML.
    """
    import yaml

    try:
        content = yaml.safe_load((folder / RUN).read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise unreadable(folder, str(error)) from error
    return content if isinstance(content, dict) and content.get("command") == FINETUNE else None


def unreadable(folder: Path, why: str) -> InputError:
    """The error for a run.yaml that is not what a fine-tune left."""
    return InputError(
        f"{folder / RUN} cannot be read: {' '.join(why.split())[:200]}",
        "Expected what `whence finetune` of this version left.",
        "Move it away, and give the settings: --epochs, --learning-rate, --lora-r and so on.",
    )
