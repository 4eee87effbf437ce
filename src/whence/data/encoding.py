"""From an example to token ids, with the response's first token and every token's characters.

The boundary between prompt and response comes from character offsets of the whole rendered conversation,
tokenised once. A separately tokenised prompt would be wrong wherever a token reaches over the boundary.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from whence.data.answers import answer_start, answer_text, render_answers, render_prompt
from whence.data.examples import ASSISTANT, TEXT, EncodedTurn, Example, Span, Turn, answer_places
from whence.data.row_encoding import RowEncoding
from whence.data.templates import Inputs, Renderer, TemplateSource, choose_template, writes_today
from whence.data.token_spans import Boundaries, SpanTokenizer, Tokens
from whence.errors import EncodingError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MIN_LENGTH = 4
"""With fewer tokens a quarter for the prompt is less than one token."""


class Cut(NamedTuple):
    """The tokens `[first, last)` that the model saw, of which those from `response_start` on are the response's."""

    first: int
    response_start: int
    last: int


class Encoder:
    """Encodes examples for one tokenizer.

    Args:
        tokenizer: a fast tokenizer of transformers.
        template: Jinja text of a chat template; None takes the tokenizer's own, or else the fallback.
        max_length: most tokens of an encoded turn; the tokenizer's own `model_max_length` lowers it.
        rows: what the trainer made of its rows: where a long one was cut, what it appended, which tokens had loss.
            Queries are not touched by it.
        n_embeddings: for how many tokens the model has an embedding; a text with any other is refused. None: for all.

    Raises:
        EncodingError: a tokenizer without character offsets or the token that `rows` asks for, or `max_length` below
            4.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        template: str | None = None,
        max_length: int = 1024,
        rows: RowEncoding | None = None,
        n_embeddings: int | None = None,
    ) -> None:
        self.max_length = min(max_length, int(tokenizer.model_max_length))
        if self.max_length < MIN_LENGTH:
            raise EncodingError(
                f"a maximum length of {self.max_length} tokens",
                f"expected at least {MIN_LENGTH}: some for the prompt, some for the response",
                "Raise `--max-length`.",
            )
        self.rows = rows or RowEncoding()
        if self.rows.append_eos and tokenizer.eos_token is None:
            raise EncodingError(
                "an end-of-text token to append, and a tokenizer that has none",
                "expected `eos_token` in tokenizer_config.json",
                "Leave out `--append-eos`.",
            )
        self._tokenizer = tokenizer
        self._n_embeddings = n_embeddings
        self._template = choose_template(tokenizer, template)
        self._writes_today = writes_today(tokenizer, self._template)
        if self._writes_today and self.rows.date is None:
            self.rows = self.rows.model_copy(update={"date": datetime.date.today().isoformat()})
        self._renderer = Renderer(tokenizer, self._template, self.rows.date)
        self._spans = SpanTokenizer(tokenizer)
        self._before, self._after = _special_ids(tokenizer)
        self._adds_bos = tokenizer.bos_token_id is not None and tokenizer.bos_token_id in self._before

    @property
    def template(self) -> str:
        """The chat template in use, as Jinja text."""
        return self._template.text

    @property
    def template_source(self) -> TemplateSource:
        """Where the chat template came from: "given", "tokenizer" or "fallback"."""
        return self._template.source

    @property
    def date(self) -> str | None:
        """The day that the template writes, as in 2026-11-30; None where it writes none."""
        return self.rows.date if self._writes_today else None

    def about(self, examples: Iterable[Example]) -> tuple[str, ...]:
        """Sentences on how the template is handed what rows like these hold, where that is not as it stands there."""
        for example in examples:
            with suppress(EncodingError):
                self._encode(example)
        said = []
        if self._writes_today:
            said.append(f"The chat template writes today's date: {self.rows.date} in all rows and queries (--date)")
        if self._renderer.writes_lists:
            said.append("The chat template writes a list of text parts as Python does; it is handed their text")
        if self._renderer.reads_parts_alone({}):
            said.append("The chat template reads lists of text parts alone; a text is handed to it as one part")
        return tuple(said)

    def encode(self, example: Example) -> list[EncodedTurn]:
        """One encoded turn per answer (see `answer_places`), of the rendered whole conversation; of a plain document,
        one per window.

        Raises:
            EncodingError: nothing to learn from (no answer, under two tokens), the template cannot render the
                example, or a token of it has no embedding; names its file and line.
        """
        try:
            return self._readable(self._encode(example))
        except EncodingError as error:
            raise EncodingError(f"{example.where}: {error.found}", error.expected, error.fix) from error

    def _encode(self, example: Example) -> list[EncodedTurn]:
        turns = example.turns
        if len(turns) == 1 and turns[0].role == TEXT:
            return self._encode_document(turns[0].content)
        if self.rows.loss == "all":
            return self._encode_conversation(turns, example.template_inputs)
        places = answer_places(turns)
        if not places:
            raise _no_answer(turns)
        return self._encode_answers(turns, places, example.template_inputs, cut=self._cut)

    def _readable(self, turns: list[EncodedTurn]) -> list[EncodedTurn]:
        """The turns, if the model has an embedding for each of their tokens: a text-only model may lack those of the
        pictures that its tokenizer knows."""
        largest = max((token for turn in turns for token in turn.input_ids), default=0)
        if self._n_embeddings is not None and largest >= self._n_embeddings:
            raise EncodingError(
                f"the token {self._tokenizer.convert_ids_to_tokens(largest)!r} ({largest}), which the model has no "
                f"embedding for: it has {self._n_embeddings}",
                "expected tokens that the model was trained with",
                "Take that token out of the text, or give the model with its resized embeddings.",
            )
        return turns

    def encode_query(
        self,
        turns: Sequence[Turn],
        response: str | Turn,
        *,
        complete: bool = True,
        template_inputs: Inputs | None = None,
    ) -> EncodedTurn:
        """A prompt and the response the model gave.

        Args:
            turns: the prompt's turns; a single one of role "text" is continued as it is, without template.
            response: its text, or the assistant's whole turn (with a tool call).
            complete: False if a length limit cut the response off: it then has no end-of-turn marker.
            template_inputs: as of an Example.

        Raises:
            EncodingError: as for `encode`.
        """
        answer = Turn(ASSISTANT, response) if isinstance(response, str) else response
        earlier = len(answer_places(turns))
        whole = (*turns, answer)
        # A query is cut as it always was: what the trainer did to its rows says nothing about a question.
        (found,) = self._readable(self._encode_answers(whole, [len(turns)], template_inputs or {}, complete=complete))
        # A text stays as it was asked about, also where the template changes it: a span of it is then refused.
        if not isinstance(response, str):
            return replace(found, turn=earlier)
        return replace(
            found,
            turn=earlier,
            response=response,
            answer_at=found.answer_at if response.strip() == found.response.strip() else None,
        )

    def render_prompt(self, turns: Sequence[Turn], template_inputs: Inputs | None = None) -> list[int]:
        """Token ids to generate from, never truncated.

        They are those of the same turns' encoded prompt, unless a token reaches over the boundary or the template's
        `{% generation %}` block begins elsewhere.

        Raises:
            EncodingError: the template cannot render the turns.
        """
        text = render_prompt(self._renderer, turns, template_inputs or {})
        return self._spans.encode(self._bos(text, turns) + text).ids

    def _encode_answers(
        self,
        turns: Sequence[Turn],
        places: Sequence[int],
        inputs: Inputs,
        *,
        complete: bool = True,
        cut: Callable[[int, int, int], Cut] | None = None,
    ) -> list[EncodedTurn]:
        """cut: which tokens of (whole text, answer's start, answer's end) the model saw; None cuts as for a query."""
        found = render_answers(self._renderer, turns, places, inputs, complete=complete)
        bos = self._bos(found[0].text, turns)
        text = bos + found[0].text
        tokens = self._spans.encode(text)
        boundaries = Boundaries(tokens.spans)
        encoded = []
        for k, (place, one) in enumerate(zip(places, found, strict=True)):
            response = answer_text(self._renderer, turns[: place + 1], inputs, one)
            at = answer_start(self._renderer, turns[: place + 1], inputs, one, response)
            turn = self._encode_answer(
                text,
                tokens,
                boundaries,
                (len(bos) + one.prompt_end, len(bos) + one.response_end),
                turn=k,
                prompt=next((turn.content for turn in reversed(turns[:place]) if turn.role in ("user", TEXT)), ""),
                response=response,
                answer_at=None if at is None else len(bos) + at,
                cut=cut or self._cut_prompt_first,
            )
            encoded.append(turn)
        seen = [one for one in encoded if one is not None]
        if not seen:
            raise EncodingError(
                f"no answer within the {self.max_length} tokens of a row of {len(tokens.ids)} that the trainer kept "
                f"({self.rows.truncation})",
                "expected a token of an answer among them",
                "The model was not trained on this row; a run with a larger `--max-length` would have been.",
            )
        return seen

    def _encode_answer(
        self,
        text: str,
        tokens: Tokens,
        boundaries: Boundaries,
        answer: Span,
        *,
        turn: int,
        prompt: str,
        response: str,
        answer_at: int | None,
        cut: Callable[[int, int, int], Cut],
    ) -> EncodedTurn | None:
        """`answer`: its characters in the text. None where the trainer cut it away."""
        ids, spans = tokens
        start, end = boundaries.response(*answer)
        if start == 0 or start == end:
            raise EncodingError(
                f"no {'response' if start else 'prompt'} token in {text[:200]!r}",
                "expected at least one token of each",
                "Leave the row out, or check the template with `--template FILE`.",
            )
        first, response_start, last = cut(len(ids), start, end)
        if response_start >= last:
            return None
        kept = slice(first, last)
        return EncodedTurn(
            input_ids=tuple(ids[kept]),
            response_start=response_start - first,
            # What follows the answer has no part in it.
            text=text[: boundaries.reach(end)],
            offsets=tuple(spans[kept]),
            truncated=end - (last - first),
            truncated_prompt=min(first, start),
            turn=turn,
            prompt=prompt,
            response=response,
            answer_at=answer_at,
        )

    def _cut_prompt_first(self, n_tokens: int, start: int, end: int) -> Cut:
        keep_prompt, keep_response = fit(start, end - start, self.max_length)
        return Cut(start - keep_prompt, start, start + keep_response)

    def _cut(self, n_tokens: int, start: int, end: int) -> Cut:
        """As the rows' trainer cut: the conversation's right end, its left end, or the prompt's left end first."""
        if self.rows.truncation == "prompt_first":
            return self._cut_prompt_first(n_tokens, start, end)
        if self.rows.truncation == "keep_start":
            return Cut(0, start, min(end, self.max_length))
        first = max(0, n_tokens - self.max_length)
        # The first token that is left is predicted by nothing, so it can be no token of the response.
        return Cut(first, max(start, first + 1), end)

    def _encode_conversation(self, turns: Sequence[Turn], inputs: Inputs) -> list[EncodedTurn]:
        """The whole rendered conversation as one response, for a model whose loss was on every token."""
        if not turns:
            raise _no_answer(turns)
        rendered = self._renderer.text(turns, inputs)
        text = self._bos(rendered, turns) + rendered
        ids, spans = self._spans.encode(text)
        return self._windows(ids, spans, text)

    def _bos(self, text: str, turns: Sequence[Turn]) -> str:
        """The beginning-of-text token, where the text lacks one that this tokenizer puts before any text.

        A tokenizer's own template decides for itself: that is how the model was trained.
        """
        own = self._template.source == "tokenizer" and turns[0].role != TEXT
        if own or not self._adds_bos or text.startswith(self._tokenizer.bos_token):
            return ""
        return str(self._tokenizer.bos_token)

    def _encode_document(self, text: str) -> list[EncodedTurn]:
        """Consecutive windows; the first token of each stands in for the prompt. Of a row that the trainer cut, the
        one that it kept."""
        eos_token = self._tokenizer.eos_token
        if self.rows.append_eos and not text.endswith(eos_token):
            text += eos_token
        ids, spans = self._spans.encode(text)
        before = [] if ids[: len(self._before)] == self._before else self._before
        ids = before + ids + self._after
        spans = [(0, 0)] * len(before) + spans + [(len(text), len(text))] * len(self._after)
        eos = self._tokenizer.eos_token_id
        while len(ids) > 1 and ids[-1] == ids[-2] == eos:
            del ids[-1], spans[-1]
        return self._windows(ids, spans, text)

    def _windows(self, ids: list[int], spans: list[Span], text: str) -> list[EncodedTurn]:
        starts = [at for at in range(0, len(ids), self.max_length) if len(ids) - at > 1]
        if self.rows.truncation == "keep_start":
            starts = starts[:1]
        elif self.rows.truncation == "keep_end" and starts:
            starts = [max(0, len(ids) - self.max_length)]
        if not starts:
            raise EncodingError(
                f"a text of {len(ids)} token(s): {text!r}",
                "expected at least two: one to predict from, one to predict",
                "Leave the row out.",
            )
        cuts = [slice(at, at + self.max_length) for at in starts]
        missed = len(ids) - self.max_length if self.rows.truncation != "prompt_first" else 0
        return [_window(w, ids[cut], spans[cut], text, max(0, missed)) for w, cut in enumerate(cuts)]


def _window(w: int, ids: list[int], spans: list[Span], text: str, truncated: int) -> EncodedTurn:
    """A window holds its own part of the text, so that a long document is not kept once per window."""
    start, end = spans[0][0], spans[-1][1]
    part = text[start:end]
    return EncodedTurn(
        turn=w,
        input_ids=tuple(ids),
        response_start=1,
        text=part,
        offsets=tuple((a - start, b - start) for a, b in spans),
        prompt="",
        response=part,
        truncated=truncated,
        answer_at=len(part) - len(part.lstrip()) if part.strip() else None,
    )


def fit(n_prompt: int, n_response: int, max_length: int) -> tuple[int, int]:
    """How many of the prompt's last and of the response's first tokens fit into `max_length` >= 4.

    The prompt gives way first, down to a quarter of the room; then the response's right end does.
    """
    least = min(n_prompt, max(1, max_length // 4))
    keep_prompt = min(n_prompt, max(least, max_length - n_response))
    return keep_prompt, min(n_response, max_length - keep_prompt)


def _no_answer(turns: Sequence[Turn]) -> EncodingError:
    if turns and turns[0].role == ASSISTANT:
        found = "a conversation that begins with the assistant's turn has no prompt, and there is no other answer"
    else:
        found = f"no assistant turn among {[turn.role for turn in turns]}"
    return EncodingError(
        found,
        "expected at least one response, or a plain text",
        "Name the response's column with `--columns response=NAME`, or leave the row out.",
    )


def _special_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer puts before and after any text."""
    bare = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    full = list(tokenizer("a", add_special_tokens=True)["input_ids"])
    at = next(i for i in range(len(full)) if full[i : i + len(bare)] == bare)
    return full[:at], full[at + len(bare) :]
