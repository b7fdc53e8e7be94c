"""The opening messages of an episode: a system prompt, worked examples for small models, and the instruction."""

from __future__ import annotations

from capvec.agent.protocols import AgentProtocol
from capvec.errors import UsageError
from capvec.records import CommandResult, Parse

STYLES = ("few-shot", "brief", "zero-shot")

Turn = tuple[str, str, int]
"""Command, output, exit code."""

EXAMPLES: tuple[tuple[str, tuple[Turn, ...]], ...] = (
    (
        "Create the file /app/hello.txt containing the text: good morning",
        (("echo 'good morning' > /app/hello.txt", "", 0),),
    ),
    ("List the files in /app.", (("ls /app", "a.txt\nhello.txt\nrun.sh", 0),)),
    ("Copy /app/a.txt to /app/b.txt.", (("cp /app/a.txt /app/b.txt", "", 0),)),
    (
        "Make the script /app/run.sh executable.",
        (("chmod x /app/run.sh", "chmod: invalid mode: 'x'", 1), ("chmod +x /app/run.sh", "", 0)),
    ),
)
"""Tasks, none of them bundled, and the turns that solve them; the last one recovers from an error."""


def opening_messages(
    instruction: str, protocol: AgentProtocol, style: str, system_suffix: str = ""
) -> tuple[dict[str, str], ...]:
    """The conversation before the first reply.

    Args:
        instruction: of the task; stripped, otherwise unchanged.
        protocol: has the system prompts and writes the replies of the examples.
        style: `few-shot` (worked examples after a short system prompt), `brief` (the short system prompt alone, for a
            model trained on it) or `zero-shot` (one full system prompt).
        system_suffix: appended to the system prompt after a space: the `prompt` control.

    Raises:
        UsageError: there is no such style.
    """
    if style not in STYLES:
        raise UsageError(f"no prompt style is called {style!r}: choose one of {', '.join(STYLES)}")
    system = protocol.system if style == "zero-shot" else protocol.brief
    return (
        {"role": "system", "content": f"{system} {system_suffix}" if system_suffix else system},
        *(_examples(protocol) if style == "few-shot" else ()),
        {"role": "user", "content": instruction.strip()},
    )


def _examples(protocol: AgentProtocol) -> tuple[dict[str, str], ...]:
    """The messages of the examples, with the protocol's observations."""
    said = []
    for task, turns in EXAMPLES:
        said.append({"role": "user", "content": task})
        for command, output, exit_code in turns:
            observation = protocol.observation([CommandResult(output, exit_code)], Parse("strict", (command,)))
            said.append({"role": "assistant", "content": protocol.render([command], False)})
            said.append({"role": "user", "content": observation})
        said.append({"role": "assistant", "content": protocol.render([], True)})
    return tuple(said)
