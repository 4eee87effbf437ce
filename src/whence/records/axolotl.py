"""axolotl's configuration, as `axolotl train CONFIG.yml` reads it and writes it into its output folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from whence.data import PLAIN_TEMPLATE
from whence.errors import InputError
from whence.records.axolotl_rows import CHAT, COMPLETION, columns_of, notes_of
from whence.records.trainer_settings import EVERY_TOKEN
from whence.records.training import TrainingFile

MARKS = ("base_model", "datasets")
"""Keys that every configuration of axolotl has, and LLaMA-Factory's has not."""
NO_TEMPLATE = (COMPLETION, "input_output")
FROM_TOKENIZER = "tokenizer_default"
"""Values of `chat_template` that begin so take the tokenizer's own."""
DEFAULT_LENGTH = 512
"""axolotl's own `sequence_len`."""


def read_axolotl(values: Mapping[str, JsonValue], path: Path) -> TrainingFile | None:
    """The run that the configuration describes; None for a file that is none. Raises InputError for several data sets
    and for rows that were trained on in a way that is not read.

    Relative paths are axolotl's: from where it was started, so they are looked for there and beside the file.
    """
    datasets = values.get("datasets")
    if not isinstance(values.get("base_model"), str) or not isinstance(datasets, list):
        return None
    entries = [entry for entry in datasets if isinstance(entry, dict)]
    if len(entries) != 1:
        raise InputError(
            f"{path} trains on {len(entries)} data sets: {', '.join(str(entry.get('path')) for entry in entries)}.",
            "One file, folder or data set is indexed.",
            "Put the rows into one folder of files and give it as DATA, with --no-record.",
        )
    (entry,) = entries
    kind = str(entry["type"]) if isinstance(entry.get("type"), str) else ""
    files = entry.get("data_files")
    files = files if isinstance(files, list) else [files] if files else []
    if len(files) > 1:
        raise InputError(
            f"{path} trains on {len(files)} data files: {', '.join(map(str, files))}.",
            "One file, folder or data set is indexed.",
            "Put the rows into one folder of files and give it as DATA, with --no-record.",
        )
    source = str(files[0]) if len(files) == 1 else str(entry.get("path") or "")
    is_text = kind == COMPLETION
    is_preference = bool(values.get("rl"))
    columns = columns_of(entry, is_preference=is_preference)
    notes: list[str] = notes_of(entry, path)
    template = entry.get("chat_template") or ("jinja" if entry.get("chat_template_jinja") else None)
    template = template or values.get("chat_template")
    if kind.startswith(CHAT) and template and not str(template).startswith(FROM_TOKENIZER):
        notes.append(
            f"axolotl rendered rows with its chat template {str(template)!r}; whence uses the tokenizer's, which is "
            "the same for most models but not all: give another with --template"
        )
    if values.get("val_set_size"):
        notes.append(
            f"axolotl held out a part of the rows for evaluation (val_set_size {values['val_set_size']}) and does not "
            "say which; they are indexed with the others"
        )
    on_inputs = values.get("train_on_inputs") is True and not is_preference and not is_text
    if on_inputs:
        notes.append(EVERY_TOKEN)
    if values.get("excess_length_strategy") != "truncate" and not is_text:
        notes.append("axolotl left out rows longer than sequence_len; whence reads what fits of them")
    packing = values.get("sample_packing")
    return TrainingFile.model_validate(
        {
            "trainer": "axolotl",
            "status": "finished",
            "base": values.get("base_model"),
            "revision": None if (revision := values.get("revision_of_model")) is None else str(revision),
            "is_adapter": values.get("adapter") in ("lora", "qlora") or None,
            "data": {
                "source": _placed(source, path),
                "split": entry.get("split") if not Path(source).suffix else None,
                "columns": columns,
            },
            "encoding": {
                "max_length": _whole(values.get("sequence_len"), DEFAULT_LENGTH),
                # Rows longer than sequence_len are left out, not cut; one that fits is the same in either reading.
                # A document is cut into pieces of sequence_len, all of which are trained on.
                "truncation": "prompt_first" if is_text else "keep_start",
                "append_eos": True if is_text else None,
                "template": PLAIN_TEMPLATE if kind in NO_TEMPLATE else None,
                "template_from": "plain" if kind in NO_TEMPLATE else None,
                "loss_on": "all" if on_inputs or is_text else "assistant",
                "packing": "sample_packing" if packing else None,
            },
            "run": {
                "epochs": values.get("num_epochs"),
                "batch_size": _whole(values.get("micro_batch_size"), 1)
                * _whole(values.get("gradient_accumulation_steps"), 1),
                "learning_rate": values.get("learning_rate"),
                "schedule": values.get("lr_scheduler"),
                "optimizer": values.get("optimizer"),
                "weight_decay": values.get("weight_decay"),
                "seed": values.get("seed"),
                "lora_r": values.get("lora_r"),
                "lora_alpha": values.get("lora_alpha"),
                "lora_dropout": values.get("lora_dropout"),
                "lora_targets": values.get("lora_target_modules") or None,
            },
            "notes": notes,
        }
    )


def _whole(value: JsonValue, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise


def _placed(source: str, config: Path) -> str:
    """A path that lies beside the configuration by its whole path; anything else as it is written."""
    beside = config.parent / source
    return str(beside.resolve()) if source and beside.exists() and not Path(source).exists() else source


__all__ = ["read_axolotl"]
