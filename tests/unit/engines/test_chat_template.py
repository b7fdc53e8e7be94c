"""What a chat template can do is found out at load, and conversations are put in a form that it renders."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.chat_templates import USABLE, tokenizer_of
from support.tiny_models import byte_tokenizer

from capvec.agent.prompts import STYLES, opening_messages
from capvec.agent.protocols import PROTOCOLS
from capvec.engines.protocol import ChatTemplateInfo
from capvec.engines.render import render_marked
from capvec.engines.template_probes import inspect_template
from capvec.errors import UsageError
from capvec.thoughts import KNOWN_TAGS, THINK

pytestmark = pytest.mark.unit

SYSTEM = {"role": "system", "content": "You act in a shell."}
FOUND = {
    "chatml": ChatTemplateInfo(),
    "gemma": ChatTemplateInfo(system="refused", alternates=True, user_first=True),
    "mistral": ChatTemplateInfo(system="dropped-after-reply", alternates=True, user_first=True, blank=" "),
    "llama": ChatTemplateInfo(),
    "qwen3": ChatTemplateInfo(switch="enable_thinking", thinks=True),
    "keeping": ChatTemplateInfo(switch="enable_thinking", thinks=True, repeats_thoughts=True),
    "deepseek-r1": ChatTemplateInfo(thinks=True),
    "deepseek-v3": ChatTemplateInfo(switch="thinking"),
    "magistral": ChatTemplateInfo(repeats_thoughts=True),
    "gpt-oss": ChatTemplateInfo(),
    "no-prompt": ChatTemplateInfo(generation_prompt="derived"),
    "dropping": ChatTemplateInfo(system="dropped"),
    "parts": ChatTemplateInfo(),
    "kimi": ChatTemplateInfo(switch="thinking", thinks=True, repeats_thoughts=True),
    "solar": ChatTemplateInfo(),
    "codellama": ChatTemplateInfo(generation_prompt="always", alternates=True, user_first=True),
    "hammer": ChatTemplateInfo(generation_prompt="always"),
    "switched": ChatTemplateInfo(generation_prompt="always", switch="enable_thinking", thinks=True),
    "apriel": ChatTemplateInfo(thinks=True),
    "nemotron": ChatTemplateInfo(drops=("/think", "/no_think", "</think>")),
    "dated": ChatTemplateInfo(),
    "granite": ChatTemplateInfo(switch="thinking", unknown_thoughts=True),
    "asking": ChatTemplateInfo(switch="enable_thinking"),
    "first-system": ChatTemplateInfo(system="dropped"),
}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


@cache
def template_of(name):
    return inspect_template(tokenizer_of(name), name)


@pytest.mark.parametrize("name", USABLE)
def test_what_a_family_of_templates_does_is_found(name):
    assert template_of(name).info == FOUND[name]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", USABLE)
def test_the_conversations_of_the_agent_are_rendered_with_all_that_is_said(name, protocol, style):
    opening = opening_messages("List the files.", PROTOCOLS[protocol], style, "Work carefully.")
    talk = [*opening, assistant("ls"), user("a.txt"), assistant(""), user("Error: no command.")]
    for thinking in ("on", "off", "default", None):
        text = template_of(name).text(talk, prompt=True, thinking=thinking)
        assert [said["content"] for said in talk if said["content"].strip() not in text] == []
        assert template_of(name).tokenizer.decode(template_of(name).ids(talk, prompt=True, thinking=thinking)) == text


def test_a_system_text_that_the_template_drops_after_a_reply_is_kept_in_a_capture():
    template, talk = template_of("mistral"), [SYSTEM, user("go"), assistant("ls")]
    assert template.text(talk, prompt=False) == "<s>[INST] You act in a shell.\n\ngo[/INST] ls</s>"
    assert template.text([*talk, user("a")], prompt=True).endswith("[INST] You act in a shell.\n\na[/INST]")


@pytest.mark.parametrize("name", ["gemma", "dropping"])
def test_a_system_text_that_the_template_takes_nowhere_begins_the_first_user_message(name):
    template = template_of(name)
    text = template.text([SYSTEM, user("go"), assistant("ls"), user("a")], prompt=True)
    assert text == template.text([user("You act in a shell.\n\ngo"), assistant("ls"), user("a")], prompt=True)
    assert template.text([SYSTEM], prompt=True) == template.text([user("You act in a shell.")], prompt=True)


def test_a_system_text_that_is_dropped_in_the_first_turn_begins_the_first_user_message():
    text = template_of("first-system").text([SYSTEM, user("go")], prompt=True)
    assert text == template_of("chatml").text([user("You act in a shell.\n\ngo")], prompt=True)


def test_a_generation_prompt_that_is_always_there_is_cut_off_behind_a_reply():
    template, talk = template_of("codellama"), [user("go"), assistant("ls")]
    text = template.text(talk, prompt=False)
    assert text == "Source: user\n\n go <step> Source: assistant\n\n ls"
    assert template.tokenizer.decode(template.ids(talk, prompt=False)) == text
    assert template.text(talk[:1], prompt=True) == (
        "Source: user\n\n go <step> Source: assistant\nDestination: user\n\n "
    )
    for said in ("user", "a", ""):  # which the prompt holds too
        assert template.text([user("go"), assistant(said)], prompt=False) == text.removesuffix("ls") + said
    talk = [user("go"), assistant("assistant")]
    for name in ("hammer", "switched"):
        for thinking in ("on", "off", "default"):
            text = template_of(name).text(talk, prompt=False, thinking=thinking)
            assert text.endswith("<|im_start|>assistant\nassistant")


def test_a_missing_generation_prompt_is_the_beginning_of_an_assistants_message():
    bare, whole = (template_of(name).text([user("go")], prompt=True) for name in ("no-prompt", "chatml"))
    assert bare == whole
    assert template_of("no-prompt").text([user("go")], prompt=False) == "<|im_start|>user\ngo<|im_end|>\n"
    # A template whose user messages end where a reply begins needs none.
    assert template_of("mistral").text([user("go")], prompt=True).endswith("go[/INST]")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("shouting", "it drops, moves or rewrites what the user says"),
        ("escaping", "it drops, moves or rewrites what the user says"),
        ("first-turn", "it drops, moves or rewrites what the assistant says"),
        ("one-turn", "cannot render a conversation of user, assistant, user, assistant, …: one turn only"),
        ("two-turns", "cannot render a conversation of user, assistant, user, assistant, …: too many turns"),
        ("last-turns", "it drops, moves or rewrites what the user says, such as 'List "),
        ("shortening", "it drops, moves or rewrites what the user says, such as a text of 108"),
        ("backwards", "it drops, moves or rewrites"),
        ("swapped", "it does not begin a reply as it begins the assistant's messages"),
        ("all-user", "it does not begin a reply as it begins the assistant's messages"),
        ("to-tool", "it does not begin a reply as it begins the assistant's messages"),
        ("squeezing", "it drops, moves or rewrites what the user says"),
        ("untabbed", "it drops, moves or rewrites what the user says"),
        ("unix", "it drops, moves or rewrites what the user says"),
        ("without-short", "it drops, moves or rewrites what the assistant says, such as 'ls'"),
        ("cutting", "it drops what the user says before or after '<think>' or its end"),
        ("needs-a-reply", "cannot render a conversation of user: "),
        ("no-assistant", "Unknown role"),
        ("no-start", "no generation prompt, and an assistant's message does not begin where it would be"),
        ("failing", "has no attribute 'name'"),
        ("broken", "Unexpected end of template"),
    ],
)
def test_a_template_that_the_agent_cannot_use_is_refused_at_load_in_one_sentence(name, said):
    with pytest.raises(UsageError) as refused:
        template_of(name)
    message = str(refused.value)
    assert message.startswith(f"the chat template of {name!r} cannot be used: ")
    assert said in message
    assert message.endswith("put another chat_template.jinja into the model's folder")
    assert "\n" not in message


@pytest.mark.parametrize("template", [None, {"tool_use": USABLE["chatml"], "rag": USABLE["llama"]}])
def test_a_tokenizer_without_a_template_to_use_is_refused(template):
    with pytest.raises(UsageError, match=r"^the tokenizer of 'm' has (no chat template|several chat templates)"):
        inspect_template(byte_tokenizer(template), "m")


def test_a_conversation_that_a_template_refuses_is_named_by_its_roles():
    with pytest.raises(UsageError, match=r"cannot render a conversation of user, user: .*roles must alternate"):
        template_of("gemma").text([user("a"), user("b")], prompt=True)


# ---------------------------------------------------------------------------------------------------- the end of a turn


ENDS = {
    "chatml": "<|im_end|>", "qwen3": "<|im_end|>", "mistral": "</s>", "magistral": "</s>", "llama": "<|eot|>",
    "gemma": "<end_of_turn>", "parts": "<end>", "no-prompt": "<|im_end|>", "gpt-oss": None,
}  # fmt: skip


@pytest.mark.parametrize(("name", "end"), ENDS.items())
def test_a_reply_ends_where_the_template_ends_the_assistants_messages(name, end):
    tokenizer = tokenizer_of(name)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|endoftext|>", "<s>", "</s>", "<|eot|>", "<end>"]})
    tokenizer.add_tokens(["<end_of_turn>", "\n"])
    tokenizer.eos_token = "<|endoftext|>"
    found = inspect_template(tokenizer, name).ends
    assert found == (frozenset() if end is None else {tokenizer.convert_tokens_to_ids(end)})


def test_a_token_that_ends_a_thought_too_is_no_end_of_a_turn():
    said = "{% for m in messages %}[{{ m['role'] }}]{% if m.reasoning and loop.last %}{{ m.reasoning }}<|end|>[more]"
    source = (
        said + "{% endif %}{{ m['content'] }}<|end|>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    for template, end in ((source, False), (source.replace("<|end|>[more]", "[more]"), True)):
        tokenizer = byte_tokenizer(template)
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|end|>"]})
        assert bool(inspect_template(tokenizer, "m").ends) == end


# ---------------------------------------------------------------------------------------------------- thinking


@pytest.mark.parametrize(
    ("name", "on", "off"),
    [
        ("qwen3", "assistant\n", "assistant\n<think>\n\n</think>\n\n"),
        ("deepseek-v3", "<think>", "</think>"),
    ],
)
def test_a_switch_is_used_and_is_off_unless_asked_for(name, on, off):
    texts = {mode: template_of(name).text([user("go")], prompt=True, thinking=mode) for mode in ("on", "off", None)}
    assert texts["on"].endswith(on)
    assert texts["off"].endswith(off)
    assert texts[None] == texts["off"]


def test_default_is_what_the_template_does_by_itself():
    talk = [user("go")]
    qwen, deepseek = template_of("qwen3"), template_of("deepseek-v3")
    assert qwen.text(talk, prompt=True, thinking="default") == qwen.text(talk, prompt=True, thinking="on")
    assert deepseek.text(talk, prompt=True, thinking="default") == deepseek.text(talk, prompt=True, thinking="off")


@pytest.mark.parametrize("name", USABLE)
def test_a_thought_is_given_back_only_by_a_template_that_does_so_itself(name):
    template = template_of(name)
    talk = [user("go"), assistant("ls", reasoning_content="I look."), user("a")]
    text = template.text(talk, prompt=True, thinking="on")
    assert ("I look." in text) == template.info.repeats_thoughts == (name in ("keeping", "magistral", "kimi"))


@pytest.mark.parametrize(
    ("name", "reply", "thought", "answer"),
    [
        ("chatml", "<think>a\nb</think>\n\nls", "a\nb", "\n\nls"),
        ("qwen3", "<think>\na\n</think>\n\nls", "a", "\n\nls"),
        ("qwen3", "ls", "", "ls"),
        ("qwen3", "cat <<E\n</think>\nE", "", "cat <<E\n</think>\nE"),
        ("qwen3", "<think>\nnever ends ```bash\nls\n```", "never ends ```bash\nls\n```", ""),
        ("deepseek-r1", "a\n</think>\n\nls", "a", "\n\nls"),
        ("deepseek-r1", "<think>\na</think>ls", "a", "ls"),
        ("deepseek-r1", "cut in ```bash\nls\n```", "cut in ```bash\nls\n```", ""),
        ("deepseek-r1", "", "", ""),
        ("magistral", "[THINK]a[/THINK]ls", "a", "ls"),
        ("magistral", "ls", "", "ls"),
        ("gpt-oss", "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>ls", "a", "ls"),
        ("gpt-oss", "<|channel|>final<|message|>ls", "", "ls"),
        ("gpt-oss", "<|channel|>analysis<|message|>cut", "cut", ""),
        ("gpt-oss", "<|channel|>final<|message|>ls<|end|>", "", "ls"),
        ("kimi", "a\n```bash\nrm x\n```<|close|>think<|sep|><|open|>response<|sep|>ls", "a\n```bash\nrm x\n```", "ls"),
        (
            "kimi",
            "a<|close|>think<|sep|><|open|>response<|sep|>ls\n<|close|>response<|sep|><|close|>message<|sep|>",
            "a",
            "ls\n",
        ),
        ("kimi", "never ends", "never ends", ""),
        ("solar", "<|think|>a<|end|><|begin|>assistant<|content|>ls", "a", "ls"),
        ("solar", "<|content|>ls", "", "ls"),
        ("solar", "<|think|>cut", "cut", ""),
        ("apriel", "It is\n```bash\nrm x\n```\n[BEGIN FINAL RESPONSE]\nDONE", "It is\n```bash\nrm x\n```", "\nDONE"),
        ("apriel", "cut in ```bash\nls\n```", "cut in ```bash\nls\n```", ""),
        (
            "gpt-oss",
            "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant<|channel|>analysis<|message|>a"
            "<|end|><|start|>assistant<|channel|>final<|message|>ls",
            "a",
            "I look.\nls",
        ),
        (
            "gpt-oss",
            "<|channel|>final<|message|>b<|end|><|start|>assistant<|channel|>analysis<|message|>a",
            "",
            "b<|end|><|start|>assistant<|channel|>analysis<|message|>a",
        ),
        (
            "gpt-oss",
            "<|channel|>commentary 2?<|end|><|start|>assistant<|channel|>analysis<|message|>a<|end|>"
            "<|start|>assistant<|channel|>final <|constrain|>json<|message|>ls",
            "<|channel|>commentary 2?\n\na",
            "ls",
        ),
        ("gpt-oss", "<|channel|>commentary<|message|>DONE", "", "DONE"),
        ("gpt-oss", "ls", "", "ls"),
    ],
)
def test_thought_and_answer_are_told_apart_by_the_tokens_of_the_model(name, reply, thought, answer):
    template = template_of(name)
    ids = template.tokenizer(reply, add_special_tokens=False)["input_ids"]
    prompt = template.ids([user("go")], prompt=True, thinking="on")
    said = template.split(template.decode(ids), prompt)
    assert (said.thought, said.answer) == (thought, answer)


@pytest.mark.parametrize(
    ("tags", "reply"),
    [
        ("<|START_THINKING|>{}", "a\n```bash\nrm x\n```<|END_THINKING|>DONE"),
        ("<|inner_prefix|>{}", "a\n```bash\nrm x\n```<|inner_suffix|>DONE"),
        ("<think>\nOkay, {}", "a\n```bash\nrm x\n```</think>DONE"),
        ("<think></think><think>\nWait: {}", "a\n```bash\nrm x\n```</think>DONE"),
    ],
)
def test_a_thought_that_the_prompt_begins_is_open_whatever_follows_its_tag(tags, reply):
    ask = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    tokenizer = byte_tokenizer(USABLE["chatml"].replace(ask, ask.replace("{% endif %}", tags.format("{% endif %}"))))
    template = inspect_template(tokenizer, "m")
    said = template.split(reply, template.ids([user("what is <think>")], prompt=True))
    assert (said.thought, said.answer) == ("a\n```bash\nrm x\n```", "DONE")
    assert template.info.thinks


@given(
    name=st.sampled_from(sorted({*USABLE} - {"deepseek-r1", "apriel"})), data=st.data()
)  # whose prompts open a thought
@settings(max_examples=150, deadline=None)
def test_a_command_keeps_the_special_tokens_that_it_holds(name, data):
    template = template_of(name)
    added = template.tokenizer.added_tokens_decoder
    special = sorted(token.content for number, token in added.items() if number not in template.ends)
    pieces = data.draw(st.lists(st.sampled_from([*special, "grep -c '", "' log", "\n", " ", "é"]), max_size=8))
    answer = f"```bash\n{''.join(pieces)}\n```"
    ids = template.tokenizer(answer, add_special_tokens=False)["input_ids"]
    prompt = template.ids([user("go")], prompt=True)
    assert template.split(template.decode(ids), prompt).answer == answer


def test_the_spaces_of_a_command_stay_where_a_tokenizer_would_clean_them_up():
    tokenizer = byte_tokenizer(USABLE["chatml"])
    tokenizer.clean_up_tokenization_spaces = True
    command = "find . -name '*.py' ! -path ./x | grep \"do n't\" , 's 've"
    ids = tokenizer(command, add_special_tokens=False)["input_ids"]
    assert inspect_template(tokenizer, "m").decode(ids) == command


def test_a_special_token_that_announces_a_call_or_ends_it_is_no_part_of_it():
    tokenizer = byte_tokenizer(USABLE["chatml"])
    marks = ["<|python_tag|>", "[TOOL_CALLS]", "<|tool_call|>", "<|/tool_call|>", "<bos>", "<tool_call>"]
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    template, parse = inspect_template(tokenizer, "m"), PROTOCOLS["tool-call"].parse
    call = '{"name": "bash", "arguments": {"command": "echo \'[TOOL_CALLS]\'"}}'
    for reply in (f"<|python_tag|>{call}", f"[TOOL_CALLS][{call}]", f"<|tool_call|>{call}<|/tool_call|>"):
        ids = tokenizer(reply, add_special_tokens=False)["input_ids"]
        assert parse(template.split(template.decode(ids), [1]).answer).commands == ("echo '[TOOL_CALLS]'",)
    assert template.split("<bos>DONE", [1]).answer == "DONE"
    tagged = f"<tool_call>{call}</tool_call>"
    assert template.split(tagged, [1]).answer == tagged


def test_the_tag_of_a_thought_is_no_such_token():
    tokenizer = byte_tokenizer(USABLE["chatml"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>", "```", "{", "<bos>"]})
    template = inspect_template(tokenizer, "m")
    assert template.split("Maybe </think>", [1]).answer == "Maybe </think>"
    assert template.split("<bos>```bash\nls\n```", [1]).answer == "```bash\nls\n```"


@pytest.mark.parametrize("around", [("```", "```"), ("(", ")"), ("", "---"), ("<tool_call>", "</tool_call>")])
def test_what_is_no_tag_is_not_taken_for_one(around):
    thought = f"{{% if m.reasoning_content %}}{around[0]}{{{{ m.reasoning_content }}}}{around[1]}{{% endif %}}"
    template = USABLE["chatml"].replace("{{ m['content'] }}", thought + "{{ m['content'] }}")
    assert inspect_template(byte_tokenizer(template), "m").tags == THINK


@pytest.mark.parametrize(
    ("form", "shown"), [("%-d/%-m/%y", "1/1/26"), ("%F %T", "2026-01-01 00:00:00"), ("%A", "Thursday")]
)
def test_a_date_is_shown_in_any_form(form, shown):
    tokenizer = byte_tokenizer(f"\n{{{{ strftime_now(format='{form}') }}}} {USABLE['chatml']}")
    assert inspect_template(tokenizer, "m").text([user("go")], prompt=True).startswith(f"\n{shown} <|im_start|>")


def test_the_date_that_a_template_shows_is_always_the_same():
    text = template_of("dated").text([user("go")], prompt=True)
    assert text.startswith("Today is 01 January 2026.\n<|im_start|>user")
    assert template_of("dated").tokenizer.decode(template_of("dated").ids([user("go")], prompt=True)) == text


def test_a_user_who_writes_a_tag_opens_no_thought():
    template = template_of("qwen3")
    said = template.split("ls", template.ids([user("what is <think>")], prompt=True, thinking="on"))
    assert (said.thought, said.answer) == ("", "ls")


def test_an_answer_with_a_tag_that_the_template_refuses_in_a_message_is_given_back_without_it():
    template = template_of("gpt-oss")
    reply = "<|channel|>final<|message|>ls<|channel|>final<|message|>again"
    ids = template.tokenizer(reply, add_special_tokens=False)["input_ids"]
    said = template.split(template.decode(ids), template.ids([user("go")], prompt=True))
    template.text([user("go"), assistant(said.answer), user("a")], prompt=True)
    assert said.answer == "ls<|channel|>final<|message|>again"


@pytest.mark.parametrize("name", [name for name in USABLE if FOUND[name].repeats_thoughts])
def test_a_thought_that_is_given_back_is_the_assistants(name):
    talk = [user("go"), assistant("ls", reasoning_content="I look."), user("a")]
    rendered = render_marked(template_of(name), talk, prompt=True, thinking="on")
    mine = [token for token, said in zip(rendered.ids, rendered.assistant, strict=True) if said]
    assert template_of(name).tokenizer.decode(mine) == "I look.ls"


TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc")) | st.just("\n"), max_size=12).filter(
    lambda text: "<|" not in text and not any(tag in text for tags in KNOWN_TAGS for tag in (tags.open, tags.close))
)


@given(name=st.sampled_from(sorted(USABLE)), contents=st.lists(TEXT, min_size=1, max_size=5), system=TEXT)
@settings(max_examples=60, deadline=None)
def test_whatever_is_said_is_rendered_and_the_assistants_part_is_marked(name, contents, system):
    template = template_of(name)
    talk = [{"role": "system", "content": system}] + [(user, assistant)[n % 2](text) for n, text in enumerate(contents)]
    text = template.text(talk, prompt=len(contents) % 2 == 1)
    assert all(said["content"].strip() in text for said in talk)
    rendered = render_marked(template, talk, prompt=len(contents) % 2 == 1)
    mine = [token for token, said in zip(rendered.ids, rendered.assistant, strict=True) if said]
    assert template.tokenizer.decode(mine) == "".join(said.strip() for said in contents[1::2])


# ---------------------------------------------------------------------------------------------------- in words


@pytest.mark.parametrize(
    ("info", "thinking", "words"),
    [
        (ChatTemplateInfo(), None, ()),
        (FOUND["gemma"], None, ("refuses a system prompt: it begins the first user message.",)),
        (FOUND["dropping"], None, ("drops the system prompt: ",)),
        (FOUND["no-prompt"], None, ("has no generation prompt",)),
        (
            FOUND["mistral"],
            None,
            (
                "of a conversation that ends in a reply",
                "refuses empty messages: ' ' stands for",
            ),
        ),
        (FOUND["qwen3"], "off", ("Thinking is off (enable_thinking).",)),
        (FOUND["qwen3"], "on", ("Thinking is on (enable_thinking). Thoughts are in the trajectories",)),
        (FOUND["deepseek-v3"], "default", ("Thinking is off (the chat template's default).",)),
        (FOUND["deepseek-r1"], None, ("Thinking is on (the chat template's default).",)),
        (FOUND["keeping"], "on", ("the template gives thoughts back to the model.",)),
    ],
)
def test_what_was_found_is_said(info, thinking, words):
    said = info.in_words(thinking)
    assert len(said) == len(words)
    assert all(word in line for word, line in zip(words, said, strict=True))
