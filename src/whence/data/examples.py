"""An example as whence sees it: turns of text, where they came from, and what else the row carried."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

ASSISTANT = "assistant"
TEXT = "text"
"""Role of the single turn of a plain document, which has no prompt."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One message. `role` is "system", "user", "assistant", "tool", or "text" for a plain document."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One training row, or one query.

    `line` counts rows from 1 in `file`, as an editor does for JSONL. `metadata` is every column that is not text of
    the conversation (label, source, date, ...).
    """

    turns: tuple[Turn, ...]
    file: str = ""
    line: int = 0
    metadata: Mapping[str, Json] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Content hash of the turns: 16 hexadecimal digits, the same in any file, order or format."""
        content = json.dumps([[turn.role, turn.content] for turn in self.turns], ensure_ascii=False)
        return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()

    @property
    def where(self) -> str:
        """`file:line`, for messages."""
        return f"{self.file}:{self.line}" if self.file else "the given example"

    @classmethod
    def from_pair(cls, prompt: str, response: str, **rest: object) -> Example:
        """An example of one prompt and one response."""
        return cls(turns=(Turn("user", prompt), Turn(ASSISTANT, response)), **rest)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class EncodedTurn:
    """One assistant turn of an example as token ids, ready for the model: the unit that gets a signature.

    `input_ids[:response_start]` are the prompt's tokens, `input_ids[response_start:]` the response's (always at least
    one of each). `t = response_start - 1` is the position of the last prompt token, the one that predicts the first
    response token. For a window of a plain document the "prompt" is the window's first token.

    `offsets[i]` are the start and end of token i, in characters of `text`, the rendered conversation.
    """

    turn: int
    """Which assistant turn (or which window of a plain document) of the example this is, from 0."""
    input_ids: tuple[int, ...]
    response_start: int
    text: str
    offsets: tuple[tuple[int, int], ...]
    prompt: str
    """The prompt as a person reads it (no template): the last user message before this turn."""
    response: str
    """The response as a person reads it (no template)."""
    truncated: int = 0
    """How many tokens were cut away to fit `max_length`: of the prompt's start and of the response's end."""
    truncated_prompt: int = 0
    """How many of them were the prompt's."""

    @property
    def t(self) -> int:
        """Position of the last prompt token."""
        return self.response_start - 1

    @property
    def n_prompt(self) -> int:
        """Number of prompt tokens, m."""
        return self.response_start

    @property
    def n_response(self) -> int:
        """Number of response tokens, n."""
        return len(self.input_ids) - self.response_start
