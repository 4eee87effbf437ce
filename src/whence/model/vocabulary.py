"""Whether the model has an embedding for every token that its tokenizer makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from whence.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NAMED = 3


def check_vocabulary(
    tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, adapter: str | None, place: str
) -> None:
    """Raises ModelError for a tokenizer whose tokens the model cannot read.

    adapter: the place of the adapter that brings the tokenizer, where one does.

    A token without an embedding is refused at once where an adapter brings it, where the chat template writes it or
    where it begins or ends a text. Any other, such as the place of a picture in a text-only model, when a text has it.
    A padding token is masked out, and any id serves for it.
    """
    rows = count_embeddings(model)
    beyond = {number: token for token, number in sorted(tokenizer.get_vocab().items()) if number >= rows}
    beyond.pop(tokenizer.pad_token_id, None)
    if not beyond:
        return
    template = str(tokenizer.chat_template or "")
    needed = {tokenizer.bos_token_id, tokenizer.eos_token_id}
    if adapter is None and not any(number in needed or token in template for number, token in beyond.items()):
        _refuse_when_used(model, beyond, rows, place)
        return
    raise ModelError(
        f"The tokenizer of {adapter or place} has {len(beyond)} tokens without an embedding "
        f"({_few(beyond)}): its ids go to {max(beyond)}, the model's embedding has {rows} rows.",
        "Expected a row for every token that was trained with.",
        "The adapter was saved without its embeddings: save it again with save_embedding_layers=True, or with "
        'modules_to_save=["embed_tokens", "lm_head"].'
        if adapter
        else "Give the tokenizer that the model was trained with, or resize the model before it is trained "
        "(resize_token_embeddings).",
    )


def count_embeddings(model: PreTrainedModel) -> int:
    """For how many tokens the model has both an embedding and a logit."""
    parts = [model.get_input_embeddings(), model.get_output_embeddings()]
    weights = [getattr(part, "weight", None) for part in parts if part is not None]
    return min(int(weight.shape[0]) for weight in weights if weight is not None and weight.dim() == 2)


def _refuse_when_used(model: PreTrainedModel, beyond: dict[int, str], rows: int, place: str) -> None:
    def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        largest = int(args[0].max()) if args and args[0].numel() else 0
        if largest >= rows:
            raise ModelError(
                f"A text uses the token {beyond.get(largest, '?')!r} ({largest}), and the model {place} has embeddings "
                f"for {rows} tokens only.",
                "Expected tokens that the model was trained with.",
                "Take that token out of the text, or give the model with its resized embeddings.",
            )

    model.get_input_embeddings().register_forward_pre_hook(hook)


def _few(beyond: dict[int, str]) -> str:
    named = [f"{beyond[number]!r} is {number}" for number in sorted(beyond)[:NAMED]]
    return ", ".join(named) + (", ..." if len(beyond) > NAMED else "")


__all__ = ["check_vocabulary", "count_embeddings"]
