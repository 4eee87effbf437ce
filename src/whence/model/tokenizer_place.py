"""Which tokenizer and chat template belong to a model with an adapter: the adapter's, where its folder holds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from whence.errors import ModelError
from whence.model.checkpoint import quiet
from whence.model.places import check_json_files, first_line, stored_file

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"]
TEMPLATE = "chat_template.jinja"


@dataclass(frozen=True, slots=True)
class TokenizerPlace:
    """Where a tokenizer may lie: beside the model or its adapter."""

    model: str
    adapter: str | None
    revision: str | None
    trust_remote_code: bool
    template_given: bool = False
    """Whether a template is given, so that none is looked for."""


def choose_tokenizer(place: TokenizerPlace, tell: Callable[[str], None]) -> PreTrainedTokenizerBase:
    """The adapter's tokenizer and chat template where it has them, else the model's.

    An adapter may bring a template without a tokenizer, or a tokenizer without a template: the other is the model's,
    where the tokens of both have the same ids. `tell` is told which was taken then.

    Raises:
        ModelError: there is no tokenizer, or the adapter's files do not go with the model's.
    """
    adapter = place.adapter
    if adapter is not None and brings_tokenizer(adapter):
        tokenizer = _load(place, adapter)
        if not tokenizer.chat_template and not place.template_given:
            _take_template_of_model(tokenizer, place, adapter, tell)
        return tokenizer
    tokenizer = _load(place, place.model)
    if adapter is not None:
        _check_tokens(tokenizer, place, adapter)
        _take_template_of_adapter(tokenizer, place, adapter, tell)
    return tokenizer


def brings_tokenizer(adapter: str | None) -> bool:
    """Whether an adapter has a whole tokenizer beside it."""
    return adapter is not None and stored_file(adapter, "tokenizer_config.json") is not None


def _load(place: TokenizerPlace, folder: str) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    revision = place.revision if folder == place.model else None
    try:
        with quiet():
            return AutoTokenizer.from_pretrained(folder, trust_remote_code=place.trust_remote_code, revision=revision)
    except Exception as error:  # tokenizers raises plain exceptions
        found = stored_file(folder, "tokenizer_config.json", revision)
        if found is not None:
            check_json_files(found.parent, TOKENIZER_FILES)
        raise ModelError(
            f"No tokenizer could be loaded from {folder!r}: {first_line(error)}",
            "Expected tokenizer.json and tokenizer_config.json, whole, beside the model.",
            "Save the tokenizer there with tokenizer.save_pretrained.",
        ) from error


def _take_template_of_model(
    tokenizer: PreTrainedTokenizerBase, place: TokenizerPlace, adapter: str, tell: Callable[[str], None]
) -> None:
    try:
        own = _load(place, place.model)
    except ModelError:
        return  # the model has none that could be meant
    if not own.chat_template:
        return
    ids = tokenizer.get_vocab()
    if any(ids.get(token) != number for token, number in own.get_vocab().items()):
        raise ModelError(
            f"The adapter {adapter} brings a tokenizer without a chat template, and the model {place.model} a chat "
            "template for other tokens.",
            "Expected the template that was trained with, beside the tokenizer that was trained with.",
            f"Save it as {adapter}/{TEMPLATE}.",
        )
    tokenizer.chat_template = own.chat_template
    tell(f"The chat template is that of {place.model}: the tokenizer of the adapter {adapter} has none")


def _take_template_of_adapter(
    tokenizer: PreTrainedTokenizerBase, place: TokenizerPlace, adapter: str, tell: Callable[[str], None]
) -> None:
    file = stored_file(adapter, TEMPLATE)
    if file is None:
        return
    text = file.read_text("utf-8")
    if text != tokenizer.chat_template:
        tell(f"The chat template is that of the adapter ({file}); the tokenizer is that of {place.model}")
    tokenizer.chat_template = text


def _check_tokens(tokenizer: PreTrainedTokenizerBase, place: TokenizerPlace, adapter: str) -> None:
    """Raises ModelError for an adapter's tokenizer.json, without its config, that has other tokens than the model's."""
    file = stored_file(adapter, "tokenizer.json")
    if file is None:
        return
    from tokenizers import Tokenizer

    try:
        found = Tokenizer.from_file(str(file)).get_vocab(with_added_tokens=True)
    except Exception as error:  # tokenizers raises plain exceptions
        raise ModelError(
            f"{file} is damaged: {first_line(error)}.",
            "Expected a tokenizer, as save_pretrained writes it.",
            "Copy or download that file again, or save it again.",
        ) from error
    ids = tokenizer.get_vocab()
    if any(ids.get(token) != number for token, number in found.items()):
        raise ModelError(
            f"The adapter {adapter} has a tokenizer.json of other tokens than {place.model}, and no "
            "tokenizer_config.json.",
            "Expected the tokenizer that was trained with, whole.",
            f"Save it into {adapter} with tokenizer.save_pretrained, or move tokenizer.json out of it.",
        )


__all__ = ["TokenizerPlace", "brings_tokenizer", "choose_tokenizer"]
