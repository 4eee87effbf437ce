"""How axolotl reads the rows of a data set, by its entry in `datasets`: their columns, and what is not read here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from whence.data import MASK_KEYS, PART_MASK
from whence.errors import InputError

CHAT = "chat_template"
COMPLETION = "completion"
PARTS = ("name", "revision", "shards", "shards_idx")
"""Keys by which a part of a data set, or a version of it, is trained on."""
READ = frozenset(
    {
        *("path", "type", "data_files", "split", "ds_type", "trust_remote_code", "preprocess_shards", *PARTS),
        *("chat_template", "chat_template_jinja", "field", "field_messages", "field_system", "field_tools"),
        *("field_chosen", "field_rejected", "message_property_mappings", "message_field_role", "message_field_content"),
        *("message_field_training", "message_field_training_detail", "roles_to_train", "train_on_eos"),
        "drop_system_message",
    }
)
"""Keys of an entry that are read, or named where they change what was trained on."""
READ_MESSAGES = (("role", "content"), ("from", "value"), ("from", "content"))
"""Keys of a message that are read."""
ASSISTANTS = ("assistant", "gpt")


def columns_of(entry: Mapping[str, JsonValue], *, is_preference: bool) -> dict[str, str] | None:
    """The columns that are trained on; None where they are recognised. is_preference: of chosen and rejected."""
    kind = entry.get("type")
    if isinstance(kind, dict):
        # A role without a field is not read, whatever columns the file has: "" says so.
        about = {"input": str(kind["field_input"])} if kind.get("field_input") else {}
        return {
            "prompt": str(kind.get("field_instruction") or "instruction"),
            "response": str(kind.get("field_output") or "output"),
            **about,
            "system": str(kind.get("field_system") or ""),
            "history": "",
            "tools": "",
        }
    if kind == COMPLETION:
        return {"text": str(entry.get("field") or "text")}
    # axolotl trains on this column also where a question and an answer stand beside it.
    messages = str(entry.get("field_messages") or "messages")
    if is_preference and str(kind).startswith(CHAT):
        return {"prompt": messages, "response": str(entry.get("field_chosen") or "chosen")}
    if kind != CHAT:
        return {"messages": messages} if entry.get("field_messages") else None
    columns = {"messages": messages}
    if entry.get("drop_system_message"):
        columns["system"] = ""
    elif entry.get("field_system"):
        columns["system"] = str(entry["field_system"])
    if entry.get("field_tools"):
        columns["tools"] = str(entry["field_tools"])
    return columns


def notes_of(entry: Mapping[str, JsonValue], path: Path) -> list[str]:
    """What is to be said of the reading of these rows. Raises InputError where other answers were trained on."""
    kind = entry.get("type")
    notes = []
    if isinstance(kind, dict):
        notes.append(_rendered("the custom type") + _system_prompt(kind))
    elif kind and kind != COMPLETION and not str(kind).startswith(CHAT):
        notes.append(_rendered(f"type {str(kind)!r}"))
    if str(kind).startswith(CHAT):
        notes += _turns(entry, path)
    parts = [f"{key} {entry[key]}" for key in PARTS if entry.get(key) is not None]
    if parts:
        notes.append(
            f"axolotl trained on a part or a version of the data set ({', '.join(parts)}); all rows of its source are "
            "indexed"
        )
    others = [f"{key} {value}" for key, value in entry.items() if key not in READ and value not in (None, False, "")]
    if others:
        notes.append(
            f"whence does not read {', '.join(others)} of the data set in {path.name}: rows may have been trained on "
            "in another form"
        )
    return notes


def _turns(entry: Mapping[str, JsonValue], path: Path) -> list[str]:
    """What is to be said of the turns of a conversation that were trained on. Raises InputError."""
    _check_messages(entry, path)
    notes = []
    roles = entry.get("roles_to_train")
    if isinstance(roles, list):
        others = [str(role) for role in roles if role not in ASSISTANTS]
        if len(others) == len(roles):
            raise InputError(
                f"{path} trains on {'the roles ' + ', '.join(others) if others else 'no role'}: roles_to_train has no "
                "assistant.",
                "The answers of the assistant are read.",
                'Mark the answers that were not trained on in a copy of the data ("train": false) and give it as DATA '
                "with --no-record.",
            )
        if others:
            notes.append(
                f"axolotl trained on turns of {', '.join(others)} too; whence reads the answers of the assistant alone"
            )
    if entry.get("train_on_eos") not in (None, "turn"):
        notes.append(
            f"axolotl trained with train_on_eos {entry['train_on_eos']}; whence reads each answer with the end of its "
            "turn"
        )
    if entry.get("drop_system_message"):
        notes.append("axolotl dropped the system message of each conversation; whence reads the rows with it")
    return notes


def _check_messages(entry: Mapping[str, JsonValue], path: Path) -> None:
    """Raises InputError for messages, or marks in them, that are read from other keys than here."""
    given = entry.get("message_property_mappings")
    mapped = {str(key): str(value) for key, value in given.items()} if isinstance(given, dict) else {}
    role = mapped.pop("role", str(entry.get("message_field_role") or "role"))
    content = mapped.pop("content", str(entry.get("message_field_content") or "content"))
    moved = [f"{key} from {value}" for key, value in mapped.items() if key != value]
    if (role, content) not in READ_MESSAGES:
        moved = [f"role from {role}", f"content from {content}", *moved]
    marks = [
        f"{key} {entry[key]}"
        for key, known in (("message_field_training", MASK_KEYS), ("message_field_training_detail", (PART_MASK,)))
        if entry.get(key) and entry[key] not in known
    ]
    if moved or marks:
        raise InputError(
            f"{path} takes what messages say from other keys than whence: {', '.join([*moved, *marks])}.",
            f"Expected role and content, or from and value, and marks in {', '.join((*MASK_KEYS, PART_MASK))}.",
            "Rename the keys in a copy of the data and give it as DATA with --no-record.",
        )


def _rendered(kind: str) -> str:
    return (
        f"axolotl rendered rows of {kind} by a prompt of its own; whence renders them with the tokenizer's chat "
        "template unless --template says otherwise"
    )


def _system_prompt(kind: Mapping[str, JsonValue]) -> str:
    """Of a custom type: the system prompt that stands before rows without one of their own."""
    own = kind.get("system_prompt")
    return f", and without its system prompt {str(own)[:60]!r}" if own and not kind.get("field_system") else ""


__all__ = ["CHAT", "COMPLETION", "columns_of", "notes_of"]
