"""LLaMA-Factory's configuration, as `llamafactory-cli train CONFIG.yaml` reads it and its output folder keeps it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from whence.errors import InputError
from whence.records.training import TrainingFile

INFO = "dataset_info.json"
COLUMNS = {name: name for name in ("messages", "prompt", "response", "system", "history", "tools")} | {"query": "input"}
"""LLaMA-Factory's roles, and our names of the same columns; others are recognised by their columns."""
USUAL = {"prompt": "instruction", "input": "input", "response": "output"}


def read_llamafactory(values: Mapping[str, JsonValue], path: Path) -> TrainingFile | None:
    """The run that the configuration describes; None for a file that is none.

    The data set's name is looked up in dataset_info.json of `dataset_dir`. Raises InputError where it is not there, or
    several are named.
    """
    model, named = values.get("model_name_or_path"), values.get("dataset")
    if not isinstance(model, str) or not named or "stage" not in values:
        return None
    names = [str(name).strip() for name in (named if isinstance(named, list) else str(named).split(","))]
    if len(names) != 1:
        raise InputError(
            f"{path} trains on {len(names)} data sets: {', '.join(names)}.",
            "One file, folder or data set is indexed.",
            "Put the rows into one folder of files and give it as DATA, with --no-record.",
        )
    source, columns = _data(names[0], str(values.get("dataset_dir") or "data"), path)
    template = values.get("template")
    only_answers = values.get("train_on_prompt") is not True
    return TrainingFile.model_validate(
        {
            "trainer": "LLaMA-Factory",
            "status": "finished",
            "base": model,
            "revision": _text(values.get("model_revision")),
            "is_adapter": values.get("finetuning_type", "lora") == "lora" or None,
            "data": {"source": source, "columns": columns},
            "encoding": {
                "max_length": values.get("cutoff_len", 2048),
                "truncation": "prompt_first",
                "loss_on": "assistant" if only_answers else "all",
                "packing": "packing" if values.get("packing") else None,
            },
            "run": {
                "epochs": values.get("num_train_epochs"),
                "batch_size": int(str(values.get("per_device_train_batch_size") or 8))
                * int(str(values.get("gradient_accumulation_steps") or 1)),
                "learning_rate": values.get("learning_rate"),
                "schedule": values.get("lr_scheduler_type"),
                "weight_decay": values.get("weight_decay"),
                "seed": values.get("seed"),
                "lora_r": values.get("lora_rank"),
                "lora_alpha": values.get("lora_alpha"),
                "lora_dropout": values.get("lora_dropout"),
                "lora_targets": _targets(values.get("lora_target")),
            },
            "notes": [
                *_left_out(values),
                f"LLaMA-Factory rendered rows with its template {template!r}; whence uses the tokenizer's chat "
                "template, which is the same for most models but not all: give another with --template",
            ]
            if template
            else [*_left_out(values), "LLaMA-Factory trained without a template of its own (template is not set)"],
        }
    )


def _text(value: JsonValue) -> str | None:
    """A revision, which YAML may take for a number."""
    return None if value is None else str(value)


def _targets(named: JsonValue) -> list[str] | None:
    """The modules with an adapter; None for `all`. They stand in one text, separated by commas, or in a list."""
    found = [str(part).strip() for part in (named if isinstance(named, list) else str(named or "").split(","))]
    return None if "all" in found or not any(found) else found


def _left_out(values: Mapping[str, JsonValue]) -> list[JsonValue]:
    """What is to be said of rows of the data set that were not, or not surely, trained on."""
    parts = [f"{name} {values[name]}" for name in ("max_samples", "val_size") if values.get(name)]
    if not parts:
        return []
    return [
        f"LLaMA-Factory trained on a part of the rows where {' and '.join(parts)} leave some out, and does not say on "
        "which; all are indexed"
    ]


def _data(name: str, folder: str, config: Path) -> tuple[str, dict[str, str] | None]:
    """Where the data set lies, and the names of its columns, by dataset_info.json."""
    places = [Path(folder), config.parent / folder, config.parent]
    info = next((place / INFO for place in places if (place / INFO).is_file()), None)
    if info is None:
        raise InputError(
            f"{config} trains on the data set {name!r}, and there is no {INFO} to say where it is.",
            f"Looked in {', '.join(map(str, places))}.",
            "Start whence where LLaMA-Factory was started, or give DATA with --no-record.",
        )
    try:
        entry = json.loads(info.read_text("utf-8")).get(name)
    except (ValueError, AttributeError) as error:
        raise InputError(f"{info} is no JSON: {error}.", "Expected LLaMA-Factory's list of data sets.", "") from error
    if not isinstance(entry, dict):
        raise InputError(
            f"{info} has no data set {name!r}.", "Expected the name that the configuration trains on.", "Mend the file."
        )
    columns = entry.get("columns")
    known = {COLUMNS[key]: str(value) for key, value in (columns or {}).items() if key in COLUMNS}
    mapping = known if "messages" in known or {"prompt", "response"} <= known.keys() else None
    if mapping == USUAL:
        mapping = None  # recognised by these names, also in a file whose rows have no input
    file = entry.get("file_name")
    if isinstance(file, str):
        return str((info.parent / file).resolve()), mapping
    return str(entry.get("hf_hub_url") or entry.get("ms_hub_url") or name), mapping


__all__ = ["read_llamafactory"]
