"""What a trainer's own arguments say: how rows became tokens, which had loss, and how the weights were moved."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

from whence.data import PLAIN_TEMPLATE, Truncation
from whence.records.training import RecordedEncoding, RecordedRun

PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "tokenizers", "whence")
LORA_MORE: Mapping[str, tuple[object, ...]] = {
    "use_rslora": (None, False),
    "use_dora": (None, False),
    "modules_to_save": (None, [], ()),
    "bias": (None, "none"),
    "rank_pattern": (None, {}),
    "alpha_pattern": (None, {}),
    "layers_to_transform": (None, [], ()),
    "exclude_modules": (None, [], ()),
    "init_lora_weights": (None, True, False, "gaussian"),
    "lora_bias": (None, False),
    "trainable_token_indices": (None, [], ()),
    "target_parameters": (None, [], ()),
    "layer_replication": (None, [], ()),
    "use_qalora": (None, False),
}
"""Settings of a LoRA that whence's own trainer does not have, each with the values that change nothing."""
EVERY_TOKEN = "the loss was on every token of a conversation; whence reads the answers (--loss all reads every token)"
UNCUT = 1_000_000
"""`max_length` of a trainer that cuts nothing; the model's own positions still hold."""
CUT_BY_PACKING: dict[str, tuple[Truncation, str]] = {
    "bfd": ("keep_start", ""),
    "bfd_split": (
        "prompt_first",
        "rows longer than max_length were trained on in parts (packing bfd_split), the later ones without what stood "
        "before; whence reads such a row's answer with its prompt",
    ),
    "wrapped": (
        "prompt_first",
        "rows were packed one behind the other and cut wherever a pack was full (packing wrapped); whence reads each "
        "row by itself",
    ),
}
HANDED_TOKENS = (
    "this trainer is handed tokens, so how they were made is not known: tell `whence index` what was done otherwise "
    "than its own trainer does (--template, --max-length, --truncation, --append-eos, --loss)"
)
"""Left unsaid where every compared row is read as it was trained on."""


def sft_encoding(
    args: object, trainer: object, tokenizer: object, dataset: object, first: Mapping[str, object]
) -> tuple[RecordedEncoding, list[str]]:
    """How the trainer reads rows like `first`, and what there is to say about it. Knows TRL's SFT and DPO trainers."""
    if not hasattr(args, "max_length"):
        return RecordedEncoding(loss_on=_by_labels(dataset)), [HANDED_TOKENS]
    notes: list[str] = []
    packing = str(getattr(args, "packing_strategy", "bfd")) if getattr(args, "packing", False) else None
    truncation: Truncation = "keep_end" if getattr(args, "truncation_mode", "") == "keep_end" else "keep_start"
    if packing is not None:
        truncation, said = CUT_BY_PACKING.get(packing, ("prompt_first", f"packing {packing!r} is not known"))
        notes += [said] if said else []
    max_length = getattr(args, "max_length", None)
    template, template_from = _template(trainer, tokenizer, first)
    field = getattr(args, "dataset_text_field", "text")
    is_text = bool(first) and not {"messages", "conversations", "prompt", "chosen"} & first.keys() and field in first
    loss_on = _loss_on(args, trainer, first)
    if loss_on == "all" and not is_text:
        notes.append(EVERY_TOKEN)
    return (
        RecordedEncoding(
            max_length=UNCUT if max_length is None else max_length,
            truncation=truncation,
            append_eos=True if is_text else None,
            template=template,
            template_from=template_from,
            loss_on=loss_on,
            date=date.today().isoformat() if "strftime_now(" in (template or "") else None,
            packing=packing,
        ),
        notes,
    )


def _template(
    trainer: object, tokenizer: object, first: Mapping[str, object]
) -> tuple[str | None, Literal["tokenizer", "trainer", "plain"] | None]:
    """TRL joins strings without a template, and renders messages with the tokenizer's or with one of its own."""
    if not first:
        return None, None
    answer = first.get("completion", first.get("chosen"))
    if isinstance(answer, str):
        return PLAIN_TEMPLATE, "plain"
    own = getattr(trainer, "chat_template", None)
    if isinstance(own, str):
        return own, "trainer"
    given = getattr(tokenizer, "chat_template", None)
    return (given, "tokenizer") if isinstance(given, str) else (None, None)


def _loss_on(
    args: object, trainer: object, first: Mapping[str, object]
) -> Literal["completion", "assistant", "all", "chosen"] | None:
    if "chosen" in first:
        return "chosen"
    if getattr(args, "assistant_only_loss", False):
        return "assistant"
    completion = getattr(trainer, "completion_only_loss", None)
    if completion is None:
        completion = getattr(args, "completion_only_loss", None)
    if completion is None:
        completion = {"prompt", "completion"} <= first.keys()
    return "completion" if completion else "all"


def _by_labels(dataset: object, n: int = 32) -> Literal["completion", "all"] | None:
    """Told from the labels of the first rows: whether any token is without loss."""
    if "labels" not in (getattr(dataset, "column_names", None) or []):
        return None
    rows = dataset[:n]["labels"]  # type: ignore[index]
    return "completion" if any(-100 in row for row in rows) else "all"


def model_facts(model: object) -> tuple[str | None, str | None, bool]:
    """The base's name or path, its commit on the hub, and whether an adapter is trained."""
    adapter = (getattr(model, "peft_config", None) or {}).get("default")
    inner = model.get_base_model() if adapter is not None and hasattr(model, "get_base_model") else model
    config = getattr(inner, "config", None)
    name = str(getattr(adapter, "base_model_name_or_path", None) or getattr(config, "_name_or_path", "") or "")
    if name and Path(name).exists():
        name = str(Path(name).resolve())
    commit = getattr(adapter, "revision", None) or getattr(config, "_commit_hash", None)
    return name or None, commit, adapter is not None


def run_facts(args: object, state: object, model: object) -> RecordedRun:
    """How the weights are moved, by `TrainingArguments` and the adapter's configuration."""

    def said(name: str) -> object:
        return getattr(args, name, None)

    world, each = said("world_size") or 1, said("train_batch_size") or said("per_device_train_batch_size") or 1
    steps = getattr(state, "max_steps", None)
    max_steps = given if isinstance(given := said("max_steps"), int) and given > 0 else None
    # The state's are rounded up; with a number of steps, the arguments' are the default.
    epochs = (said("num_train_epochs") if max_steps is None else None) or getattr(state, "num_train_epochs", None)
    warmup = args.get_warmup_steps(steps) if hasattr(args, "get_warmup_steps") and steps else None
    adapter = (getattr(model, "peft_config", None) or {}).get("default")
    return RecordedRun.model_validate(
        {
            "epochs": epochs,
            "max_steps": max_steps,
            "batch_size": int(str(each)) * int(str(said("gradient_accumulation_steps") or 1)) * int(str(world)),
            "learning_rate": said("learning_rate"),
            "schedule": _plain(said("lr_scheduler_type")),
            "warmup_steps": warmup,
            "optimizer": _plain(said("optim")),
            "weight_decay": said("weight_decay"),
            "beta1": said("adam_beta1"),
            "beta2": said("adam_beta2"),
            "epsilon": said("adam_epsilon"),
            "max_grad_norm": said("max_grad_norm"),
            "seed": said("seed"),
            **_lora_facts(adapter),
        }
    )


def recorded_adapter(config: Mapping[str, object]) -> RecordedRun:
    """What an adapter_config.json says of its LoRA; nothing else of the run is known."""
    return RecordedRun.model_validate(_lora_facts(SimpleNamespace(**config)))


def _lora_facts(adapter: object) -> dict[str, object]:
    targets = getattr(adapter, "target_modules", None)
    return {
        "lora_r": getattr(adapter, "r", None),
        "lora_alpha": getattr(adapter, "lora_alpha", None),
        "lora_dropout": getattr(adapter, "lora_dropout", None),
        "lora_targets": tuple(sorted(targets)) if isinstance(targets, set | list | tuple) else targets,
        "lora_more": tuple(name for name, plain in LORA_MORE.items() if getattr(adapter, name, None) not in plain),
    }


def versions() -> dict[str, str]:
    """Of the packages that decide a run, those that are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _plain(value: object) -> object:
    """An enumeration's value, and anything else as it is."""
    return getattr(value, "value", value)


__all__ = ["EVERY_TOKEN", "UNCUT", "model_facts", "recorded_adapter", "run_facts", "sft_encoding", "versions"]
