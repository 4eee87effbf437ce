"""How the arms are trained: the data, the base and the settings that the index's model was made from."""

from __future__ import annotations

import warnings
from pathlib import Path

from pydantic import ValidationError

from whence.confirmation.runs import AsTraced, Recipe
from whence.data import Encoder, Example
from whence.errors import InputError, MismatchError, WhenceWarning
from whence.index import Manifest, present_rows, require_rows_as_built
from whence.model import LoadedModel, ModelSettings, fingerprint, load_model
from whence.records import RECORD, RecordedRun, find_record
from whence.run_file import RUN, RunFile, read_run_file, unreadable
from whence.train import FinetuneSettings, data_hash

KEPT_FOR_METHODS = {"checkpoints": False, "keep_optimizer_state": False}
"""Parts of a run that attribution methods read and a confirmation does not."""
MOST_EPOCHS = 10_000
"""More are no number of epochs: a Trainer whose rows have no end says sys.maxsize."""
SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant", "constant_with_warmup": "constant"}
"""Names of transformers' schedules, and what whence's own trainer calls them."""
NO_CLIPPING = 1e9
"""A norm that no gradient passes: transformers says 0 where gradients are not clipped."""


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
    home = Path(manifest.adapter or manifest.model)
    record = find_record(home) if home.is_dir() else None
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
        "lora_r": run.lora_r,
        "lora_alpha": run.lora_alpha,
        "lora_dropout": run.lora_dropout,
        # A regular expression, which PEFT takes too, is no setting of ours.
        "lora_targets": run.lora_targets
        if run.lora_targets == "all-linear" or isinstance(run.lora_targets, tuple)
        else None,
        "max_length": manifest.max_length,
    }
    settings = FinetuneSettings.model_validate({k: v for k, v in known.items() if v is not None})
    _say_what_is_left_out(run)
    _say_what_is_replaced(run, settings)
    return settings, record.base


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
    more = list(run.lora_more)
    if isinstance(run.lora_targets, str) and run.lora_targets != "all-linear":
        more.append(f"lora_targets {run.lora_targets!r}")
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


def data_rows(manifest: Manifest) -> tuple[Example, ...]:
    """The rows that the index has, appended ones among them. Raises DataError when their data have changed since."""
    return tuple(present_rows(manifest))


def make_recipe(
    manifest: Manifest,
    rows: tuple[Example, ...],
    base: str | Path | None,
    settings: FinetuneSettings | None,
    trainer: str | None,
    *,
    fresh: bool,
) -> Recipe:
    """How arms are trained. `fresh`: rows are held out, so that even the arm `all` is another model."""
    beside = settings_beside(manifest)
    recorded = settings_recorded(manifest) if beside is None else None
    known = beside[0] if beside else recorded[0] if recorded else FinetuneSettings() if trainer is not None else None
    chosen = settings or known
    if chosen is None:
        raise InputError(
            f"There is no {RUN} and no {RECORD} beside {manifest.adapter or manifest.model}.",
            "Confirmation trains as the model was trained.",
            "Give the settings: --epochs, --learning-rate, --lora-r and so on; or --trainer.",
        )
    chosen = chosen.model_copy(update=KEPT_FOR_METHODS)
    template = manifest.settings.get("template")
    template = template if isinstance(template, str) else None
    loaded, base_hash = None, str(base)
    if trainer is not None:
        # It reads a file in the form of the one that the index was built from.
        require_rows_as_built(manifest, "--trainer")
    if base is not None and trainer is None:
        loaded = load_model(ModelSettings(model=str(base), dtype=chosen.dtype, device=chosen.device))
        base_hash = _check_base(manifest, loaded, template, beside)
    as_traced = None
    same = beside is not None and beside[0].model_copy(update=KEPT_FOR_METHODS) == chosen
    if same and beside and trainer is None and not fresh and beside[1].hashes.data == data_hash(rows):
        place = ModelSettings(model=manifest.model, adapter=manifest.adapter, dtype=chosen.dtype, device=chosen.device)
        as_traced = AsTraced(place, chosen.seed, (manifest.hashes.adapter or manifest.hashes.weights)[:16])
    return Recipe(
        data=manifest.data,
        rows=rows,
        settings=chosen,
        base=loaded,
        base_hash=base_hash,
        template=template,
        max_length=manifest.max_length,
        encoding=manifest.rows,
        trainer=trainer,
        as_traced=as_traced,
    )


def _check_base(
    manifest: Manifest, loaded: LoadedModel, template: str | None, beside: tuple[FinetuneSettings, RunFile] | None
) -> str:
    """The base's hash. Raises MismatchError where it can be told that the index's model was not made from it."""
    found = fingerprint(loaded, Encoder(loaded.tokenizer, template=template).template).weights
    expected, why = None, ""
    if beside is not None and beside[0].dtype == loaded.settings.dtype:
        expected, why = beside[1].hashes.base["weights"], f"its {RUN} names another base"
    elif manifest.adapter is not None and str(loaded.dtype).endswith(manifest.dtype):
        expected, why = manifest.hashes.weights, "the adapter sits on another model"
    if expected is not None and expected != found:
        named = beside[1].base if beside else manifest.model
        raise MismatchError(
            f"{loaded.settings.model} is not the base of the index's model: {why} ({named}).",
            f"Expected weights {expected}; these are {found}.",
            f"Give --base {named}.",
        )
    if manifest.adapter is None and found == manifest.hashes.weights:
        raise MismatchError(
            f"{loaded.settings.model} is the fine-tuned model itself.",
            "Confirmation starts from the model before it saw the data.",
            "Give that one with --base.",
        )
    return found
