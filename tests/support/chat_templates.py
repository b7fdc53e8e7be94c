"""Chat templates that do what those of public families do, written for the tests."""

from __future__ import annotations

from support.tiny_models import CHATML, byte_tokenizer

_SAY = "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
_ASK = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
_NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
_IN_TURN = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
)

GEMMA = (
    "<bos>" + _NO_SYSTEM + _IN_TURN + "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
"""No system message, strict alternation, and it strips."""
MISTRAL = (
    "<s>{% set talk = messages %}{% if messages[0]['role'] == 'system' %}{% set talk = messages[1:] %}{% endif %}"
    "{% for m in talk %}{% if m['role'] == 'user' %}{% if loop.index0 % 2 %}{{ raise_exception('must alternate') }}"
    "{% endif %}[INST] {% if loop.last and talk | length < messages | length %}{{ messages[0]['content'] }}\n\n"
    "{% endif %}{{ m['content'] }}[/INST]{% elif m['content'] %} {{ m['content'] }}</s>{% else %}"
    "{{ raise_exception('Assistant message must have content') }}{% endif %}{% endfor %}"
)
"""The system's text stands in the last user message, an empty reply is refused, and nothing opens a reply."""
LLAMA = (
    "{% set talk = messages %}<|begin|><|head|>system<|end|>\n\nCutting knowledge: then.\n"
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] | trim }}{% set talk = messages[1:] %}"
    "{% endif %}<|eot|>{% for m in talk %}<|head|>{{ m['role'] }}<|end|>\n\n{{ m['content'] | trim }}<|eot|>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|head|>assistant<|end|>\n\n{% endif %}"
)
"""A system message of its own, and it strips."""
QWEN3 = (
    "{% for m in messages %}{% set said = m['content'] %}{% set thought = '' %}{% if m['role'] == 'assistant' %}"
    "{% if m.reasoning_content is string %}{% set thought = m.reasoning_content %}{% elif '</think>' in said %}"
    "{% set thought = said.split('</think>')[0].split('<think>')[-1].strip() %}"
    "{% set said = said.split('</think>')[-1].lstrip() %}{% endif %}{% endif %}<|im_start|>{{ m['role'] }}\n"
    "{% if thought and loop.last %}<think>\n{{ thought }}\n</think>\n\n{% endif %}{{ said }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is defined and not enable_thinking %}"
    "<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
"""Thinks unless told not to, and keeps the thought of the last message alone."""
KEEPING = QWEN3.replace("thought and loop.last", "thought")
"""Gives the thoughts of earlier replies back to the model."""
DEEPSEEK_R1 = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}<Assistant>{{ m['content'].split('</think>')[-1] }}<end>"
    "{% else %}<{{ m['role'] }}>{{ m['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<Assistant><think>\n{% endif %}"
)
"""Opens a thought in the prompt of every reply, and has no switch."""
DEEPSEEK_V3 = DEEPSEEK_R1.replace("<think>\n{% endif %}", "{{ '<think>' if thinking else '</think>' }}{% endif %}")
"""Does not think unless told to, by another variable."""
MAGISTRAL = (
    "<s>{% for m in messages %}{% if m['role'] == 'system' %}[SYSTEM]{{ m['content'] }}[/SYSTEM]"
    "{% elif m['role'] == 'user' %}[INST]{{ m['content'] }}[/INST]{% else %}"
    "{% if m.reasoning_content %}[THINK]{{ m.reasoning_content }}[/THINK]{% endif %}{{ m['content'] }}</s>{% endif %}"
    "{% endfor %}"
)
"""Tags that are special tokens, which a decoder drops; gives thoughts back."""
GPT_OSS = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{% if '<|channel|>' in m['content'] %}"
    "{{ raise_exception('channel tags in content') }}{% endif %}{% if m.thinking and loop.last %}"
    "<|start|>assistant<|channel|>analysis<|message|>{{ m.thinking }}<|end|>{% endif %}"
    "<|start|>assistant<|channel|>final<|message|>{{ m['content'] }}<|end|>{% else %}"
    "<|start|>{{ m['role'] }}<|message|>{{ m['content'] }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
"""Channels in place of tags."""
NO_PROMPT = "{% for m in messages %}" + _SAY + "{% endfor %}"
"""Changes nothing for `add_generation_prompt`, and begins a reply with its role."""
DROPPING = "{% for m in messages if m['role'] != 'system' %}" + _SAY + "{% endfor %}" + _ASK
"""Drops the system's text without a word."""
PARTS = (
    "{% for m in messages %}{{ m['role'] }}:{% for part in m['content'] %}{% if part['type'] == 'text' %}"
    "{{ part['text'] }}{% endif %}{% endfor %}<end>\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)
"""Reads content that is a list of parts, and nothing of a text, as templates of image-text models do."""

KIMI = (
    "{% macro tag(name) %}<|open|>{{ name }}<|sep|>{% endmacro %}"
    "{% macro done(name) %}<|close|>{{ name }}<|sep|>{% endmacro %}"
    "{% set thinking = thinking | default(true) %}{% for m in messages %}{{ tag(m['role']) }}"
    "{% if m['role'] == 'assistant' %}{% if thinking %}{{ tag('think') }}{{ m.reasoning_content or '' }}"
    "{{ done('think') }}{% endif %}{{ tag('response') }}{{ m['content'] }}{{ done('response') }}{% else %}"
    "{{ m['content'] }}{% endif %}{{ done('message') }}<|end_of_msg|>{% endfor %}{% if add_generation_prompt %}"
    "{{ tag('assistant') }}{{ tag('think' if thinking else 'response') }}{% endif %}"
)
"""Brackets around a thought and around an answer, which are several special tokens each."""
SOLAR = (
    "{% for m in messages %}{% if m.reasoning and loop.last %}<|begin|>assistant<|think|>{{ m.reasoning }}<|end|>"
    "{% endif %}<|begin|>{{ m['role'] }}<|content|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|begin|>assistant{% endif %}"
)
"""A thought is a message of its own, whose end is that of every message."""
CODELLAMA = (
    _IN_TURN.replace("loop.index0 % 2 == 0", "loop.index0 % 2 == (messages[0]['role'] == 'system') | int")
    + "Source: {{ m['role'] }}\n\n {{ m['content'] | trim }} <step> {% endfor %}"
    "Source: assistant\nDestination: user\n\n "
)
"""Writes a generation prompt whether or not it is asked for one."""
HAMMER = CHATML.replace("{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}", "<|im_start|>assistant\n")
"""The same, and what begins a reply begins the assistant's messages too."""
SWITCHED = HAMMER + "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
"""The same, and thinks unless told not to."""
APRIEL = CHATML.replace(
    "{{ m['content'] }}",
    "{% if m['role'] == 'assistant' %}{% if m.reasoning_content and loop.last %}{{ m.reasoning_content }}\n"
    "[BEGIN FINAL RESPONSE]\n{% endif %}{{ m['content'].split('[BEGIN FINAL RESPONSE]')[-1] }}{% else %}"
    "{{ m['content'] }}{% endif %}",
).replace("<|im_start|>assistant\n{% endif %}", "<|im_start|>assistant\nHere are my reasoning steps:\n{% endif %}")
"""Begins a thought in words, and has a text for its end alone."""
NEMOTRON = CHATML.replace("{{ m['content'] }}", "{{ m['content'].replace('/think', '').replace('/no_think', '') }}")
"""Takes a text that a user may write for an order."""
DATED = "Today is {{ strftime_now('%d %B %Y') }}.\n" + CHATML
"""Shows the date."""
GRANITE = (
    CHATML.replace("{% for m", "{% if thinking %}<|im_start|>system\nWrite your thought process first.<|im_end|>\n"
    "{% endif %}{% for m", 1)
)  # fmt: skip
"""Switches thinking in words, and shows no tags."""
ASKING = CHATML.replace(
    "{{ m['content'] }}",
    "{{ m['content'] }}{% if m['role'] == 'system' and enable_thinking %}\nUse <think>.{% endif %}",
)
"""Switches thinking in the system message alone."""
FIRST_SYSTEM = CHATML.replace(
    "{% for m in messages %}", "{% for m in messages if m['role'] != 'system' or messages|length > 2 %}"
)
"""Drops the system's text in the first turn."""

SHOUTING = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] | upper }}\n{% endfor %}" + _ASK
ESCAPING = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] | e }}\n{% endfor %}" + _ASK
FIRST_TURN = "{{ messages[0]['role'] }}: {{ messages[0]['content'] }}\n" + _ASK
ONE_TURN = (
    "{% if messages | length > 2 %}{{ raise_exception('one turn only') }}{% endif %}"
    "{% for m in messages %}" + _SAY + "{% endfor %}" + _ASK
)
TWO_TURNS = (
    "{% if messages | length > 5 %}{{ raise_exception('too many turns') }}{% endif %}"
    "{% for m in messages %}" + _SAY + "{% endfor %}" + _ASK
)
LAST_TURNS = "{% for m in messages[-60:] %}" + _SAY + "{% endfor %}" + _ASK
SHORTENING = "{% for m in messages %}{{ m['role'] }}: {{ m['content'][:30000] }}\n{% endfor %}" + _ASK
BACKWARDS = "{% for m in messages | reverse %}" + _SAY + "{% endfor %}" + _ASK
SWAPPED = (
    "{% for m in messages %}<|im_start|>{{ {'user': 'assistant', 'assistant': 'user'}.get(m['role'], m['role']) }}\n"
    "{{ m['content'] }}<|im_end|>\n{% endfor %}" + _ASK
)
ALL_USER = CHATML.replace("{{ m['role'] }}", "user")
TO_TOOL = CHATML.replace("<|im_start|>assistant", "<|im_start|>tool")
SQUEEZING = CHATML.replace("{{ m['content'] }}", "{{ m['content'].replace('\n\n', '\n') }}")
UNTABBED = CHATML.replace("{{ m['content'] }}", "{{ m['content'].replace('\t', ' ') }}")
UNIX = CHATML.replace("{{ m['content'] }}", "{{ m['content'].replace('\r', '') }}")
WITHOUT_SHORT = CHATML.replace(
    "{% for m in messages %}", "{% for m in messages if m['role'] == 'user' or m['content'] | length > 3 %}"
)
CUTTING = CHATML.replace("{{ m['content'] }}", "{{ m['content'].split('</think>')[-1] }}")
"""Takes what a user says before a tag for a thought."""
NEEDS_A_REPLY = "{{ messages[1]['content'][0:0] }}{% for m in messages %}" + _SAY + "{% endfor %}" + _ASK
NO_ASSISTANT = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ raise_exception('Unknown role') }}{% endif %}"
    + _SAY + "{% endfor %}" + _ASK
)  # fmt: skip
NO_START = "{% for m in messages %}" + _SAY + "{% endfor %}<|im_end|>"
"""No generation prompt, and what ends the conversation stands where a reply would begin."""
FAILING = "{% for m in messages %}{{ m['content'] + m['name'] }}{% endfor %}" + _ASK
BROKEN = "{% for m in messages %}" + _SAY

USABLE = {
    "chatml": CHATML, "gemma": GEMMA, "mistral": MISTRAL, "llama": LLAMA, "qwen3": QWEN3, "keeping": KEEPING,
    "deepseek-r1": DEEPSEEK_R1, "deepseek-v3": DEEPSEEK_V3, "magistral": MAGISTRAL, "gpt-oss": GPT_OSS,
    "no-prompt": NO_PROMPT, "dropping": DROPPING, "parts": PARTS, "kimi": KIMI, "solar": SOLAR,
    "codellama": CODELLAMA, "hammer": HAMMER, "switched": SWITCHED, "apriel": APRIEL, "nemotron": NEMOTRON,
    "dated": DATED,
    "granite": GRANITE, "asking": ASKING, "first-system": FIRST_SYSTEM,
}  # fmt: skip
REFUSED = {
    "shouting": SHOUTING, "escaping": ESCAPING, "first-turn": FIRST_TURN, "one-turn": ONE_TURN,
    "two-turns": TWO_TURNS, "needs-a-reply": NEEDS_A_REPLY, "last-turns": LAST_TURNS, "shortening": SHORTENING,
    "backwards": BACKWARDS, "swapped": SWAPPED, "cutting": CUTTING,
    "all-user": ALL_USER, "to-tool": TO_TOOL, "squeezing": SQUEEZING, "untabbed": UNTABBED, "unix": UNIX,
    "without-short": WITHOUT_SHORT, "no-assistant": NO_ASSISTANT, "no-start": NO_START, "failing": FAILING,
    "broken": BROKEN,
}  # fmt: skip
_SPECIAL = {
    "magistral": ["</s>", "[THINK]", "[/THINK]", "[INST]", "[/INST]"],
    "gpt-oss": ["<|channel|>", "<|message|>", "<|start|>", "<|end|>"],
    "kimi": ["<|open|>", "<|sep|>", "<|close|>", "<|end_of_msg|>"],
    "solar": ["<|begin|>", "<|think|>", "<|content|>", "<|end|>"],
    "codellama": ["<step>"],
}


def tokenizer_of(name: str):
    """A tokenizer with one of the templates, and with the special tokens of its family."""
    tokenizer = byte_tokenizer((USABLE | REFUSED)[name])
    tokenizer.add_special_tokens({"additional_special_tokens": _SPECIAL.get(name, [])})
    return tokenizer
