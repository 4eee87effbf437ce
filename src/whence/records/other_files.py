"""What other trainers leave in a folder: axolotl's and LLaMA-Factory's YAML, and the files of peft and the Trainer.

`training_args.bin` is a pickle, which runs code when it is opened; it is never read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue, ValidationError

from whence.errors import InputError
from whence.records.axolotl import read_axolotl
from whence.records.llamafactory import read_llamafactory
from whence.records.training import RecordedRun, TrainingFile

TOLD_BY = (
    "axolotl's YAML",
    "LLaMA-Factory's YAML",
    "adapter_config.json",
    "README.md",
    "trainer_state.json",
)
"""What is looked for beside a record, in this order."""


class Told(NamedTuple):
    """What was found, and the names of the files that told it."""

    record: TrainingFile
    told_by: str


Reader = Callable[[Mapping[str, JsonValue], Path], TrainingFile | None]


def told_by_files(home: Path) -> Told | None:
    """What the folder's files tell of the training; None where they name no data at all."""
    for path in sorted([*home.glob("*.yml"), *home.glob("*.yaml")]):
        values = _yaml(path)
        for read in (read_axolotl, read_llamafactory):
            record = _read(read, values, path) if values is not None else None
            if record is not None:
                return Told(_with_rest(record, home), path.name)
    card_path = home / "README.md"
    config = _card_configuration(card_path)
    record = _read(read_axolotl, config, card_path) if config is not None else None
    if record is not None:
        return Told(_with_rest(record, home), "README.md, which holds axolotl's configuration,")
    card = _front_matter(card_path)
    named = card.get("datasets")
    named = named if isinstance(named, list) else [named]
    names = [name for name in named if isinstance(name, str)]
    if len(names) != 1:
        return None
    base = card.get("base_model")
    record = TrainingFile.model_validate(
        {
            "base": adapter_base(home) or (base if isinstance(base, str) else None),
            "is_adapter": (home / "adapter_config.json").is_file() or None,
            "data": {"source": names[0]},
            "notes": [
                "README.md names the data set alone: which columns, length and tokens were trained on is not said"
            ],
        }
    )
    return Told(_with_rest(record, home), "README.md")


def _read(read: Reader, values: Mapping[str, JsonValue], path: Path) -> TrainingFile | None:
    """What a trainer's file says. Raises InputError for a value that is none of its kind."""
    try:
        return read(values, path)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"{path} cannot be read: {'.'.join(map(str, first['loc']))}: {first['msg']}.",
            "Expected a configuration as its trainer reads it.",
            "Mend the file, or give DATA and the settings with --no-record.",
        ) from error


def adapter_base(home: Path) -> str | None:
    """The base that a folder's adapter_config.json names."""
    try:
        found = json.loads((home / "adapter_config.json").read_text("utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) and found else None


def steps_said(home: Path) -> int | None:
    """The steps that a folder's trainer_state.json counts."""
    found = _state(home).get("global_step")
    return found if isinstance(found, int) else None


def _with_rest(record: TrainingFile, home: Path) -> TrainingFile:
    """The record with what trainer_state.json knows besides, and the checkpoints that are there."""
    state = _state(home)
    run = record.run.model_dump()
    for name, key in (("steps", "global_step"), ("epochs", "num_train_epochs")):
        value = state.get(key)
        if run[name] is None and isinstance(value, int | float):
            run[name] = value
    kept = sorted(home.glob("checkpoint-*"), key=lambda place: place.name)
    return record.model_copy(
        update={
            "run": RecordedRun.model_validate(run),
            "checkpoints": tuple(place.name for place in kept if place.is_dir()),
        }
    )


def _state(home: Path) -> Mapping[str, JsonValue]:
    try:
        found = json.loads((home / "trainer_state.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _yaml(path: Path) -> dict[str, JsonValue] | None:
    import yaml

    try:
        found = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return found if isinstance(found, dict) else None


def _card_configuration(path: Path) -> dict[str, JsonValue] | None:
    """The first block of YAML in a model card: axolotl writes its whole configuration there, but to no file."""
    import yaml

    try:
        _, mark, rest = path.read_text("utf-8").partition("\n```yaml\n")
        found = yaml.safe_load(rest.partition("\n```")[0]) if mark else None
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return found if isinstance(found, dict) else None


def _front_matter(path: Path) -> dict[str, JsonValue]:
    """The YAML between the first two lines of --- of a model card; {} where there is none."""
    import yaml

    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError):
        return {}
    if not text.startswith("---\n"):
        return {}
    head, mark, _ = text[4:].partition("\n---")
    try:
        found = yaml.safe_load(head) if mark else None
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


__all__ = ["TOLD_BY", "Told", "adapter_base", "steps_said", "told_by_files"]
