"""What is known of a training run: the contents of `whence.yaml`, written beside a model and read from there."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from whence.data import LossOn, Truncation
from whence.errors import InputError
from whence.files import write_atomically

RECORD = "whence.yaml"
ROW_IDS = "whence-rows.txt"
"""Beside the record: the id of each row that was trained on (`Example.id`), one a line, in order."""
SAVED_ROWS = "whence-data.jsonl"
"""Beside the record: the rows themselves, where the trainer was handed a data set that is no file."""
SCHEMA: Literal["whence.training/1"] = "whence.training/1"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RecordedData(_Part):
    """The training data. `source` is a path, relative to the record where it lies beside it, or a name on the hub."""

    source: str | None = None
    split: str | None = None
    columns: dict[str, str] | None = None
    content_hash: str = ""
    """Of all usable rows (`Scan.content_hash`); "" where the rows were not read."""
    row_ids: str = ""
    """Name of the file with the rows' ids; "" where there is none."""
    n_rows: int | None = None
    """Usable rows of the source."""
    n_trained: int | None = None
    """Rows that the trainer was handed, or kept after it had cut and packed them."""
    side: Literal["chosen"] | None = None
    """The side of preference pairs that is read."""
    fingerprint: str = ""
    """Of the `datasets.Dataset`, where it was one."""


class RecordedEncoding(_Part):
    """What became of a row before the model saw it. None: not known."""

    max_length: int | None = None
    truncation: Truncation | None = None
    append_eos: bool | None = None
    template: str | None = None
    """Jinja text that conversations were rendered with; None where the tokenizer's own is not known to be another."""
    template_from: Literal["tokenizer", "trainer", "plain"] | None = None
    loss_on: Literal["completion", "assistant", "all", "chosen"] | None = None
    """Tokens with loss: the completion's, the assistant's, every token, or those of the chosen answer."""
    date: str | None = None
    """The day that the template wrote as today's, an ISO date; None where it writes none."""
    packing: str | None = None
    """How rows were packed together; None where they were not."""
    n_compared: int = 0
    """Rows of which the trainer's token ids and labels were compared with whence's reading of the same rows."""
    n_alike: int = 0
    """Of these, the rows that were the same token by token."""

    @property
    def loss(self) -> LossOn | None:
        """`RowEncoding.loss` that reads these rows: the answers, also where the prompts had loss too."""
        return "answers" if self.loss_on else None


class RecordedRun(_Part):
    """How the weights were moved. None: not known."""

    epochs: float | None = None
    max_steps: int | None = None
    """Where the run was given a number of steps in place of epochs."""
    steps: int | None = None
    batch_size: int | None = None
    """Rows of one step, over all devices and accumulated batches."""
    learning_rate: float | None = None
    schedule: str | None = None
    warmup_steps: int | None = None
    optimizer: str | None = None
    weight_decay: float | None = None
    beta1: float | None = None
    beta2: float | None = None
    epsilon: float | None = None
    max_grad_norm: float | None = None
    seed: int | None = None
    lora_r: int | None = None
    lora_alpha: float | None = None
    lora_dropout: float | None = None
    lora_targets: tuple[str, ...] | str | None = None
    lora_more: tuple[str, ...] = ()
    """What else the adapter has beside a rank, a scale and targets: use_dora, modules_to_save, ..."""


class TrainingFile(_Part):
    """A training run as `whence.yaml` holds it, or as far as other files of its folder tell."""

    schema_version: Literal["whence.training/1"] = Field(default=SCHEMA, alias="schema")
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
    status: Literal["finished", "unfinished"] = "unfinished"
    trainer: str = ""
    base: str | None = None
    revision: str | None = None
    is_adapter: bool | None = None
    data: RecordedData = RecordedData()
    encoding: RecordedEncoding = RecordedEncoding()
    run: RecordedRun = RecordedRun()
    checkpoints: tuple[str, ...] = ()
    """Names of folders beside the record, in the order of their steps."""
    seconds: float | None = None
    versions: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    """What a reader of the record should know, a sentence each."""


def write_record(folder: Path, record: TrainingFile) -> None:
    """Writes the folder's whence.yaml; the folder is made if it is not there."""
    import yaml

    folder.mkdir(parents=True, exist_ok=True)
    content = record.model_dump(mode="json", by_alias=True)
    write_atomically(folder / RECORD, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def read_record(folder: Path) -> TrainingFile | None:
    """The folder's whence.yaml; None where there is none. Raises InputError for one that cannot be read."""
    import yaml

    path = folder / RECORD
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise _unreadable(path, " ".join(str(error).split())[:200]) from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise _unreadable(path, f"its schema is {schema!r}")
    try:
        return TrainingFile.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise _unreadable(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _unreadable(path: Path, why: str) -> InputError:
    return InputError(
        f"{path} cannot be used: {why}.",
        f"Expected what whence.TrainingRecord of this version writes ({SCHEMA}).",
        "Leave it aside with --no-record and give DATA and the settings, or train again with this version.",
    )


__all__ = [
    "RECORD",
    "ROW_IDS",
    "SAVED_ROWS",
    "RecordedData",
    "RecordedEncoding",
    "RecordedRun",
    "TrainingFile",
    "read_record",
    "write_record",
]
