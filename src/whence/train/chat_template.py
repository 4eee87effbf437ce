"""The template that a fine-tune's tokenizer is saved with: the one that the rows were rendered with."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

from whence.data import TEXT, Encoder, Example, answer_places

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def tokenizer_with_template(
    tokenizer: PreTrainedTokenizerBase, encoder: Encoder, examples: Sequence[Example]
) -> PreTrainedTokenizerBase:
    """The tokenizer, or a copy with the template that the encoder was given in place of its own.

    A tokenizer's own template writes the beginning-of-text token itself; where the encoder puts it before the text of
    a given one, the saved template does.
    """
    if encoder.template_source != "given":
        return tokenizer
    changed = copy.deepcopy(tokenizer)
    changed.chat_template = encoder.template
    prompts = ((one.turns[: answer_places(one.turns)[0]], one) for one in examples if one.turns[0].role != TEXT)
    turns, of = next(prompts, ((), None))
    if of is None:
        return changed
    own = Encoder(changed, rows=encoder.rows).render_prompt(turns, of.template_inputs)
    if own != encoder.render_prompt(turns, of.template_inputs):
        changed.chat_template = "{{- bos_token }}" + encoder.template
    return changed


__all__ = ["tokenizer_with_template"]
