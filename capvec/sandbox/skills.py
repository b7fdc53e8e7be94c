"""The skills that a task puts into its container for the agent, each a folder with a `SKILL.md`."""

from __future__ import annotations

import re

import yaml  # type: ignore[import-untyped]

from capvec.errors import EnvironmentFault, FileTooLarge, InfrastructureError
from capvec.sandbox.base import Sandbox

_CLOSED = 3
"""Exit code of the listing where the folder is not as the task says; then it prints why."""
_LIST = """
closed() { echo "$1; expected a folder that the agent (user $(id -u)) can read"; exit 3; }
[ -d "$1" ] || closed 'there is no such folder'
(cd "$1" && : < .) 2>/dev/null || closed 'it cannot be read'
for folder in "$1"/*/; do
  [ -d "$folder" ] || continue
  (cd "$folder") 2>/dev/null || closed "$folder cannot be read"
  file="${folder}SKILL.md"
  [ -f "$file" ] || continue
  (: < "$file") 2>/dev/null || closed "$file cannot be read"
  printf '%s\\n' "$file"
done
echo .
"""
"""It opens what it lists: `[ -r` of some shells takes root for one who can read everything."""
_FIELD = re.compile(r"^(name|description):[ \t]*(.+?)[ \t\r]*$", re.MULTILINE)
_HEAD = re.compile(r"\A---\r?\n(.*?)^---\r?$", re.DOTALL | re.MULTILINE)


def skills_in_words(sandbox: Sandbox, folder: str) -> str:
    """A paragraph that lists the skills in a folder of the sandbox, before the agent has changed it; empty without any.

    The agent's user must be able to read them, so it is the one that lists them.

    A skill's name and description are those in the head of its `SKILL.md`, which is YAML; without a name it is its
    folder's. Of a head that is not YAML, as where a description has a colon and no quotes, the lines count that begin
    with the two keys.

    Raises:
        EnvironmentFault: the image has no such folder, the agent's user cannot read it, or a file in it is too large.
        InfrastructureError: Docker has lost some of the list.
        SandboxUnavailable: the sandbox is gone.
    """
    listed = sandbox.execute(("sh", "-c", _LIST, "sh", folder.rstrip("/")), timeout_s=30)
    *paths, last = listed.output.splitlines() or [""]
    if listed.exit_code == _CLOSED:
        raise EnvironmentFault(f"environment.skills_dir is {folder}: {last}")
    if listed.exit_code != 0 or last != ".":  # without the dot, Docker has lost some of it
        raise InfrastructureError(
            f"the skills in {folder} cannot be listed: {listed.output.strip()[-200:] or 'nothing'}"
        )
    try:
        lines = [_in_words(path, sandbox.read(path) or b"") for path in sorted(paths)]
    except FileTooLarge as error:
        raise EnvironmentFault(f"environment.skills_dir is {folder}: {error}") from error
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
