"""Which columns of a row TRL's trainers read, whatever stands beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from whence.data import recognise

Formatting = Callable[[Mapping[str, object]], object]

MADE = "text"
"""The column that the SFTTrainer puts the result of its `formatting_func` into."""


def trained_columns(trainer: object, first: Mapping[str, object], names: Iterable[str] = ()) -> dict[str, str] | None:
    """The columns that the trainer reads of rows like `first`, as `read_examples` takes them.

    names: columns of other rows. None for a trainer that is not known, or where it reads none of these columns.
    """
    kinds = {kind.__name__ for kind in type(trainer).__mro__}
    if "SFTTrainer" in kinds:
        columns = _sft(first, str(getattr(getattr(trainer, "args", None), "dataset_text_field", "text")))
    elif "DPOTrainer" in kinds and {"prompt", "chosen"} <= first.keys():
        columns = {"prompt": "prompt", "response": "chosen"}
    else:
        columns = None
    there = [*first, *names]
    shape = recognise(there, columns) if columns is not None else None
    if columns is None or shape is None:
        return None
    # Neither trainer renders these columns. They are named where they are there alone: a query may have them.
    unread = [key for key, column in (("system", shape.system), ("history", shape.history)) if column in there]
    return columns | dict.fromkeys(unread, "")


def ignores_marks(trainer: object) -> bool:
    """Whether the trainer learns answers that are marked as not trained on (weight 0, train false): TRL's do."""
    return bool({"SFTTrainer", "DPOTrainer"} & {kind.__name__ for kind in type(trainer).__mro__})


def formatting_of(trainer: object, first: Callable[[], Mapping[str, object]]) -> Formatting | None:
    """The `formatting_func` of an SFTTrainer; None without one, or where it changes nothing of rows like `first()`."""
    found = getattr(trainer, "_formatting_func", None)
    if not callable(found) or trained_columns(trainer, {**first(), MADE: ""}) != {"text": MADE}:
        return None
    made: Formatting = found
    return made


def _sft(first: Mapping[str, object], field: str) -> dict[str, str] | None:
    """A prompt and its completion, then messages, then the text."""
    if "prompt" in first:
        return {"prompt": "prompt", "response": "completion"} if "completion" in first else None
    for name, keys in (("conversations", {"from", "value"}), ("messages", {"role"})):
        talk = first.get(name)
        if isinstance(talk, list) and talk and isinstance(talk[0], Mapping) and keys <= talk[0].keys():
            return {"messages": name}
    return {"text": field} if field in first else None


__all__ = ["MADE", "Formatting", "formatting_of", "ignores_marks", "trained_columns"]
