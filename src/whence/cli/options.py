"""Options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar, cast

import typer

from whence.cli.telling import say
from whence.errors import InputError
from whence.object_path import place

if TYPE_CHECKING:
    from pydantic import BaseModel

    from whence.data import Json
    from whence.model import LayerRequest, ModelSettings, Placement
    from whence.trace import Query
    from whence.train import FinetuneSettings

    Settings = TypeVar("Settings", bound=BaseModel)

Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="Folder of the fine-tuned model or of its adapter, or a hub name.")
]
Data = Annotated[
    str, typer.Argument(metavar="DATA", help="Training data: JSONL, CSV, Parquet, Arrow, a saved data set, a hub name.")
]
DataIfTold = Annotated[
    str | None,
    typer.Argument(metavar="[DATA]", help="Training data; left out, what the model's folder says it was trained on."),
]
MaxLengthIfTold = Annotated[
    int | None, typer.Option("--max-length", min=4, help="Most tokens of one example; 1024 unless the record says.")
]
NoRecord = Annotated[
    bool, typer.Option("--no-record", help="Leave whence.yaml, run.yaml and other trainers' files aside.")
]
IndexFolder = Annotated[
    Path, typer.Argument(metavar="INDEX", parser=place, help="Made by `whence index`: a folder, or s3://bucket/folder.")
]
MovedModel = Annotated[
    str | None, typer.Option("--model", help="Where the model is now, if it has moved since the index was built.")
]
Adapter = Annotated[str | None, typer.Option("--adapter", "-a", help="Folder of a PEFT adapter (LoRA).")]
Base = Annotated[
    str | None, typer.Option("--base", help="The model before fine-tuning; with an adapter it is known already.")
]
Contrast = Annotated[
    bool,
    typer.Option(
        "--contrast/--no-contrast", help="Also store what fine-tuning changed, which the default method reads."
    ),
]
Columns = Annotated[
    str | None, typer.Option("--columns", help="Columns to read, as in prompt=q,response=a. Usually recognised.")
]
Split = Annotated[str | None, typer.Option("--split", help="Split of a saved or hub data set.")]
Template = Annotated[
    Path | None,
    typer.Option("--template", help="Jinja chat template in place of the tokenizer's; none joins the texts."),
]
MaxLength = Annotated[int, typer.Option("--max-length", min=4, help="Most tokens of one example.")]
Truncation = Annotated[
    str | None,
    typer.Option("--truncation", help="What a row that is too long lost: prompt-first, keep-start or keep-end."),
]
AppendEos = Annotated[
    bool | None,
    typer.Option("--append-eos/--no-append-eos", help="A plain text without an end-of-text token got one (TRL)."),
]
LossOn = Annotated[
    str | None, typer.Option("--loss", help="Tokens that were trained on: answers, or all of a conversation.")
]
Date = Annotated[
    str | None,
    typer.Option("--date", help="The day, as in 2026-11-30, that a chat template writes which writes today's date."),
]
Dtype = Annotated[str, typer.Option("--dtype", help="auto, float32, bfloat16, float16 or float64.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
DeviceMap = Annotated[
    str | None,
    typer.Option("--device-map", help="auto: spread a model that is too large for one device over all, CPU and disk."),
]
MaxMemory = Annotated[
    str | None, typer.Option("--max-memory", help="Most of each device for --device-map, as in 0=70GiB,cpu=200GiB.")
]
Quantization = Annotated[str | None, typer.Option("--quantization", help="4bit or 8bit (CUDA, whence[quantized]).")]
Revision = Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit of a hub model.")]
BlocksPath = Annotated[
    str | None, typer.Option("--blocks", help="Where an unknown model keeps its decoder layers, as in model.layers.")
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code that comes with the model. Off unless you ask.")
]
Layers = Annotated[
    list[str] | None,
    typer.Option("--layer", help="auto, last or a number: the layer of the rule. Given again: layers to ask at."),
]
Methods = Annotated[
    list[str] | None,
    typer.Option("--methods", help="Methods to answer beside the default, as in rept; give it again for several."),
]
ScoreMethod = Annotated[
    str | None,
    typer.Option(
        "--method",
        "-m",
        help="How rows are scored: rept-contrast, rept, rept-centred, rept-balanced, repsim or g-cosine.",
    ),
]
Precision = Annotated[
    str | None, typer.Option("--precision", help="Numbers of a stored vector: int8 (the default) or float16.")
]
Dimensions = Annotated[
    str | None,
    typer.Option("--dimensions", help="Most numbers of a stored vector, wider ones are projected; or all. 1024."),
]
MaxRejected = Annotated[
    float, typer.Option("--max-rejected", min=0.0, max=1.0, help="Share of rows that may be set aside.")
]
ShardRows = Annotated[int, typer.Option("--shard-rows", min=1, help="Rows between two commits.")]
MaxTokens = Annotated[int, typer.Option("--max-tokens", min=1, help="Padded tokens in one batch.")]
LoraR = Annotated[
    int | None, typer.Option("--lora-r", min=1, help="Rank of an adapter. Left out, every weight is trained.")
]
LoraAlpha = Annotated[float, typer.Option("--lora-alpha", help="The adapter's scale is alpha / rank.")]
Epochs = Annotated[int, typer.Option("--epochs", min=1, help="Passes over the data.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Rows of one step.")]
LearningRate = Annotated[float, typer.Option("--learning-rate", help="The highest, after warm-up.")]
Schedule = Annotated[str, typer.Option("--schedule", help="cosine, linear or constant.")]
TrainingDtype = Annotated[str, typer.Option("--dtype", help="auto, float32 or bfloat16.")]
MaxNewTokens = Annotated[int, typer.Option("--max-new-tokens", min=1, help="Most tokens of an answer.")]
Failed = Annotated[bool, typer.Option("--failed", help="Of an evaluation log, the failed answers alone.")]
QueryWhere = Annotated[
    str | None, typer.Option("--query-where", help='SQL condition for the queries to ask, as in "score < 0.5".')
]
QueryPrompts = Annotated[
    Path | None, typer.Option("--query-prompts", help="Input file of the batch whose output --queries is.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no table, for scripts.")]
Votes = Annotated[
    int | None,
    typer.Option("--votes", min=1, help="Rows that so many queries' verdicts flag; left out, one is enough."),
]
Group = Annotated[int | None, typer.Option("--group", min=1, help="The rows of this group of an audit; with --audit.")]
AuditFile = Annotated[Path | None, typer.Option("--audit", help="JSON of `whence audit`, with --group.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]


def model_settings(
    model: str,
    adapter: str | None,
    dtype: str,
    placed: Placement,
    quantization: str | None,
    revision: str | None,
    blocks: str | None,
    trust_remote_code: bool,
) -> ModelSettings:
    """The settings of a model from the shared options; a wrong choice is an error that lists the right ones."""
    from whence.model import ModelSettings

    return _validated(
        ModelSettings,
        {
            "model": model,
            "adapter": adapter,
            "dtype": dtype,
            **placed._asdict(),
            "quantization": quantization,
            "revision": revision,
            "blocks": blocks,
            "trust_remote_code": trust_remote_code,
        },
    )


def placement(device: str, device_map: str | None, max_memory: str | None) -> Placement:
    """Where a model is put, by the shared options; a wrong choice is an error that lists the right ones."""
    from whence.model import ModelSettings

    limits = None if max_memory is None else _pairs("--max-memory", max_memory, "0=70GiB,cpu=200GiB")
    given: dict[str, object] = {"model": "", "device": device, "device_map": device_map, "max_memory": limits}
    return _validated(ModelSettings, given).placement


def finetune_settings(**values: object) -> FinetuneSettings:
    """The settings of a fine-tune; a wrong value is an error that names its option."""
    from whence.train import FinetuneSettings

    return _validated(FinetuneSettings, values)


def _validated(kind: type[Settings], values: dict[str, object]) -> Settings:
    """The settings object; its first wrong value becomes an error under the option's name."""
    from pydantic import ValidationError

    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).replace("_", "-")
        raise InputError(
            f"--{name} {first['input']!r} cannot be used.", f"{first['msg']}.", "See --help for what it takes."
        ) from None


def parse_layers(texts: Iterable[str]) -> list[LayerRequest]:
    """`--layer auto --layer 5,last` as what `build_index` takes."""
    return [_layer(part.strip()) for text in texts for part in text.split(",")]


def parse_names(texts: Iterable[str]) -> list[str]:
    """`--methods rept,g-cosine --methods repsim` as a list."""
    return [part.strip() for text in texts for part in text.split(",") if part.strip()]


def stored_as(precision: str | None, dimensions: str | None) -> dict[str, object]:
    """`--precision int8 --dimensions 512` as options of `build_index`; what was not given is left out."""
    found: dict[str, object] = {}
    if precision is not None:
        if precision not in ("int8", "float16"):
            raise InputError(
                f"--precision {precision!r} is none.", "Expected int8 or float16.", "Leave it out for int8."
            )
        found["precision"] = precision
    if dimensions is not None:
        if dimensions != "all" and not (is_number(dimensions) and int(dimensions) >= LEAST_DIMENSIONS):
            raise InputError(
                f"--dimensions {dimensions!r} cannot be used.",
                f"Expected a number from {LEAST_DIMENSIONS} up, or all.",
                "Leave it out for 1024; fewer save disk and cost precision (docs/method.md).",
            )
        found["dimensions"] = None if dimensions == "all" else int(dimensions)
    return found


def row_encoding(
    max_length: int | None, truncation: str | None, append_eos: bool | None, loss: str | None, date: str | None
) -> dict[str, object]:
    """How the trainer read its rows, as options of `build_index`; what was not given is left out."""
    from whence.data import loss_named, truncation_named

    told: dict[str, object] = {"max_length": max_length, "append_eos": append_eos, "date": date}
    told["truncation"] = None if truncation is None else truncation_named(truncation)
    told["loss"] = None if loss is None else loss_named(loss)
    return {name: value for name, value in told.items() if value is not None}


LEAST_DIMENSIONS = 16
"""Of `BuildSettings.dimensions`."""
MOST_DIGITS = 18
"""Of a number in a text; Python reads no more than some thousand."""


def is_number(text: str) -> bool:
    """Whether it is a whole number from 0 up, of at most `MOST_DIGITS` digits."""
    return text.isdecimal() and len(text) <= MOST_DIGITS


def _layer(text: str) -> LayerRequest:
    if text in ("auto", "last"):
        return cast("LayerRequest", text)
    if not is_number(text):
        raise InputError(f"--layer {text!r} is no layer.", "Expected auto, last or a number.", "See `whence layers`.")
    return int(text)


def tell_index(index: Path, *, quiet: bool) -> None:
    """Says where the vectors of an index in an object store are kept, and whether another version read its rows."""
    from whence.index import cache_note, reading_note, require_manifest

    for note in (cache_note(index), reading_note(require_manifest(index))):
        if note and not quiet:
            say(note, err=True)


def base_of(index: Path, base: str | None, adapter: str | None = None) -> str | None:
    """The model before fine-tuning: as given, or the one that the run.yaml beside the index's model names.

    None where there is no telling, and where an adapter or the index itself says it better.
    """
    from whence.index import require_manifest
    from whence.model import named_base

    manifest = require_manifest(index)
    if base is not None or adapter is not None or manifest.adapter is not None or manifest.base:
        return base
    return named_base(manifest.model)


def queries_of(
    index: Path,
    path: Path,
    *,
    quiet: bool = False,
    failed: bool = False,
    where: str | None = None,
    prompts: Path | None = None,
    keep_silent: bool = False,
) -> list[Query]:
    """The queries of a file, read by the columns that the index's rows were read by; what is odd is said on screen."""
    from whence.index import require_manifest
    from whence.trace import read_queries

    manifest = require_manifest(index)
    data = manifest.data
    notes: list[str] = []
    queries = read_queries(
        path,
        columns=data.columns,
        notify=notes.append,
        failed=failed,
        where=where,
        prompts=prompts,
        model=manifest.adapter or manifest.model,
        keep_silent=keep_silent,
    )
    if data.is_plain_text and any(query.is_bare for query in queries):
        notes.append(PLAIN)
    for note in () if quiet else notes:
        say(note, err=True)
    return queries


PLAIN = (
    "The index's rows are plain text, so the prompt is read as plain text, without the chat template. "
    "To ask in the template, give messages with --queries."
)


def query_of(
    index: Path, prompt: str, response: str | None, system: str | None, tools: Path | None, *, quiet: bool = False
) -> Query:
    """The one query of a command line."""
    from whence.index import require_manifest
    from whence.trace import Query

    query = Query.of(prompt, response, system=system, tools=read_tools(tools))
    if not quiet and query.is_bare and require_manifest(index).data.is_plain_text:
        say(PLAIN, err=True)
    return query


def read_tools(path: Path | None) -> list[dict[str, Json]] | None:
    """The tools of a JSON file: a list of objects, as the chat template is given them."""
    if path is None:
        return None
    import json

    if not path.is_file():
        raise InputError(f"There is no file of tools at {path}.", "Expected a JSON list of objects.", "Check the path.")
    try:
        tools = json.loads(path.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is no JSON: {error}.", "Expected a JSON list of objects.", "Correct the file."
        ) from None
    if not isinstance(tools, list) or not tools or not all(isinstance(tool, dict) for tool in tools):
        raise InputError(
            f"{path} holds no list of tools.",
            "Expected a JSON list of objects, one a tool, as the chat template was given them in training.",
            "Put the one tool into [ ].",
        )
    return tools


def parse_columns(text: str | None) -> dict[str, str] | None:
    """`prompt=q,response=a` as a mapping."""
    if text is None:
        return None
    return _pairs("--columns", text, "prompt=question,response=answer", may_be_empty=True)


def _pairs(option: str, text: str, such_as: str, *, may_be_empty: bool = False) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",")]
    if any(not (name.strip() and equals and (value.strip() or may_be_empty)) for name, equals, value in pairs):
        raise InputError(f"{option} {text!r} cannot be read.", f"Expected pairs such as {such_as}.", "")
    names = [name.strip() for name, _, _ in pairs]
    if len(set(names)) < len(names):
        raise InputError(f"{option} {text!r} has a name twice.", "Only one of the two can be meant.", "Leave one out.")
    return {name.strip(): value.strip() for name, _, value in pairs}


def read_template(path: Path | None) -> str | None:
    """The text of a template file, or of the plain joining that `none` stands for."""
    if path is None:
        return None
    if str(path) == "none" and not path.is_file():
        from whence.data import PLAIN_TEMPLATE

        return PLAIN_TEMPLATE
    if not path.is_file():
        raise InputError(f"There is no template file at {path}.", "Expected a Jinja chat template.", "Check the path.")
    from whence.files import read_text

    return read_text(path)
