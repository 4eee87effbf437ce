"""The models of a case: the base, trained on lessons first where the fault needs it, and the fine-tune of the rows."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from whence.bench.cases import content_hash
from whence.bench.planted.settings import PlantedCase, PlantedSettings
from whence.data import Encoder, Example
from whence.errors import ModelError
from whence.files import base_state, hash_of, new_folder
from whence.model import LoadedModel, ModelSettings, load_model
from whence.progress import Progress
from whence.run_file import read_run_file
from whence.train import FinetuneSettings, finetune

ADAPTER, MODEL = "adapter", "model"
"""Name of the fine-tune in a case's folder: with LoRA, and without."""


def base_of(case: PlantedCase, settings: PlantedSettings, folder: Path, stage: Progress) -> str:
    """The model that the case starts from: the one given, or the same trained on the fault's lessons, in `folder`.

    Lessons are trained with a LoRA adapter that is merged into the weights, so that the result is a plain model.
    """
    if not case.planted.lessons:
        return settings.base
    tuning = case.tuning(settings).model_copy(update={"lora_r": settings.finetune.lora_r or 16})
    made_of = [base_state(settings.base), content_hash(case.planted.lessons), tuning.model_dump(mode="json")]
    place = folder / f"{case.fault}-seed{case.seed}-{hash_of(made_of)}"
    if not place.exists():
        _teach(settings.base, case.planted.lessons, place, tuning, stage)
    return str(place)


def fine_tuned(
    case: PlantedCase, settings: PlantedSettings, base: str, folder: Path, stage: Progress
) -> tuple[LoadedModel, LoadedModel | None, float]:
    """The fine-tuned model; its base where it has no adapter that could be turned off; and the seconds it took."""
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
            progress=stage,
        )
    run = read_run_file(place)
    seconds = run.seconds if run is not None else 0.0
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


def _teach(base: str, lessons: Sequence[Example], place: Path, tuning: FinetuneSettings, stage: Progress) -> None:
    """Fine-tunes, merges and saves; the folder appears whole or not at all."""
    loaded = load(base, tuning)
    with new_folder(place) as partial:
        finetune(
            loaded,
            lessons,
            partial / ADAPTER,
            settings=tuning,
            encoder=encoder_of(loaded, tuning),
            progress=lambda _, step, n: stage("teaching the base", step, n),
        )
        tuned = load(base, tuning, adapter=str(partial / ADAPTER))
        tuned.model.merge_and_unload().save_pretrained(partial)
        tuned.tokenizer.save_pretrained(partial)
        shutil.rmtree(partial / ADAPTER)


__all__ = ["ADAPTER", "MODEL", "base_of", "encoder_of", "fine_tuned", "load"]
