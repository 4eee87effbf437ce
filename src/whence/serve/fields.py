"""The kinds of texts, ids and numbers that the schema of the API is made of."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, JsonValue

from whence.serve.state import MOST_ROWS

ID = r"^[0-9a-f]{16}$"


def _storable(text: str) -> str:
    # SQLite and UTF-8 have no form for lone surrogates; NUL ends texts in some libraries.
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("the text has a NUL or half of a surrogate pair")
    return text


def _expression(text: str) -> str:
    try:
        re.compile(text, re.DOTALL)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError("it is no regular expression") from error
    return text


Id = Annotated[str, Field(pattern=ID)]
Text = Annotated[str, Field(max_length=100_000), AfterValidator(_storable)]
Filled = Annotated[str, Field(min_length=1, max_length=100_000, pattern=r"\S"), AfterValidator(_storable)]
Where = Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(_storable)]
Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_storable)]
Expression = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_storable), AfterValidator(_expression)]
Rows = Annotated[list[Id], Field(max_length=MOST_ROWS)]
Log = Annotated[str, Field(min_length=1, max_length=100_000_000, pattern=r"\S"), AfterValidator(_storable)]
Rate = Annotated[float, Field(gt=0, lt=1)]


def example(**values: JsonValue) -> ConfigDict:
    return ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [values]})
