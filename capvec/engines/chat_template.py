"""A model's chat template: what it can render is found out when the model is loaded, and conversations are adapted.

The agent speaks first as the system, then user and assistant take turns. A template that cannot render this is refused
before anything runs. `inspect_template` renders small conversations and looks for what was said in them:

* the content of messages as text, or else as a list with one text part, whole and in order, also if there are 201, if
  they are long, or if a user writes the tags of a thought;
* a system message: where the template refuses or drops it, its text begins the first user message;
* a generation prompt: where there is none, the text with which the template begins the assistant's messages;
* an empty message, which a model may well write: where the template refuses it, a space or `(empty)` in its place;
* a variable that switches thinking, and the tags that the template has around a thought;
* the token with which the template ends the assistant's messages, since a tokenizer's own end may be another one.

A thought is passed on in `reasoning_content` alone, so that only a template that reads this field gives it back to the
model. In `content`, templates that know the tag remove it from earlier replies, and the others would repeat it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from capvec.engines.protocol import ChatTemplateInfo
from capvec.errors import UsageError
from capvec.records import Message, Thinking
from capvec.text import one_line
from capvec.thoughts import KNOWN_TAGS, THINK, Said, ThoughtTags, split_thought

SWITCHES = ("enable_thinking", "thinking", "enable_reasoning", "reasoning")
"""Variables by which public templates switch thinking on or off."""
_BLANKS = ("", " ", "(empty)")
_TAIL = 64
"""Last tokens of a prompt in which the beginning of a thought is looked for."""

_NUMBERS = " ".join(map(str, range(6000)))
"""A text so long that a template which shortens messages shows it."""
_SYSTEM = {"role": "system", "content": f"Du bist ein Agent. <Rules> & \"quotes\" 'too' {_NUMBERS}"}
_TALK = (
    {"role": "user", "content": 'List  the files of "/app"\n  & count <them>.'},
    {"role": "assistant", "content": "First:\n```bash\nls -1 '/app' | wc -l && echo \"{{ ok }}\"\n```"},
    {"role": "user", "content": "exit code 0\n  3 файла"},
    {"role": "assistant", "content": '{"done": false, "why": "one <more> step"}'},
    {"role": "user", "content": "(no output)"},
)
_LONG = tuple(message | {"content": f"{message['content']} {_NUMBERS}."} for message in _TALK)
_MANY = tuple(
    message | {"content": f"{message['content']}\nStep {step}."}
    for step, message in enumerate((*_TALK[:4] * 50, _TALK[4]))
)
_THOUGHT = "Is this a thought of mine?"
_THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking", "thoughts", "thought")
"""Fields of a message in which public templates read a thought."""


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template, as `inspect_template` found it."""

    tokenizer: Any
    info: ChatTemplateInfo = field(default_factory=ChatTemplateInfo)
    parts: bool = False
    """Whether a message's content is a list of parts."""
    header: str = ""
    """The generation prompt of a template that has none."""
    tags: ThoughtTags = THINK
    kept: Mapping[int, str] = field(default_factory=dict)
    """Special tokens that the tags consist of: id to text."""
    openings: tuple[str, ...] = ()
    """How prompts end that leave a thought open: from its tag on."""
    ends: frozenset[int] = frozenset()
    """The token with which the template ends the assistant's messages. A reply ends there too."""

    def text(self, messages: Sequence[Message], *, prompt: bool, thinking: Thinking | None = None) -> str:
        """A conversation as the model reads it.

        Args:
            messages: the conversation.
            prompt: whether it ends in a generation prompt.
            thinking: None is `off`.

        Raises:
            UsageError: the template cannot render the conversation.
        """
        text: str = self._apply(messages, prompt=prompt, thinking=thinking, tokenize=False)
        return text + (self.header if prompt else "")

    def ids(self, messages: Sequence[Message], *, prompt: bool, thinking: Thinking | None = None) -> list[int]:
        """The token ids of `text`; the arguments and errors are the same."""
        if prompt and self.header:
            text = self.text(messages, prompt=prompt, thinking=thinking)
            return [int(token) for token in self.tokenizer(text, add_special_tokens=False)["input_ids"]]
        return [int(token) for token in self._apply(messages, prompt=prompt, thinking=thinking, tokenize=True)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a reply without special tokens, except those of a thought's tags."""
        runs = groupby(ids, key=self.kept.__contains__)
        return "".join(
            self.tokenizer.decode(list(run), skip_special_tokens=not kept, clean_up_tokenization_spaces=False)
            for kept, run in runs
        )

    def split(self, text: str, prompt: Sequence[int]) -> Said:
        """The thought and the answer of a reply.

        Args:
            text: of the reply, as `decode` gives it.
            prompt: the token ids that it answers, which may end in an open thought.
        """
        last = prompt[-_TAIL - max(map(len, self.openings), default=0) :]
        end = self.tokenizer.decode(list(last), clean_up_tokenization_spaces=False).rstrip()
        said = split_thought(text, self.tags, opened=end.endswith(self.openings) if self.openings else False)
        return Said(self._plain(said.thought), self._plain(said.answer))

    def adapted(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """The conversation in the form that the template can render; contents are text."""
        said = [dict(message) for message in messages]
        if said[0]["role"] == "system" and not self._has_place(said[-1]["role"]):
            said = _folded(said)
        for message in said:
            if self.info.blank and not message["content"].strip():
                message["content"] = self.info.blank
        return said

    def _has_place(self, last: str) -> bool:
        """Whether the template renders the system text of a conversation that ends with this role."""
        return self.info.system == "own" or (self.info.system == "dropped-after-reply" and last != "assistant")

    def _apply(self, messages: Sequence[Message], *, prompt: bool, thinking: Thinking | None, tokenize: bool) -> Any:
        said = self.adapted(messages)
        if self.parts:
            said = [message | {"content": [{"type": "text", "text": message["content"]}]} for message in said]
        switch = {} if thinking == "default" or not self.info.switch else {self.info.switch: thinking == "on"}
        try:
            return self.tokenizer.apply_chat_template(
                said, add_generation_prompt=prompt, tokenize=tokenize, return_dict=False, **switch
            )
        except Exception as error:  # a template is a program, and may fail as one
            roles = ", ".join(message["role"] for message in messages[:4]) + (", …" if len(messages) > 4 else "")
            raise UsageError(
                f"the model's chat template cannot render a conversation of {roles}: {one_line(str(error))}"
            ) from error

    def _plain(self, text: str) -> str:
        """Without the kept tokens, which templates refuse in a message."""
        for token in self.kept.values():
            text = text.replace(token, "")
        return text


def inspect_template(tokenizer: Any, name: str) -> ChatTemplate:
    """Find out what a tokenizer's chat template can render.

    Args:
        tokenizer: of transformers.
        name: of the model, for errors.

    Raises:
        UsageError: there is no chat template, or it cannot render what an agent needs: messages of a user and an
            assistant in turn, each with its text unchanged, and a generation prompt.
    """
    source = _source(tokenizer, name)
    template = _with_content(ChatTemplate(tokenizer), name)
    template = _with_thinking(template, source, name)
    template = _with_system(template, name)
    template = _with_generation_prompt(template, name)
    return _with_end(_with_blanks(_with_turns(template), name))


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


def _with_content(template: ChatTemplate, name: str) -> ChatTemplate:
    """Content as text, or as parts where the template reads no text."""
    forms = (template, replace(template, parts=True))
    problems = [
        next((why for talk in (_TALK, _TALK[:1], _MANY, _LONG) if (why := _problem(form, talk))), "")
        or _problem(form, _TALK[:2], prompt=False)
        for form in forms
    ]
    for form, problem in zip(forms, problems, strict=True):
        if not problem:
            if _swaps_roles(form):
                raise _refused(name, "it begins a reply as it begins the messages of the user, not the assistant's")
            return form
    raise _refused(name, problems[0])


def _swaps_roles(template: ChatTemplate) -> bool:
    """Whether the generation prompt begins the user's messages, and not the assistant's."""
    bare, prompt = (template.text(_TALK, prompt=prompt) for prompt in (False, True))
    label = prompt.removeprefix(bare).strip()
    user, assistant = (bare.partition(said["content"])[0].rstrip().endswith(label) for said in _TALK[2:4])
    return bool(label) and user and not assistant


def _with_thinking(template: ChatTemplate, source: str, name: str) -> ChatTemplate:
    tags = next((tags for tags in KNOWN_TAGS if tags.open in source or tags.close in source), THINK)
    texts = tags.open + tags.close + tags.lead
    special = {
        int(token): added.content
        for token, added in getattr(template.tokenizer, "added_tokens_decoder", {}).items()
        if added.special and added.content in texts
    }
    template = replace(template, tags=tags, kept=special)
    if _cuts_at_tags(template):
        raise _refused(name, f"it drops what the user says before or after {tags.open!r} or {tags.close!r}")
    switch = next((word for word in SWITCHES if word in source and _switches(template, word)), "")
    template = replace(template, info=replace(template.info, switch=switch))
    default = template.text(_TALK, prompt=True, thinking="default")
    openings = {mode: _opening(template, mode) for mode in _modes(template)}
    template = replace(template, openings=tuple({opening for opening in openings.values() if opening}))
    opens = bool(openings["default"])
    on = bool(switch) and default == template.text(_TALK, prompt=True, thinking="on")
    thinking = replace(template.info, thinks=opens or on, repeats_thoughts=_repeats(template))
    return replace(template, info=thinking)


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


def _switches(template: ChatTemplate, name: str) -> bool:
    """Whether a variable changes what is rendered, and the template works with both values."""
    switched = replace(template, info=replace(template.info, switch=name))
    if any(_problem(switched, _TALK, thinking=thinking) for thinking in ("on", "off")):
        return False
    return switched.text(_TALK, prompt=True, thinking="on") != switched.text(_TALK, prompt=True, thinking="off")


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
        problem = _problem(form, going, every=True) or _problem(form, ended, prompt=False, every=True)
        if not problem:
            return form
    raise _refused(name, problem)


def _with_generation_prompt(template: ChatTemplate, name: str) -> ChatTemplate:
    """Where `add_generation_prompt` changes nothing, what stands before an assistant's words is the prompt."""
    bare, prompt = (template.text(_TALK, prompt=prompt) for prompt in (False, True))
    if prompt != bare:
        return template
    answered = template.text((*_TALK, _TALK[1]), prompt=False)
    head, found, _ = answered.removeprefix(bare).partition(_TALK[1]["content"])
    if not (answered.startswith(bare) and found):
        raise _refused(name, "it has no generation prompt, and an assistant's message does not begin where it would be")
    if not head.strip():  # the end of a user's message is the beginning of the assistant's
        return template
    return replace(template, header=head, info=replace(template.info, generation_prompt="derived"))


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
        if end in prompt[len(bare) :]:
            return True
    return any(thinking.count(end) > plain.count(end) for plain, thinking in _thoughts(template))


def _thoughts(template: ChatTemplate) -> Iterator[tuple[str, str]]:
    """A conversation that ends in a reply, without a thought and with one, wherever the thought is rendered."""
    for mode in _modes(template):
        plain = template.text(_TALK[:4], prompt=False, thinking=mode)
        for name in _THOUGHT_FIELDS:
            try:
                thinking = template.text((*_TALK[:3], _TALK[3] | {name: _THOUGHT}), prompt=False, thinking=mode)
            except UsageError:  # the template reads another field
                continue
            if _THOUGHT in thinking:
                yield plain, thinking


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


def _folded(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The system's text at the start of the first user message."""
    system, *rest = messages
    if rest and rest[0]["role"] == "user":
        return [rest[0] | {"content": f"{system['content']}\n\n{rest[0]['content']}"}, *rest[1:]]
    return [{"role": "user", "content": system["content"]}, *rest]


def _refused(name: str, problem: str) -> UsageError:
    return UsageError(
        f"the chat template of {name!r} cannot be used: {problem}; expected one that renders messages of a user and an "
        "assistant in turn, or put another chat_template.jinja into the model's folder"
    )
