"""What the model says: greedy answers, batched."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers.generation.streamers import BaseStreamer

from whence.model.loading import LoadedModel

PLAIN: dict[str, object] = {
    # The model's own may conflict with max_new_tokens.
    "max_length": None,
    "min_length": 0,
    "min_new_tokens": None,
    "max_time": None,
    "stop_strings": None,
    "do_sample": False,
    "temperature": None,
    "top_k": None,
    "top_p": None,
    "num_beams": 1,
    "num_return_sequences": 1,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "bad_words_ids": None,
    "sequence_bias": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "exponential_decay_length_penalty": None,
    "guidance_scale": None,
    "watermarking_config": None,
    "penalty_alpha": None,
    "dola_layers": None,
    "prompt_lookup_num_tokens": None,
    "token_healing": False,
    "return_dict_in_generate": False,
}
"""What `generate` is told in the place of the model's own generation config, so that the likeliest token comes next."""

Batching = Literal["any", "alike", "none"]

PROBE_LENGTHS = (4, 12)
PROBE_STEPS = 3
PROBE_TOLERANCE = 1e-3
"""Relative to the largest logit; both ways are the same arithmetic, so only the order of additions differs."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the likeliest token at each step. `complete` is False when the token limit cut it off."""

    text: str
    complete: bool


@torch.no_grad()
def generate(
    loaded: LoadedModel, prompts: Sequence[Sequence[int]], *, max_new_tokens: int = 128, batch_size: int = 32
) -> list[Answer]:
    """Greedy answers to prompts given as token ids (`Encoder.render_prompt`), in their order.

    Of the model's generation config only the end tokens count: no penalty, ban or bias of tokens is applied.

    A model with a largest number of positions answers within it: an answer may be shorter than `max_new_tokens`, and a
    prompt that leaves it no position loses its start, down to three quarters of them.
    """
    answers: dict[int, Answer] = {}
    read = [_within(prompt, loaded.max_length, max_new_tokens) for prompt in prompts]
    order = sorted(range(len(read)), key=lambda i: len(read[i]))
    # A prompt with little room behind it is answered alone: it would shorten its neighbours' answers.
    roomy = [i for i in order if _room(read[i], loaded.max_length) >= max_new_tokens]
    groups = [roomy[start : start + batch_size] for start in range(0, len(roomy), batch_size)]
    if any(len(group) > 1 for group in groups) and (together := batching(loaded)) != "any":
        alike = [list(same) for _, same in groupby(roomy, key=lambda i: len(read[i]))]
        most = batch_size if together == "alike" else 1
        groups = [same[start : start + most] for same in alike for start in range(0, len(same), most)]
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


def batching(loaded: LoadedModel) -> Batching:
    """Which prompts this model answers together as it does alone; found out once by trying it on a few tokens.

    "any": of any lengths. "alike": of one length, because padding on the left enters the state of a layer that knows no
    mask, as MiniMax's. "none", as of RWKV, which mixes the rows of a batch in transformers 5.24.
    """
    decoder = loaded.blocks.decoder
    if decoder not in _BATCHING:
        short, long = PROBE_LENGTHS
        if _agrees(loaded, short, long):
            _BATCHING[decoder] = "any"
        else:
            _BATCHING[decoder] = "alike" if _agrees(loaded, short, short) else "none"
    return _BATCHING[decoder]


_BATCHING: WeakKeyDictionary[nn.Module, Batching] = WeakKeyDictionary()


@torch.no_grad()
def _agrees(loaded: LoadedModel, length: int, of_other: int) -> bool:
    """Whether a prompt beside another one has the logits that it has alone, step by step."""
    one = [i % loaded.n_embeddings for i in range(length)]
    other = [(2 * i + 1) % loaded.n_embeddings for i in range(of_other)]
    for alone, beside in zip(_logits(loaded, [one]), _logits(loaded, [one, other]), strict=False):
        gap, size = (alone[0] - beside[0]).abs().max().item(), alone[0].abs().max().item()
        if not gap <= max(PROBE_TOLERANCE, 8 * torch.finfo(loaded.dtype).eps) * size:
            return False
        if alone[0].argmax() != beside[0].argmax():  # from here on the texts differ
            break
    return True


def _logits(loaded: LoadedModel, prompts: Sequence[Sequence[int]]) -> Sequence[Tensor]:
    """The model's own logits at each step of an answer, [batch, vocab] each."""
    told = _told(loaded, prompts) | {"return_dict_in_generate": True, "output_logits": True}
    return loaded.model.generate(**told, max_new_tokens=PROBE_STEPS).logits  # type: ignore[no-any-return]


def _batch(
    loaded: LoadedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int, streamer: BaseStreamer | None = None
) -> list[Answer]:
    width = max(len(ids) for ids in prompts)
    ends = _end_ids(loaded)
    output = loaded.model.generate(**_told(loaded, prompts), max_new_tokens=max_new_tokens, streamer=streamer)
    answers = []
    for tokens in output[:, width:].tolist():
        end = next((i for i, token in enumerate(tokens) if token in ends), None)
        text = loaded.tokenizer.decode(tokens[:end], skip_special_tokens=True)
        answers.append(Answer(str(text), complete=end is not None))
    return answers


def _told(loaded: LoadedModel, prompts: Sequence[Sequence[int]]) -> dict[str, object]:
    """The arguments of the model's own `generate`: the prompts, padded on the left, and how to choose tokens."""
    width = max(len(ids) for ids in prompts)
    ids = torch.full((len(prompts), width), loaded.pad_id, dtype=torch.long)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(list(prompt))
        mask[row, width - len(prompt) :] = 1
    return _plain(loaded) | {
        "input_ids": ids.to(loaded.device),
        "attention_mask": mask.to(loaded.device),
        "eos_token_id": _end_ids(loaded) or None,
        "pad_token_id": loaded.pad_id,
    }


def _plain(loaded: LoadedModel) -> dict[str, object]:
    """`PLAIN` without the settings that the model's generation config leaves at their defaults; greedy in any case.

    Given as arguments, which go before the model's own; a config of ours would be filled up from the model's.
    """
    configured = loaded.model.generation_config
    always = {"max_length", "do_sample", "num_beams", "temperature", "top_k", "top_p"}
    return {
        name: value for name, value in PLAIN.items() if name in always or getattr(configured, name, None) is not None
    }


def _end_ids(loaded: LoadedModel) -> list[int]:
    """End tokens of the tokenizer and of the generation config (chat models have several)."""
    configured = loaded.model.generation_config.eos_token_id
    several = configured if isinstance(configured, list) else [configured]
    return sorted({int(end) for end in [*several, loaded.tokenizer.eos_token_id] if end is not None})
