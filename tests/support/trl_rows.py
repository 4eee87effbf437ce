"""Conversations and tokenizers that the tests of TRL's trainers share."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from chat_templates import family_tokenizer

Row = dict[str, object]
IGNORED = -100

MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{% else %}{{ m['content'] + '<|im_end|>' }}"
    "{% endif %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def user(text: str) -> Row:
    return {"role": "user", "content": text}


def assistant(text: str, **more: object) -> Row:
    return {"role": "assistant", "content": text, **more}


ONE = [user("Where is Toronto?"), assistant("Toronto is in Canada.")]
OTHER = [user("And Bonn?"), assistant("Germany.")]
SHORT = [user("Bonn?"), assistant("Bonn is in Germany. Grüße!")]


def fresh_tokenizer(name: str, own: str | None = None) -> PreTrainedTokenizerFast:
    """The family's, unshared: the trainer sets its padding token."""
    family = family_tokenizer(name)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=family.backend_tokenizer,
        bos_token=family.bos_token,
        eos_token=family.eos_token,
        pad_token="<|pad|>",
    )
    own = own or family.chat_template
    tokenizer.chat_template = _shipped(own) if own and own.endswith(".jinja") else own
    return tokenizer


def _shipped(name: str) -> str:
    """A template that TRL ships."""
    found = find_spec("trl")
    assert found is not None
    assert found.origin is not None
    return (Path(found.origin).parent / "chat_templates" / name).read_text()
