"""A reply is split into what the model thought and what it answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capvec.agent.protocols import PROTOCOLS
from capvec.thoughts import KNOWN_TAGS, THINK, Said, split_thought

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
LATER = [
    f"Let me look.\n<think>\n{FENCE}\n</think>\nNothing to do.",
    f"<|channel>thought\nhm<channel|>Let me see.\n<|channel>thought\n{FENCE}\n<channel|>Nothing to do.",
    f"<|inner_prefix|>hm<|inner_suffix|>So: <|inner_prefix|>\n{FENCE}\n<|inner_suffix|>Nothing to do.",
    f"[THINK]a[/THINK]Well. [THINK]{FENCE}[/THINK]Nothing.",
    f"Let me look.\n<think>\n{FENCE}",
]


@pytest.mark.parametrize("text", LATER)
def test_a_command_in_a_thought_that_begins_within_the_reply_is_not_run(text):
    for protocol in PROTOCOLS.values():
        assert protocol.parse(text).commands == ()


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=list(PROTOCOLS))
@given(tag=st.sampled_from([tag for tags in KNOWN_TAGS for tag in (tags.open, tags.close)]), data=st.data())
def test_a_tag_in_a_command_is_a_part_of_it(protocol, tag, data):
    before, behind = (data.draw(st.sampled_from(["", "\n", " ", "'", "\ncat <<'E'\n"])) for _ in range(2))
    command = f"cat > a.py <<'EOF'\nx{before}{tag}{behind}y\nEOF"
    parsed = protocol.parse(protocol.render([command], False))
    assert parsed.commands in ((command,), ())
    assert parsed.commands or parsed.status == "failed"


def test_a_command_after_a_later_thought_is_run():
    (command,) = PROTOCOLS["bash-block"].parse(f"I look.\n<think>\n{FENCE}\n</think>\n```bash\nls\n```").commands
    assert command == "ls"
