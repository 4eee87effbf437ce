"""How the arms are trained: the data, the base and the settings that the index's model was made from."""

from __future__ import annotations

from pathlib import Path

from whence.confirmation.as_trained import known_settings, settings_beside
from whence.confirmation.runs import AsTraced, Recipe
from whence.data import Encoder, Example
from whence.errors import InputError, MismatchError
from whence.index import Manifest, present_rows, require_rows_as_built
from whence.model import LoadedModel, ModelSettings, fingerprint, load_model, other_settings, without_adapter
from whence.model import settings_beside as settings_beside_weights
from whence.records import RECORD
from whence.run_file import RUN, RunFile
from whence.train import FinetuneSettings, data_hash

KEPT_FOR_METHODS = {"checkpoints": False, "keep_optimizer_state": False}
"""Parts of a run that attribution methods read and a confirmation does not."""


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
    chosen = settings or _settings(manifest, own_trainer=trainer is not None)
    if manifest.adapter is not None and chosen.lora_r is None and trainer is None:
        raise InputError(
            f"The index's model is an adapter, {manifest.adapter}; these settings train every weight (lora_r None).",
            "Confirmation trains as the model was trained.",
            "Give its rank: lora_r (--lora-r), lora_alpha and lora_targets.",
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


def _settings(manifest: Manifest, *, own_trainer: bool) -> FinetuneSettings:
    """The settings that the model was trained with. Raises InputError where they are not known and are needed."""
    known = known_settings(manifest, own_trainer=own_trainer)
    if known.is_whole or own_trainer:
        return known.settings
    only = "its adapter_config.json says how large it is, not how it was trained" if manifest.adapter else ""
    raise InputError(
        f"There is no {RUN} and no {RECORD} beside {manifest.adapter or manifest.model}{f'; {only}' if only else ''}.",
        "Confirmation trains as the model was trained.",
        "Give settings (--epochs, --learning-rate, --batch-size, --schedule and so on), or trainer (--trainer).",
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
    known = manifest.base_settings if found == manifest.base else {}
    known = known or (without_adapter(manifest.model_settings) if manifest.adapter is not None else {})
    other = other_settings(known, settings_beside_weights(loaded))
    if other:
        name = next(iter(other))
        raise MismatchError(
            f"{loaded.settings.model} is not the base of the index's model: its {name} is {other[name]}.",
            f"Expected {name} {known[name]}, as when the index was built.",
            "Put the setting back in config.json, or give that base with --base.",
        )
    if manifest.adapter is None and found == manifest.hashes.weights:
        raise MismatchError(
            f"{loaded.settings.model} is the fine-tuned model itself.",
            "Confirmation starts from the model before it saw the data.",
            "Give that one with --base.",
        )
    return found
