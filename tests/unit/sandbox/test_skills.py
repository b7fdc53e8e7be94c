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


def test_no_skills_are_no_words_and_a_listing_that_fails_is_a_fault():
    assert in_words({}) == ""
    with pytest.raises(InfrastructureError, match="/skills/ cannot be listed"):
        in_words({}, exit_code=126)
    with pytest.raises(InfrastructureError, match="cannot be listed: nothing"):
        in_words({}, end="")
