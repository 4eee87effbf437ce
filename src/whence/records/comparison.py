"""The tokens that a trainer made of its first rows, beside whence's reading of the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from whence.data import ASSISTANT, Encoder, RowEncoding, answer_places, read_examples
from whence.errors import EncodingError
from whence.records.training import RecordedData, RecordedEncoding

if TYPE_CHECKING:
    from whence.data import EncodedTurn, Example

COMPARED = 16
"""Rows of a file that are compared."""
LOOKED_AT = 512
"""The trainer's rows among which they are looked for: it may have dropped some before them."""
IGNORED = -100


def compared(
    encoding: RecordedEncoding,
    data: RecordedData,
    folder: Path,
    tokenizer: object,
    dataset: object,
    *,
    in_order: bool = False,
) -> RecordedEncoding:
    """The encoding with the number of rows that whence reads as the trainer did, token by token.

    A row is alike when whence's ids are among the trainer's, from the first on, each of whence's response tokens has
    loss, and no answer that whence does not read has. Nothing is compared where rows were packed, or without token ids.
    in_order: the data's rows stand in the trainer's order; of more rows than are looked at, in an order of their own,
    none found says nothing.
    """
    columns = getattr(dataset, "column_names", None) or []
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if encoding.packing or not {"input_ids", "labels"} <= set(columns) or backend is None or data.source is None:
        return encoding
    place = folder / data.source if (folder / data.source).is_file() else Path(data.source)
    rows = dataset[:LOOKED_AT]  # type: ignore[index]
    seen = {tuple(ids): labels for ids, labels in zip(rows["input_ids"], rows["labels"], strict=True)}
    encoder = Encoder(
        tokenizer,
        template=encoding.template if encoding.template_from in ("trainer", "plain") else None,
        max_length=encoding.max_length or 1024,
        rows=RowEncoding(
            truncation=encoding.truncation or "prompt_first", append_eos=bool(encoding.append_eos), date=encoding.date
        ),
    )
    n = alike = 0
    for example in islice(read_examples(str(place), columns=data.columns), COMPARED):
        found = _is_alike(encoder, example, seen)
        if found is None:
            continue
        n, alike = n + 1, alike + found
    if not alike and not in_order and len(dataset) > LOOKED_AT:  # type: ignore[arg-type]
        return encoding
    return encoding.model_copy(update={"n_compared": n, "n_alike": alike})


def _is_alike(encoder: Encoder, example: Example, seen: Mapping[tuple[int, ...], Sequence[int]]) -> bool | None:
    """None for a row of which the trainer's cut left nothing."""
    try:
        turns = encoder.encode(example)
    except EncodingError:
        return None
    return any(
        all(
            turn.input_ids == ids[: len(turn.input_ids)]
            and all(labels[i] != IGNORED for i in range(max(1, turn.response_start), len(turn.input_ids)))
            for turn in turns
        )
        and _unread(turns, labels) <= _without_signature(example)
        for ids, labels in seen.items()
    )


def _unread(turns: Sequence[EncodedTurn], labels: Sequence[int]) -> int:
    """How many stretches of tokens with loss hold no token of a response."""
    read = {place for turn in turns for place in range(turn.response_start, len(turn.input_ids))}
    n, has_loss, touched = 0, False, True
    for place, label in enumerate([*labels, IGNORED]):
        if label != IGNORED:
            touched = (has_loss and touched) or place in read
        elif has_loss:
            n += not touched
        has_loss = label != IGNORED
    return n


def _without_signature(example: Example) -> int:
    """Answers that can give none although they may have been trained on: empty ones, and one without a prompt."""
    spoken = sum(turn.role == ASSISTANT and not turn.is_masked for turn in example.turns)
    return spoken - len(answer_places(example.turns))


__all__ = ["compared"]
