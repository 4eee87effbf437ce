"""The models of a case: the base, taught lessons first where the fault needs it, and the fine-tune of the rows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from whence.bench.cases import content_hash, hash_of
from whence.bench.planted.settings import PlantedCase, PlantedSettings
from whence.bench.subject import Stage
from whence.data.encoding import Encoder
from whence.data.examples import Example
from whence.errors import ModelError
from whence.model.loading import LoadedModel, ModelSettings, load_model
from whence.train.finetuning import FinetuneSettings, finetune

ADAPTER, MODEL = "adapter", "model"
"""Name of the fine-tune in a case's folder: with LoRA, and without."""


def base_of(case: PlantedCase, settings: PlantedSettings, folder: Path, stage: Stage) -> str:
    """The model that the case is trained on: the one given, or the same taught the fault's lessons, kept in `folder`.

    Lessons are taught with a LoRA adapter that is merged into the weights, so that the result is a plain model.
    """
    if not case.planted.lessons:
        return settings.base
    tuning = case.tuning(settings).model_copy(update={"lora_r": settings.finetune.lora_r or 16})
    made_of = [settings.base, content_hash(case.planted.lessons), tuning.model_dump(mode="json")]
    place = folder / f"{case.fault}-seed{case.seed}-{hash_of(made_of)}"
    if not place.exists():
        _teach(settings.base, case.planted.lessons, place, tuning, stage)
    return str(place)


def fine_tuned(
    case: PlantedCase, settings: PlantedSettings, base: str, folder: Path, stage: Stage
) -> tuple[LoadedModel, LoadedModel | None, float]:
    """The fine-tuned model; its base where it has no adapter that could be turned off; and the seconds it took."""
    import yaml

    tuning = case.tuning(settings)
    adapter = tuning.lora_r is not None
    place = folder / (ADAPTER if adapter else MODEL)
    if not place.exists():
        finetune(
            base,
            case.planted.rows,
            place,
            settings=tuning,
            encoder=encoder_of(load(base, tuning), tuning),
            progress=lambda step, n, _: stage("fine-tuning", step, n),
        )
    seconds = float(yaml.safe_load((place / "run.yaml").read_text("utf-8"))["seconds"])
    if adapter:
        return load(base, tuning, adapter=str(place)), None, seconds
    return load(str(place), tuning), load(base, tuning), seconds


def load(model: str, tuning: FinetuneSettings, *, adapter: str | None = None) -> LoadedModel:
    """A model with the fine-tune's dtype and device. Raises ModelError for a folder that holds an adapter alone."""
    folder = Path(model)
    if (folder / "adapter_config.json").exists() and not (folder / "config.json").exists():
        raise ModelError(
            f"{model} is an adapter.",
            "A bench trains on a plain model.",
            "Give the model beneath it with --base, or merge the adapter into it first.",
        )
    return load_model(ModelSettings(model=model, adapter=adapter, dtype=tuning.dtype, device=tuning.device))


def encoder_of(loaded: LoadedModel, tuning: FinetuneSettings) -> Encoder:
    """As training and index read the rows: cut to the fine-tune's length, or the model's where that is less."""
    return Encoder(loaded.tokenizer, max_length=min(tuning.max_length, loaded.max_length or tuning.max_length))


def _teach(base: str, lessons: Sequence[Example], place: Path, tuning: FinetuneSettings, stage: Stage) -> None:
    """Fine-tunes, merges and saves; the folder appears whole or not at all."""
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.parent / f".{place.name}.partial-{os.getpid()}"
    adapter = partial / ADAPTER
    partial.mkdir()
    try:
        loaded = load(base, tuning)
        encoder = encoder_of(loaded, tuning)
        finetune(
            loaded,
            lessons,
            adapter,
            settings=tuning,
            encoder=encoder,
            progress=lambda step, n, _: stage("teaching the base", step, n),
        )
        taught = load(base, tuning, adapter=str(adapter))
        with torch.no_grad():
            merged = taught.model.merge_and_unload()
        merged.save_pretrained(partial)
        taught.tokenizer.save_pretrained(partial)
        shutil.rmtree(adapter)
        partial.rename(place)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


__all__ = ["ADAPTER", "MODEL", "base_of", "encoder_of", "fine_tuned", "load"]
