"""Checkpoints of a training run, read from folders: weights, learning rate, the optimizer's moments."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from whence.errors import InputError
from whence.methods.base import AdamState, Checkpoint, Subject
from whence.run_file import read_run_file

WEIGHTS = ("adapter_model.safetensors", "model.safetensors")
WEIGHTS_INDEX = "model.safetensors.index.json"
OPTIMIZER = "optimizer.safetensors"
"""Tensors `exp_avg/NAME` and `exp_avg_sq/NAME`; `step`, `beta1`, `beta2` and `eps` in the file's metadata."""


@dataclass(frozen=True, slots=True)
class FolderCheckpoint:
    """A folder saved by save_pretrained (a model or a PEFT adapter), optimizer.safetensors beside it when kept."""

    path: Path
    learning_rate: float

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.path)

    def values(self, names: Sequence[str]) -> Mapping[str, Tensor]:
        """The named parameters. An adapter's files leave out its name: `lora_A.default.weight` is `lora_A.weight`.

        Raises InputError for a folder without weights, a damaged file, or a missing parameter.
        """
        stored = {key: tensor for file in self._weight_files() for key, tensor in _read(file).items()}
        found = {name: stored[key] for name in names if (key := _stored_name(name, stored)) is not None}
        missing = [name for name in names if name not in found]
        if missing:
            raise self._half_written(f"{len(missing)} of {len(names)} weights are missing, first {missing[0]}")
        return found

    def adam(self) -> AdamState | None:
        """The optimizer's moments, or None where there is no optimizer.safetensors. Raises InputError if damaged."""
        file = self.path / OPTIMIZER
        return read_adam_state(file) if file.exists() else None

    def _weight_files(self) -> list[Path]:
        index = self.path / WEIGHTS_INDEX
        if index.exists():
            files = sorted({self.path / part for part in json.loads(index.read_text("utf-8"))["weight_map"].values()})
        else:
            files = [self.path / name for name in WEIGHTS if (self.path / name).exists()][:1]
        absent = [file.name for file in files if not file.exists()]
        if not files or absent:
            raise self._half_written(f"it has no {', '.join(absent) or ' or '.join(WEIGHTS)}")
        return files

    def _half_written(self, what: str) -> InputError:
        return InputError(
            f"The checkpoint {self.path} is unfinished: {what}.",
            "Expected a folder saved whole by save_pretrained, of the model under diagnosis.",
            "Remove that folder, or make the checkpoints again with whence finetune.",
        )


def run_checkpoints(run: str | Path) -> tuple[FolderCheckpoint, ...]:
    """The checkpoints that a folder made by `whence finetune` lists, in order; the final weights where it lists none.

    A single final one has the run's top learning rate, which then only scales the scores. Raises InputError for a
    folder without a readable run.yaml.
    """
    folder = Path(run)
    notes = read_run_file(folder)
    if notes is None:
        raise InputError(
            f"{folder} is no folder of a fine-tune: it has no run.yaml of one.",
            "Expected run.yaml with settings and checkpoints, as whence finetune writes it.",
            "Give the folder that whence finetune made.",
        )
    listed = [FolderCheckpoint(folder / kept.path, kept.learning_rate) for kept in notes.checkpoints]
    return tuple(listed or [FolderCheckpoint(folder, float(str(notes.settings["learning_rate"])))])


def read_adam_state(file: Path) -> AdamState:
    """The moments in an optimizer.safetensors. Raises InputError for a damaged or foreign file."""
    from safetensors import safe_open

    tensors = _read(file)
    with safe_open(file, framework="pt") as opened:
        notes = opened.metadata() or {}
    moments: dict[str, dict[str, Tensor]] = {"exp_avg": {}, "exp_avg_sq": {}}
    for key, tensor in tensors.items():
        kind, _, name = key.partition("/")
        if kind in moments:
            moments[kind][name] = tensor
    if not moments["exp_avg_sq"] or moments["exp_avg"].keys() != moments["exp_avg_sq"].keys():
        raise InputError(
            f"{file} holds no complete set of Adam's moments.",
            "Expected tensors exp_avg/NAME and exp_avg_sq/NAME for every trained parameter.",
            "Make it again: whence finetune --keep-optimizer.",
        )
    return AdamState(
        moments["exp_avg"],
        moments["exp_avg_sq"],
        step=int(notes.get("step", 0)),
        betas=(float(notes.get("beta1", 0.9)), float(notes.get("beta2", 0.999))),
        eps=float(notes.get("eps", 1e-8)),
    )


def require_checkpoints(subject: Subject, method: str) -> tuple[Checkpoint, ...]:
    """The subject's checkpoints. Raises InputError when there is none."""
    if not subject.checkpoints:
        raise InputError(
            f"{method} needs checkpoints of the training run; there is none.",
            "Expected at least one folder with weights and its learning rate.",
            "Keep them with whence finetune --checkpoints.",
        )
    return subject.checkpoints


def checkpoints_with_moments(subject: Subject, method: str) -> Iterator[tuple[Checkpoint, AdamState]]:
    """The checkpoints that kept Adam's moments. Raises InputError when none did."""
    kept = [(checkpoint, state) for checkpoint in subject.checkpoints if (state := checkpoint.adam()) is not None]
    if not kept:
        raise InputError(
            f"{method} needs Adam's moments of the training run; "
            f"none of {len(subject.checkpoints)} checkpoints has them.",
            f"Expected {OPTIMIZER} in a checkpoint's folder.",
            "Keep them with whence finetune --keep-optimizer.",
        )
    yield from kept


def _read(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"{file} cannot be read: {error}.",
            "Expected a whole safetensors file.",
            "It is half written or damaged; remove its folder, or make it again with whence finetune.",
        ) from error


def _stored_name(name: str, stored: Mapping[str, Tensor]) -> str | None:
    """The key of a parameter in a file: its name, or its name without the adapter's."""
    name = re.sub(r"\.modules_to_save\.[^.]+", "", name)  # a file has it as the base does
    parts = name.split(".")
    shorter = [".".join(parts[:i] + parts[i + 1 :]) for i in range(1, len(parts))]
    return next((key for key in [name, *shorter] if key in stored), None)
