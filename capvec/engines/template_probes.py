"""What a model's chat template can render is found out when the model is loaded.

The agent speaks first as the system, then user and assistant take turns. A template that cannot render this is refused
before anything runs. `inspect_template` renders small conversations and looks for what was said in them:

* the content of messages as text, or else as a list with one text part, whole and in order, also if there are 201, if
  they are long, or if a user writes the tags of a thought;
* a system message: where the template refuses or drops it, its text begins the first user message;
* a generation prompt: where there is none, the text with which the template begins the assistant's messages;
* an empty message, which a model may well write: where the template refuses it, a space or `(empty)` in its place;
* a variable that switches thinking, and the tags that the template has around a thought;
* the token with which the template ends the assistant's messages, since a tokenizer's own end may be another one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import takewhile
from string import punctuation
from typing import Any

from capvec.engines.chat_template import ChatTemplate
from capvec.engines.protocol import ChatTemplateInfo
from capvec.engines.tokenizer_probe import rewritten_words
from capvec.errors import UsageError
from capvec.records import Message, Thinking
from capvec.thoughts import KNOWN_TAGS, THINK, ThoughtTags

SWITCHES = ("enable_thinking", "thinking", "enable_reasoning", "reasoning")
"""Variables by which public templates switch thinking on or off."""
DATE = datetime(2026, 1, 1)
"""When every conversation takes place, for templates that show it."""
_DATE_PARTS = (*(f"-{part}" for part in "dmHIMSjy"), *"aAbBcCdDeFgGhHIjmMprRsStTuUVwWxXyYfzZ%")
_BLANKS = ("", " ", "(empty)")
IN_WORDS = ThoughtTags("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]")
"""Apriel's, which are no tokens."""
_MARK = re.compile(r"(?!</?(?:tool_call|function|parameter)\b)[<\[◁].*[>\]▷]")
"""A special token at an end of an answer that says nothing, and that no protocol reads."""
_NAME = re.compile(r"[^\W\d_]{3}")
"""What a tag has, and a bracket, a line or a fence has not."""
_SIGNS = ("/think", "/no_think", "/nothink", "/system_override", "<tool_call>", "</tool_call>", "<|im_start|>")
"""Texts that some templates take for orders, or for the beginning of something else."""

_NUMBERS = " ".join(map(str, range(20_000)))
"""A text so long that a template which shortens messages shows it."""
_SYSTEM = {"role": "system", "content": f"Du bist ein Agent. <Rules> & \"quotes\" 'too'\n\n\n# {_NUMBERS}"}
_TALK = (
    {"role": "user", "content": f'List  the files of "/app"\n\n\n\t& count <them>.\r\nA \\n b {punctuation}'},
    {"role": "assistant", "content": "First:\n```bash\nls -1 '/app' | wc -l && echo \"{{ ok }}\"\n```"},
    {"role": "user", "content": "exit code 0\n\n\n  3 файла\n# 100 % $HOME"},
    {"role": "assistant", "content": '{"done": false,\n\n\n\t"why": "one <more> step, [INST] $1 \\\\ # 2 %"}'},
    {"role": "user", "content": "(no output)"},
)
_SHORT = tuple(message | {"content": said} for message, said in zip(_TALK, ("q7", "ls", "#", "w$", "%"), strict=True))
_LONG = tuple(message | {"content": f"{message['content']} {_NUMBERS}."} for message in _TALK)
_MANY = tuple(
    message | {"content": f"{message['content']}\nStep {step}."}
    for step, message in enumerate((*_TALK[:4] * 50, _TALK[4]))
)
_THOUGHT = "Is this a thought of mine?"
_THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking", "thoughts", "thought")
"""Fields of a message in which public templates read a thought."""


def inspect_template(tokenizer: Any, name: str) -> ChatTemplate:
    """Find out what a tokenizer's chat template can render.

    Args:
        tokenizer: of transformers.
        name: of the model, for errors.

    Raises:
        UsageError: there is no chat template, or it cannot render what an agent needs: messages of a user and an
            assistant in turn, each with its text unchanged, and a generation prompt; or the tokenizer changes text.
    """
    source = _source(tokenizer, name)
    info = ChatTemplateInfo(rewritten=rewritten_words(tokenizer, name))
    template = _with_content(ChatTemplate(tokenizer, _dated(source), info), name)
    template = _with_generation_prompt(template, name)
    template = _with_trailers(_with_thinking(template, source, name))
    template = _with_system(template, name)
    template = _with_end(_with_blanks(_with_turns(template), name))
    return _with_losses(_with_refusals(_with_frame(template)))


def _source(tokenizer: Any, name: str) -> str:
    if not getattr(tokenizer, "chat_template", None):
        raise UsageError(
            f"the tokenizer of {name!r} has no chat template, so a conversation cannot be rendered; "
            "expected an instruction-tuned model, or add chat_template.jinja to its folder"
        )
    try:
        return str(tokenizer.get_chat_template())
    except ValueError as error:
        raise UsageError(f"the tokenizer of {name!r} has several chat templates and no default: {error}") from error


def _dated(source: str) -> str | None:
    """A template that shows the date, with one that stays: the prompts of a run must not differ by their day."""
    if "strftime_now" not in source:
        return None
    parts = "".join(f".replace('%{part}', '{DATE.strftime('%' + part)}')" for part in _DATE_PARTS)
    return f"{{% macro strftime_now(format) %}}{{{{ format{parts} }}}}{{% endmacro %}}{{{{ '' }}}}{source}"


def _with_content(template: ChatTemplate, name: str) -> ChatTemplate:
    """Content as text, or as parts where the template reads no text."""
    forms = (template, replace(template, parts=True))
    problems = [
        next((why for talk in (_TALK, _TALK[:1], _SHORT, _MANY, _LONG) if (why := _problem(form, talk))), "")
        or _problem(form, _TALK[:2], prompt=False)
        for form in forms
    ]
    for form, problem in zip(forms, problems, strict=True):
        if not problem:
            return form
    raise _refused(name, problems[0])


def _with_thinking(template: ChatTemplate, source: str, name: str) -> ChatTemplate:
    named = next((tags for tags in (IN_WORDS, *KNOWN_TAGS) if tags.open in source or tags.close in source), None)
    switches = ((word, talk) for word in SWITCHES if word in source for talk in _switched(template, word))
    switch, switched = next(switches, ("", _TALK))
    template = replace(template, info=replace(template.info, switch=switch))
    written = _tags_of(template)
    tags = written if written and not (named and named.close.strip() in written.close) else named
    template = replace(template, tags=tags or THINK)
    if _cuts_at_tags(template):
        raise _refused(name, f"it drops what the user says before or after {template.tags.open!r} or its end")
    openings = {mode: _opening(template, mode) for mode in _modes(template)}
    template = replace(template, openings=tuple({opening for opening in openings.values() if opening}))
    default, on = (template.text(switched, prompt=True, thinking=mode) for mode in ("default", "on"))
    thinking = replace(
        template.info,
        thinks=bool(openings["default"]) or (bool(switch) and default == on),
        repeats_thoughts=_repeats(template),
        unknown_thoughts=bool(switch) and tags is None,
    )
    return replace(template, info=thinking)


def _tags_of(template: ChatTemplate) -> ThoughtTags | None:
    """The texts that the template writes around the thought of a reply; None if it writes none."""
    begins = [begin for mode in _modes(template) for begin in _beginnings(template, mode)]
    for _, before, after in _thoughts(template):
        closing = after.strip().partition("\n")[0]
        written, prompted = (
            before.removeprefix(_prefix(before, *begins)),
            begins[0].removeprefix(_prefix(before, begins[0])),
        )
        likely = closing.replace("/", "", 1)  # where prompts hold both tags
        opening = written.strip() or (likely if before.endswith(likely) else prompted.strip())
        if _NAME.search(opening) and _NAME.search(closing) and "tool_call" not in opening:
            return ThoughtTags(opening, closing)
    return None


def _beginnings(template: ChatTemplate, mode: Thinking) -> tuple[str, str]:
    """What follows the last user message: the generation prompt, and all that stands before the words of a reply."""
    prompt = template.text(_TALK[:3], prompt=True, thinking=mode)
    answered = template.text(_TALK[:4], prompt=False, thinking=mode).rpartition(_TALK[3]["content"])[0]
    return prompt.rpartition(_TALK[2]["content"])[2], answered.rpartition(_TALK[2]["content"])[2]


def _opening(template: ChatTemplate, mode: Thinking) -> str:
    """The end of a prompt from the tag of a thought on that it leaves open; empty if there is none."""
    end = template.text(_TALK, prompt=True, thinking=mode).rpartition(_TALK[4]["content"])[2]
    at = end.rfind(template.tags.open.rstrip())
    return end[at:].rstrip() if at > end.rfind(template.tags.close) else ""


def _cuts_at_tags(template: ChatTemplate) -> bool:
    """Whether the template drops what stands around the tags of a thought in a user's text."""
    pieces = ("exit code 0, before", "between them", "and after")
    said = f"{pieces[0]} {template.tags.open} {pieces[1]} {template.tags.close} {pieces[2]}"
    text = template.text((*_TALK[:2], {"role": "user", "content": said}, *_TALK[3:]), prompt=True)
    return any(piece not in text for piece in pieces)


def _switched(template: ChatTemplate, name: str) -> Iterator[tuple[Message, ...]]:
    """Conversations of which a variable changes what is rendered, if the template works with both values."""
    switched = replace(template, info=replace(template.info, switch=name))
    if not any(_problem(switched, _TALK, thinking=thinking) for thinking in ("on", "off")):
        yield from (talk for talk in (_TALK, (_SYSTEM, *_TALK)) if _differs(switched, talk))


def _differs(template: ChatTemplate, talk: Sequence[Message]) -> bool:
    try:
        on, off = (template.text(talk, prompt=True, thinking=thinking) for thinking in ("on", "off"))
    except UsageError:  # it refuses a system message
        return False
    return on != off


def _repeats(template: ChatTemplate) -> bool:
    """Whether the template gives the thought of an earlier reply back to the model."""
    talk = [*_TALK[:3], {**_TALK[3], "reasoning_content": _THOUGHT}, _TALK[4]]
    return _THOUGHT in template.text(talk, prompt=True, thinking="on")


def _with_system(template: ChatTemplate, name: str) -> ChatTemplate:
    """The first way in which the system text is not lost, in a conversation that goes on and in one that has ended."""
    going, ended = (_SYSTEM, *_TALK), (_SYSTEM, *_TALK[:-1])
    try:
        template.text(going, prompt=True)
    except UsageError:
        ways: tuple[Any, ...] = ("refused",)
    else:
        ways = ("own", "dropped-after-reply", "dropped")
    problem = ""
    for way in ways:
        form = replace(template, info=replace(template.info, system=way))
        problem = next(
            filter(None, (_problem(form, talk, every=True) for talk in (going, going[:2], (_SYSTEM, *_MANY)))), ""
        ) or _problem(form, ended, prompt=False, every=True)
        if not problem:
            return form
    raise _refused(name, problem)


def _with_generation_prompt(template: ChatTemplate, name: str) -> ChatTemplate:
    """Where `add_generation_prompt` changes nothing, what stands before an assistant's words is the prompt."""
    bare, prompt = (template.text(_TALK, prompt=prompt) for prompt in (False, True))
    to_user, to_assistant = _between(bare, 1), _between(bare, 2)
    if prompt != bare:
        if _shared(prompt, to_assistant) <= _shared(prompt, to_user) and prompt.removeprefix(bare).strip():
            raise _refused(name, "it does not begin a reply as it begins the assistant's messages")
        return template
    if _trailer(template, "default").strip() and _shared(bare, to_assistant) > _shared(bare, to_user):
        return replace(template, info=replace(template.info, generation_prompt="always"))
    before, found, _ = template.text((*_TALK, _TALK[1]), prompt=False).rpartition(_TALK[1]["content"])
    head = before.removeprefix(bare)
    if not (before.startswith(bare) and found):
        raise _refused(name, "it has no generation prompt, and an assistant's message does not begin where it would be")
    if not head.strip():  # the end of a user's message is the beginning of the assistant's
        return template
    return replace(template, header=head, info=replace(template.info, generation_prompt="derived"))


def _with_trailers(template: ChatTemplate) -> ChatTemplate:
    """What stands at the end of every conversation, where a generation prompt always does."""
    always = template.info.generation_prompt == "always"
    trailers = {_trailer(template, mode) for mode in _modes(template)} if always else ()
    return replace(template, trailers=_longest_first(trailers))


def _trailer(template: ChatTemplate, mode: Thinking) -> str:
    asked, answered = (template.text(talk, prompt=True, thinking=mode) for talk in (_TALK, (*_TALK, _TALK[1])))
    ends = asked.rpartition(_TALK[4]["content"])[2], answered.rpartition(_TALK[1]["content"])[2]
    return _prefix(*(end[::-1] for end in ends))[::-1]


def _between(text: str, index: int) -> str:
    """What `_TALK` is rendered with between one message and the next."""
    words, following = (_TALK[at]["content"] for at in (index, index + 1))
    return text.partition(words)[2].partition(following)[0]


def _shared(text: str, between: str) -> int:
    """How many characters of what follows the last message stand between two others as well."""
    return len(_prefix(text.rpartition(_TALK[4]["content"])[2], between))


def _with_turns(template: ChatTemplate) -> ChatTemplate:
    twice = _problem(template, (_TALK[0], _TALK[2])) != ""
    first = _problem(template, _TALK[1:3]) != ""
    return replace(template, info=replace(template.info, alternates=twice, user_first=first))


def _with_blanks(template: ChatTemplate, name: str) -> ChatTemplate:
    """A model may say nothing, and its reply must not end the trial."""
    problem = ""
    for blank in _BLANKS:
        form = replace(template, info=replace(template.info, blank=blank))
        empty = {"role": "assistant", "content": ""}
        problem = _problem(form, (*_TALK[:3], empty, _TALK[4]), every=True)
        if not problem:
            return form
    raise _refused(name, problem)


def _with_end(template: ChatTemplate) -> ChatTemplate:
    """The first added token between the assistant's words and the next message, unless it stands before them too."""
    words, following = _TALK[3]["content"], _TALK[4]["content"]
    after = template.text(_TALK, prompt=False).partition(words)[2].partition(following)[0]
    added = getattr(template.tokenizer, "added_tokens_decoder", {})
    for token in template.tokenizer(after, add_special_tokens=False)["input_ids"]:
        if token in added and (end := added[token].content).strip():
            inner = after.count(end) > 1 or _goes_on(template, end)  # a bracket of which there are several
            return replace(template, ends=frozenset() if inner else frozenset([int(token)]))
    return template


def _goes_on(template: ChatTemplate, end: str) -> bool:
    """Whether the assistant's turn goes on after this token, as where a thought is a message of its own."""
    if end in template.tags.open + template.tags.close + template.tags.lead:
        return True
    for mode in _modes(template):
        bare, prompt = (template.text(_TALK, prompt=prompt, thinking=mode) for prompt in (False, True))
        if template.info.generation_prompt != "always" and end in prompt[len(bare) :]:
            return True
    return any(
        (before + after).count(end) > _beginnings(template, mode)[1].count(end)
        for mode, before, after in _thoughts(template)
    )


def _with_frame(template: ChatTemplate) -> ChatTemplate:
    """Special tokens around an answer: a model that was trained with the template writes them too."""
    close = template.tags.close.strip()
    before = {after.rpartition(close)[2].strip() for _, _, after in _thoughts(template)}
    for mode in _modes(template):
        prompt, answered = _beginnings(template, mode)
        before.add(answered.removeprefix(_prefix(prompt, answered)).strip())
    behind = _between(template.text(_TALK, prompt=False), 3).lstrip()
    added = _added(template)  # thousands, in some vocabularies
    after = {behind[: at.end()] for token in added if token in behind for at in re.finditer(re.escape(token), behind)}
    framed = {one for one in before if any(token in one for token in added)}
    tags = template.tags.open + template.tags.close + template.tags.lead
    special = _longest_first(
        token for token in _added(template, special=True) if _MARK.fullmatch(token) and token not in tags
    )
    return replace(template, before=_longest_first(framed), after=_longest_first(after), special=special)


def _longest_first(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(filter(None, texts), key=lambda text: (-len(text), text)))


def _added(template: ChatTemplate, *, special: bool = False) -> list[str]:
    """Tokens that were added to the vocabulary, all or the special ones alone."""
    added = getattr(template.tokenizer, "added_tokens_decoder", {}).values()
    return [token.content for token in added if token.content.strip() and (token.special or not special)]


def _with_refusals(template: ChatTemplate) -> ChatTemplate:
    """Texts that a model may write, and that the template refuses in the conversation that follows."""
    own = {template.tags.open, template.tags.close, *template.before, *template.after}
    tokens = {token for token in _added(template) if any(token in text for text in own)}
    return replace(template, refuses=_longest_first(text for text in own | tokens if _is_refused(template, text)))


def _with_losses(template: ChatTemplate) -> ChatTemplate:
    """Texts that the template drops from what a system or a user says."""
    signs = dict.fromkeys((*_SIGNS, template.tags.open.strip(), template.tags.close.strip()))
    lost = tuple(sign for sign in signs if any(_is_lost(template, sign, role) for role in ("system", "user")))
    return replace(template, info=replace(template.info, drops=lost))


def _is_lost(template: ChatTemplate, sign: str, role: str) -> bool:
    said = {"role": role, "content": f"before {sign}, after"}
    talk = (said, *_TALK) if role == "system" else (*_TALK[:2], said, *_TALK[3:])
    return bool(_problem(template, talk))


def _is_refused(template: ChatTemplate, text: str) -> bool:
    try:
        template.text((*_TALK[:3], _TALK[3] | {"content": f"a {text} b"}, _TALK[4]), prompt=True)
    except UsageError:
        return True
    return False


def _thoughts(template: ChatTemplate) -> Iterator[tuple[Thinking, str, str]]:
    """What stands before the thought of a reply and behind it, up to its words, in every mode that renders one."""
    for mode in _modes(template):
        for name in _THOUGHT_FIELDS:
            try:
                text = template.text((*_TALK[:3], _TALK[3] | {name: _THOUGHT}), prompt=False, thinking=mode)
            except UsageError:  # the template reads another field
                continue
            before, found, after = text.rpartition(_TALK[2]["content"])[2].partition(_THOUGHT)
            if found:
                yield mode, before, after.partition(_TALK[3]["content"])[0]


def _prefix(*texts: str) -> str:
    """The characters with which all of the texts begin."""
    return "".join(
        letters[0] for letters in takewhile(lambda letters: len(set(letters)) == 1, zip(*texts, strict=False))
    )


def _problem(
    template: ChatTemplate,
    messages: Sequence[Message],
    *,
    prompt: bool = True,
    thinking: Thinking = "default",
    every: bool = False,
) -> str:
    """Why the template does not render a conversation with all that is said in it; empty if it does."""
    for mode in _modes(template) if every else (thinking,):
        try:
            text = template.text(messages, prompt=prompt, thinking=mode)
        except UsageError as error:
            return str(error)
        if lost := _lost(messages, text):
            said = lost["content"]
            shown = repr(said) if len(said) < 200 else f"a text of {len(said)} characters"
            return f"it drops, moves or rewrites what the {lost['role']} says, such as {shown}"
    return ""


def _lost(messages: Sequence[Message], text: str) -> Message | None:
    """The first message that is not in the text, or not behind those before it; the system's may stand anywhere."""
    at = 0
    for message in messages:
        system = message["role"] == "system"
        found = text.find(said := message["content"].strip(), 0 if system else at)
        if found < 0:
            return message
        at = at if system else found + len(said)
    return None


def _modes(template: ChatTemplate) -> Iterator[Thinking]:
    yield "default"
    if template.info.switch:
        yield from ("on", "off")


def _refused(name: str, problem: str) -> UsageError:
    return UsageError(
        f"the chat template of {name!r} cannot be used: {problem}; expected one that renders messages of a user and an "
        "assistant in turn, or put another chat_template.jinja into the model's folder"
    )
