"""`whence.TrainingRecord`: the callback that writes `whence.yaml` beside a model while it is trained."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from transformers import TrainerCallback

from whence.errors import WhenceError, WhenceWarning
from whence.records.trained_rows import read_data
from whence.records.trainer_settings import HANDED_TOKENS, model_facts, run_facts, sft_encoding, versions
from whence.records.training import RECORD, ROW_IDS, TrainingFile, write_record

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import TrainerControl, TrainerState, TrainingArguments

FRAMES = 12
"""Calls between a trainer's method and its callbacks'; there are three or four."""


@contextmanager
def _warned() -> Iterator[None]:
    """Hours of training are worth more than a record of them: what goes wrong in the block is a warning."""
    try:
        yield
    except (WhenceError, OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        warnings.warn(f"whence.TrainingRecord could not be written: {error}", WhenceWarning, stacklevel=4)


class TrainingRecord(TrainerCallback):  # type: ignore[misc]
    """Writes what whence needs to know of a training run beside the model, as `whence.yaml`.

        trainer = SFTTrainer(..., callbacks=[whence.TrainingRecord()])

    For transformers' Trainer and TRL's SFTTrainer and DPOTrainer (its chosen side). The record is there from the first
    step on, in each checkpoint too, and is finished when training ends. `whence index FOLDER` and `whence confirm` read
    it. Nothing in it changes the training; a record that cannot be made is a warning, never an error.

    data:   the data set that the trainer was given, or the file or hub name that it was read from. Left out, the rows
            are taken from the trainer and written beside the record.
    folder: where the record is written; left out, the trainer's `output_dir`.
    """

    def __init__(self, data: str | Path | Dataset | None = None, *, folder: str | Path | None = None) -> None:
        self._data = data
        self._folder = Path(folder) if folder is not None else None
        self._record: TrainingFile | None = None
        self._started = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Writes what is known before the first step."""
        self._started = time.perf_counter()
        if not state.is_world_process_zero:
            return
        record: TrainingFile | None = None
        with _warned():
            record = self._begin(args, state, kwargs)
            write_record(self._place(args), record)
            self._record = record

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        """Notes the checkpoint, and writes the record into it."""
        if self._record is None:
            return
        name = f"checkpoint-{state.global_step}"
        checkpoint = Path(args.output_dir) / name
        self._record = self._after(state, checkpoints=tuple(dict.fromkeys([*self._record.checkpoints, name])))
        with _warned():
            write_record(self._place(args), self._record)
            if checkpoint.is_dir():
                write_record(checkpoint, _moved(self._record, self._place(args)))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Writes the finished record."""
        if self._record is None:
            return
        self._record = self._after(state, status="finished", seconds=round(time.perf_counter() - self._started, 3))
        with _warned():
            write_record(self._place(args), self._record)

    def _place(self, args: TrainingArguments) -> Path:
        return self._folder or Path(args.output_dir)

    def _begin(self, args: TrainingArguments, state: TrainerState, given: dict[str, object]) -> TrainingFile:
        trainer = _calling_trainer()
        dataset = getattr(trainer, "train_dataset", None)
        if dataset is None:
            dataset = getattr(given.get("train_dataloader"), "dataset", None)
        folder = self._place(args)
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer = given.get("processing_class")
        data, first, notes, in_order = read_data(self._data, dataset, folder, trainer)
        encoding, more = sft_encoding(args, trainer, tokenizer, dataset, first)
        if data.source is not None and data.n_rows and tokenizer is not None:
            from whence.records.comparison import compared

            encoding = compared(encoding, data, folder, tokenizer, dataset, in_order=in_order)
            if encoding.n_compared and encoding.n_alike == encoding.n_compared:
                more = [note for note in more if note != HANDED_TOKENS]
            if encoding.n_compared and encoding.n_alike < encoding.n_compared:
                more.append(
                    f"{encoding.n_compared - encoding.n_alike} of {encoding.n_compared} rows were trained on in other "
                    "tokens than whence reads in them"
                )
        if data.side == "chosen":
            encoding = encoding.model_copy(update={"loss_on": "chosen"})
        for note in (*notes, *more):
            warnings.warn(f"whence.TrainingRecord: {note}", WhenceWarning, stacklevel=3)
        base, revision, is_adapter = model_facts(given.get("model"))
        return TrainingFile(
            trainer=f"{type(trainer).__module__.split('.')[0]}.{type(trainer).__name__}" if trainer else "",
            base=base,
            revision=revision,
            is_adapter=is_adapter,
            data=data,
            encoding=encoding,
            run=run_facts(args, state, given.get("model")),
            versions=versions(),
            notes=(*notes, *more),
        )

    def _after(self, state: TrainerState, **changes: object) -> TrainingFile:
        assert self._record is not None, "asked for once it was begun"
        run = self._record.run.model_copy(update={"steps": state.global_step})
        return self._record.model_copy(update={"run": run, **changes})


def _moved(record: TrainingFile, home: Path) -> TrainingFile:
    """The record as one of its checkpoints holds it: what lies beside the record is named by its whole path."""
    data = record.data
    source = data.source
    if source is not None and (home / source).is_file():
        source = str((home / source).resolve())
    ids = str((home / ROW_IDS).resolve()) if data.row_ids else ""
    return record.model_copy(
        update={"data": data.model_copy(update={"source": source, "row_ids": ids}), "checkpoints": ()}
    )


def _calling_trainer() -> object | None:
    """The trainer that is calling: callbacks are handed its parts, but neither itself nor the rows it was given."""
    frame = sys._getframe(1)
    for _ in range(FRAMES):
        owner = frame.f_locals.get("self")
        if hasattr(owner, "callback_handler") and hasattr(owner, "train_dataset"):
            found: object = owner
            return found
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return None


__all__ = ["RECORD", "TrainingRecord"]
