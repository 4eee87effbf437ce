"""What the model says: greedy answers, batched."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers.generation.streamers import BaseStreamer

from whence.model.loading import LoadedModel


@dataclass(frozen=True, slots=True)
class Answer:
    """A greedy answer. `complete` is False when the token limit cut it off."""

    text: str
    complete: bool


@torch.no_grad()
def generate(
    loaded: LoadedModel, prompts: Sequence[Sequence[int]], *, max_new_tokens: int = 128, batch_size: int = 32
) -> list[Answer]:
    """Greedy answers to prompts given as token ids (`Encoder.render_prompt`), in their order.

    A model with a largest number of positions answers within it: an answer may be shorter than `max_new_tokens`, and a
    prompt that leaves it no position loses its start, down to three quarters of them.
    """
    answers: dict[int, Answer] = {}
    read = [_within(prompt, loaded.max_length, max_new_tokens) for prompt in prompts]
    order = sorted(range(len(read)), key=lambda i: len(read[i]))
    # A prompt with little room behind it is answered alone: it would shorten its neighbours' answers.
    roomy = [i for i in order if _room(read[i], loaded.max_length) >= max_new_tokens]
    groups = [roomy[start : start + batch_size] for start in range(0, len(roomy), batch_size)]
    groups += [[i] for i in order[len(roomy) :]]
    for indices in groups:
        room = min(max_new_tokens, *(_room(read[i], loaded.max_length) for i in indices))
        for index, answer in zip(indices, _batch(loaded, [read[i] for i in indices], room), strict=True):
            answers[index] = answer
    return [answers[i] for i in range(len(prompts))]


def stream_answer(
    loaded: LoadedModel, prompt: Sequence[int], said: Callable[[str], None], *, max_new_tokens: int = 128
) -> Answer:
    """The greedy answer to one prompt, the same as `generate` gives.

    said: called with each piece of the text as soon as no later token can change it; an error that it raises ends the
        generation and is passed on.
    """
    read = _within(prompt, loaded.max_length, max_new_tokens)
    room = min(max_new_tokens, _room(read, loaded.max_length))
    pieces = _Pieces(loaded, said)
    [answer] = _batch(loaded, [read], room, pieces)
    pieces.rest(answer.text)
    return answer


class _Pieces(BaseStreamer):  # type: ignore[misc]  # transformers is not followed
    """Turns tokens, as they come, into pieces of text."""

    def __init__(self, loaded: LoadedModel, said: Callable[[str], None]) -> None:
        self._loaded, self._said = loaded, said
        self._ends = set(_end_ids(loaded))
        self._tokens: list[int] | None = None
        self._shown = ""

    def put(self, value: torch.Tensor) -> None:
        """Takes the prompt first, then token after token."""
        if self._tokens is None:
            self._tokens = []
            return
        new = value.reshape(-1).tolist()
        self._tokens += [token for token in new if token not in self._ends]
        text = str(self._loaded.tokenizer.decode(self._tokens, skip_special_tokens=True))
        # A character may take several tokens; until the last of them it is decoded as a replacement character.
        self._say("" if text.endswith("\N{REPLACEMENT CHARACTER}") else text)

    def end(self) -> None:
        """Called when the answer is whole."""

    def rest(self, text: str) -> None:
        """Says what is left of the whole text."""
        self._say(text)

    def _say(self, text: str) -> None:
        if len(text) > len(self._shown) and text.startswith(self._shown):
            self._said(text[len(self._shown) :])
            self._shown = text


def _within(prompt: Sequence[int], most: int | None, max_new_tokens: int) -> Sequence[int]:
    """The prompt, or its last tokens where it leaves no room for an answer."""
    if most is None or len(prompt) < most:
        return prompt
    return prompt[-max(1, most - min(max_new_tokens, most // 4)) :]


def _room(prompt: Sequence[int], most: int | None) -> int:
    """Positions left behind the prompt."""
    return sys.maxsize if most is None else most - len(prompt)


def _batch(
    loaded: LoadedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int, streamer: BaseStreamer | None = None
) -> list[Answer]:
    width = max(len(ids) for ids in prompts)
    ids = torch.full((len(prompts), width), loaded.pad_id, dtype=torch.long)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(list(prompt))
        mask[row, width - len(prompt) :] = 1
    ends = _end_ids(loaded)
    output = loaded.model.generate(
        input_ids=ids.to(loaded.device),
        attention_mask=mask.to(loaded.device),
        max_new_tokens=max_new_tokens,
        # The model's own generation config may have one, which would be reported as a conflict.
        max_length=None,
        do_sample=False,
        num_beams=1,
        temperature=None,
        top_p=None,
        top_k=None,
        eos_token_id=ends or None,
        pad_token_id=loaded.pad_id,
        streamer=streamer,
    )
    answers = []
    for tokens in output[:, width:].tolist():
        end = next((i for i, token in enumerate(tokens) if token in ends), None)
        text = loaded.tokenizer.decode(tokens[:end], skip_special_tokens=True)
        answers.append(Answer(str(text), complete=end is not None))
    return answers


def _end_ids(loaded: LoadedModel) -> list[int]:
    """End tokens of the tokenizer and of the generation config (chat models have several)."""
    configured = loaded.model.generation_config.eos_token_id
    several = configured if isinstance(configured, list) else [configured]
    return sorted({int(end) for end in [*several, loaded.tokenizer.eos_token_id] if end is not None})
