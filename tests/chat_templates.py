"""Chat templates in the manner of known models, with and without the tag that marks answers."""

from __future__ import annotations

from tisslm.tokenizers import BpeTokenizer

#: Templates with ``[[`` and ``]]`` around what the assistant says.
MARKED = {
    "chatml": """{%- for message in messages %}
{%- if loop.first and message.role != 'system' %}
{{- '<|im_start|>system\\nYou help.<|im_end|>\\n' }}
{%- endif %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' %}[[{{- message.content + '<|im_end|>' }}]]{%- else %}
{{- message.content + '<|im_end|>' }}
{%- endif %}
{{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}""",
    "llama 3": """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
    {{- "<|start_header_id|>system<|end_header_id|>\\n\\n" + system_message + "<|eot_id|>" }}
{%- endif %}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {%- if message['role'] == 'assistant' %}[[{{- message['content'] | trim + '<|eot_id|>' }}]]
    {%- else %}{{- message['content'] | trim + '<|eot_id|>' }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}""",
    "mistral": """{%- set system = '' %}
{%- if messages[0].role == 'system' %}
    {%- set system = messages[0].content + '\\n\\n' %}
    {%- set messages = messages[1:] %}
{%- endif %}
{{- bos_token }}
{%- for message in messages %}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must take turns, beginning with the user') }}
    {%- endif %}
    {%- if message.role == 'user' %}
        {{- '[INST] ' + (system if loop.last else '') + message.content + ' [/INST]' }}
    {%- else %}[[{{- ' ' + message.content + eos_token }}]]
    {%- endif %}
{%- endfor %}""",
    "qwen 3": """{%- set ns = namespace(last=0) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{% set ns.last = loop.index0 %}{%- endif %}
{%- endfor %}
{%- for message in messages %}
    {{- '<|im_start|>' ~ message.role ~ '\\n' }}
    {%- if message.role == 'assistant' %}[[
        {%- if loop.index0 > ns.last %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
        {{- message.content.strip('\\n') ~ '<|im_end|>' }}]]{{- '\\n' }}
    {%- else %}{{- message.content ~ '<|im_end|>\\n' }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}""",
    "no prompt": """{% for message in messages %}
<|im_start|>{{ message.role }}
{% if message.role == 'assistant' %}[[{{ message.content }}<|im_end|>]]{% else %}
{{ message.content }}<|im_end|>{% endif %}

{% endfor %}""",
}

PLAIN = {name: text.replace("[[", "").replace("]]", "") for name, text in MARKED.items()}
TAGGED = {
    name: text.replace("[[", "{% generation %}").replace("]]", "{% endgeneration %}")
    for name, text in MARKED.items()
}

SPECIALS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<s>",
    "</s>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "[INST]",
    "[/INST]",
]


def turns(*texts: str, system: str = "") -> list[dict[str, str]]:
    """Return a conversation in which user and assistant take turns."""
    first = [{"role": "system", "content": system}] if system else []
    roles = ("user", "assistant")
    return first + [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]


CONVERSATIONS = {
    "one turn": turns("Hello", "Hi there! How are you?"),
    "system": turns("Name a colour.", "Red.", system="Answer in one word."),
    "several turns": turns("1+1?", "2", "And 2+2?", "It is 4.", "Thanks!", "You are welcome."),
    "white space": turns("  a\n\nb ", "\n  x\n\ty  ", "naïve 東京 🙂", " e\u0301 \n", "c", "d"),
    "a question last": turns("a", "b", "c", system="s\n"),
}


def tokenizer_with(template: str) -> BpeTokenizer:
    """Return a small tokenizer that has the special tokens of all templates, and one of these."""
    text = "user assistant system You are welcome. Hello there, it is 4. think " * 3
    made = BpeTokenizer.from_text(text, vocab_size=320, special_tokens=SPECIALS)
    said = {"chat_template": template, "bos_token": "<s>", "eos_token": "</s>"}
    return BpeTokenizer.from_state(made.state() | {"config": said})
