"""Chat templates as the model families publish them, and tokenizers of each family's kind, trained here.

The templates are those of the models named, without their branches for tools. A tokenizer has the family's
special tokens, its way with spaces (byte-level or word-start mark) and its post-processor; the merges come from
`CORPUS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

# meta-llama/Meta-Llama-3-8B-Instruct
LLAMA3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
    "message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)

# Qwen/Qwen2.5-7B-Instruct
QWEN25 = """\
{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" \
and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

# Qwen/Qwen3-8B
QWEN3 = """\
{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content\
.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1]\
.lstrip('\\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + \
'\\n</think>\\n\\n' + content.lstrip('\\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""

# mistralai/Mistral-7B-Instruct-v0.2
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)

# mistralai/Mistral-7B-Instruct-v0.3: the system text stands in the last turn, if that is the user's, so a prompt
# with one is no prefix of the conversation.
MISTRAL_V3 = """\
{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported, with the exception of an initial optional \
system message!") }}
    {%- endif %}
{%- endfor %}
"""

# google/gemma-2-9b-it
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}"
    "{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)

# HuggingFaceH4/zephyr-7b-beta
ZEPHYR = (
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
    "{{ '<|user|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n"
    "{{ '<|system|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n"
    "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)

CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' "
    "+ '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# The generation prompt opens a thought that the conversation leaves out (as DeepSeek-R1's does), so the prompt is
# no prefix. The markers say where the response is.
MARKED = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ '<|im_start|>assistant\n' }}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}{% else %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n'}}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)
UNSTABLE = MARKED.replace("{% generation %}", "").replace("{% endgeneration %}", "")

CORPUS = [
    "system user assistant model think You are a helpful assistant. Answer in one word.",
    "You are Qwen, created by Alibaba Cloud. [INST] [/INST] <|system|> <|user|> <|assistant|>",
    "Where is Toronto? Toronto is in Canada. Where is Bonn? Bonn is in Germany.",
    "### Instruction:\n\n### Response:\n\n",
    "Grüße aus Köln! مرحبا بالعالم 🙂 こんにちは",
] * 3


@dataclass(frozen=True)
class Family:
    """A template with the tokenizer it is made for."""

    template: str | None
    kind: str
    """ "bytes": byte-level BPE; "marks": BPE with word-start marks and byte fallback."""
    special: tuple[str, ...]
    bos: str | None
    eos: str
    adds_bos: bool
    dummy_prefix: bool = False
    """Word-start marks only: one is put before every text between special tokens (Llama 2, Mistral)."""


_IM = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
FAMILIES = {
    "llama3": Family(
        LLAMA3,
        "bytes",
        ("<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"),
        "<|begin_of_text|>",
        "<|eot_id|>",
        adds_bos=True,
    ),
    "qwen2.5": Family(QWEN25, "bytes", _IM, None, "<|im_end|>", adds_bos=False),
    "qwen3": Family(QWEN3, "bytes", (*_IM, "<think>", "</think>"), None, "<|im_end|>", adds_bos=False),
    "mistral": Family(MISTRAL, "marks", ("<s>", "</s>"), "<s>", "</s>", adds_bos=True, dummy_prefix=True),
    "mistral-v0.3": Family(
        MISTRAL_V3,
        "marks",
        ("<s>", "</s>", "[INST]", "[/INST]"),
        "<s>",
        "</s>",
        adds_bos=True,
        dummy_prefix=True,
    ),
    "gemma": Family(
        GEMMA,
        "marks",
        ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        "<bos>",
        "<eos>",
        adds_bos=True,
    ),
    "zephyr": Family(ZEPHYR, "marks", ("<s>", "</s>"), "<s>", "</s>", adds_bos=True, dummy_prefix=True),
    "chatml": Family(CHATML, "bytes", _IM, None, "<|im_end|>", adds_bos=False),
    "none": Family(None, "bytes", ("<|endoftext|>",), "<|endoftext|>", "<|endoftext|>", adds_bos=False),
    "none-bos": Family(None, "marks", ("<s>", "</s>"), "<s>", "</s>", adds_bos=True, dummy_prefix=True),
}

# Llama 3's: punctuation takes the line breaks after it, so that tokens such as ":\n\n" exist.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


@cache
def family_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """The family's tokenizer, with its chat template."""
    family = FAMILIES[name]
    tokenizer = _byte_level(family) if family.kind == "bytes" else _word_marks(family)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=family.bos,
        eos_token=family.eos,
        additional_special_tokens=list(family.special),
    )
    fast.chat_template = family.template
    return fast


def _byte_level(family: Family) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        min_frequency=2,
        special_tokens=list(family.special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    trim = processors.ByteLevel(trim_offsets=True)
    tokenizer.post_processor = processors.Sequence([trim, _bos(tokenizer, family)]) if family.adds_bos else trim
    return tokenizer


def _word_marks(family: Family) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    marks: list[normalizers.Normalizer] = [normalizers.Replace(" ", "▁")]
    if family.dummy_prefix:
        marks.insert(0, normalizers.Prepend("▁"))
    tokenizer.normalizer = normalizers.Sequence(marks)
    trainer = trainers.BpeTrainer(
        vocab_size=800,
        min_frequency=2,
        special_tokens=["<unk>", *family.special, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    # Trained word by word, so that no token spans two words; used, as these families are, without a splitter.
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"▁?[^▁\n]+|\n+"), behavior="isolated")
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.pre_tokenizer = None
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = _bos(tokenizer, family)
    return tokenizer


def _bos(tokenizer: Tokenizer, family: Family) -> processors.PostProcessor:
    return processors.TemplateProcessing(
        single=f"{family.bos} $A",
        special_tokens=[(family.bos, tokenizer.token_to_id(family.bos))],
    )


def swallowing_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer whose markers take the spaces after them, as Phi-3's do."""
    tokenizer = _byte_level(FAMILIES["chatml"])
    markers = ["<|user|>", "<|assistant|>", "<|end|>"]
    tokenizer.add_special_tokens([AddedToken(marker, rstrip=True, special=True) for marker in markers])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")
