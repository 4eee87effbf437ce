"""How the index's model was trained: its settings and its base, as far as the files beside it say."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from whence.errors import InputError, WhenceWarning
from whence.index import Manifest
from whence.model import adapter_config, named_base
from whence.records import RecordedRun, TrainingFile, find_record, recorded_adapter
from whence.run_file import RunFile, read_run_file, unreadable
from whence.train import FinetuneSettings

MOST_EPOCHS = 10_000
"""More are no number of epochs: a Trainer whose rows have no end says sys.maxsize."""
SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant", "constant_with_warmup": "constant"}
"""Names of transformers' schedules, and what whence's own trainer calls them."""
NO_CLIPPING = 1e9
"""A norm that no gradient passes: transformers says 0 where gradients are not clipped."""


@dataclass(frozen=True, slots=True)
class KnownSettings:
    """What is known of a fine-tune. is_whole: all of it; else the length and an adapter's shape alone are."""

    settings: FinetuneSettings
    is_whole: bool


def known_settings(manifest: Manifest, *, own_trainer: bool = False) -> KnownSettings:
    """Settings of the fine-tune of the index's model: of run.yaml, of whence.yaml, else of the adapter's own config.

    own_trainer: another trainer trains, and an adapter of any type is as good.

    Raises InputError for files that cannot be read, and for an adapter that whence's own trainer cannot make.
    """
    whole = settings_beside(manifest) or settings_recorded(manifest)
    found = whole[0] if whole is not None else FinetuneSettings(max_length=manifest.max_length)
    if manifest.adapter is not None and not own_trainer:
        _check_lora(manifest.adapter)
        if found.lora_r is None:
            found = FinetuneSettings.model_validate(found.model_dump() | _adapter_settings(manifest.adapter))
    return KnownSettings(found, whole is not None)


def training_base(manifest: Manifest, given: str | None = None) -> str | None:
    """The model that a retraining starts from: as given, or as the index or its model's folder names it."""
    if given is not None:
        return given
    if manifest.adapter is not None:
        return manifest.model
    if named := manifest.settings.get("base") or named_base(manifest.model):
        return str(named)
    recorded = _record(manifest)
    return recorded.base if recorded is not None else None


def settings_beside(manifest: Manifest) -> tuple[FinetuneSettings, RunFile] | None:
    """Settings and contents of the run.yaml that `whence finetune` left beside the index's model or adapter.

    Raises InputError for one that is damaged or of another version.
    """
    folder = Path(manifest.adapter or manifest.model)
    run = read_run_file(folder)
    if run is None:
        return None
    try:
        return FinetuneSettings.model_validate(run.settings), run
    except ValidationError as error:
        raise unreadable(folder, str(error)) from error


def settings_recorded(manifest: Manifest) -> tuple[FinetuneSettings, str | None] | None:
    """Settings and base of the record that `whence.TrainingRecord` left beside the index's model or adapter.

    What whence's own trainer has no setting for (another optimiser, a schedule it does not know) keeps its default, and
    is said: the arms are compared with one another. None where there is no record. Raises InputError for one that
    cannot be read.
    """
    record = _record(manifest)
    if record is None:
        return None
    run = record.run
    warmup = min(run.warmup_steps / run.steps, 0.99) if run.warmup_steps is not None and run.steps else None
    known: dict[str, object] = {
        "epochs": _epochs(run, manifest.data.n_rows),
        "batch_size": run.batch_size,
        "learning_rate": run.learning_rate,
        "schedule": SCHEDULES.get(run.schedule or ""),
        # This one begins with the whole rate, whatever warm-up is set.
        "warmup": 0.0 if run.schedule == "constant" else warmup,
        "weight_decay": run.weight_decay,
        "beta1": run.beta1,
        "beta2": run.beta2,
        "epsilon": run.epsilon,
        "max_grad_norm": NO_CLIPPING if run.max_grad_norm == 0 else run.max_grad_norm,
        "seed": run.seed,
        **_lora(run),
        "max_length": manifest.max_length,
    }
    settings = FinetuneSettings.model_validate({k: v for k, v in known.items() if v is not None})
    _say_what_is_left_out(run)
    _say_what_is_replaced(run, settings)
    return settings, record.base


def _record(manifest: Manifest) -> TrainingFile | None:
    home = Path(manifest.adapter or manifest.model)
    return find_record(home) if home.is_dir() else None


def _check_lora(adapter: str) -> None:
    """Raises InputError for an adapter of another type than LoRA."""
    kind = adapter_config(adapter).get("peft_type")
    if kind != "LORA":
        raise InputError(
            f"The adapter {adapter} is of the type {kind}.",
            "whence's own trainer makes LoRA adapters.",
            "Give your own trainer (--trainer).",
        )


def _adapter_settings(adapter: str) -> dict[str, object]:
    """Settings of a LoRA by its adapter_config.json. Raises InputError for one that a retraining cannot repeat."""
    try:
        run = recorded_adapter(adapter_config(adapter))
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"The adapter_config.json of {adapter} cannot be used: {first['loc'][0]}: {first['msg']}.",
            "Expected the config of a LoRA, as save_pretrained writes it.",
            "Give your own trainer (--trainer).",
        ) from error
    lora, more = _lora(run), _not_repeated(run)
    if more or lora["lora_r"] is None or lora["lora_targets"] is None:
        raise InputError(
            f"The adapter {adapter} has {', '.join(more) or 'a config that names no rank or no targets'}.",
            "whence's own trainer makes plain LoRA adapters: of a rank, a scale, a dropout and named targets.",
            "Give your own trainer (--trainer).",
        )
    return {name: value for name, value in lora.items() if value is not None}


def _lora(run: RecordedRun) -> dict[str, object]:
    """The adapter's part of the settings; None where nothing is known."""
    # A regular expression, which PEFT takes too, is no setting of ours.
    named = run.lora_targets == "all-linear" or isinstance(run.lora_targets, tuple)
    return {
        "lora_r": run.lora_r,
        "lora_alpha": run.lora_alpha,
        "lora_dropout": run.lora_dropout,
        "lora_targets": run.lora_targets if named else None,
    }


def _not_repeated(run: RecordedRun) -> list[str]:
    """What an adapter has and whence's own trainer has not."""
    pattern = isinstance(run.lora_targets, str) and run.lora_targets != "all-linear"
    return [*run.lora_more, *([f"lora_targets {run.lora_targets!r}"] if pattern else [])]


def _epochs(run: RecordedRun, n_rows: int) -> int | None:
    """Whole passes over the rows; of a run that was given a number of steps, or had rows without end, by its steps."""
    if run.max_steps is None and (run.epochs or 0) <= MOST_EPOCHS:
        return max(1, round(run.epochs)) if run.epochs else None
    if not (run.steps and run.batch_size and n_rows):
        return None
    exact = run.steps * run.batch_size / n_rows
    whole = max(1, round(exact))
    if abs(exact - whole) > 0.1 * whole:
        warnings.warn(
            f"The model was trained for {run.steps} steps, {exact:.2f} times these {n_rows} rows; a retraining is for "
            f"{whole} epochs. --epochs gives others.",
            WhenceWarning,
            stacklevel=3,
        )
    return whole


def _say_what_is_left_out(run: RecordedRun) -> None:
    """A warning about what the model's adapter had and a retraining has not."""
    more = _not_repeated(run)
    if more:
        warnings.warn(
            f"The model's adapter was trained with {', '.join(more)}, which whence's own trainer does not have: a "
            "retraining is another adapter. --trainer gives your own.",
            WhenceWarning,
            stacklevel=3,
        )


def _say_what_is_replaced(run: RecordedRun, settings: FinetuneSettings) -> None:
    """A warning about settings of the run in whose place a retraining has others."""
    had, has = [], []
    if run.schedule and run.schedule not in SCHEDULES:
        had.append(f"the schedule {run.schedule!r}")
        has.append(repr(settings.schedule))
    if run.optimizer and ("adamw" not in run.optimizer or "schedule_free" in run.optimizer):
        had.append(f"the optimiser {run.optimizer!r}")
        has.append("AdamW")
    # Of a run with a number of steps `_epochs` says it.
    if run.max_steps is None and run.epochs and run.epochs <= MOST_EPOCHS and run.epochs != settings.epochs:
        had.append(f"{run.epochs:g} epochs")
        has.append(f"{settings.epochs} whole {'epoch' if settings.epochs == 1 else 'epochs'}")
    if had:
        warnings.warn(
            f"The model was trained with {', '.join(had)}; a retraining is with {', '.join(has)}. --trainer gives your "
            "own.",
            WhenceWarning,
            stacklevel=3,
        )
