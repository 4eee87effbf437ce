"""What a trainer makes of its rows beside the template: where a long one is cut, what is appended, what has loss."""

from __future__ import annotations

import datetime
from typing import Literal, cast, get_args

from pydantic import BaseModel, ConfigDict, field_validator

from whence.errors import InputError

Truncation = Literal["prompt_first", "keep_start", "keep_end"]
LossOn = Literal["answers", "all"]
PLAIN_JOIN = "none"
"""In place of a template's file: the contents one after the other, the last ended by the end-of-text token."""
PLAIN_TEMPLATE = (
    "{% for m in messages %}{{ m['content'] }}{% endfor %}{% if not add_generation_prompt and "
    "not messages[-1]['content'].endswith(eos_token) %}{{ eos_token }}{% endif %}"
)
"""`PLAIN_JOIN` as Jinja: how TRL renders a prompt and a completion that are strings."""


class RowEncoding(BaseModel):
    """How the trainer that made the model read its rows. The default is whence's own trainer's way.

    truncation: what a row longer than the room loses. "prompt_first": the prompt's left end, then the response's right
        end; a plain document is cut into windows. "keep_start": its right end. "keep_end": its left end.
    append_eos: a plain document that does not end in the end-of-text token gets one (TRL).
    loss: "answers", or "all" for a whole conversation as one response.
    date: the day, as in 2026-11-30, that a template writes where it writes today's (Llama 3.2, gpt-oss); None where it
        writes none, or takes the day on which the encoder is made.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    truncation: Truncation = "prompt_first"
    append_eos: bool = False
    loss: LossOn = "answers"
    date: str | None = None

    @field_validator("date")
    @classmethod
    def _is_a_day(cls, text: str | None) -> str | None:
        return None if text is None else datetime.date.fromisoformat(text).isoformat()


def truncation_named(text: str) -> Truncation:
    """The way of cutting of that name, with - for _. Raises InputError that lists them."""
    name = text.replace("-", "_")
    if name not in get_args(Truncation):
        raise InputError(
            f"--truncation {text!r} is not known.", f"Expected one of {', '.join(get_args(Truncation))}.", ""
        )
    return cast("Truncation", name)


def loss_named(text: str) -> LossOn:
    """The tokens of that name. Raises InputError that lists them."""
    if text not in get_args(LossOn):
        raise InputError(f"--loss {text!r} is not known.", f"Expected one of {', '.join(get_args(LossOn))}.", "")
    return cast("LossOn", text)


__all__ = ["PLAIN_JOIN", "PLAIN_TEMPLATE", "LossOn", "RowEncoding", "Truncation", "loss_named", "truncation_named"]
