"""Options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whence.errors import InputError

if TYPE_CHECKING:
    from whence.model.loading import ModelSettings

Model = Annotated[str, typer.Argument(metavar="MODEL", help="Folder of the fine-tuned model, or a hub name.")]
Data = Annotated[
    str, typer.Argument(metavar="DATA", help="Training data: JSONL, CSV, Parquet, Arrow, a saved data set, a hub name.")
]
IndexFolder = Annotated[Path, typer.Argument(metavar="INDEX", help="Folder made by `whence index`.")]
Adapter = Annotated[str | None, typer.Option("--adapter", "-a", help="Folder of a PEFT adapter (LoRA).")]
Columns = Annotated[
    str | None, typer.Option("--columns", help="Columns to read, as in prompt=q,response=a. Usually recognised.")
]
Split = Annotated[str | None, typer.Option("--split", help="Split of a saved or hub data set.")]
Template = Annotated[
    Path | None, typer.Option("--template", help="Jinja chat template to use instead of the tokenizer's own.")
]
MaxLength = Annotated[int, typer.Option("--max-length", min=4, help="Most tokens of one example.")]
Dtype = Annotated[str, typer.Option("--dtype", help="auto, float32, bfloat16, float16 or float64.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
Quantization = Annotated[str | None, typer.Option("--quantization", help="4bit or 8bit (CUDA, whence[quantized]).")]
Revision = Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit of a hub model.")]
BlocksPath = Annotated[
    str | None, typer.Option("--blocks", help="Where an unknown model keeps its decoder layers, as in model.layers.")
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code that comes with the model. Off unless you ask.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no table, for scripts.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]


def model_settings(
    model: str,
    adapter: str | None,
    dtype: str,
    device: str,
    quantization: str | None,
    revision: str | None,
    blocks: str | None,
    trust_remote_code: bool,
) -> ModelSettings:
    """The settings of a model from the shared options; a wrong choice is an error that lists the right ones."""
    from pydantic import ValidationError

    from whence.model.loading import ModelSettings

    try:
        return ModelSettings.model_validate(
            {
                "model": model,
                "adapter": adapter,
                "dtype": dtype,
                "device": device,
                "quantization": quantization,
                "revision": revision,
                "blocks": blocks,
                "trust_remote_code": trust_remote_code,
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).replace("_", "-")
        raise InputError(
            f"--{name} {first['input']!r} is not known.", f"{first['msg']}.", "Choose one of these."
        ) from None


def parse_columns(text: str | None) -> dict[str, str] | None:
    """`prompt=q,response=a` as a mapping."""
    if text is None:
        return None
    pairs = [part.partition("=") for part in text.split(",")]
    if any(not (role.strip() and equals and column.strip()) for role, equals, column in pairs):
        raise InputError(
            f"--columns {text!r} cannot be read.", "Expected pairs such as prompt=question,response=answer.", ""
        )
    return {role.strip(): column.strip() for role, _, column in pairs}


def read_template(path: Path | None) -> str | None:
    """The text of a template file."""
    if path is None:
        return None
    if not path.is_file():
        raise InputError(f"There is no template file at {path}.", "Expected a Jinja chat template.", "Check the path.")
    return path.read_text("utf-8")
