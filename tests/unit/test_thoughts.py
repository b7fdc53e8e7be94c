"""A reply is split into what the model thought and what it answers."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capvec.agent.protocols import PROTOCOLS
from capvec.errors import UsageError
from capvec.records import Reply
from capvec.thoughts import CHANNELS, KNOWN_TAGS, THINK, Said, ThoughtTags, split_channels, split_thought

pytestmark = pytest.mark.unit

HEREDOC = "```bash\ncat > t <<E\n<think>\n</think>\nE\n```"
TEXT = st.text(max_size=30).filter(lambda text: not any(tag in text for t in KNOWN_TAGS for tag in (t.open, t.close)))


@pytest.mark.parametrize("tags", KNOWN_TAGS, ids=lambda tags: tags.open)
@given(thought=TEXT, answer=TEXT, opened=st.sampled_from((True, False, None)))
def test_a_thought_and_an_answer_are_both_whole(tags, thought, answer, opened):
    said = Said(thought.strip(), answer)
    assert split_thought(f"{tags.open}{thought}{tags.close}{answer}", tags, opened=opened) == said
    assert split_thought(f"{thought}{tags.lead}{tags.close}{answer}", tags, opened=True) == said
    assert split_thought(f"{tags.open}{thought}", tags, opened=opened) == Said(thought.strip(), "")
    assert split_thought(thought, tags, opened=True) == Said(thought.strip(), "")
    assert split_thought(answer, tags) == Said("", answer)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<think>a</think>\n<think>b</think>ls", Said("a\n\nb", "ls")),
        ("<think>a</think><think>never ends", Said("a\n\nnever ends", "")),
        ("a thought\n</think>\nls", Said("a thought", "\nls")),
        ("</think>ls", Said("", "ls")),
        # What a command holds is no thought.
        (
            "```bash\ncat > t <<E\n<think>\n</think>\nE\n```",
            Said("", "```bash\ncat > t <<E\n<think>\n</think>\nE\n```"),
        ),
        ("echo '</think>'", Said("", "echo '</think>'")),
        ("ls <think>", Said("", "ls <think>")),
        ("", Said("", "")),
    ],
)
def test_tags_count_at_the_start_of_a_reply_or_where_an_end_stands_on_a_line_of_its_own(text, said):
    assert split_thought(text) == said


@pytest.mark.parametrize("lines", ["EOF", "DONE\nEOF\n```"])
def test_where_the_prompt_opened_no_thought_a_command_may_hold_its_end(lines):
    command = f"```bash\ncat > t <<EOF\n</think>\n{lines}"
    assert split_thought(command, opened=False) == Said("", command)
    assert split_thought(f"<think>a</think>{command}", opened=False) == Said("a", command)
    assert split_thought("</think>ls", opened=False) == Said("", "ls")


def test_what_a_prompt_opened_ends_at_the_first_end():
    assert split_thought("a </think> b\n</think>\nc", THINK, opened=True) == Said("a", " b\n</think>\nc")
    assert split_thought("a", THINK, opened=True) == Said("a", "")
    assert split_thought("", THINK, opened=True) == Said("", "")


# ---------------------------------------------------------------------------------------------------- later thoughts


FENCE = "```bash\nrm -rf /app\n```"
CALL = '{"name": "bash", "arguments": {"command": "rm -rf /app"}}'
GEMMA, MINIMAX = KNOWN_TAGS[9], ThoughtTags("<mm:think>", "</mm:think>")


def answer(text, tags=THINK):
    """A reply as the engine gives it whose model has these tags."""
    return Reply(text, "stop", 1, 1, 0.0, tags=tags if tags.open in text else None)


def read(protocol, text, tags=THINK):
    """What becomes of a reply, and how it is parsed."""
    reply = PROTOCOLS[protocol].settled(answer(text, tags))
    return reply, PROTOCOLS[protocol].read(reply)


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        (f"Let me look.\n<think>\n{FENCE}\n</think>\nNothing to do.", THINK),
        (f"Let me look. <think>{FENCE}</think> Nothing to do.", THINK),
        (f"Let me see.\n<|channel>thought\n{FENCE}\n<channel|>Nothing to do.", GEMMA),
        (f"Let me see.\n<mm:think>\n{FENCE}\n</mm:think>\nNothing to do.", MINIMAX),
        (f"Let me look.\n<think>\n{FENCE}", THINK),
        (f"<think>{CALL}</think>\n<think>{CALL}</think>", THINK),
        (f"I will call.\n<think>\n<tool_call>{CALL}</tool_call>\n</think>\nNo.", THINK),
    ],
)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_command_in_a_thought_that_begins_within_the_reply_is_not_run(protocol, text, tags):
    reply, parsed = read(protocol, text, tags)
    assert parsed.commands == ()
    if tags.close in text and parsed.status != "failed":
        assert "rm -rf" in reply.thought
        assert "rm -rf" not in reply.text


def test_a_command_behind_such_a_thought_is_run_and_the_thought_is_kept_apart():
    reply, parsed = read("bash-block", f"I look.\n<think>\n{FENCE}\n</think>\n```bash\nls\n```")
    assert (parsed.commands, reply.thought, reply.text) == (("ls",), FENCE, "I look.\n\n```bash\nls\n```")


@pytest.mark.parametrize(
    "text",
    [
        "The parser needs <think>.\n```bash\nls\n```",
        "I look for `<think>`:\n```bash\ngrep '</think>' f\n```",
    ],
)
def test_a_reply_whose_thoughts_cannot_be_told_from_its_command_fails(text):
    reply, parsed = read("bash-block", text)
    assert (reply.text, parsed.status) == (text, "failed")
    assert parsed.error.startswith("The reply has <think> outside a command")


COMMANDS = (
    "grep -e <think> -e </think> -c f",
    "# turn <think> into x\nsed -i s/A/B/ f\n# and </think> too\nsed -i s/C/D/ f",
    "grep -rn <think> src; rm -f x; grep -rn </think> src",
    "cat > t <<'E'\n<think>\na }} {{\n</think>\nE",
    "sed 's/<think>.*<\\/think>//' f",
    "echo '<think>'",
)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tags_in_a_command_are_a_part_of_it(protocol, command):
    text = PROTOCOLS[protocol].render([command], False)
    texts = (
        [text, json.dumps({"name": "bash", "arguments": {"command": command}})] if protocol == "tool-call" else [text]
    )
    for said in texts:
        reply, parsed = read(protocol, said)
        assert (parsed.commands, reply.text) == ((command,), said)


@given(
    protocol=st.sampled_from(sorted(PROTOCOLS)),
    pieces=st.lists(
        st.sampled_from(["<think>", "</think>", "ls", "'", '"', "\n", " ", "```", "{", "}", "#"]), max_size=9
    ),
    before=st.sampled_from(["", "I look.\n", "<think>a</think>", "So <think>b</think> it is.\n"]),
)
def test_a_command_is_run_whole_or_not_at_all(protocol, pieces, before):
    command = f"x{''.join(pieces)}y"
    try:
        text = PROTOCOLS[protocol].render([command], False)
    except UsageError:
        return
    _, parsed = read(protocol, before + text)
    assert parsed.commands in ((command,), ())
    assert parsed.commands or parsed.status == "failed"


def test_a_reply_with_many_tags_is_settled_at_once():
    text = "```bash\n" + "echo 'a <think> b </think>'\n" * 3000 + "```"
    assert read("bash-block", text)[0].text == text


@pytest.mark.parametrize(
    "command",
    [
        "sed -i 's/<|end|><|start|>assistant/X/' t",
        "echo 'a<|end|><|start|>assistant<|channel|>analysis<|message|>b' > t\nls",
    ],
)
def test_what_looks_like_a_message_in_a_final_answer_is_a_part_of_it(command):
    text = f"```bash\n{command}\n```"
    assert split_channels(
        f"<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>{text}"
    ) == (Said("a", text))
    assert read("bash-block", text, CHANNELS)[1].commands == (command,)


@pytest.mark.parametrize(
    "text",
    [
        "<|channel|>analysis<|message|>plan<|channel|>final<|message|>ls",
        "<|channel|>analysis<|message|>plan<|end|><|channel|>final<|message|>ls",
        "<|channel|>analysis\n<|message|>plan<|end|>\n<|start|>assistant<|channel|>final\n<|message|>ls",
    ],
)
def test_a_header_that_is_not_quite_right_begins_a_message_too(text):
    assert split_channels(text) == Said("plan", "ls")
