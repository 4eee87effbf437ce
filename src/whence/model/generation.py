"""What the model says: greedy answers, batched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

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
    """Greedy answers to prompts given as token ids (`Encoder.render_prompt`), in their order."""
    answers: dict[int, Answer] = {}
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        for index, answer in zip(indices, _batch(loaded, [prompts[i] for i in indices], max_new_tokens), strict=True):
            answers[index] = answer
    return [answers[i] for i in range(len(prompts))]


def _batch(loaded: LoadedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[Answer]:
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
        do_sample=False,
        num_beams=1,
        temperature=None,
        top_p=None,
        top_k=None,
        eos_token_id=ends or None,
        pad_token_id=loaded.pad_id,
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
