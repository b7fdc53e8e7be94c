"""The skills of a task, as the agent is told of them."""

from __future__ import annotations

import pytest
from support.scripted_sandbox import ScriptedSandbox

from capvec.errors import InfrastructureError
from capvec.records import CommandResult
from capvec.sandbox.skills import skills_in_words

pytestmark = pytest.mark.unit


def in_words(files, exit_code=0, end=".\n"):
    listed = CommandResult("".join(f"{path}\n" for path in files) + end, exit_code)
    return skills_in_words(ScriptedSandbox(lambda _command: listed, files), "/skills/")


def test_each_skill_is_listed_with_name_description_and_path():
    assert in_words(
        {
            "/skills/pdf/SKILL.md": b"---\r\nname: read-pdf\r\ndescription: 'Read a PDF.'\r\n---\r\n# name: other\r\n",
            "/skills/bare/SKILL.md": b"# Without a head\nname: none\n",
        }
    ).splitlines() == [
        "Skills for this task. Read the file of one before you use it:",
        "- bare (/skills/bare/SKILL.md)",
        "- read-pdf: Read a PDF. (/skills/pdf/SKILL.md)",
    ]


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("name: pdf\ndescription: >-\n  Read a PDF,\n  page by page.\nlicense: MIT", "pdf: Read a PDF, page by page."),
        ("name: pdf\ndescription: |\n  Read a PDF.\n\n  Or two.\n", "pdf: Read a PDF. Or two."),
        ('description: "It\'s a \\"PDF\\""  # a remark\nname: pdf', 'pdf: It\'s a "PDF"'),
        ("name: pdf\ndescription: Read\n  on  the next line", "pdf: Read on the next line"),
        ("name: 7\nmetadata:\n  description: not this", "7"),
        ("name: pdf\ndescription: Use it when: asked", "pdf: Use it when: asked"),  # not YAML
        ("name: [a\n", "[a"),
        ("- a list", "s"),
        ("name: &a [*a]\ndescription: ", "s"),
        (f"name: {'[' * 5000}", "[" * 5000),
    ],
)
def test_the_head_of_a_skill_is_yaml(head, said):
    (_, line) = in_words({"/skills/s/SKILL.md": f"---\n{head}\n---\n".encode()}).splitlines()
    assert line == f"- {said} (/skills/s/SKILL.md)"


def test_no_skills_are_no_words_and_a_listing_that_fails_is_a_fault():
    assert in_words({}) == ""
    with pytest.raises(InfrastructureError, match="/skills/ cannot be listed"):
        in_words({}, exit_code=126)
    with pytest.raises(InfrastructureError, match="cannot be listed: nothing"):
        in_words({}, end="")
