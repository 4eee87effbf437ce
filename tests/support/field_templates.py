"""Chat templates for the row tests: each without and with `{% generation %}` markers around the same text.

The unmarked one is what whence is given; what transformers' own `return_assistant_tokens_mask` says of the marked one
is the mask to expect.
"""

from __future__ import annotations

# Reads everything a message may hold: tools, tool calls, thoughts, names, null contents and lists of text parts.
FULL = """\
{%- if tools %}{{ '<|tools|>' + tools | tojson + '<|end|>\n' }}{% endif -%}
{%- if documents %}{{ '<|documents|>' + documents | tojson + '<|end|>\n' }}{% endif -%}
{%- if mood %}{{ '<|mood|>' + mood + '<|end|>\n' }}{% endif -%}
{%- for m in messages -%}
{{ '<|' + m.role + '|>' + ('(' + m.name + ')' if m.name else '') + '\n' }}
{%- if m.role == 'assistant' %}{% generation %}{% endif -%}
{%- if m.reasoning_content %}{{ '<think>' + m.reasoning_content + '</think>' }}{% endif -%}
{%- if m.content is string %}{{ m.content }}
{%- elif m.content %}{% for part in m.content %}{{ part.text }}{% endfor %}{% endif -%}
{%- for call in m.tool_calls or [] %}{{ '<call>' + call.function | tojson + '</call>' }}{% endfor -%}
{%- if m.tool_call_id %}{{ '#' + m.tool_call_id }}{% endif -%}
{{ '<|end|>' }}{% if m.role == 'assistant' %}{% endgeneration %}{% endif %}{{ '\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif -%}
"""


def assistant_branch(template: str) -> str:
    """Jinja wants a block inside one branch: the conditional markers become a branch for the assistant."""
    start, end = (
        "{%- if m.role == 'assistant' %}{% generation %}{% endif -%}",
        "{% if m.role == 'assistant' %}{% endgeneration %}{% endif %}",
    )
    before, inner = template.split(start)
    body, after = inner.split(end)
    return (
        f"{before}{{%- if m.role == 'assistant' %}}{{% generation %}}{body}{{% endgeneration %}}"
        f"{{%- else -%}}{body}{{% endif %}}{after}"
    )


# Joins strings, as the simplest templates do: knows no tool call, and fails on a null content or a list.
PLAIN = """\
{%- for m in messages -%}
{{ '<|' + m['role'] + '|>\n' }}
{%- if m.role == 'assistant' %}{% generation %}{% endif -%}
{{ m['content'] + '<|end|>' }}{% if m.role == 'assistant' %}{% endgeneration %}{% endif %}{{ '\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif -%}
"""

# Leaves out the thoughts of all turns but the last, as Qwen3 does: a turn is rendered otherwise once others follow.
FORGETFUL = FULL.replace(
    "{%- if m.reasoning_content %}",
    "{%- if loop.last and m.role == 'assistant' %}{{ '<think></think>' }}{% endif -%}"
    "{%- if m.reasoning_content and loop.last %}",
)

# Phi-3's: the last turn is followed by the end-of-text token too.
PHI3 = """\
{%- for m in messages -%}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif -%}
"""

# gpt-oss's: the last answer ends in another marker, and every message begins with the same one.
GPT_OSS = """\
{{- '<|start|>system<|message|>You are a model.<|end|>' -}}
{%- for m in messages -%}
{%- if m.role == 'assistant' -%}
{{- '<|start|>assistant<|channel|>final<|message|>' + m.content -}}
{%- if loop.last and not add_generation_prompt %}{{ '<|return|>' }}{% else %}{{ '<|end|>' }}{% endif -%}
{%- else -%}{{- '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif -%}
"""

# SmolVLM's and Idefics': goes through the parts of a content, and finds none in a string.
PARTS = """\
{%- for m in messages -%}
{{ '<|' + m.role + '|>\n' -}}
{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor -%}
{{ '<|end|>\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif -%}
"""

# Llama 3.2's and gpt-oss's: writes the day on which it renders.
DATED = "{{ '<|user|>' + strftime_now(\"%d %b %Y\") + strftime_now('%Y') + '<|end|>\\n' }}" + PARTS.replace(
    "{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor -%}", "{{ m.content -}}"
)

# Llama 3's and Gemma's: of a list the filter makes Python's text of it.
TRIMS = """\
{%- for m in messages -%}{{ '<|' + m.role + '|>\n' + m.content | trim + '<|end|>\n' }}{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif -%}
"""

MARKED = {name: assistant_branch(text) for name, text in {"full": FULL, "plain": PLAIN, "forgetful": FORGETFUL}.items()}
UNMARKED = {
    name: text.replace("{% generation %}", "").replace("{% endgeneration %}", "") for name, text in MARKED.items()
}
