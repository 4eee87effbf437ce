"""Which columns of a row hold the conversation. Pure: names in, a Shape out, no files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from whence.data.conversation import messages
from whence.data.shape import Shape
from whence.errors import DataError

__all__ = ["TRAINER_COLUMNS", "Shape", "check_mapping", "messages", "recognise", "unrecognised"]

PAIRS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("prompt", "prompts"), ("response", "responses", "completion", "completions")),
    (("instruction",), ("output", "response")),
    (("question", "query"), ("answer", "response")),
)
"""Names of the prompt's and the response's column, the first that fits wins."""
PREFERENCE = (("prompt", "prompts", "question", "instruction"), ("chosen",))
"""Preference data: the chosen side is the response. Looked for after messages."""
MESSAGE_COLUMNS = ("messages", "conversations")
SYSTEM_COLUMNS = ("system", "system_prompt")
INPUT_COLUMNS = ("input", "context")
"""What an instruction or a question may be about; joined to it with an empty line between."""
WITH_INPUT = ("instruction", "question", "query")
OPTIONAL = {
    "history": "history",
    "tools": "tools",
    "documents": "documents",
    "template_kwargs": "chat_template_kwargs",
}
"""Field of a Shape -> the column that trainers read it from."""
MAPPING_KEYS = (
    *("prompt", "response", "system", "messages", "text", "input", "query", "history", "tools", "label", "marks"),
)
IGNORABLE = ("system", "history", "tools", "input", "marks")
"""Keys of a mapping whose value may be "": whence then leaves the columns of their usual names alone, and of `marks`,
which has no other value, the marks (weight, train) in messages."""
NEAR = ("system", "history", "tools", "label")
"""Keys of a mapping that need a conversation."""
BEHIND_PROMPT = ("input", "query")
"""Keys of a mapping that need a prompt; of `query` a file may lack the column."""
TRAINER_COLUMNS = frozenset(
    {
        *(name for pair in (*PAIRS, PREFERENCE) for names in pair for name in names),
        *(*MESSAGE_COLUMNS, *SYSTEM_COLUMNS, *INPUT_COLUMNS, *OPTIONAL.values()),
        *("text", "rejected", "functions", "parallel_tool_calls", "images", "image", "videos", "video", "audios"),
        *("audio", "reasoning", "reasoning_content", "thinking", "weight", "train"),
    }
)
"""Columns that some trainer reads: one that is left over as metadata is named on screen."""


def recognise(names: Iterable[str], mapping: Mapping[str, str] | None = None, *, answered: bool = True) -> Shape | None:
    """The shape of a row with these columns, or None.

    Order: what `mapping` says (see MAPPING_KEYS), then the pairs of PAIRS, then MESSAGE_COLUMNS, then PREFERENCE, then
    `text`. A name matches exactly, or else without regard to case and surrounding blanks. `answered` False is for
    queries, which may lack a response: a prompt's column is then enough.
    """
    exact = list(names)
    loose = {name.strip().casefold(): name for name in reversed(exact)} | {name: name for name in exact}
    mapping = mapping or {}
    if _missing(exact, mapping):
        return None
    shape = _main(loose, {key: name for key, name in mapping.items() if key != "marks"}, answered)
    if shape is None or shape.kind == "text":
        return shape and replace(shape, answered=answered)
    taken = {shape.prompt, shape.main, shape.input, shape.query}
    # An optional column that this row lacks keeps its usual name: a later row may have it.
    near: dict[str, str | None] = {key: loose.get(name) or name for key, name in OPTIONAL.items()}
    near["system"] = _first(SYSTEM_COLUMNS, loose) or SYSTEM_COLUMNS[0]
    if shape.kind == "messages":
        near["history"] = ""
    near |= {key: column for key, column in mapping.items() if key in near}
    near = {key: name if name and name not in taken else None for key, name in near.items()}
    return replace(
        shape,
        system=near["system"],
        history=near["history"],
        tools=near["tools"],
        documents=near["documents"],
        template_kwargs=near["template_kwargs"],
        marks="marks" not in mapping,
        names_label="label" in mapping,
        answered=answered,
    )


def _main(loose: Mapping[str, str], mapping: Mapping[str, str], answered: bool) -> Shape | None:
    """The shape without its optional columns but the input."""
    if "messages" in mapping:
        return Shape("messages", mapping["messages"], label=mapping.get("label"))
    if "text" in mapping:
        return Shape("text", mapping["text"])
    for pair in PAIRS:
        shape = _pair(pair, loose, mapping)
        if shape is not None:
            return shape
    asked = "prompt" in mapping or "response" in mapping
    label = mapping.get("label")
    found = None if asked else _first(MESSAGE_COLUMNS, loose)
    if found is not None:
        return Shape("messages", found, label=label)
    shape = _pair(PREFERENCE, loose, mapping)
    if shape is not None:
        return shape
    if not asked and "chosen" in loose and "rejected" in loose:
        return Shape("messages", loose["chosen"], label=label, rejected=loose["rejected"])
    if not answered:
        shape = next((shape for pair in PAIRS if (shape := _pair(pair, loose, mapping, alone=True))), None)
        if shape is not None:
            return shape
    found = None if asked or mapping.get("system") or label else _first(("text",), loose)
    return Shape("text", found) if found is not None else None


def _pair(
    pair: tuple[tuple[str, ...], tuple[str, ...]],
    loose: Mapping[str, str],
    mapping: Mapping[str, str],
    *,
    alone: bool = False,
) -> Shape | None:
    prompts, responses = pair
    usual = next((name for name in prompts if name in loose), None)
    prompt = mapping.get("prompt") or _first(prompts, loose)
    response = mapping.get("response") or _first(responses, loose)
    if response is None and alone:
        response = ""
    if prompt is None or response is None or prompt == response:
        return None
    query, about = mapping.get("query"), mapping.get("input")
    if query is None and about is None and "prompt" not in mapping and usual in WITH_INPUT:
        about = _first(INPUT_COLUMNS, loose) or INPUT_COLUMNS[0]
    # Unpaired preference data as TRL's KTOTrainer reads it.
    unpaired = not mapping and prompt.casefold() == "prompt" and response.casefold() == "completion"
    return Shape(
        "pair",
        response,
        prompt,
        input=about if about and about not in (prompt, response) else None,
        query=query if query not in (prompt, response) else None,
        label=loose.get("label") if unpaired else mapping.get("label"),
    )


def check_mapping(mapping: Mapping[str, str] | None) -> None:
    """Raises DataError for a `--columns` mapping that no file could satisfy."""
    unknown = [key for key in mapping or {} if key not in MAPPING_KEYS]
    if unknown:
        raise DataError(
            f"--columns names {', '.join(map(repr, unknown))}",
            f"expected only {', '.join(MAPPING_KEYS)}",
            "write for example --columns prompt=q,response=a",
        )
    given = {key: column for key, column in (mapping or {}).items() if column}
    if "marks" in given:
        raise DataError(
            f"--columns names the column {given['marks']!r} for marks",
            "marks are keys of messages (weight, train, train_detail), and are obeyed unless they are turned off",
            "write --columns marks= to read all answers, or leave the key out",
        )
    empty = [key for key in mapping or {} if key not in given and key not in IGNORABLE]
    if empty:
        raise DataError(
            f"--columns names no column for {', '.join(empty)}",
            f"only {', '.join(IGNORABLE)} may be empty: no column is then read for them",
            "name the column, or leave the key out",
        )
    main: list[str] = [key for key in ("prompt", "messages", "text") if key in given]
    if "response" in given and main not in ([], ["prompt"]):
        main.append("response")
    alone = [key for key in BEHIND_PROMPT if key in given]
    beside_text = main == ["text"] and any(key in given for key in NEAR)
    if len(main) > 1 or beside_text or len(alone) > 1 or (alone and main not in ([], ["prompt"])):
        raise DataError(
            f"--columns names {', '.join(given)} together",
            "expected prompt and response (input or query), or messages (each also with system, tools, label), or text",
            "leave out what does not belong to the conversation: all other columns are kept as metadata",
        )


def unrecognised(file: str, names: Iterable[str], mapping: Mapping[str, str] | None = None) -> DataError:
    """The error for a file none of whose rows has a known set of columns."""
    names = list(names)
    listed = ", ".join(names[:30]) + (", ..." if len(names) > 30 else "") if names else "none"
    missing = [f"{key}={column}" for key, column in _missing(names, mapping or {}).items()]
    if missing:
        return DataError(
            f"{file}: --columns {','.join(missing)} names a column that is not there",
            f"columns found: {listed}",
            "name a column that exists, spelled as it is in the file",
        )
    pairs = [f"{'|'.join(prompts)} with {'|'.join(responses)}" for prompts, responses in PAIRS]
    known = "; ".join([*pairs, " or ".join(MESSAGE_COLUMNS), "prompt with chosen", "text"])
    return DataError(
        f"{file}: no known set of columns; columns found: {listed}",
        f"expected {known}",
        "say which are which, for example --columns prompt=q,response=a or --columns messages=dialogue",
    )


def _first(wanted: Iterable[str], loose: Mapping[str, str]) -> str | None:
    return next((loose[name] for name in wanted if name in loose), None)


def _missing(names: list[str], mapping: Mapping[str, str]) -> dict[str, str]:
    """What the mapping names and a file must have, and these columns lack."""
    return {key: column for key, column in mapping.items() if column and key != "query" and column not in names}
