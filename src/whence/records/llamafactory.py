"""LLaMA-Factory's configuration, as `llamafactory-cli train CONFIG.yaml` reads it and its output folder keeps it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from whence.data import PLAIN_TEMPLATE
from whence.errors import InputError
from whence.records.trainer_settings import EVERY_TOKEN
from whence.records.training import TrainingFile

INFO = "dataset_info.json"
USUAL = {"prompt": "instruction", "query": "input", "response": "output"}
USUAL_CHAT = {"messages": "conversations"}
"""Columns of the roles where dataset_info.json names none; where it names any, all other roles have no column."""
UNREAD = ("system", "history", "tools")
"""Roles that are read from the columns that are named for them, and from no other."""
TAGS = (("from", "value"), ("role", "content"))
"""Keys of a message that are read."""
PARTS = ("num_samples", "subset", "folder")
"""Keys of a data set by which a part of it is trained on."""
STAGES = ("pt", "sft", "dpo", "kto")


class _DataSet(NamedTuple):
    """An entry of dataset_info.json: where its rows lie, and the columns of LLaMA-Factory's roles."""

    source: str
    split: str | None
    roles: Mapping[str, str]
    is_chat: bool
    is_ranking: bool
    notes: list[str]


def read_llamafactory(values: Mapping[str, JsonValue], path: Path) -> TrainingFile | None:
    """The run that the configuration describes; None for a file that is none.

    The data set's name is looked up in dataset_info.json of `dataset_dir`. Raises InputError where it is not there,
    several are named, or its rows were trained on in a way that is not read.
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
    stage = str(values["stage"])
    if stage not in STAGES:
        raise InputError(
            f"{path} is of stage {stage}, in which no answer of its rows is learned token by token.",
            f"Expected {', '.join(STAGES)}.",
            "Give the folder of the run that trained the answers, or DATA with --no-record.",
        )
    data = _data(names[0], str(values.get("dataset_dir") or "data"), path)
    is_text = stage == "pt"
    columns, notes = _text_column(data, path) if is_text else _columns(data, path)
    if stage == "sft" and values.get("mask_history") is True and (data.is_chat or "history" in data.roles):
        raise InputError(
            f"{path} sets mask_history: of each conversation the last answer alone was trained on.",
            "All answers of a conversation are read but those that are marked.",
            'Mark the earlier ones in a copy of the data ("train": false beside their text) and give it as DATA with '
            "--no-record.",
        )
    on_prompt = stage == "sft" and values.get("train_on_prompt") is True
    loss_on = "chosen" if data.is_ranking else "all" if is_text or on_prompt else "assistant"
    # Texts are packed unless that is turned off, and one that is not is cut at its right end.
    packs = values.get("packing") is not False if is_text else bool(values.get("packing"))
    return TrainingFile.model_validate(
        {
            "trainer": "LLaMA-Factory",
            "status": "finished",
            "base": model,
            "revision": _text(values.get("model_revision")),
            "is_adapter": values.get("finetuning_type", "lora") == "lora" or None,
            "data": {
                "source": data.source,
                "split": data.split,
                "columns": columns,
                "side": "chosen" if data.is_ranking else None,
            },
            "encoding": {
                "max_length": values.get("cutoff_len", 2048),
                "truncation": "keep_start" if is_text and not packs else "prompt_first",
                "append_eos": True if is_text else None,
                "template": PLAIN_TEMPLATE if is_text else None,
                "template_from": "plain" if is_text else None,
                "loss_on": loss_on,
                "packing": "packing" if packs else None,
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
                *data.notes,
                *notes,
                *([EVERY_TOKEN] if on_prompt else []),
                *([_packed(values)] if is_text and packs else []),
                *([] if is_text else [_rendered(values)]),
            ],
        }
    )


def _columns(data: _DataSet, path: Path) -> tuple[dict[str, str], list[str]]:
    """The columns of a conversation, and what is to be said of them. Raises InputError where a role has none."""
    roles, notes = data.roles, []
    answer = roles.get("chosen", "chosen") if data.is_ranking else roles.get("response")
    said = roles.get("messages", USUAL_CHAT["messages"]) if data.is_chat else roles.get("prompt", roles.get("query"))
    if said is None or (answer is None and not data.is_chat):
        raise InputError(
            f"{path} trains on a data set whose columns name no {'prompt' if said is None else 'response'}.",
            f"Expected {', '.join(USUAL)}, or messages with formatting sharegpt.",
            f"Correct {INFO}, or give DATA with --columns and --no-record.",
        )
    if answer is None or (data.is_chat and not data.is_ranking):
        columns = {"messages": said}
    else:
        columns = {"prompt": said, "response": answer}
        if not data.is_chat and "query" in roles and roles["query"] != said:
            columns["query"] = roles["query"]
    columns |= {key: roles.get(key, "") for key in UNREAD if key != "history" or "prompt" in columns}
    if data.is_chat:
        columns["marks"] = ""  # weight and train of a message are not read
    is_kto = "kto_tag" in roles
    if is_kto:
        columns["label"] = roles["kto_tag"]
    # The answers before a chosen side of messages are part of its prompt, and are not read.
    if (is_kto and data.is_chat) or ((is_kto or data.is_ranking) and roles.get("history")):
        notes.append(
            "LLaMA-Factory trained on the last answer of a conversation alone; whence reads the earlier ones too"
        )
    return columns, notes


def _text_column(data: _DataSet, path: Path) -> tuple[dict[str, str], list[str]]:
    """The column of the texts of pre-training, which is the prompt's. Raises InputError for conversations."""
    column, query = data.roles.get("prompt"), data.roles.get("query")
    if data.is_chat or column is None:
        raise InputError(
            f"{path} is of stage pt and its data set names no prompt: the first message of a conversation was trained "
            "on as a text.",
            "Expected columns with prompt, which holds the text.",
            "Put the texts into a column text and give the file as DATA with --no-record.",
        )
    said = [f"LLaMA-Factory put column {query!r} behind each text; whence reads the text without it"] if query else []
    return {"text": column}, said


def _rendered(values: Mapping[str, JsonValue]) -> str:
    template = values.get("template")
    if not template:
        return "LLaMA-Factory trained without a template of its own (template is not set)"
    return (
        f"LLaMA-Factory rendered rows with its template {template!r}; whence uses the tokenizer's chat "
        "template, which is the same for most models but not all: give another with --template"
    )


def _packed(values: Mapping[str, JsonValue]) -> str:
    return (
        f"LLaMA-Factory put the texts one behind the other and cut them every {values.get('cutoff_len', 2048)} tokens; "
        "whence reads each text by itself"
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


def _data(name: str, folder: str, config: Path) -> _DataSet:
    """The data set of that name, by dataset_info.json. Raises InputError."""
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
    is_chat = entry.get("formatting", "alpaca") != "alpaca"
    if is_chat:
        _check_tags(entry.get("tags"), f"{info}, data set {name!r},")
    named = entry.get("columns")
    roles = {role: str(column) for role, column in named.items() if column} if isinstance(named, dict) else None
    hub = entry.get("hf_hub_url") or entry.get("ms_hub_url")
    file = entry.get("file_name")
    is_file = not hub and isinstance(file, str)
    parts = [f"{key} {entry[key]}" for key in PARTS if entry.get(key)]
    said = f"LLaMA-Factory trained on a part of the data set ({', '.join(parts)}); all rows of its source are indexed"
    return _DataSet(
        source=str((info.parent / str(file)).resolve()) if is_file else str(hub or name),
        split=None if is_file else _text(entry.get("split")),
        roles=roles or (USUAL_CHAT if is_chat else USUAL),
        is_chat=is_chat,
        is_ranking=entry.get("ranking") is True,
        notes=[said] if parts else [],
    )


def _check_tags(tags: JsonValue, where: str) -> None:
    """Raises InputError for messages whose role and text have keys that are not read."""
    given = tags if isinstance(tags, dict) else {}
    keys = tuple(str(given.get(key) or usual) for key, usual in (("role_tag", "from"), ("content_tag", "value")))
    if keys not in TAGS:
        raise InputError(
            f"{where} has messages of {' and '.join(keys)}.",
            f"Expected {' or '.join(' and '.join(tag) for tag in TAGS)}.",
            "Rename these keys in a copy of the data and give it as DATA with --no-record.",
        )


__all__ = ["read_llamafactory"]
