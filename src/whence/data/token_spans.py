"""Token ids with the characters of each, and which of them are a response's."""

from __future__ import annotations

import copy
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from whence.data.examples import Span
from whence.errors import EncodingError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Tokens(NamedTuple):
    """Token ids and, for each, its start and end in characters of the text."""

    ids: list[int]
    spans: list[Span]


class SpanTokenizer:
    """Token ids and exact character spans; adds no special tokens.

    Works on its own copy of the tokenizer without post-processor: byte-level post-processors trim spaces from
    the offsets, which hides on which side of a boundary a token of spaces lies. Ids are not changed by it.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.is_fast:
            raise EncodingError(
                f"{type(tokenizer).__name__} gives no character offsets",
                "expected a fast tokenizer (a tokenizer.json beside the model)",
                "Convert it once: `AutoTokenizer.from_pretrained(MODEL).save_pretrained(MODEL)`.",
            )
        self._backend = copy.deepcopy(tokenizer.backend_tokenizer)
        self._backend.post_processor = None
        self._backend.no_truncation()
        self._backend.no_padding()
        self._added = {i: token.content for i, token in tokenizer.added_tokens_decoder.items()}

    def encode(self, text: str) -> Tokens:
        """Ids and spans of the text. Tokens that share a character (bytes of an emoji) share its span."""
        encoding = self._backend.encode(text, add_special_tokens=False)
        spans = [self._own_span(text, i, span) for i, span in zip(encoding.ids, encoding.offsets, strict=True)]
        return Tokens(list(encoding.ids), spans)

    def _own_span(self, text: str, token: int, span: Span) -> Span:
        """An added token without the spaces it swallows (Phi-3's markers take those of the response)."""
        content = self._added.get(token)
        at = -1 if content is None else text.find(content, *span)
        return span if content is None or at < 0 else (at, at + len(content))


class Boundaries:
    """The tokens of a text by its characters; each question takes the logarithm of their number."""

    def __init__(self, spans: Sequence[Span]) -> None:
        # Running maxima find the same first token as the spans themselves, and are sorted.
        self._starts = list(accumulate((start for start, _ in spans), max))
        self._ends = list(accumulate((end for _, end in spans), max))

    def response(self, prompt_end: int, response_end: int) -> Span:
        """First and past-the-last token of the response `[prompt_end, response_end)`, given in characters.

        A token that reaches over the prompt's end belongs to the response, and so does one of width zero at that
        place: a tokenizer inserts such a token (a word-start mark) before the text that follows. A token that
        reaches over the response's end is the response's last. An empty response gives the number of tokens twice.
        """
        n = len(self._starts)
        if response_end <= prompt_end:
            return n, n
        start = min(bisect_right(self._ends, prompt_end), bisect_left(self._starts, prompt_end))
        return start, max(start, bisect_left(self._starts, response_end))

    def reach(self, end: int) -> int:
        """The furthest character of the first `end` tokens."""
        return self._ends[end - 1]


__all__ = ["Boundaries", "SpanTokenizer", "Tokens"]
