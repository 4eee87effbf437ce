"""An option's default is that of the settings it becomes a part of: said in two places, held to be the same."""

from __future__ import annotations

from inspect import signature

import pytest
import typer.main
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticUndefined

from whence.cli.main import app
from whence.cli.options import LEAST_DIMENSIONS, parse_columns, stored_as
from whence.data import MAX_REJECTED
from whence.errors import InputError
from whence.index import append_rows
from whence.index.settings import BuildSettings, IndexOptions
from whence.model import ModelSettings
from whence.self_test.run import SETTINGS as SELF_TEST
from whence.trace.settings import TraceSettings
from whence.train import FinetuneSettings

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
FINETUNE = FinetuneSettings()
APPEND = {name: one.default for name, one in signature(append_rows).parameters.items() if one.default is not one.empty}
DEFAULTS: dict[str, dict[str, object]] = {
    "index": {name: field.default for name, field in BuildSettings.model_fields.items()},
    "plan": {name: field.default for name, field in BuildSettings.model_fields.items()},
    "append": {name: field.default for name, field in ModelSettings.model_fields.items()} | APPEND,
    "finetune": FINETUNE.model_dump() | {"max_rejected": MAX_REJECTED},
    "selftest": SELF_TEST.model_dump(),
    "trace": {name: getattr(TraceSettings(), name) for name in ("k", "method", "weight", "layer", "where", "fdr")},
}
STORED = ("precision", "dimensions")
RECORDED = ("max_length", "truncation", "append_eos", "loss_on", "loss")
NOT_THE_SAME = {
    ("selftest", "max_length"),
    ("finetune", "lora_alpha"),
    ("finetune", "lora_dropout"),
    *((command, name) for command in ("index", "plan") for name in (*RECORDED, *STORED)),
}
"""The self-test's own sizes; what an adapter alone has, and is refused without one; what an index and its plan take
from the training record, where there is one; and how vectors are stored, which --add takes from the index."""


@pytest.mark.parametrize("command", DEFAULTS)
def test_an_option_has_the_default_of_its_settings(command: str) -> None:
    compared = 0
    for param in COMMANDS[command].params:
        if param.name in DEFAULTS[command] and (command, param.name) not in NOT_THE_SAME:
            expected = DEFAULTS[command][param.name]
            if expected is not PydanticUndefined:
                compared += 1
                # An option that can be given several times is None where it is left out.
                assert (param.default or None) == (expected or None), f"--{param.name} of whence {command}"
    assert compared >= 5


@pytest.mark.parametrize("kind", [BuildSettings, FinetuneSettings])
def test_settings_refuse_what_they_do_not_know(kind: type[BaseModel]) -> None:
    assert kind.model_config["extra"] == "forbid"
    assert kind.model_config["frozen"]


def test_the_keywords_of_an_index_are_its_settings() -> None:
    assert set(IndexOptions.__annotations__) == set(BuildSettings.model_fields) - {"model", "data", "out"}


@pytest.mark.parametrize(
    ("precision", "dimensions", "found"),
    [
        (None, None, {}),
        ("float16", "all", {"precision": "float16", "dimensions": None}),
        ("int8", "512", {"precision": "int8", "dimensions": 512}),
    ],
)
def test_how_vectors_are_stored(precision: str | None, dimensions: str | None, found: dict[str, object]) -> None:
    assert stored_as(precision, dimensions) == found


@pytest.mark.parametrize(("precision", "dimensions"), [("int4", None), (None, "15"), (None, "many"), (None, "-1")])
def test_what_cannot_be_stored_names_what_can(precision: str | None, dimensions: str | None) -> None:
    with pytest.raises(InputError, match=r"(?s)--(precision|dimensions).*Expected.*Leave it out"):
        stored_as(precision, dimensions)


def test_the_least_number_of_dimensions_is_that_of_the_settings() -> None:
    with pytest.raises(ValidationError):
        BuildSettings(model="m", data="d", out="o", dimensions=LEAST_DIMENSIONS - 1)
    assert BuildSettings(model="m", data="d", out="o", dimensions=LEAST_DIMENSIONS).dimensions == LEAST_DIMENSIONS


def test_columns_may_be_named_as_unread() -> None:
    assert parse_columns("prompt=q, system=") == {"prompt": "q", "system": ""}
    with pytest.raises(InputError, match="cannot be read"):
        parse_columns("prompt=q,system")
