"""The skills that a task puts into its container for the agent, each a folder with a `SKILL.md`."""

from __future__ import annotations

import re

import yaml  # type: ignore[import-untyped]

from capvec.errors import InfrastructureError
from capvec.sandbox.base import Sandbox

_LIST = 'for file in "$1"/*/SKILL.md; do [ -f "$file" ] && printf "%s\\n" "$file"; done; echo .'
_FIELD = re.compile(r"^(name|description):[ \t]*(.+?)[ \t\r]*$", re.MULTILINE)
_HEAD = re.compile(r"\A---\r?\n(.*?)^---\r?$", re.DOTALL | re.MULTILINE)


def skills_in_words(sandbox: Sandbox, folder: str) -> str:
    """A paragraph that lists the skills in a folder of the sandbox, before the agent has changed it; empty without any.

    A skill's name and description are those in the head of its `SKILL.md`, which is YAML; without a name it is its
    folder's. Of a head that is not YAML, as where a description has a colon and no quotes, the lines count that begin
    with the two keys.

    Raises:
        InfrastructureError: the folder cannot be listed, or a file is too large.
        SandboxUnavailable: the sandbox is gone.
    """
    listed = sandbox.execute(("sh", "-c", _LIST, "sh", folder.rstrip("/")), timeout_s=30)
    *paths, last = listed.output.splitlines() or [""]
    if listed.exit_code != 0 or last != ".":  # without the dot, Docker has lost some of it
        raise InfrastructureError(
            f"the skills in {folder} cannot be listed: {listed.output.strip()[-200:] or 'nothing'}"
        )
    lines = [_in_words(path, sandbox.read(path) or b"") for path in sorted(paths)]
    if not lines:
        return ""
    return "\n".join(("Skills for this task. Read the file of one before you use it:", *lines))


def _in_words(path: str, content: bytes) -> str:
    head = _HEAD.match(content.decode(errors="replace"))
    fields = _fields(head[1]) if head else {}
    name, description = fields.get("name") or path.split("/")[-2], fields.get("description")
    return f"- {name}{f': {description}' if description else ''} ({path})"


def _fields(head: str) -> dict[str, str]:
    """The texts and numbers of a head, each on one line."""
    try:
        found = yaml.safe_load(head)
    except (yaml.YAMLError, ValueError, RecursionError):
        found = {name: value.strip("'\"") for name, value in _FIELD.findall(head)}
    pairs = found.items() if isinstance(found, dict) else ()
    return {name: " ".join(str(value).split()) for name, value in pairs if isinstance(value, str | int | float)}
